#!/usr/bin/env bash
# muster accept over eight hosts whose links are given their rates one by one: ACCEPT_SEEDS scenarios (200), from
# ACCEPT_START (1) on, each with a host that sends, receives or does both slowly, a slow link, or nothing.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
cluster_up 8
ok $? "eight hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=600 MUSTER_YIELD=1
n=8 base=240 # Mbit/s
echo 'check pair.bw each >= 0.94*median confirm=2/3' >"$tmp/criteria"

rate() { # FROM TO MBIT
    cluster_exec "h$1" tc class replace dev eth0 parent 1: classid "1:$((10 + $2))" htb rate "$3mbit" burst 16k cburst 16k quantum 9000
}
for ((i = 1; i <= n; i++)); do
    cluster_exec "h$i" tc qdisc add dev eth0 root handle 1: htb default 9
    cluster_exec "h$i" tc class add dev eth0 parent 1: classid 1:9 htb rate 1000mbit quantum 9000
    for ((j = 1; j <= n; j++)); do
        [ $i = $j ] && continue
        rate $i $j $base
        cluster_exec "h$i" tc filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst "10.213.0.$j/32" flowid "1:$((10 + j))"
    done
done

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

right=0 kind_right=0 named=0 planted=0 healthy=0 accused=0 start=${ACCEPT_START:-1} seeds=${ACCEPT_SEEDS:-200}
for ((seed = start; seed < start + seeds; seed++)); do
    RANDOM=$seed
    kinds=(none out in both link) drops=(10 15 20 30 50)
    kind=${kinds[RANDOM % 5]} a=$((RANDOM % n + 1)) drop=${drops[RANDOM % 5]}
    b=$(((a + RANDOM % (n - 1)) % n + 1))
    plant $kind $a $b $((base * (100 - drop) / 100))
    case $kind in link) want="link h$a>h$b -" ;; none) want= ;; *) want="node h$a $kind" ;; esac
    began=$SECONDS
    run_cmd timeout 120 "$muster" accept -H h1,h2,h3,h4,h5,h6,h7,h8 -x MUSTER_YIELD --only pair --at-once 1 --criteria "$tmp/criteria" \
        --output "$tmp/run" --seed $seed --json -q
    got=$(python3 -c 'import json,sys; print(*[" ".join([s["kind"], s["id"], s.get("direction", "-")]) for s in json.load(sys.stdin)["suspects"]], sep=", ")' <<<"$out" 2>&1)
    took=$((SECONDS - began))
    rm -rf "$tmp/run"
    if [ $kind = none ]; then
        healthy=$((healthy + 1))
        [ -z "$got" ] || accused=$((accused + 1))
    else
        planted=$((planted + 1))
        [ -z "$got" ] || named=$((named + 1))
        [[ "$got" == *"h$a"* ]] && right=$((right + 1))
        [ "$got" = "$want" ] && kind_right=$((kind_right + 1))
    fi
    [ "$got" = "$want" ] || note "seed $seed: planted $kind h$a h$b $drop %, got '$got' (exit $rc, $took s)" "$err"
    [ $took -le 60 ] || note "seed $seed took $took s"
    plant $kind $a $b $base
done
note "$planted planted: $right found, $kind_right with their kind, $named accusations; $healthy healthy ones, $accused accused"
[ $((right * 100)) -ge $((planted * 99)) ]
ok $? "recall from 10 % on"
[ $((right * 100)) -ge $((named * 99)) ]
ok $? "precision"
[ $((kind_right * 100)) -ge $((right * 95)) ]
ok $? "kinds"
is $accused 0 "nobody is accused where nothing is wrong"
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
