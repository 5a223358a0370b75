# Roots of Debian in the build's folder, and suites that run inside them. They change nothing of this host but that folder.
# shellcheck shell=bash

# shellcheck source=tests/steps.bash
. tests/steps.bash
target=$PWD/target

# What each root has of Debian: enough for all tests that share it, since roots take long to make. No two mail servers go together.
booted="dbus iproute2 login mount openssh-server passwd python3 systemd systemd-sysv util-linux"
# What a sysadmin has.
desktop="dbus libpam-google-authenticator login openssh-server passwd sudo sway swaylock systemd systemd-sysv wtype"
declare -A contents=(
    [exim4]="$booted exim4-daemon-light libpam-google-authenticator pamtester"
    [postfix]="$booted msmtp postfix"
    [opensmtpd]="$booted opensmtpd"
    [stacks]="$booted libpam-google-authenticator libpam-oath oathtool openssh-client pamtester sudo"
    [desktop-exim4]="$desktop exim4-daemon-light"
    [desktop-postfix]="$desktop postfix"
    [i386]="cargo gcc iproute2 libpam0g-dev mount"
    [etcd]="etcd-client etcd-server"
    [openrc]="cron login openrc passwd s6 sysvinit-utils util-linux"
)
# For roots that are not of this host's kind.
mmdebstrap_options=()

# make_root CONTENTS RELEASE: it is $root. Until this script ends no other one makes it again.
declare -A has_root=()
make_root() {
    local name=roots/$2-$1 lock
    root=$target/$name/root
    [ -z "${has_root[$name]-}" ] || return 0
    mkdir -p "$target/$name"
    exec {lock}>"$target/$name.lock"
    until flock --shared "$lock" && tests/system/lib/debian-root --is-made "$name" "$2" "${contents[$1]}"; do
        flock --unlock "$lock"
        # Whoever waits here until another script ends may hold what that one waits for.
        if flock --nonblock "$lock"; then
            # shellcheck disable=SC2016 # $1 is for mmdebstrap's shell.
            tests/system/lib/debian-root "$name" "$2" "${contents[$1]}" "${mmdebstrap_options[@]}" \
                --essential-hook='echo "postfix postfix/main_mailer_type select Local only" | chroot "$1" debconf-set-selections'
            mkdir -p "$root/mnt/"{build,tests}
        else
            sleep 1
        fi
    done
    has_root[$name]=yes
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

# enter ROOT: makes it fit to run tests. The root itself stays as it was made: the sandbox has layers over what tests write to.
# The build and the tests lie below /mnt, which it leaves as it is.
enter() {
    local root=$1
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

# run_in ROOT EXECUTABLE ARGUMENT...: a suite of the release build, in the sandbox, in that root. Nothing that it wants is missing
# there, so that it may skip nothing.
run_in() {
    chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=true MTA="${MTA-}" \
        BACKUPCODES_BUILD=/mnt/build /mnt/tests/sandbox "/mnt/build/deps/${2##*/}" "${@:3}"
}
