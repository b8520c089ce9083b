#!/usr/bin/env bash
# shellcheck disable=SC2034
# A cluster on one machine. A test sources this in place of tests/lib.sh and then runs inside, on the cluster's head:
#     . "$(dirname "$0")/cluster.sh"
#     cluster_up 4
#     run_cmd "$muster" run --ssh "$CLUSTER_SSH" -H h1:2,h2:2 ./train
#     cluster_kill_host h2
# Or as a command: cluster.sh N [COMMAND...] (a shell when there is none); inside, cluster.sh VERB [ARGS...].
#
# Hosts h1..hN (10.213.0.1...) and the head (10.213.0.254), where the test runs, have each their own network,
# processes, host name, IPC, /tmp, /dev/shm and /run; the hosts also sshd and a boot_id. The rest of the file system is
# the machine's, and the checkout, $B, $tmp, $TMPDIR and $CLUSTER_SHARE are shared also when they are below /tmp.
# Everything lives in namespaces of the head's own: when the test ends, in whatever way, the kernel ends all of it;
# nothing of it is seen outside, no address can clash, and two clusters do not meet.
#
#   cluster_up N [--setenv NAME=VALUE]...   boots N hosts; --setenv: for all sessions of their sshd
#   cluster_down                            all hosts off (not needed at the end)
#   cluster_exec HOST COMMAND...            runs it in the host with this environment and working directory
#   cluster_ssh HOST COMMAND...             through sshd, as muster does it
#   cluster_kill_host HOST                  power loss: no packet leaves it any more, its /tmp and /dev/shm are gone
#   cluster_crash_host HOST                 all its processes die and their connections are closed, then it is off
#   cluster_start_host HOST                 boots it again, with another boot_id
#   cluster_cut [--one-way] HOST [HOST2]    silently drops packets between the two, or the host and everybody; one-way:
#                                           those from HOST to HOST2. A host may be "head" and, one-way, "all"
#   cluster_lose HOST PERCENT               loses packets at random, each way, if cluster_can_lose
#   cluster_delay HOST MS                   delays packets, each way, if cluster_can_delay
#   cluster_heal [HOST [HOST2]]             undoes cuts; for one host or without names also losses and delays
#   cluster_stop HOST [PROCESS]             SIGSTOP for a pid or what matches a regular expression; without: for all
#   cluster_cont HOST [PROCESS]             SIGCONT
#   cluster_ps HOST                         what runs there besides the host itself: pid, parent, state, command
#   cluster_orphans                         the same for all hosts, and files that are left there; for the end of tests
#   cluster_services SCRIPT                 runs it in each host ($1 is its name) now and when it boots; what it starts is
#                                           the host's, and no orphan
#   cluster_mpirun ARGS...                  Open MPI over the hosts' sshd
cluster_script=$(readlink -f "${BASH_SOURCE[0]}")
CLUSTER_DIR=/run/cluster # a private /run, so it needs no other name
CLUSTER_NET=10.213.0.0/24
CLUSTER_SSH="ssh -F $CLUSTER_DIR/ssh_config"
cl_spaces=(--net --uts --ipc --pid --mount --fork --kill-child)
export CLUSTER_DIR CLUSTER_NET CLUSTER_SSH PATH=$PATH:/usr/sbin:/sbin

# The environment of a host's own daemons, which belong to no test's pool.
cl_clean=(env -i PATH="$PATH" HOME="$HOME" LC_ALL=C.UTF-8 ${MUSTER_TEST_ID:+MUSTER_TEST_ID="$MUSTER_TEST_ID"}
    ${CLUSTER_ID:+CLUSTER_ID="$CLUSTER_ID"})

cl_fail() {
    echo "cluster: $*" >&2
    return 1
}
cl_addr() { case $1 in head) echo 10.213.0.254 ;; *) echo "10.213.0.${1#h}" ;; esac; }
cl_mac() { case $1 in head) echo 02:00:0a:d5:00:fe ;; *) printf '02:00:0a:d5:00:%02x' "${1#h}" ;; esac; }
cl_hosts() { cat "$CLUSTER_DIR/hosts" 2>/dev/null; }
cl_check() { # HOST...: whether they exist
    local h
    for h in "$@"; do
        grep -qxF -- "$h" "$CLUSTER_DIR/hosts" 2>/dev/null || cl_fail "no host '$h'; there are: $(cl_hosts | tr '\n' ' ')" || return
    done
}
cl_pid() { # HOST: its first process, seen from the head
    cl_check "$1" || return
    cat "$CLUSTER_DIR/$1/up" 2>/dev/null || cl_fail "$1 is down"
}
cl_wait() { # SECONDS COMMAND...
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    until "${@:2}"; do
        [ "${EPOCHREALTIME/./}" -lt $end ] || return 1
        sleep 0.01
    done
}

