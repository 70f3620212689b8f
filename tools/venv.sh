#!/usr/bin/env bash
# Make the virtual environment from requirements.lock: every file checked against its hash, and
# once for each content of the lock. VENV names the folder, PYTHON the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}

fail() {
    printf 'venv: %s\n' "$*" >&2
    exit 1
}

usable() { "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

interpreter() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, found none${PYTHON:+ at PYTHON=$PYTHON};" \
        "install python3 (Debian 12, Ubuntu 24.04 or newer have it) or set PYTHON=/path/to/python3"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Debian splits ensurepip off into python3-venv. The system's own pip can fill an environment too,
# and changes nothing on the machine, so it is asked first.
create() {
    local python=$1 version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear "$venv"
    elif "$python" -m pip --python "$python" --version >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip "$venv"
    elif command -v apt-get >/dev/null && as_root true 2>/dev/null; then
        echo "venv: installing python$version-venv"
        as_root apt-get install -qq -y "python$version-venv" >/dev/null 2>&1 ||
            { as_root apt-get update -qq && as_root apt-get install -qq -y "python$version-venv" >/dev/null; } ||
            fail "python$version-venv could not be installed; install it, then run make again"
        "$python" -m venv --clear "$venv"
    else
        fail "$python has no venv module; run: apt-get install python$version-venv (as root), then make again"
    fi
}

# pip of the environment, or the system's pip working on it.
pip_install() {
    local pip=("$venv/bin/python" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 || pip=("$base" -m pip --python "$venv/bin/python")
    "${pip[@]}" --disable-pip-version-check -qq install "$@"
}

if command -v flock >/dev/null; then
    exec 9<requirements.lock
    flock 9
fi

base=$(interpreter)
lock_stamp="$(sha256sum requirements.lock) $PWD" # an environment does not survive being moved
project_stamp=$(sha256sum pyproject.toml)
made_from=$(cat "$venv/lock.stamp" 2>/dev/null || true)

if ! usable "$venv/bin/python" || [ -n "$made_from" ] && [ "$made_from" != "$lock_stamp" ]; then
    create "$base"
fi
if [ "$(cat "$venv/lock.stamp" 2>/dev/null)" != "$lock_stamp" ]; then
    echo "venv: installing the locked packages into $venv"
    pip_install --require-hashes --requirement requirements.lock ||
        fail "the locked packages could not be installed; is the package index reachable?"
    echo "$lock_stamp" >"$venv/lock.stamp"
fi
if [ "$(cat "$venv/project.stamp" 2>/dev/null)" != "$project_stamp" ]; then
    pip_install --no-deps --no-build-isolation --editable .
    echo "$project_stamp" >"$venv/project.stamp"
fi
