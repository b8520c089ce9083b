#!/usr/bin/env bash
# Collectives over two and four hosts, with as many ranks on each and not: right to the last bit, each time the same bits;
# ranks that die inside them are named to all others, wherever they are.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 4
ok $? "four hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=120 COLL_SHORT=1

coll() { # NAME HOSTS NODES: a letter for each rank
    run_cmd timeout 300 "$muster" run -H "$2" --oversubscribe -x LSAN_OPTIONS=detect_leaks=0 -x COLL_SHORT -x "COLL_NODES=$3" \
        "${@:4}" "$B/tests/mpi/coll_all"
    [ "$rc" = 0 ] && grep -q '^1\.\.[1-9]' <<<"$out" && ! grep -q '^not ok' <<<"$out"
    ok $? "$1 ($(grep -c '^ok' <<<"$out") checks)" || note "rc $rc" "$(grep -v '^ok' <<<"$out")" "$err"
    digest=$(grep '^# digest' <<<"$out")
}

coll "two hosts, two ranks each" h1:2,h2:2 0011
first=$digest
coll "once more" h1:2,h2:2 0011 -x MUSTER_FLAT_MAX=1
is "$digest" "$first" "the same bits, with other algorithms, too"
coll "two hosts, three ranks and one" h1:3,h2:1 0001
coll "four hosts, two ranks and one" h1:2,h2:1,h3:1,h4:1 00123

for hosts in h1:2,h2:2 h1:3,h2:1 h1:1,h2:2,h3:1; do
    TMPDIR=$tmp HOSTS=$hosts ROUNDS=4 BOUND_MS=1000 timeout 240 "$(dirname "${BASH_SOURCE[0]}")/../fault/coll_kill.t" >"$tmp/kill" 2>&1
    is "$? $(grep -c '^ok' "$tmp/kill")" "0 5" "ranks on $hosts are killed inside collectives: the others are told who" ||
        note "$(cat "$tmp/kill")"
    note "$(grep known "$tmp/kill")"
done
done_testing
