# What tests/run, tests/long and the scripts in tests/system share: packages, builds, and how a suite runs.
# shellcheck shell=bash

# What every build and every suite needs of Debian, and what some need beside.
basic="ca-certificates dpkg-dev gcc iproute2 libc6-dev libpam0g-dev login passwd util-linux"
declare -A needs=(
    [lints]="mandoc shellcheck"
    [quick]="mandoc shellcheck"
    [unit]="e2fsprogs libpam-google-authenticator libpam-oath"
    [broker]="python3 strace"
    [cli]="chromium cups-client cups-daemon fonts-dejavu-core poppler-utils"
    [crash]="btrfs-progs e2fsprogs fuse3 python3 strace xfsprogs"
    [disk]="btrfs-progs e2fsprogs strace systemd xfsprogs"
    [doctor]="btrfs-progs busybox e2fsprogs libpam-google-authenticator libpam-oath openssh-client openssh-server sudo swaylock"
    [fleet]="etcd-client etcd-server openssh-client openssh-server openssl strace"
    [hostile]="openssh-client openssh-server python3 strace valgrind"
    [login]="libpam-google-authenticator libpam-oath oathtool openssh-client openssh-server sudo sway swaylock wtype"
    [mail]="e2fsprogs openssh-client openssh-server python3 strace"
    [module]="binutils strace"
    [renewal]="libpam-google-authenticator oathtool python3"
    [spend]="strace"
    [deb]="debhelper dpkg-dev lintian"
    [debian13]="mmdebstrap"
    [etcd-of-debian13]="mmdebstrap openssh-client openssh-server openssl strace"
    [lifecycle]="debhelper dpkg-dev mmdebstrap oathtool openssh-client python3 systemd-container"
    [mail-servers]="mmdebstrap"
    [openrc]="mmdebstrap openssl"
    [packages]="busybox libarchive-tools makepkg pacman-package-manager python3 rpm rpmlint shellcheck"
    [policies]="apparmor selinux-policy-default selinux-policy-dev selinux-utils setools"
    [thirty-two-bits]="mmdebstrap"
    [units]="debhelper dpkg-dev mmdebstrap oathtool openssh-client openssl python3 systemd-container"
    [demo]="etcd-client etcd-server expect openssh-client openssh-server openssl"
    [long]="btrfs-progs e2fsprogs fuse3 g++ python3 strace valgrind xfsprogs"
)
# The oldest compiler that we build with, to check that this holds; also the compiler where there is no other.
oldest=1.85
policy=/usr/sbin/policy-rc.d
# The services of what is installed for its program alone.
declare -A services=([etcd-server]=etcd.service [openssh-server]=ssh.service)

fail() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# step WHAT COMMAND...
step() {
    printf '\n== %s\n' "$1"
    local start=$SECONDS
    "${@:2}"
    times+=("$((SECONDS - start)) $1")
}

# A table of the steps, the longest first.
times=()
show_times() {
    printf '\n%s\n' "seconds"
    printf '%s\n' "$@" | sort -rn | while read -r seconds what; do printf '%7d  %s\n' "$seconds" "$what"; done
}

# install_for SUITE...: what these need, and no more.
install_for() {
    local missing=() has_compiler=has_tools suite package new_servers=()
    mapfile -t missing < <(for suite in "$@"; do not_installed "$basic ${needs[$suite]-}"; done | sort -u)
    # Those that build with Debian's own compiler.
    case " $* " in *' packages '* | *' oldest-compiler '*) has_compiler=has_both ;; esac
    if "$has_compiler" && [ "${#missing[@]}" = 0 ]; then
        return
    fi
    [ "$(id -u)" = 0 ] || fail "missing, and only root can install them: ${missing[*]} Rust $oldest or later, with rustfmt and clippy"
    apt-get -q update
    # Asked after the update: before it, a fresh machine knows of no package.
    "$has_compiler" || mapfile -O "${#missing[@]}" -t missing < <(compiler_packages)
    mapfile -t new_servers < <(not_installed "${!services[*]}")
    # A server that is installed for its program does not start, now or at the next boot.
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    # Debian 12 may have a newer compiler under the same name: the oldest one is what is to be checked.
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends --no-remove --allow-downgrades \
        "${missing[@]}"
    if [ -n "$(trap -p EXIT)" ]; then
        rm -f "$policy"
        trap - EXIT
    fi
    for package in "${new_servers[@]}"; do
        ! is_installed "$package" || ! command -v systemctl >/dev/null ||
            systemctl --quiet disable "${services[$package]}"
    done
}

# not_installed "PACKAGE...": which of them.
not_installed() {
    local package
    # shellcheck disable=SC2086 # Several packages.
    for package in $1; do
        is_installed "$package" || echo "$package"
    done
}

is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

# Debian 13's compiler is the oldest that we take; Debian 12 has the same one under other names.
compiler_packages() {
    if apt-cache madison rustc-web | grep " $oldest\." >/dev/null; then
        printf '%s\n' {cargo-web,rustc-web,libstd-rust-web-dev,rust-web-clippy,rustfmt-web}="$oldest.*"
    else
        printf '%s\n' cargo rustc rust-clippy rustfmt
    fi
}

has_tools() {
    command -v cargo >/dev/null && command -v cargo-clippy >/dev/null && command -v cargo-fmt >/dev/null
}

has_both() {
    has_tools && has_oldest
}

has_oldest() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && /usr/bin/rustc --version | grep -q "^rustc $oldest\."
}

# What is shipped, as it is shipped.
build() {
    packaging/build --quiet
}

# For what need not be small.
hurry=(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1)

# The suites and their programs lie beside what they test.
# of_suites COMMAND [ARGUMENT...]: of cargo's.
of_suites() {
    env "${hurry[@]}" cargo "$1" --release --locked --package backupcodes-tests "${@:2}"
}

build_suites() {
    of_suites build --quiet --bins --examples
    of_suites test --quiet --no-run
}

# executable SUITE: its path. Cargo builds it outside of the sandbox, which has no network.
executable() {
    local path
    of_suites build --quiet --bins --examples
    path=$(of_suites test --quiet --no-run --test "$1" --message-format=json |
        sed -n "s/.*\"executable\":\"\([^\"]*\/deps\/$1-[0-9a-f]*\)\".*/\1/p")
    [ -x "$path" ] || fail "cargo has built no suite $1"
    echo "$path"
}

# acceptance SUITE [ARGUMENT OF libtest...]
acceptance() {
    local executable
    executable=$(executable "$1")
    sandboxed "${executable%/deps/*}" "$executable" "${@:2}"
}

# sandboxed BUILD COMMAND...: where it does no harm. Some tests press Ctrl-C, which shells ignore in the background.
sandboxed() {
    BACKUPCODES_BUILD=$1 env --default-signal=INT,QUIT tests/sandbox "${@:2}"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ "${CI-}" = true ]; then
        fail "$1 needs root, and in CI nothing is skipped"
    else
        echo "skipped: $1 needs root"
    fi
}
