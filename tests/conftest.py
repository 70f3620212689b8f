"""What every test shares: the row of the requirements that it shows goes into the JUnit report."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("requirement"):
            item.user_properties.extend(("requirement", row) for row in mark.args)
