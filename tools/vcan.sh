#!/usr/bin/env bash
# tools/vcan.sh [--own] COMMAND...: run COMMAND where vcan0 exists.
#   1. vcan0 is up already: right here (not with --own, unless we are in the guest: tests want a
#      bus that nobody else talks on)
#   2. this kernel has vcan: in a network namespace of its own
#   3. else: in a user-mode-linux guest (tools/guest.sh)
# Exit code 77 and one line where none of the three is possible.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

own=no
if [ "${1:-}" = --own ]; then
    own=yes
    shift
fi

here() { [ "$(cat /sys/class/net/vcan0/operstate 2>/dev/null || echo down)" != down ]; }

make_vcan='
ip link set lo up
ip link add dev vcan0 type vcan
ip link set vcan0 mtu 72 up'

if here && { [ $own = no ] || [ -n "${VCAN_GUEST:-}" ]; }; then
    exec "$@"
fi

if [ "$(id -u)" = 0 ]; then
    namespace=(unshare --net)
    modprobe -q vcan echo=1 2>/dev/null || true
else
    namespace=(unshare --user --map-root-user --net)
fi
if "${namespace[@]}" bash -ec "$make_vcan" >/dev/null 2>&1; then
    exec "${namespace[@]}" bash -ec "$make_vcan"$'\nexec "$@"' vcan "$@"
fi

if command -v linux.uml >/dev/null; then
    exec bash tools/guest.sh "$@"
fi
echo "vcan: this kernel has no CAN, and there is no linux.uml for a guest" \
    "(as root: apt-get install user-mode-linux)" >&2
exit 77
