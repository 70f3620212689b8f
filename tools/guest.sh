#!/usr/bin/env bash
# tools/guest.sh COMMAND...: run COMMAND in this folder inside a user-mode-linux guest that has
# vcan0, on the host's own files, as the calling user; its exit code is ours.
#   GUEST_TIMEOUT  seconds until the guest is ended by force (default 3600; exit code 124)
#   GUEST_MEM      memory of the guest (default 2G; taken only as it is used)
# docs/decisions/0003-vcan-guest.md says why this kind of guest, and what it cannot do.
set -euo pipefail
folder=$PWD
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    printf 'guest: %s\n' "$*" >&2
    exit 70
}

[ $# -gt 0 ] || fail "which command? usage: tools/guest.sh COMMAND..."
[ "$(uname -m)" = x86_64 ] || fail "user-mode-linux runs on x86 only, this is $(uname -m)"
kernel=$(command -v linux.uml) || fail "no linux.uml; as root: apt-get install user-mode-linux"

# The kernel's command line holds this path and knows no quotes; the folder's own may have spaces.
case ${TMPDIR:-/tmp} in
    /*[[:space:]]*) share=$(mktemp -d /tmp/guest.XXXXXX) ;;
    *) share=$(mktemp -d "${TMPDIR:-/tmp}/guest.XXXXXX") ;;
esac
install -m 755 "$tools/guest-init.sh" "$share/init"
pid=
# Nothing that the guest started may outlive it. linux.uml makes a process group of its own.
end() {
    local group
    if [ -n "$pid" ]; then
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    group=$(cat "$share/uml/pid" 2>/dev/null || true)
    [ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null || true
    rm -rf -- "$share"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The guest's memory is a file, mapped executable: in RAM where there is room, else on disk.
memory=$share
if [ "$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -ge 2200000 ] 2>/dev/null &&
    ! findmnt -no OPTIONS /dev/shm | grep -qw noexec; then
    memory=/dev/shm
fi

# What the command may see of our environment: how to run and how to speak, no more.
for name in $(compgen -e); do
    case $name in
        PATH | HOME | USER | LOGNAME | LANG | LC_* | TZ | TERM | COLORTERM | NO_COLOR | COLUMNS | LINES | CI | VENV | \
            PYTHON* | PYTEST_* | HYPOTHESIS_* | COVERAGE_* | HIL_RIG_*) declare -px "$name" ;;
    esac
done >"$share/environment"
printf '%q ' "$@" >"$share/command"
{
    printf 'folder=%q share=%q uid=%q gid=%q groups=%q\n' \
        "$folder" "$share" "$(id -u)" "$(id -g)" "$(id -G | tr ' ' ,)"
    printf 'modules=%q\n' "$(dirname "$kernel")/../lib/uml/modules"
} >"$share/settings"

guest=(timeout --foreground --kill-after=1 "${GUEST_TIMEOUT:-3600}"
    "$kernel" rootfstype=hostfs rootflags=/ rw "mem=${GUEST_MEM:-2G}" quiet
    "uml_dir=$share" umid=uml con=null con0=null,fd:2 "init=$share/init" "guest_share=$share")

status=0
if [ -t 0 ] && [ -t 1 ]; then
    printf 'size=%q\n' "$(stty size)" >>"$share/settings"
    before=$(stty -g)
    TMPDIR=$memory "${guest[@]}" con1=fd:3,fd:4 3<&0 4>&1 >"$share/boot.log" 2>&1 || status=$?
    stty "$before"
else
    # The guest's console writes only to what can be polled: a pipe, never a file.
    mkfifo "$share/console"
    cat "$share/console" &
    printer=$!
    TMPDIR=$memory "${guest[@]}" con1=null,fd:3 3>"$share/console" >"$share/boot.log" 2>&1 &
    pid=$!
    wait "$pid" || status=$?
    pid=
    wait "$printer"
fi

if [ -s "$share/status" ]; then
    exit "$(cat "$share/status")"
fi
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    echo "guest: ended by force after ${GUEST_TIMEOUT:-3600} s" >&2
    exit 124
fi
cat "$share/boot.log" >&2
fail "the guest ended without an exit code (linux.uml: $status)"
