#!/usr/bin/env bash
# Resolve pyproject.toml into the two lock files for every platform and Python the project supports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$(command -v uv || true)
if [ -z "$uv" ] || ! "$uv" --version >/dev/null 2>&1; then
    python3 -m venv build/lock-venv
    build/lock-venv/bin/pip --quiet install uv
    uv=build/lock-venv/bin/uv
fi
"$uv" pip compile pyproject.toml --all-extras --universal --generate-hashes \
    --no-header --no-annotate --upgrade --quiet --output-file requirements.lock
# What a head unit installs: the same versions, nothing of the rig or the tests.
"$uv" pip compile pyproject.toml --universal --generate-hashes --constraint requirements.lock \
    --no-header --no-annotate --quiet --output-file requirements-agent.lock
git --no-pager diff --stat -- requirements.lock requirements-agent.lock
