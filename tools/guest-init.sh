#!/usr/bin/env bash
# The first process of the guest that tools/guest.sh boots: makes vcan0, runs the command as the
# user who called, leaves its exit code in the shared folder and switches the guest off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
console=/dev/tty1

mount -t proc proc /proc
mount -t sysfs sysfs /sys

# shellcheck source=/dev/null
. "$guest_share/settings" # folder, modules, uid, gid, groups, size where there is a terminal

off() {
    echo "$1" >"$guest_share/status"
    stty -F $console sane # waits until the console has printed everything
    sync
    echo o >/proc/sysrq-trigger
    sleep infinity
}

die() {
    echo "guest: $*" >$console
    off 70
}

# /tmp, /run and /dev are the guest's own, and empty; the two folders that it shares stay in view.
private_folders() {
    mkdir -p /dev/pts /dev/shm
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock /run/shared/folder /run/shared/guest
    chmod 1777 /run/lock
    mount --bind "$folder" /run/shared/folder
    mount --bind "$guest_share" /run/shared/guest
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    reappear "$folder" /run/shared/folder
    reappear "$guest_share" /run/shared/guest
}

reappear() {
    if [ ! -e "$1/." ]; then
        mkdir -p "$1"
        mount --bind "$2" "$1"
    fi
}

# insmod is not on every machine; the system call is.
load_modules() {
    local python
    for python in /usr/bin/python3 "$folder/.venv/bin/python" ''; do
        [ -x "$python" ] && break
    done
    "${python:-python3}" -IS - "$modules/$(uname -r)/kernel" <<'END'
import ctypes, os, sys

libc = ctypes.CDLL(None, use_errno=True)
FINIT_MODULE = 313 if sys.maxsize > 2**32 else 350
for module, parameters in [
    ("net/can/can", b""),
    ("net/can/can-raw", b""),
    ("net/can/can-bcm", b""),
    ("drivers/net/can/dev/can-dev", b""),
    ("drivers/net/can/vcan", b"echo=1"),
]:
    file = os.open(f"{sys.argv[1]}/{module}.ko", os.O_RDONLY)
    if libc.syscall(FINIT_MODULE, file, parameters, 0) != 0:
        sys.exit(f"{module}: {os.strerror(ctypes.get_errno())}")
END
}

run() {
    # shellcheck disable=SC2016
    setsid "$@" setpriv --reuid="$uid" --regid="$gid" --groups="$groups" bash -c '
        . "$1/environment"
        export VCAN_GUEST=yes
        cd "$2" || exit 70
        eval "exec $(cat "$1/command")"' guest "$guest_share" "$folder"
}

private_folders || die "a file system could not be mounted"
said=$(load_modules 2>&1) || die "no CAN module: $said"
echo vcan-guest >/proc/sys/kernel/hostname
ip link set lo up
ip link add dev vcan0 type vcan && ip link set vcan0 mtu 72 up || die "vcan0 could not be made"

chown "$uid" $console
if [ -n "${size:-}" ]; then
    read -r rows columns <<<"$size"
    stty -F $console rows "$rows" cols "$columns"
    run --wait --ctty <$console >$console 2>&1
    off $?
else
    # Through a pipe, so that programs do not take the console for a person's terminal.
    stty -F $console -opost
    mkfifo /run/output
    cat /run/output >$console &
    printer=$!
    run --wait </dev/null >/run/output 2>&1
    status=$?
    # Whatever the command left running may hold the pipe open: do not wait for that.
    for _ in {1..20}; do
        kill -0 $printer 2>/dev/null || break
        sleep 0.05
    done
    off $status
fi