cluster_missing() { # prints why there can be no cluster here; nothing if there can
    local c
    [ "$(id -u)" = 0 ] || { echo "needs root for hosts made of namespaces"; return; }
    for c in ip bridge ssh ssh-keygen sshd setpriv; do
        command -v $c >/dev/null || { echo "$c is not installed"; return; }
    done
    unshare "${cl_spaces[@]}" sh -c 'mount -t proc proc /proc && mount -t tmpfs none /tmp && ip link add cluster type bridge &&
        ip link add h1 master cluster type veth peer name eth0 && unshare "$@" true' sh "${cl_spaces[@]}" >/dev/null 2>&1 ||
        echo "no namespaces for hosts here, or no veth or bridge"
}

# --- the head -----------------------------------------------------------------------------------------------------

# DIR MODE SHARED...: an own, empty DIR in which only what is shared below it is the old one.
cl_cover() {
    local dir mode=$2 d fd opened=()
    dir=$(readlink -f "$1") || return
    for d in "${@:3}"; do
        case $d in "$dir"/*) if [ -d "$d" ]; then exec {fd}<"$d" && opened+=("$fd $d"); fi ;; esac
    done
    mount -t tmpfs -o "mode=$mode" cluster "$dir" || return
    for d in "${opened[@]}"; do
        fd=${d%% *} d=${d#* }
        # The old tree is reached only through the descriptor: its path is covered.
        mkdir -p "$d" && mount --no-canonicalize --bind "/proc/self/fd/$fd" "$d" || return
        exec {fd}<&-
    done
}

# Whoever would end the cluster's outer shell or its head ends the test that runs in it, which may then clean up.
cl_traps() { # ROLE
    cl_role=$1 cl_child='' cl_told=''
    trap 'cl_tell TERM' TERM HUP
    trap 'cl_tell INT' INT
}
cl_tell() { # SIGNAL
    [ -n "$cl_told" ] || cl_told=$1
    [ -n "$cl_child" ] || return
    case $cl_role in
    outer) pkill "-$cl_told" -P "$cl_child" ;; # unshare blocks it, its child is the head
    head)
        # Once, however often we hear it: it may be about to clean up.
        cl_role=told
        kill "-$cl_told" "$cl_child"
        ;;
    esac
}
cl_run() { # COMMAND...: in the background, where traps are not kept waiting
    env --default-signal=INT,QUIT "$@" <&0 &
    cl_child=$!
    [ -z "$cl_told" ] || cl_tell "$cl_told"
    while kill -0 $cl_child 2>/dev/null; do
        wait $cl_child
        # A head that is just starting may not have heard it.
        while [ "$cl_role${cl_told:+ told}" = "outer told" ] && kill -0 $cl_child 2>/dev/null; do
            sleep 0.2
            cl_tell "$cl_told"
        done
    done
    wait $cl_child
}
# COMMAND...: runs it on the head of a new cluster. A session of its own, so that signals for our group come once.
cl_enclose() {
    cl_traps outer
    cl_run setsid setpriv --pdeathsig KILL unshare "${cl_spaces[@]}" bash "$cluster_script" --head "$@"
}

# COMMAND...: the first process of the whole cluster. Its end, or that of the command, is the end of everything.
cl_head() {
    cl_traps head
    local shared=("${TMPDIR-}" "${MUSTER_TEST_DIR-}" "${cluster_script%/tests/*}" "${B-}" "$PWD")
    read -ra shared <<<"${shared[*]} ${CLUSTER_SHARE-}"
    mount -t proc proc /proc && cl_cover /run 755 "${shared[@]}" && cl_cover /dev/shm 1777 && mkdir -p $CLUSTER_DIR /run/lock /run/sshd &&
        cl_cover /tmp 1777 "${shared[@]}" && printf '%s\n' "${shared[@]}" $CLUSTER_DIR >$CLUSTER_DIR/shared || exit 1
    # Paths, so that a directory that is gone meanwhile does not matter.
    cd "$PWD" || exit
    echo head >/proc/sys/kernel/hostname
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
    echo 127.0.0.1 localhost >$CLUSTER_DIR/names
    : >$CLUSTER_DIR/ssh_config
    mount --bind $CLUSTER_DIR/names /etc/hosts || exit
    # A plain ssh works, too. A user's own configuration goes before it.
    [ ! -e /etc/ssh/ssh_config ] || mount --bind $CLUSTER_DIR/ssh_config /etc/ssh/ssh_config
    ip -batch - <<END || exit
link set lo up
link add cluster address $(cl_mac head) type bridge forward_delay 0
addr add $(cl_addr head)/24 dev cluster
link set cluster up
END
    CLUSTER_INSIDE=$(readlink /proc/self/ns/net) HOSTNAME=head cl_run "$@"
    exit
}

# --- a host -------------------------------------------------------------------------------------------------------

# FROM TO: FROM's way to TO, for ip -batch. It is never asked for by ARP, so that a cut is silence and not "no route to
# host"; a cut one leads to an address that nobody has.
cl_way() {
    local dev=eth0 mac
    [ "$1" != head ] || dev=cluster
    mac=$(cl_mac "$2")
    [ ! -e "$CLUSTER_DIR/cut/$1-$2" ] || mac=02:00:de:ad:00:00
    echo "neigh replace $(cl_addr "$2") lladdr $mac dev $dev nud permanent"
}
cl_ways() { # FROM: to all others
    local to
    for to in $(cl_hosts) head; do
        [ "$to" = "$1" ] || cl_way "$1" "$to"
    done
}
cl_port() { # HOST: its port of the bridge passes packets, or none
    if [ -e "$CLUSTER_DIR/cut/$1" ]; then echo 0; else echo 3; fi
}
# HOST: a port that was just set up takes a state only when the kernel has seen its carrier, and then forwards by itself.
cl_forwards() { [[ $(nsenter --net=/proc/1/ns/net bridge link show dev "$1") = *" state forwarding "* ]]; }

# HOST: the host's first process.
cl_host() {
    local me=$1 dir=$CLUSTER_DIR/$1 pid shared
    read -r pid _ </proc/self/stat # as the head sees it: /proc is still the head's
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
    echo "$me" >/proc/sys/kernel/hostname
    ip -batch - <<END || exit
link set lo up
link add eth0 address $(cl_mac "$me") type veth peer name $me netns /proc/1/ns/net
addr add $(cl_addr "$me")/24 dev eth0
link set eth0 up
$(cl_ways "$me")
END
    nsenter --net=/proc/1/ns/net ip link set "$me" master cluster up && cl_wait 60 cl_forwards "$me" &&
        nsenter --net=/proc/1/ns/net bridge link set dev "$me" state "$(cl_port "$me")" || exit
    mount -t proc proc /proc || exit
    mapfile -t shared <"$CLUSTER_DIR/shared"
    cl_cover /tmp 1777 "${shared[@]}" && cl_cover /dev/shm 1777 && cl_cover /run 755 "${shared[@]}" || exit
    mkdir -p /run/sshd /run/user /run/lock && chmod 1777 /run/lock
    mount --bind "$dir/boot_id" /proc/sys/kernel/random/boot_id || exit
    # Without PAM sshd refuses an account without a password for locked.
    if [ -e $CLUSTER_DIR/shadow ]; then mount --bind $CLUSTER_DIR/shadow /etc/shadow || exit; fi
    "$(command -v sshd)" -f $CLUSTER_DIR/sshd_config -E "$dir/sshd.log" || exit
    cl_services "$me" || exit
    echo "$pid" >"$dir/up.new" && mv "$dir/up.new" "$dir/up"
    exec <>"$dir/never"
    while :; do read -r _; done
}
# Inside HOST: its services. What runs and lies there then is the host's, and no leftover.
cl_services() {
    [ ! -e $CLUSTER_DIR/services ] || bash $CLUSTER_DIR/services "$1" || return
    ps -e -o pid=,comm= >"$CLUSTER_DIR/$1/services"
    cl_files >"$CLUSTER_DIR/$1/files"
}
# The host's own files, without what is shared. Empty directories of muster's sockets are no leftover.
cl_files() { find /tmp /dev/shm /run -xdev -mindepth 1 ! -path /run/sshd.pid ! \( -type d -path '/tmp/muster-*' \) | sort; }

cl_boot() { # HOST
    local dir=$CLUSTER_DIR/$1
    rm -rf "$dir" && mkdir "$dir" && mkfifo "$dir/never" && cat /proc/sys/kernel/random/uuid >"$dir/boot_id" || return
    # Not a child of the caller's: a host is nobody's job.
    ("${cl_clean[@]}" setsid unshare "${cl_spaces[@]}" bash "$cluster_script" --host "$1" </dev/null >"$dir/log" 2>&1 &)
}
cl_booted() { # HOST
    cl_wait 60 test -e "$CLUSTER_DIR/$1/up" || cl_fail "$1 does not come up: $(cat "$CLUSTER_DIR/$1/log" "$CLUSTER_DIR/$1/sshd.log" 2>&1)"
}

# --- verbs --------------------------------------------------------------------------------------------------------

cluster_up() {
    # SHLVL: a shell that sshd starts leaves the account's start-up files alone, which may take seconds.
    local n=${1-} i h env=' SHLVL=1'
    [[ $n =~ ^[1-9][0-9]*$ && $n -le 250 ]] || cl_fail "cluster_up: 1 to 250 hosts" || return
    shift
    [ ! -e $CLUSTER_DIR/hosts ] || cl_fail "cluster_up: the cluster is up" || return
    while [ $# -gt 0 ]; do
        [ "$1" = --setenv ] && [[ ${2-} = *=* ]] || cl_fail "cluster_up: unknown option '$1'" || return
        env+=" \"$2\""
        shift 2
    done
    env+="${MUSTER_TEST_ID:+ MUSTER_TEST_ID=$MUSTER_TEST_ID}${CLUSTER_ID:+ CLUSTER_ID=$CLUSTER_ID}"
    mkdir -p $CLUSTER_DIR/cut
    [ -z "${tmp-}" ] || [ "$(tail -n 1 $CLUSTER_DIR/shared)" = "$tmp" ] || echo "$tmp" >>$CLUSTER_DIR/shared
    for h in id host_key; do
        [ -e $CLUSTER_DIR/$h ] || ssh-keygen -q -t ed25519 -N '' -C cluster -f $CLUSTER_DIR/$h || return
    done
    echo "* $(cat $CLUSTER_DIR/host_key.pub)" >$CLUSTER_DIR/known_hosts
    cat >$CLUSTER_DIR/sshd_config <<END
Port 22
ListenAddress 0.0.0.0
HostKey $CLUSTER_DIR/host_key
AuthorizedKeysFile $CLUSTER_DIR/id.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
PrintLastLog no
PidFile /run/sshd.pid
MaxStartups 500
MaxSessions 500
Subsystem sftp internal-sftp
${env:+SetEnv$env}
END
    {
        echo 127.0.0.1 localhost
        echo "$(cl_addr head) head"
        for ((i = 1; i <= n; i++)); do echo "$(cl_addr h$i) h$i"; done
    } >$CLUSTER_DIR/names
    cat >$CLUSTER_DIR/ssh_config <<END
Host *
    IdentityFile $CLUSTER_DIR/id
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile $CLUSTER_DIR/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    User root
    LogLevel ERROR
END
    rm -f $CLUSTER_DIR/shadow
    if getent shadow root | grep -q '^root:!'; then
        (umask 077 && sed 's/^root:[^:]*/root:*/' /etc/shadow >$CLUSTER_DIR/shadow)
    fi
    for ((i = 1; i <= n; i++)); do echo h$i; done >$CLUSTER_DIR/hosts
    cl_ways head | ip -batch - || return
    for h in $(cl_hosts); do cl_boot "$h" || return; done
    for h in $(cl_hosts); do cl_booted "$h" || return; done
    CLUSTER_HOSTS=$(cl_hosts | tr '\n' ' ')
    CLUSTER_HOSTS=${CLUSTER_HOSTS% }
}

