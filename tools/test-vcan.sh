#!/usr/bin/env bash
# The scenario tests, unchanged, over vcan. Exit code 77: no vcan can be had here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p build
export HIL_RIG_BUS=vcan
exec bash tools/vcan.sh --own "${VENV:-.venv}/bin/python" -m pytest ${VCAN_TESTS:-tests} -m scenario \
    -o timeout=600 -p no:cacheprovider -p no:xdist --junit-xml=build/junit-vcan.xml "$@"
