# Whole machines of Debian in the build's folder, with our package, booted by systemd-nspawn. They change nothing of this host but
# that folder.
# shellcheck shell=bash

# shellcheck source=tests/system/lib/roots.bash
. tests/system/lib/roots.bash
password='password of all'

# run_machines SCRIPT MACHINE...: makes the root of each, as `roots` and `releases` say, and starts `SCRIPT --inside MACHINE ROOT`
# in namespaces of its own.
run_machines() {
    [ "$(id -u)" = 0 ] || fail "only root can boot a machine"
    # One at a time on this host: their cgroups have the same names.
    exec {lock}<"$(command -v systemd-nspawn)"
    flock "$lock"
    trap remove_cgroups EXIT
    local machine
    for machine in "${@:2}"; do
        [ -n "${releases[$machine]-}" ] || fail "no machine $machine; there are: ${!releases[*]}"
        # shellcheck disable=SC2154 # Our caller's.
        make_root "${roots[$machine]}" "${releases[$machine]}"
        # All that runs in there ends with the first process of its PID namespace, which ends with unshare.
        unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private -- "$1" --inside "$machine" "$root"
    done
}

# nspawn makes them below that of this process, and leaves them.
remove_cgroups() {
    local path
    path=$(sed -n 's/^0:://p' /proc/self/cgroup)
    find /sys/fs/cgroup{,/systemd,/unified}"${path%/}"/{payload,supervisor} -depth -type d -exec rmdir {} + 2>/dev/null ||
        true
}

# package NAME: the one that packaging/deb has built.
package() {
    local found
    found=$(find "$target/debian" -maxdepth 1 -name "$1_*.deb" 2>/dev/null)
    [ -f "$found" ] || fail "expected one package in $target/debian; to build it: packaging/deb"
    echo "$found"
}

# --- inside the namespaces ---

# lay_out_machine NAME ROOT: layers over the root, which stays as it was made.
lay_out_machine() {
    machine=$target/machine-$1 root=$machine/root
    mkdir -p "$machine"
    mount -t tmpfs -o mode=0755 tmpfs "$machine"
    mkdir "$machine"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$machine/upper,workdir=$machine/work" "$root"
    mkfifo "$machine/keys"
    # shellcheck disable=SC2016 # For the script.
    install -m 0755 <(printf '#!/bin/sh\ncase $1 in *[Cc]ode*) echo "$CODE" ;; *) echo "$PASSWORD" ;; esac\n') "$machine/answer"
    trap show_logs EXIT
    ip link set lo up
}

# As the distribution's installer does, with the machine not running.
install_package() {
    cp "$(package libpam-backupcodes)" "$root/root/package.deb"
    chroot "$root" dpkg --install /root/package.deb >"$machine/dpkg" 2>&1 || { cat "$machine/dpkg" >&2 && fail "dpkg failed"; }
    local privileged
    privileged=$(find "$machine/upper" -type f -perm /6000)
    [ -z "$privileged" ] || fail "installed with a setuid or setgid bit: $privileged"
}

# boot MACHINE: its network is the one of this namespace.
boot() {
    # Where this host has the cgroups that newer releases do without.
    [ "${releases[$1]}" = bookworm ] || export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    leader='' seen=0
    : >"$machine/console"
    tests/system/lib/console "$machine/console" "$machine/keys" systemd-nspawn --quiet --register=no --keep-unit --resolv-conf=off \
        --timezone=off --boot --directory="$root" </dev/null >"$machine/nspawn" 2>&1 &
    nspawn=$!
    eventually has_started
    expect "$(in_machine systemctl is-system-running --wait)" = running
}

# systemd, as a child of nspawn's, which is one of the console's.
has_started() {
    local children child grandchildren
    read -ra children <"/proc/$nspawn/task/$nspawn/children" || true
    for child in "${children[@]}"; do
        read -ra grandchildren <"/proc/$child/task/$child/children" || true
        for leader in "${grandchildren[@]}"; do
            if [ "$(cat "/proc/$leader/comm")" = systemd ] && [ -S "/proc/$leader/root/run/systemd/private" ]; then
                return
            fi
        done
    done
    leader=
    return 1
}

power_off() {
    trap - EXIT
    in_machine systemctl poweroff
    wait "$nspawn"
}

in_machine() {
    nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

# type_at PROMPT LINE: at the console, when it shows this behind all that was typed at before.
type_at() {
    eventually shows "$1"
    seen=$(stat --format=%s "$machine/console")
    printf '%s\r' "$2" >"$machine/keys"
}

shows() {
    tail --bytes="+$((seen + 1))" "$machine/console" | grep -qF -- "$1"
}

# make_set USER [OPTION...]: its codes, in their order.
make_set() {
    in_machine backupcodes-admin generate "$@" | codes_of_sheet
}

# In their order.
codes_of_sheet() {
    grep -oE '\b([0-9A-Z]{5}-){2}[0-9A-Z]{5}\b' | sort
}

# code SET INDEX
code() {
    sed -n "$(($2 + 1))p" <<<"$1"
}

# login USER CODE [PASSWORD]: by ssh, from outside the machine.
login() {
    CODE=$2 PASSWORD=${3-$password} SSH_ASKPASS=$machine/answer SSH_ASKPASS_REQUIRE=force ssh -F none -o LogLevel=ERROR \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null \
        -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1 "$1@127.0.0.1" true 2>>"$machine/ssh"
}

# is_refused USER CODE [PASSWORD]: for what was answered, and not for want of a connection.
is_refused() {
    ! login "$@" && tail -n 1 "$machine/ssh" | grep -q '^[a-z]*@127.0.0.1: Permission denied'
}

# renew USER ANSWER...: the new codes.
renew() {
    printf '%s\n' "${@:2}" | in_machine su "$1" --command 'backupcodes renew' 2>>"$machine/renewals" | codes_of_sheet
}

mailbox_has() {
    grep -rqsF "$2" "$root/var/mail/$1" "$root/home/$1/"{inbox,Maildir}
}

nothing_is_due() {
    ! grep -q mail=due "$root"/var/lib/backupcodes/*.toml && [ -z "$(ls -A "$root/var/lib/backupcodes/outbox")" ]
}

# The path unit does not look while the service runs. What comes between the last look of a run and its end, a few
# milliseconds, waits for the next change or the timer, so tests come when nothing runs.
is_at_rest() {
    nothing_is_due && unit_is backupcodes-notify.service inactive
}

unit_is() {
    [ "$(in_machine systemctl show --property=ActiveState --value "$1")" = "$2" ]
}

# readme_block NAME
readme_block() {
    awk -v marker="<!-- tested: $1 -->" '$0 == marker { found = 1; next } found && /^```/ { if (inside) exit; inside = 1; next } inside' README.md docs/guide/*.md
}

# expect FOUND = WANTED
expect() {
    [ "$1" = "$3" ] || fail "found '$1', expected '$3'"
}

# Waits until a command says yes.
eventually() {
    local end=$((SECONDS + 60))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "in vain waited for: $*"
        sleep 0.1
    done
}

show_logs() {
    tail --lines=20 "$machine/"{nspawn,console,ssh,renewals,locker,apt} "$root"/var/log/exim4/*log 2>/dev/null || true
    [ -z "${leader-}" ] || in_machine journalctl --quiet --boot --no-pager --lines=60 || true
} >&2
