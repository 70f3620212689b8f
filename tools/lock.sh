#!/usr/bin/env bash
# Resolve pyproject.toml into requirements.lock for every platform and Python the project supports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$(command -v uv || true)
if [ -z "$uv" ] || ! "$uv" --version >/dev/null 2>&1; then
    python3 -m venv build/lock-venv
    build/lock-venv/bin/pip --quiet install uv
    uv=build/lock-venv/bin/uv
fi
"$uv" pip compile pyproject.toml --all-extras --universal --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade --quiet --output-file requirements.lock
git --no-pager diff --stat -- requirements.lock
