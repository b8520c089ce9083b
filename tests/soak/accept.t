#!/usr/bin/env bash
# muster accept over eight hosts whose links are given their rates one by one: ACCEPT_SEEDS scenarios (200), from
# ACCEPT_START (1) on, each with one thing planted: a host that sends, receives or does both slowly, a slow link, one that is
# delayed (where there is netem), a host whose processors are held back by a quota (where there are cgroups) or by stopping
# it again and again, a rank that spoils data; or with nothing, or somebody's load for a while. ACCEPT_KINDS: only these.
# ACCEPT_RESULTS: a file that keeps what was found, so that a soak can be made in parts; what it has is counted again.
# ACCEPT_PROFILE: quick, or standard, which has also 5 %. ACCEPT_DROPS: only so many percent. What counts as what:
# count_accept.py.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
cluster_up 8
ok $? "eight hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=600 MUSTER_YIELD=1
n=8
profile=${ACCEPT_PROFILE:-quick} count=${BASH_SOURCE[0]%/*}/count_accept.py
case $profile in
# once: pairs that measure at a time, the links are apart; base: Mbit/s, of messages four times as large as quick's. Hosts
# share this machine's processors and are measured one by one, so standard has no time for their memory and disks.
standard) drops=(5 10 15 20 30 50) least=0.965 once=4 base=480 of_node=node.cpu ;;
*) drops=(10 15 20 30 50) least=0.94 once=1 base=240 of_node=node ;;
esac
[ -z "${ACCEPT_DROPS-}" ] || read -ra drops <<<"$ACCEPT_DROPS"
echo "check pair.bw each >= $least*median confirm=2/3" >"$tmp/pair"
echo 'check pair.lat each <= 1.5*median confirm=2/3' >"$tmp/lat"
echo 'check node.cpu.* each >= 0.92*median confirm=2/3' >"$tmp/node"

rate() { # FROM TO MBIT
    cluster_exec "h$1" tc class replace dev eth0 parent 1: classid "1:$((10 + $2))" htb rate "$3mbit" burst 16k cburst 16k quantum 9000
}
shape() { # HOST: what it sends to each of the others, from $base on
    local j
    # A bucket lets the last packet pass before it is paid for: of 64 KiB that is 6 % of a message, or nothing.
    cluster_exec "h$1" ip link set dev eth0 gso_max_size 16384
    cluster_exec "h$1" tc qdisc add dev eth0 root handle 1: htb default 9
    cluster_exec "h$1" tc class add dev eth0 parent 1: classid 1:9 htb rate 1000mbit quantum 9000
    for ((j = 1; j <= n; j++)); do
        [ "$1" = $j ] && continue
        rate "$1" $j $base
        cluster_exec "h$1" tc filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst "10.213.0.$j/32" flowid "1:$((10 + j))"
    done
}
for ((i = 1; i <= n; i++)); do shape $i; done

# plant KIND A B MBIT
plant() {
    local k
    for ((k = 1; k <= n; k++)); do
        [ $k = "$2" ] && continue
        case $1 in out | both) rate "$2" $k "$4" ;; esac
        case $1 in in | both) rate $k "$2" "$4" ;; esac
    done
    if [ "$1" = link ]; then rate "$2" "$3" "$4"; fi
}

# --- processors that are held back. One host measures at a time, so that the others' ranks are idle.
group=''
for at in /sys/fs/cgroup/cpu /sys/fs/cgroup; do
    if mkdir "$at/accept-$$" 2>/dev/null; then
        if [ -e "$at/accept-$$/cpu.cfs_quota_us" ] || [ -e "$at/accept-$$/cpu.max" ]; then group=$at/accept-$$ && break; fi
        rmdir "$at/accept-$$"
    fi
done
leave_group() {
    local status=$?
    [ -z "$group" ] || rmdir "$group"
    return $status
}
trap 'leave_group; tap_exit' EXIT
move() { # HOST GROUP: all that runs there, and what it starts
    local space p
    space=$(readlink "/proc/$(cl_pid "$1")/ns/pid")
    for p in /proc/[0-9]*; do
        [ "$(readlink "$p/ns/pid")" != "$space" ] || echo "${p#/proc/}" >"$2/cgroup.procs"
    done 2>/dev/null
}
quota() { # HOST PERCENT of all processors that others leave to it: a tenth is what waiting and the kernel take
    # In periods that are short beside a trial: a host that was idle has the whole of one to use up at once.
    local us=$((18000 * $(nproc) * $2 / 100))
    # What other work the machine has must not starve the host.
    if [ -e "$group/cpu.max" ]; then
        echo "$us 20000" >"$group/cpu.max" && echo 800 >"$group/cpu.weight"
    else
        echo -1 >"$group/cpu.cfs_quota_us" && echo 20000 >"$group/cpu.cfs_period_us" && echo $us >"$group/cpu.cfs_quota_us" && echo 8192 >"$group/cpu.shares"
    fi
    move "$1" "$group"
}
stutter() { # HOST PERCENT: stops it for so much of each tenth of a second
    cluster_exec "$1" bash -c 'while :; do
        pkill -STOP bench-rank; sleep "0.0$0"
        pkill -CONT bench-rank; sleep "0.0$1"
    done' "$2" $((100 - $2)) &
    loop=$!
}
hog() { # HOST: somebody else's work, for a while
    cluster_exec "$1" timeout 4 bash -c 'while :; do :; done' &
    loop=$!
}

read -ra kinds <<<"${ACCEPT_KINDS:-none hog out in both link stop spoil${group:+ quota}}"
if [ -z "${ACCEPT_KINDS-}" ] && cluster_can_delay; then kinds+=(delay); fi
for kind in "${kinds[@]}"; do
    case $kind in
    delay) cluster_can_delay ;;
    quota) [ -n "$group" ] ;;
    esac
    ok $? "what is planted can be: $kind" || done_testing
done
results=${ACCEPT_RESULTS:-$tmp/results}
start=${ACCEPT_START:-1} seeds=${ACCEPT_SEEDS:-200}
for ((seed = start; seed < start + seeds; seed++)); do
    RANDOM=$seed
    kind=${kinds[RANDOM % ${#kinds[@]}]} a=$((RANDOM % n + 1)) drop=${drops[RANDOM % ${#drops[@]}]} loop='' only=pair more=() at=$once
    b=$(((a + RANDOM % (n - 1)) % n + 1))
    plant $kind $a $b $((base * (100 - drop) / 100))
    criteria=$tmp/pair
    case $kind in
    hog) hog h$a ;;
    delay) criteria=$tmp/lat && cluster_delay h$a 3 ;;
    spoil) more=(-x LD_PRELOAD="$B/tests/fault/io_shim.so" -x "MUSTER_SPOIL=h$a") ;;
    stop) only=$of_node at=1 criteria=$tmp/node drop=$((drop < 20 ? 20 : drop)) && stutter h$a $drop ;;
    quota) only=$of_node at=1 criteria=$tmp/node drop=$((drop < 20 ? 20 : drop)) && quota h$a $((100 - drop)) ;;
    esac
    began=$SECONDS
    run_cmd timeout 120 "$muster" accept -H h1,h2,h3,h4,h5,h6,h7,h8 -x MUSTER_YIELD "${more[@]}" --profile $profile --only $only --at-once $at --criteria "$criteria" \
        --output "$tmp/judged" --seed $seed --json -q
    took=$((SECONDS - began))
    case $kind in
    stop | hog)
        kill "$loop" 2>/dev/null
        wait "$loop" 2>/dev/null
        cluster_exec h$a pkill 'bash|timeout'
        cluster_exec h$a pkill -CONT bench-rank
        ;;
    quota) move h$a "${group%/*}" ;;
    delay) cluster_heal h$a && shape $a ;;
    esac
    rm -rf "$tmp/judged"
    said=$(python3 "$count" add "$results" $seed $kind $a $b $drop $rc $took <<<"$out")
    [ -z "$said" ] || note "$said" "$err"
    plant $kind $a $b $base
done
said=$(python3 "$count" say "$results" "$profile")
is $? 0 "what was found is counted" || note "$said"
note "$(grep -v '^bound ' <<<"$said")"
while read -r _ held text; do
    [ "$held" = 1 ]
    ok $? "$text"
done < <(grep '^bound ' <<<"$said")
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
