#!/usr/bin/env bash
# muster accept over four hosts, one of which sends slowly, ACCEPT_KILLS times (100), from seed ACCEPT_START (1) on: at a
# random moment the command, its job's client, a rank, an agent, the controller or a host is killed. It ends soon, or goes
# on; what it had measured is still there when it is resumed, nothing is measured twice, and the verdict is the same.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
cluster_up 4
ok $? "four hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=600 MUSTER_YIELD=1
hosts=h1,h2,h3,h4 want='1 node h2 out'
echo 'check pair.bw each >= 0.5*median confirm=2/3' >"$tmp/criteria"
cluster_exec h2 tc qdisc add dev eth0 root tbf rate 80mbit burst 64k latency 400ms
suspects() { python3 -c 'import json,sys; print(*[" ".join([s["kind"], s["id"], s.get("direction", "-")]) for s in json.load(sys.stdin)["suspects"]], sep=", ")' <"$1" 2>&1; }
begin() { # as $pid
    rm -rf "$tmp/run"
    timeout 200 "$muster" accept -H $hosts -x MUSTER_YIELD --profile "${ACCEPT_PROFILE:-quick}" --only node,pair,coll --at-once 1 \
        --criteria "$tmp/criteria" --seed "$1" --output "$tmp/run" --json >"$tmp/o" 2>"$tmp/e" &
    pid=$!
}
steps() { grep -o '"kind":"step","name":"[^"]*"' "$tmp/run/journal.jsonl" 2>/dev/null | sort; }
sums() { (cd "$tmp/run/raw" 2>/dev/null && steps | sed 's/.*"name":"\(.*\)"/\1.jsonl/' | xargs -r sha256sum); }
now() { echo $((${EPOCHREALTIME/./} / 1000)); }

t0=$(now)
begin 1
wait $pid
is "$? $(suspects "$tmp/o")" "$want" "a run that nobody disturbs" || note "$(cat "$tmp/e")"
whole=$(($(now) - t0))
note "it takes $whole ms"

wrong=0 hung=0 lost=0 twice=0 unnamed=0 resumed=0 start=${ACCEPT_START:-1} kills=${ACCEPT_KILLS:-100}
for ((seed = start; seed < start + kills; seed++)); do
    RANDOM=$seed
    whats=(command client rank agent controller host) others=(h1 h3 h4)
    what=${whats[RANDOM % 6]} host=${others[RANDOM % 3]}
    moment=$(((RANDOM * 32768 + RANDOM) % whole))
    begin $seed
    sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
    case $what in
    command) pkill -KILL -P $pid -x muster ;;
    client) pkill -KILL -P "$(pgrep -P $pid -x muster)" ;;
    rank) cluster_exec $host pkill -KILL bench-rank ;;
    agent) cluster_exec $host pkill -KILL -f 'muster agent' ;;
    controller) pkill -KILL -f 'muster controller' ;;
    host) cluster_crash_host $host ;;
    esac 2>/dev/null
    t0=$(now)
    wait $pid
    rc=$? took=$(($(now) - t0)) said="$rc $(suspects "$tmp/o")"
    # It ends soon, or the kill did no harm and it goes on to its end.
    if [ "$said" != "$want" ] && [ $took -gt 10000 ]; then
        hung=$((hung + 1))
        note "seed $seed: $what on $host killed after $moment ms: $took ms until it ended with $rc" "$(tail -n 3 "$tmp/e")"
    fi
    if [ $what = host ]; then
        [ "$said" = "$want" ] || grep -q $host "$tmp/e" || {
            unnamed=$((unnamed + 1))
            note "seed $seed: $host died after $moment ms and is not named" "$(tail -n 3 "$tmp/e")"
        }
        cluster_start_host $host
    fi
    for ((turn = 0; turn < 3; turn++)); do
        [ "$said" != "$want" ] && [ -e "$tmp/run/journal.jsonl" ] || break
        resumed=$((resumed + 1))
        sums >"$tmp/before"
        timeout 200 "$muster" accept --resume "$tmp/run" --json >"$tmp/o" 2>"$tmp/e"
        said="$? $(suspects "$tmp/o")"
        sums >"$tmp/after"
        grep -vxFf "$tmp/after" "$tmp/before" >"$tmp/gone" && {
            lost=$((lost + 1))
            note "seed $seed: lost or changed when it was resumed:" "$(cat "$tmp/gone")"
        }
    done
    [ -e "$tmp/run/journal.jsonl" ] || continue # killed before there was anything
    [ "$(steps | uniq -d)" = "" ] || {
        twice=$((twice + 1))
        note "seed $seed: made twice:" "$(steps | uniq -d)"
    }
    [ "$said" = "$want" ] || {
        wrong=$((wrong + 1))
        note "seed $seed: $what on $host killed after $moment ms: '$said'" "$(tail -n 5 "$tmp/e")"
    }
done
note "$kills kills, $resumed times resumed"
is $wrong 0 "the verdict is always the same"
is $lost 0 "nothing that was measured is lost"
is $twice 0 "nothing is measured twice"
is $hung 0 "nothing hangs"
is $unnamed 0 "a host that dies is named"
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
