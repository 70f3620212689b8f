"""Print which tests were skipped and why, from the JUnit files named as arguments."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree


def reasons(files: list[Path]) -> Counter[tuple[str, str]]:
    """Count (test file, reason) over all skipped test cases."""
    found: Counter[tuple[str, str]] = Counter()
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            for skip in case.iter("skipped"):
                found[case.get("classname", "?"), skip.get("message", "no reason given")] += 1
    return found


def main() -> None:
    """One line for each reason."""
    found = reasons([path for path in map(Path, sys.argv[1:]) if path.exists()])
    for (where, why), count in sorted(found.items()):
        sys.stdout.write(f"skipped {count:>4}  {where}: {why}\n")
    if not found:
        sys.stdout.write("skipped    0\n")


if __name__ == "__main__":
    main()