cluster_down() {
    local h
    for h in $(cl_hosts); do
        [ ! -e "$CLUSTER_DIR/$h/up" ] || cluster_kill_host "$h" || return
        rm -rf "${CLUSTER_DIR:?}/$h"
    done
    rm -rf $CLUSTER_DIR/hosts $CLUSTER_DIR/cut $CLUSTER_DIR/services
    echo 127.0.0.1 localhost >$CLUSTER_DIR/names
    ip neigh flush dev cluster nud permanent
}

cl_enter() { # HOST COMMAND...
    local pid
    pid=$(cl_pid "$1") || return
    shift
    nsenter --target "$pid" --net --uts --ipc --pid --mount -- "$@"
}
cluster_exec() {
    # shellcheck disable=SC2016
    cl_enter "$1" env HOSTNAME="$1" sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "${@:2}"
}
cluster_ssh() { $CLUSTER_SSH -- "$@"; }

cl_gone() { [ ! -e "/proc/$1" ]; }
cluster_kill_host() {
    local pid
    pid=$(cl_pid "$1") || return
    # A host without power sends no FIN.
    bridge link set dev "$1" state 0 && kill -KILL "$pid" && cl_wait 60 cl_gone "$pid" || cl_fail "cannot kill $1" || return
    rm -f "$CLUSTER_DIR/$1/up"
    ip link del "$1" 2>/dev/null
    cl_wait 60 eval "! ip link show $1 >/dev/null 2>&1"
}
# Its processes die, its kernel lives long enough to close their connections.
cluster_crash_host() {
    local pid
    pid=$(cl_pid "$1") || return
    kill -KILL "$pid" && cl_wait 60 cl_gone "$pid" || cl_fail "cannot kill $1" || return
    rm -f "$CLUSTER_DIR/$1/up"
    # A connection to a host that is cut off is not closed for long, and keeps the kernel waiting.
    cl_wait 1 eval "! ip link show $1 >/dev/null 2>&1" && return
    ip link del "$1" 2>/dev/null
    cl_wait 60 eval "! ip link show $1 >/dev/null 2>&1" || cl_fail "cannot kill $1"
}
cluster_start_host() {
    cl_check "$1" || return
    [ ! -e "$CLUSTER_DIR/$1/up" ] || cl_fail "$1 is up" || return
    cl_boot "$1" && cl_booted "$1"
}

