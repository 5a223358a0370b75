# What `packaging/demo fleet` shows: three nodes of etcd, two hosts with an sshd each, and one sheet for both.
# shellcheck shell=bash
# shellcheck source=packaging/demo-world.bash
. packaging/demo-world.bash

# The certificates, and their authority.
pki=''

inside_fleet() {
    local user sheet codes=() number leader left
    make_world
    user=$(free_name)

    step "3. Three nodes of etcd, with certificates of two authorities: one for nodes alone, one for nodes and hosts"
    pki=$folder/world/fleet
    install -d -m 0755 "$pki" /etc/backupcodes/fleet
    make_certificates
    for number in 1 2 3; do start_node $number; done
    wait_for_majority

    step "4. The admin host. It may make sets; host1 and host2 may use them"
    be_host backupcodes-admin
    show cat /etc/security/backupcodes.conf.d/fleet.conf
    start_fleet
    local root=(--certificate "$pki/root.crt" --key "$pki/root.key")
    show backupcodes-admin fleet init "${root[@]}"
    for number in 1 2; do show backupcodes-admin fleet host add host$number "${root[@]}"; done

    step "5. $user has an account on both hosts, where sshd asks for key and code"
    show useradd --create-home --home-dir "/home/$user" --shell /bin/sh "$user"
    install -m 0644 target/release/libpam_backupcodes.so "$(module_directory)/pam_backupcodes.so"
    make_keys "$user"
    pam_stack >/etc/pam.d/sshd
    server_config >/etc/ssh/sshd_config
    for number in 1 2; do
        make_host host$number
        on host$number start_fleet
        start_server 222$number on host$number
    done

    step "6. One sheet for all hosts of the fleet"
    echo "\$ backupcodes-admin generate $user"
    sheet=$(backupcodes-admin generate "$user")
    echo "$sheet"
    for number in 1 2 3; do
        codes[number]=$(code_of_sheet $number "$sheet") || die "the sheet shows no code $number"
    done

    step "7. $user logs in with code 1 on host1"
    log_in "$user" 1 "${codes[1]}" 2221 || die "a good code was refused"

    step "8. The same code on host2: refused"
    ! log_in "$user" 1 "${codes[1]}" 2222 || die "THE SAME CODE WAS ACCEPTED ON TWO HOSTS"

    leader=$(backupcodes-admin fleet status | sed -n 's,.*https://127.0.0.1:\([123]\)2379.*leads.*,\1,p')
    [ -n "$leader" ] || die "no node leads"
    step "9. Node $leader, which leads the others, is killed. The other two go on"
    show kill -KILL "${nodes[leader]}"
    log_in "$user" 2 "${codes[2]}" 2222 || die "a good code was refused"
    log_in "$user" 3 "${codes[3]}" 2221 || die "a good code was refused"

    step "10. What is left, and what the fleet says"
    left=$(show backupcodes-admin status "$user")
    echo "$left"
    [[ $left == *"$user: 7 of 10 codes left"*"code 1 used "*host1*"code 2 used "*host2*"code 3 used "*host1* ]] ||
        die "the status should say that code 1 and 3 were used on host1, and code 2 on host2"
    # One node does not reply, so that this is no success.
    show backupcodes-admin fleet status || true
}

# --- the nodes ---

nodes=()

make_certificates() {
    local name
    for name in ca peer-ca; do
        quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=demo $name" \
            -keyout "$pki/$name.key" -out "$pki/$name.crt"
    done
    certificate peer-ca peer / subjectAltName=IP:127.0.0.1 extendedKeyUsage=serverAuth,clientAuth
    certificate ca node / subjectAltName=IP:127.0.0.1 extendedKeyUsage=serverAuth,clientAuth
    for name in root backupcodes-admin host1 host2; do certificate ca $name /CN=$name extendedKeyUsage=clientAuth; done
}

# certificate AUTHORITY NAME SUBJECT EXTENSION...
certificate() {
    local ca=$pki/$1
    shift
    quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$pki/$1.key" -out "$pki/$1.csr"
    printf '%s\n' "${@:3}" >"$pki/$1.ext"
    quietly openssl x509 -req -in "$pki/$1.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -days 2 \
        -extfile "$pki/$1.ext" -out "$pki/$1.crt"
}

