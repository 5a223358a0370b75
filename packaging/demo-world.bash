# What packaging/demo and its fleet share: a world of namespaces, a real sshd in it, and how the demo tells what it does.
# shellcheck shell=bash

# The demo's own folder, and the log of what is not shown.
folder='' log='' keep_log=''

# --- the world ---

# Writable copies of the host's files. The working directory stays the same, even below a covered /home.
make_world() {
    local original layer
    mkdir "$folder/world"
    mount -t tmpfs -o mode=0755 tmpfs "$folder/world"
    for original in /etc /var /usr/sbin "$(module_directory)"; do
        layer=$folder/world/${original//\//_}
        mkdir -p "$layer/upper" "$layer/work"
        mount -t overlay overlay -o "lowerdir=$original,upperdir=$layer/upper,workdir=$layer/work" "$original"
    done
    mount -t tmpfs -o mode=0755 tmpfs /home
    mount -t tmpfs -o mode=0700 tmpfs /root
    mount -t tmpfs -o mode=0755 tmpfs /run
    mkdir -p /run/sshd /run/lock
    install -d -m 0700 /var/lib/backupcodes
    mount -t tmpfs -o mode=0700 tmpfs /var/lib/backupcodes
    make_dev "$folder/world/dev"
    ip link set lo up

    mkdir "$folder/world/bin"
    cp target/release/backupcodes-admin "$folder/world/bin/"
    cp target/release/backupcodes-fleet /usr/sbin/
    printf '#!/bin/sh\n{ cat; echo; } >>%s\n' "$folder/world/mail" >"$folder/world/bin/sendmail"
    chmod 0755 "$folder/world/bin/sendmail"
    install -d -m 0755 /etc/security
    printf '[notify]\nsendmail = ["%s"]\n' "$folder/world/bin/sendmail" >/etc/security/backupcodes.conf
    PATH=$folder/world/bin:$PATH
}

# Own terminals, and no /dev/log: nothing reaches the host's log.
make_dev() {
    local node
    mkdir "$1"
    for node in null zero full random urandom tty; do
        touch "$1/$node"
        mount --bind "/dev/$node" "$1/$node"
    done
    mkdir "$1/pts" "$1/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$1/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$1/shm"
    ln -s pts/ptmx "$1/ptmx"
    ln -s /proc/self/fd "$1/fd"
    mount --rbind "$1" /dev
}

# alice, or another name if this host has an alice.
free_name() {
    local name=alice
    while getent passwd "$name" >/dev/null || getent group "$name" >/dev/null; do name+=x; done
    echo "$name"
}

# The keys of the server and the user, each known to the other side.
make_keys() {
    local home=/home/$1
    install -d -m 0700 /root/.ssh
    install -d -m 0700 -o "$1" -g "$1" "$home/.ssh"
    quietly ssh-keygen -q -t ed25519 -N '' -f /run/sshd/host_key
    quietly ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
    install -m 0600 -o "$1" -g "$1" /root/.ssh/id_ed25519.pub "$home/.ssh/authorized_keys"
    printf '[127.0.0.1]:%s\n' {2221,2222}" $(cat /run/sshd/host_key.pub)" >/root/.ssh/known_hosts
    # Replaces this host's file: one prompt a login, so that a refusal ends it.
    echo 'NumberOfPasswordPrompts 1' >/etc/ssh/ssh_config
    unset SSH_AUTH_SOCK SSH_ASKPASS SSH_ASKPASS_REQUIRE
}

pam_stack() {
    cat <<-'END'
	auth     required   pam_backupcodes.so
	@include common-account
	@include common-session
	END
}

server_config() {
    cat <<-'END'
	UsePAM yes
	PasswordAuthentication no
	KbdInteractiveAuthentication yes
	AuthenticationMethods publickey,keyboard-interactive
	END
}

# start_server PORT [COMMAND...]: the command runs what is added to it.
start_server() {
    local server tries options=(-D -e -h /run/sshd/host_key -o "ListenAddress=127.0.0.1:$1" -o "PidFile=/run/sshd-$1.pid")
    echo "\$ ${*:2}${2:+ }sshd ${options[*]} &"
    # By its full path: sshd starts itself again for every connection.
    "${@:2}" "$(command -v sshd)" "${options[@]}" 2>>"$log" &
    server=$!
    # The file is written once it listens. Trying to connect instead would count as a failed login.
    for ((tries = 0; tries < 100; tries++)); do
        [ ! -s "/run/sshd-$1.pid" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    die "sshd did not start"
}

# code_of_sheet NUMBER SHEET
code_of_sheet() {
    [[ $2 =~ (^|[[:space:]])"$1"[[:space:]]+([0-9A-Z]{5}-[0-9A-Z]{5}-[0-9A-Z]{5})([[:space:]]|$) ]] || return
    echo "${BASH_REMATCH[2]}"
}

# log_in USER NUMBER CODE PORT: logs in with a real ssh at a terminal. Succeeds if the command ran as the user; fails if the
# response was refused; anything else ends the demo.
log_in() {
    local said status=0 ssh=(ssh -p "$4" "$1@127.0.0.1" whoami)
    echo "\$ ${ssh[*]}"
    # The code goes through a pipe, from a builtin of the shell: it is in no argument list, environment or file.
    said=$(printf '%s\n' "$3" | expect -f <(at_a_terminal) "$2" "${ssh[@]}" | tr -d '\r') || status=$?
    echo "$said"
    case $status:$said in
    0:*"$1") return 0 ;;
    255:*"Backup code: "*"Permission denied"*) return 1 ;;
    *) die "ssh ended with status $status, which is neither a login nor a refusal" ;;
    esac
}

# For expect: NUMBER COMMAND [ARGUMENT...], and the code on standard input.
at_a_terminal() {
    cat <<-'END'
	set timeout 60
	set command [lassign $argv number]
	gets stdin code
	spawn -noecho {*}$command
	expect {
	    "Backup code: " {}
	    timeout { exit 124 }
	    eof { exit 125 }
	}
	# The terminal does not show the response.
	send_user "<code $number>"
	send -- "$code\r"
	expect {
	    timeout { exit 124 }
	    eof {}
	}
	exit [lindex [wait] 3]
	END
}

# --- telling ---

step() {
    printf '\n%s\n' "$1"
}

show() {
    printf '$ %s\n' "$*"
    "$@"
}

# Long outputs go to the log, which is shown after an error.
quietly() {
    "$@" >>"$log" 2>&1 </dev/null || fail "This failed: $*"
}

die() {
    echo "packaging/demo: $1" >&2
    exit 1
}

fail() {
    printf '\n%s\n' "$1" >&2
    if [ -s "$log" ]; then
        printf 'The log, %s, ends so:\n' "$log" >&2
        tail -n 15 "$log" | sed 's/^/  | /' >&2
        # shellcheck disable=SC2034 # The caller's clean_up reads it.
        keep_log=yes
    fi
    exit 1
}
