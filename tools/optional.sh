#!/usr/bin/env bash
# tools/optional.sh SCRIPT MESSAGE: run a script of the tree, or say why there is nothing to run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -e "$1" ]; then
    exec "${VENV:-.venv}/bin/python" "$1"
fi
echo "$2 ($1)"
