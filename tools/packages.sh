#!/usr/bin/env bash
# Install the Debian packages that the tests use, where we may (root, or sudo without a password).
# Never fails the build: what is missing afterwards is named, and its tests skip.
# PACKAGES=no leaves the machine as it is.
set -uo pipefail

declare -A shown_by=(
    [mosquitto]=/usr/sbin/mosquitto
    [mosquitto-clients]=/usr/bin/mosquitto_pub
    [can-utils]=/usr/bin/candump
    [iproute2]="$(command -v ip || echo /usr/sbin/ip)"
    [user-mode-linux]=/usr/bin/linux.uml
    [opensbi]=/usr/lib/riscv64-linux-gnu/opensbi
    [softhsm2]=/usr/bin/softhsm2-util
    [u-boot-qemu]=/usr/lib/u-boot/qemu_arm64/uboot.elf
)

missing() {
    local package
    for package in "${!shown_by[@]}"; do
        [ -e "${shown_by[$package]}" ] || echo "$package"
    done | sort
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >/dev/null 2>&1
}

# Debian starts a broker as soon as it is installed. The tests start their own, so the machine's
# is neither started now nor at the next boot.
policy=/usr/sbin/policy-rc.d
quietly() {
    local ours=no status=0
    if [ ! -e $policy ] && printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null; then
        ours=yes
        as_root chmod 755 $policy
    fi
    "$@" || status=$?
    [ $ours = no ] || as_root rm -f $policy
    return $status
}

mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -eq 0 ]; then
    exit 0
fi
if [ "${PACKAGES:-yes}" != no ] && command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    echo "packages: installing ${wanted[*]}"
    if ! quietly install "${wanted[@]}"; then
        as_root apt-get -qq update >/dev/null 2>&1
        # One at a time: a package that this release lacks must not take the others with it.
        for package in "${wanted[@]}"; do
            quietly install "$package" || true
        done
    fi
    if [[ " ${wanted[*]} " == *" mosquitto "* ]] && command -v systemctl >/dev/null; then
        as_root systemctl disable mosquitto >/dev/null 2>&1
    fi
fi
mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -ne 0 ]; then
    echo "packages: not installed: ${wanted[*]} (tests that need them skip;" \
        "as root: apt-get install --no-install-recommends ${wanted[*]})"
fi
exit 0
