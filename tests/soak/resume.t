#!/usr/bin/env bash
# muster accept over four hosts, one of which sends slowly, from seed ACCEPT_START (1) on: at random moments, ACCEPT_KILLS
# (100) in all, the command, its job's client, a rank, an agent, the controller or a host is killed. It ends soon, or goes
# on; what it had measured is still there when it is resumed, nothing is measured twice, and the verdict is the same.
# ACCEPT_PROFILE: quick, or standard.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
cluster_up 4
ok $? "four hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=600 MUSTER_YIELD=1
hosts=h1,h2,h3,h4 want='1 node h2 out'
echo 'check pair.bw each >= 0.5*median confirm=2/3' >"$tmp/criteria"
cluster_exec h2 tc qdisc add dev eth0 root tbf rate 80mbit burst 64k latency 400ms
suspects() { python3 -c 'import json,sys; print(*[" ".join([s["kind"], s["id"], s.get("direction", "-")]) for s in json.load(sys.stdin)["suspects"]], sep=", ")' <"$1" 2>&1; }
begin() { # as $pid
    rm -rf "$tmp/judged"
    timeout 900 "$muster" accept -H $hosts -x MUSTER_YIELD --profile "${ACCEPT_PROFILE:-quick}" --only node,pair,coll --at-once 1 \
        --criteria "$tmp/criteria" --seed "$1" --output "$tmp/judged" --json >"$tmp/o" 2>"$tmp/e" &
    pid=$!
}
steps() { grep -o '"kind":"step","name":"[^"]*"' "$tmp/judged/journal.jsonl" 2>/dev/null | sort; }
sums() { (cd "$tmp/judged/raw" 2>/dev/null && steps | sed 's/.*"name":"\(.*\)"/\1.jsonl/' | xargs -r sha256sum); }
now() { echo $((${EPOCHREALTIME/./} / 1000)); }

t0=$(now)
begin 1
wait $pid
is "$? $(suspects "$tmp/o")" "$want" "a run that nobody disturbs" || note "$(cat "$tmp/e")"
whole=$(($(now) - t0))
note "it takes $whole ms"

# One run after the other, each killed and resumed until it ends, so that what has been resumed is killed, too.
wrong=0 hung=0 lost=0 twice=0 unnamed=0 resumed=0 runs=0 start=${ACCEPT_START:-1} kills=${ACCEPT_KILLS:-100} made=0
most=$((whole / 6 > 2000 ? whole / 6 : 2000))
hang() { # TEXT
    hung=$((hung + 1))
    note "seed $seed, kill $made: $what on $host: $1" "$(tail -n 3 "$tmp/e")"
}
ended() { # MS: within so much
    local until=$(($(now) + $1))
    while [ -d /proc/$pid ] && [ "$(now)" -lt $until ]; do sleep 0.02; done
    [ ! -d /proc/$pid ]
}
stepped() { # MS STEPS: within so much more of them are in the journal, or it ends
    local until=$(($(now) + $1))
    while [ -d /proc/$pid ] && [ "$(steps | wc -l)" -le "$2" ] && [ "$(now)" -lt $until ]; do sleep 0.1; done
    [ ! -d /proc/$pid ] || [ "$(steps | wc -l)" -gt "$2" ]
}
for ((seed = start; made < kills; seed++)); do
    RANDOM=$seed runs=$((runs + 1)) what=nothing host=- down=()
    begin $seed
    for ((turn = 0; turn < 60; turn++)); do
        [ $made -lt "$kills" ] && ! ended $(((RANDOM * 32768 + RANDOM) % (2 * most))) && {
            whats=(command client rank agent controller host) others=(h1 h3 h4)
            what=${whats[RANDOM % 6]} host=${others[RANDOM % 3]} made=$((made + 1)) had=$(steps | wc -l)
            killed=$(now)
            case $what in
            command) pkill -KILL -P $pid -x muster ;;
            client) pkill -KILL -P "$(pgrep -P $pid -x muster)" ;;
            rank) cluster_exec $host pkill -KILL bench-rank ;;
            agent) cluster_exec $host pkill -KILL -f 'muster agent' ;;
            controller) pkill -KILL -f 'muster controller' ;;
            host) cluster_crash_host $host && down+=("$host") ;;
            esac 2>/dev/null
            # It ends soon (10 s, and the shell that looks), or the kill did no harm and it goes on.
            ended 10000 || stepped $((whole + 60000)) "$had" || hang "no step in $((whole + 60000)) ms, and no end"
            [ "$(steps | wc -l)" -le $had ] || killed=$(now)
        }
        [ $made -lt "$kills" ] && ! ended 0 && continue
        wait $pid
        said="$? $(suspects "$tmp/o")"
        [ "$said" = "$want" ] || [ $what = nothing ] || [ $(($(now) - killed)) -le 10500 ] ||
            hang "$(($(now) - killed)) ms until it ended: '$said'"
        [ $what != host ] || [ "$said" = "$want" ] || grep -q $host "$tmp/e" || {
            unnamed=$((unnamed + 1))
            note "seed $seed, kill $made: $host died and is not named" "$(tail -n 3 "$tmp/e")"
        }
        for host in "${down[@]}"; do cluster_start_host "$host"; done
        what=nothing host=- down=()
        # Killed before there was anything?
        [ ! -e "$tmp/judged/journal.jsonl" ] && [ ! -s "$tmp/before" ] && begin $seed && continue
        sums >"$tmp/after"
        [ ! -s "$tmp/before" ] || ! grep -vxFf "$tmp/after" "$tmp/before" >"$tmp/gone" || {
            lost=$((lost + 1))
            note "seed $seed, kill $made: lost or changed when it was resumed:" "$(cat "$tmp/gone")"
        }
        cp "$tmp/after" "$tmp/before"
        [ "$said" = "$want" ] && break
        resumed=$((resumed + 1))
        timeout 900 "$muster" accept --resume "$tmp/judged" --json >"$tmp/o" 2>"$tmp/e" &
        pid=$!
    done
    : >"$tmp/before"
    [ "$(steps | uniq -d)" = "" ] || {
        twice=$((twice + 1))
        note "seed $seed: made twice:" "$(steps | uniq -d)"
    }
    [ "$said" = "$want" ] || {
        wrong=$((wrong + 1))
        note "seed $seed: '$said'" "$(tail -n 5 "$tmp/e")"
    }
done
note "$made kills, $resumed times resumed, $runs runs"
is $wrong 0 "the verdict is always the same, as in a run that nobody disturbs"
is $lost 0 "nothing that was measured is lost"
is $twice 0 "nothing is measured twice"
is $hung 0 "nothing hangs"
is $unnamed 0 "a host that dies is named"
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
