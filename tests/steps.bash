# Steps of tests/run and tests/long.
# shellcheck shell=bash

# What the module and its tests need of Debian.
packages=(apparmor binutils btrfs-progs busybox ca-certificates chromium cups-client cups-daemon debhelper dpkg-dev e2fsprogs expect fonts-dejavu-core fuse3 gcc iproute2 libarchive-tools libc6-dev libpam-google-authenticator libpam-oath libpam0g-dev lintian login makepkg mandoc mmdebstrap oathtool openssh-client openssh-server pacman-package-manager passwd poppler-utils python3 rpm rpmlint selinux-policy-default selinux-policy-dev selinux-utils setools shellcheck strace sudo sway swaylock systemd systemd-container util-linux valgrind wtype xfsprogs)
# The oldest compiler that we build with, to check that this holds; also the compiler where there is no other.
oldest=1.85
policy=/usr/sbin/policy-rc.d

step() {
    printf '\n== %s\n' "$1"
    "${@:2}"
}

install_missing() {
    local missing=() package with_server=
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if has_tools && has_oldest && [ "${#missing[@]}" = 0 ]; then
        return
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "missing, and only root can install them: ${missing[*]} Rust $oldest, in /usr/bin, with rustfmt and clippy" >&2
        return 1
    fi
    apt-get -q update
    # Asked after the update: before it, a fresh machine knows of no package.
    if ! has_tools || ! has_oldest; then
        mapfile -O "${#missing[@]}" -t missing < <(compiler_packages)
    fi
    is_installed openssh-server || with_server=yes
    # A server that is installed for its program is not started, now or at the next boot.
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
    [ -z "$with_server" ] || ! command -v systemctl >/dev/null || systemctl --quiet disable ssh.service
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

has_oldest() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && /usr/bin/rustc --version | grep -q "^rustc $oldest\."
}

build() {
    cargo build --quiet --release --locked --package pam_backupcodes --package backupcodes-programs
}

# The acceptance tests and their programs lie beside what they test, and need none of the time that goes into making that small.
cargo_test=(env CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    cargo test --quiet --release --locked --package backupcodes-tests)

# The tests are built outside of the sandbox, which has no network.
# acceptance [ARGUMENT OF cargo test...]
acceptance() {
    "${cargo_test[@]}" --no-run
    # Ctrl-C is tried, also where whoever started this ignores it, as a shell does in the background.
    BACKUPCODES_BUILD=$PWD/target/release env --default-signal=INT,QUIT tests/sandbox "${cargo_test[@]}" --offline --no-fail-fast "$@"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ "${CI-}" = true ]; then
        echo "$1 needs root, and in CI nothing is skipped" >&2
        return 1
    else
        echo "skipped: $1 needs root"
    fi
}
