# Roots of Debian in the build's folder, and suites that run inside them. They change nothing of this host but that folder.
# shellcheck shell=bash

# shellcheck source=tests/steps.bash
. tests/steps.bash
target=$PWD/target

# For roots that are not of this host's kind.
mmdebstrap_options=()

# make_root NAME RELEASE PACKAGE...: the root target/NAME/root, if it is not there yet. Until this script ends no other one
# makes or uses it.
make_root() {
    local lock
    mkdir -p "$target/$1"
    exec {lock}>"$target/$1.lock"
    flock "$lock"
    tests/system/lib/debian-root "$1" "$2" "${*:3}" "${mmdebstrap_options[@]}"
    mkdir -p "$target/$1/root/mnt/"{build,tests}
}

# That of this host.
codename() {
    sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# in_namespaces [OPTION] COMMAND...: all that runs in there ends with the first process of its PID namespace, which ends
# with unshare.
in_namespaces() {
    unshare --mount --uts --pid --fork --kill-child --propagation private "$@"
}

# --- inside the namespaces ---

# enter NAME: makes target/NAME/root fit to run tests. The root itself stays as it was made: the sandbox has layers over what
# tests write to. The build and the tests lie below /mnt, which it leaves as it is.
enter() {
    local root=$target/$1/root
    bind_read_only "$root" "$root"
    bind_read_only "$target/release" "$root/mnt/build"
    bind_read_only "$PWD/tests" "$root/mnt/tests"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
}

bind_read_only() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

# run_in NAME EXECUTABLE ARGUMENT...: a suite of the release build, in the sandbox, in target/NAME/root. Nothing that it
# wants is missing there, so that it may skip nothing.
run_in() {
    chroot "$target/$1/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=true MTA="${MTA-}" \
        BACKUPCODES_BUILD=/mnt/build /mnt/tests/sandbox "/mnt/build/deps/${2##*/}" "${@:3}"
}
