#!/usr/bin/env bash
# Every check that runs no test. All of them run; any finding is a failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${VENV:-.venv}/bin
status=0
check() {
    printf -- '-- %s\n' "$*"
    "$bin/$@" || status=1
}
check ruff check .
check ruff format --check .
check mypy
check lint-imports
exit $status