# Lets every way and port be as the cuts say.
cl_apply_cuts() {
    local h
    cl_ways head | ip -batch - || return
    for h in $(cl_hosts); do
        [ -e "$CLUSTER_DIR/$h/up" ] || continue
        bridge link set dev "$h" state "$(cl_port "$h")" || return
        cl_ways "$h" | nsenter --target "$(cl_pid "$h")" --net ip -batch - || return
    done
}
cluster_cut() {
    local one_way="" from to h
    if [ "${1-}" = --one-way ]; then
        one_way=yes
        shift
    fi
    from=${1-} to=${2:-all}
    for h in "$from" "$to"; do
        case $h in head | all) ;; *) cl_check "$h" || return ;; esac
    done
    case $one_way:$from:$to in
    :h[0-9]*:all | :all:h[0-9]*)
        # Its port is all that changes: at once, whatever else the machine does.
        h=${from/all/$to}
        : >"$CLUSTER_DIR/cut/$h"
        [ ! -e "$CLUSTER_DIR/$h/up" ] || bridge link set dev "$h" state 0
        return
        ;;
    *)
        for from in $(cl_each "$from"); do
            for h in $(cl_each "$to"); do
                : >"$CLUSTER_DIR/cut/$from-$h"
                [ -n "$one_way" ] || : >"$CLUSTER_DIR/cut/$h-$from"
            done
        done
        ;;
    esac
    cl_apply_cuts
}
cl_each() { if [ "$1" = all ]; then cl_hosts && echo head; else echo "$1"; fi; }
cluster_heal() {
    local h how
    if [ $# = 2 ]; then
        rm -f "$CLUSTER_DIR/cut/$1-$2" "$CLUSTER_DIR/cut/$2-$1"
    else
        for h in ${1:-$(cl_hosts)}; do
            rm -f "$CLUSTER_DIR/cut/$h" "$CLUSTER_DIR/cut/$h"-* "$CLUSTER_DIR/cut"/*-"$h"
            if [ -e "$CLUSTER_DIR/$h/up" ]; then
                for how in root clsact; do
                    tc qdisc del dev "$h" $how 2>/dev/null
                    nsenter --target "$(cl_pid "$h")" --net tc qdisc del dev eth0 $how 2>/dev/null
                done
            fi
        done
    fi
    cl_apply_cuts
}
cluster_can_delay() { unshare --net tc qdisc add dev lo root netem delay 1ms >/dev/null 2>&1; }
cluster_delay() {
    local pid
    pid=$(cl_pid "$1") || return
    tc qdisc replace dev "$1" root netem delay "${2}ms" &&
        nsenter --target "$pid" --net tc qdisc replace dev eth0 root netem delay "${2}ms"
}
cluster_can_lose() { unshare --net "${BASH:-bash}" "$cluster_script" --lose lo 50 >/dev/null 2>&1; }
cluster_lose() {
    local pid
    pid=$(cl_pid "$1") || return
    cl_lose "$1" "$2" && nsenter --target "$pid" --net bash "$cluster_script" --lose eth0 "$2"
}
# DEVICE PERCENT: by a packet filter, since netem is rare: A = random; if A >= rest of 2^32, drop (2), else pass (0).
cl_lose() {
    tc qdisc replace dev "$1" clsact && tc filter replace dev "$1" egress prio 1 handle 1 bpf direct-action \
        bytecode "4,32 0 0 4294963256,53 0 1 $(((100 - $2) * 42949672)),6 0 0 2,6 0 0 0"
}

cl_signal() { # SIGNAL HOST [PROCESS]
    case ${3-} in
    '') cl_enter "$2" bash -c 'kill -s "$0" -- -1' "$1" ;; # not the first process, not the sender
    *[!0-9]*) cl_enter "$2" pkill "-$1" -f -- "$3" ;;
    *) cl_enter "$2" kill -s "$1" "$3" ;;
    esac || cl_fail "no process '${3-}' in $2"
}
cluster_stop() { cl_signal STOP "$@"; }
cluster_cont() { cl_signal CONT "$@"; }

cluster_ps() {
    cl_enter "$1" ps -e -o pid=,ppid=,stat=,comm=,args= | awk 'NR == FNR { service[$1 " " $2] = 1; next }
        !($1 " " $4 in service || /ps -e -o pid=,ppid=/) { sub(" " $4 " +", " "); print }' "$CLUSTER_DIR/$1/services" -
}
cluster_orphans() {
    local h
    for h in $(cl_hosts); do
        [ -e "$CLUSTER_DIR/$h/up" ] || continue
        cluster_ps "$h" | sed "s|^ *|$h: process |"
        cl_enter "$h" bash "$cluster_script" --files | comm -13 "$CLUSTER_DIR/$h/files" - | sed "s|^|$h: file |"
    done
}

cluster_mpirun() {
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --mca plm_rsh_agent "$CLUSTER_SSH" \
        --mca oob_tcp_if_include $CLUSTER_NET --mca btl_tcp_if_include $CLUSTER_NET --bind-to none "$@"
}

cluster_services() {
    local h
    cp -- "$1" $CLUSTER_DIR/services || return
    for h in $(cl_hosts); do
        [ -e "$CLUSTER_DIR/$h/up" ] || continue
        cl_enter "$h" "${cl_clean[@]}" bash "$cluster_script" --services "$h" || return
    done
}

# --- entry --------------------------------------------------------------------------------------------------------

cl_inside() { [ "${CLUSTER_INSIDE-}" = "$(readlink /proc/self/ns/net)" ]; }

if [ "${BASH_SOURCE[0]}" != "$0" ]; then
    if ! cl_inside; then
        cl_why=$(cluster_missing)
        if [ -n "$cl_why" ]; then
            echo "1..0 # SKIP $cl_why"
            exit 0
        fi
        cl_enclose bash "$0" "$@"
        exit
    fi
    . "${cluster_script%/*}/../lib.sh"
    # A cluster test ends with nothing left in any host, either.
    eval "cl_lib_$(declare -f leftovers)"
    leftovers() {
        cl_lib_leftovers
        cluster_orphans
    }
    return
fi
case ${1-} in
--head) cl_head "${@:2}" ;;
--host) cl_host "$2" ;;
--services) cl_services "$2" ;;
--files) cl_files ;;
--lose) cl_lose "$2" "$3" ;;
--run)
    cluster_up "$2" && exec "${@:3}"
    ;;
missing | can_delay | can_lose) "cluster_$1" ;;
[0-9]*)
    cl_why=$(cluster_missing)
    [ -z "$cl_why" ] || cl_fail "$cl_why" || exit
    # A shell of the terminal's needs its session.
    [ $# -gt 1 ] || exec unshare "${cl_spaces[@]}" bash "$cluster_script" --head bash "$cluster_script" --run "$1" "${SHELL:-bash}"
    cl_enclose bash "$cluster_script" --run "$@"
    ;;
*)
    [ "$(type -t "cluster_${1:-none}")" = function ] || {
        echo "usage: cluster.sh N [COMMAND...], or inside cluster.sh VERB [ARGS...]; see the head of the file" >&2
        exit 2
    }
    cl_inside || cl_fail "$1: not inside a cluster; cluster.sh N starts one" || exit
    "cluster_$1" "${@:2}"
    ;;
esac