# On one machine nodes differ by their ports.
start_node() {
    local own=https://127.0.0.1:$1 all options
    all=1=https://127.0.0.1:12380,2=https://127.0.0.1:22380,3=https://127.0.0.1:32380
    options=(--name "$1" --data-dir "$folder/world/node$1" --initial-cluster "$all" --initial-cluster-token demo
        --listen-client-urls "${own}2379" --advertise-client-urls "${own}2379"
        --listen-peer-urls "${own}2380" --initial-advertise-peer-urls "${own}2380")
    options+=(--client-cert-auth --trusted-ca-file "$pki/ca.crt" --cert-file "$pki/node.crt" --key-file "$pki/node.key"
        --peer-client-cert-auth --peer-trusted-ca-file "$pki/peer-ca.crt"
        --peer-cert-file "$pki/peer.crt" --peer-key-file "$pki/peer.key")
    echo "\$ etcd --name $1 --listen-client-urls ${own}2379 ... &"
    etcd "${options[@]}" >>"$log" 2>&1 &
    nodes[$1]=$!
    # The shell says nothing of its end.
    disown
}

wait_for_majority() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        ! ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:12379 --cacert "$pki/ca.crt" \
            --cert "$pki/root.crt" --key "$pki/root.key" endpoint health >>"$log" 2>&1 || return 0
        sleep 0.2
    done
    die "the nodes of etcd found no majority"
}

# --- the hosts ---

# The process in the namespaces of each.
declare -A hosts=()

# make_host NAME: with mounts and a hostname of its own.
make_host() {
    mkdir -p /run/backupcodes
    unshare --mount --uts --propagation private -- \
        bash -c "$(declare -f be_host fleet_config); folder=\$1 pki=\$2; be_host \$3; touch /run/\$3; exec sleep infinity" \
        host "$folder" "$pki" "$1" &
    hosts[$1]=$!
    until [ -e "/run/$1" ]; do sleep 0.05; done
}

# on HOST COMMAND...: a function of this script, or a program.
on() {
    if declare -F "$2" >/dev/null; then
        nsenter --target "${hosts[$1]}" --mount --uts -- bash -c "$(declare -f "$2" show die); log=$log; $2"
    else
        exec nsenter --target "${hosts[$1]}" --mount --uts -- "${@:2}"
    fi
}

# be_host NAME: sets, certificate and service of this place are that host's from now on.
be_host() {
    local own=$folder/world/$1
    mkdir -p "$own"/{sets,run,state,fleet} /run/backupcodes /var/lib/backupcodes-fleet /etc/security/backupcodes.conf.d
    chmod 0700 "$own/sets" "$own/state"
    cp "$pki/ca.crt" "$own/fleet/"
    cp "$pki/$1.crt" "$own/fleet/host.crt"
    cp "$pki/$1.key" "$own/fleet/host.key"
    mount --bind "$own/sets" /var/lib/backupcodes
    mount --bind "$own/run" /run/backupcodes
    mount --bind "$own/state" /var/lib/backupcodes-fleet
    mount --bind "$own/fleet" /etc/backupcodes/fleet
    hostname "$1"
    fleet_config >/etc/security/backupcodes.conf.d/fleet.conf
}

fleet_config() {
    cat <<-'END'
	[fleet]
	endpoints = ["https://127.0.0.1:12379", "https://127.0.0.1:22379", "https://127.0.0.1:32379"]
	END
}

# systemd starts it when it is first called.
start_fleet() {
    local tries
    echo "\$ backupcodes-fleet --socket /run/backupcodes/fleet &    # on $(hostname)"
    backupcodes-fleet --socket /run/backupcodes/fleet >>"$log" 2>&1 &
    for ((tries = 0; tries < 100; tries++)); do
        [ ! -S /run/backupcodes/fleet ] || return 0
        sleep 0.1
    done
    die "backupcodes-fleet did not start"
}
