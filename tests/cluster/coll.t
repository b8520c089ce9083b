#!/usr/bin/env bash
# Collectives over two and four hosts, with as many ranks on each and not: right to the last bit, each time the same bits;
# ranks that die inside them are named to all others, wherever they are.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 4
ok $? "four hosts" || done_testing
# Hosts that are one machine do not see that it has fewer CPUs than ranks.
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=120 MUSTER_YIELD=1
[ -n "${COLL_FULL-}" ] || export COLL_SHORT=1

coll() { # NAME HOSTS NODES: a letter for each rank
    run_cmd timeout 300 "$muster" run -H "$2" --oversubscribe -x LSAN_OPTIONS=detect_leaks=0 -x COLL_SHORT -x MUSTER_YIELD -x "COLL_NODES=$3" \
        "${@:4}" "$B/tests/mpi/coll_all"
    [ "$rc" = 0 ] && grep -q '^1\.\.[1-9]' <<<"$out" && ! grep -q '^not ok' <<<"$out"
    ok $? "$1 ($(grep -c '^ok' <<<"$out") checks)" || note "rc $rc" "$(grep -v '^ok' <<<"$out")" "$err"
    digest=$(grep '^# digest' <<<"$out")
}

coll "two hosts, two ranks each" h1:2,h2:2 0011
first=$digest
coll "once more" h1:2,h2:2 0011 -x MUSTER_FLAT_MAX=1
is "${digest:-none}" "$first" "the same bits, with other algorithms, too"
coll "over MPI" h1:2,h2:2 0011 -x MUSTER_TRANSPORT=mpi
is "${digest:-none}" "$first" "the same bits"
mixed() { # NAME VAR=VALUE...: what the one has sent arrives while its sender waits in the other
    run_cmd env HOSTS=4 OPS=broadcast MIN=8 MAX=8 TRIALS=5 timeout 100 "$muster" run -H h1:1,h2:1,h3:1,h4:1 --oversubscribe -x HOSTS \
        -x OPS -x MIN -x MAX -x TRIALS -x MUSTER_YIELD -x "$2" "$B/tests/peers/bench_peers"
    is "$rc $(grep -c '^broadcast' <<<"$out")" "0 1" "the library's calls and MPI's in turn, $1" || note "$out" "$err"
}
mixed "over TCP" MUSTER_TRANSPORT=tcp
ucx=$(grep -c 'define HAVE_UCX 1' "$B/config.h")
if [ "$ucx" = 1 ]; then
    coll "over UCX" h1:2,h2:2 0011 -x MUSTER_TRANSPORT=ucx
    is "${digest:-none}" "$first" "the same bits"
    mixed "over UCX" MUSTER_TRANSPORT=ucx
    run_cmd env UCX_TLS=none "$muster" run -H h1:1,h2:1 -x MUSTER_TRANSPORT=ucx -x UCX_TLS "$B/tests/mpi/coll_all"
    like "$out$err" 'MUSTER_TRANSPORT=ucx, but rank 0 on h1 cannot: UCX: ' "who has no UCX is named"
else
    skip "a build without UCX" 4
fi
coll "two hosts, three ranks and one" h1:3,h2:1 0001
coll "four hosts, two ranks and one" h1:2,h2:1,h3:1,h4:1 00123

# Who calls something else is on the first host, those who are told are on both.
run_cmd timeout 60 "$muster" run -H h1:2,h2:2 --oversubscribe -x MUSTER_YIELD "$B/tests/mpi/coll_errors" count function
[ "$rc" = 0 ] && [ "$(grep -c '^ok' <<<"$out")" -gt 9 ] && ! grep -q '^not ok' <<<"$out"
ok $? "disagreement between hosts: count, function" || note "rc $rc" "$out" "$err"

# Two rounds of this seed stop the second rank of h2 and the one of h1, while others wait for those who wait for them.
kills() { # HOSTS ROUNDS VAR=VALUE...
    env TMPDIR="$tmp" HOSTS="$1" STOPS=1 ROUNDS="$2" "${@:3}" timeout 240 \
        "$(dirname "${BASH_SOURCE[0]}")/../fault/coll_kill.t" >"$tmp/kill" 2>&1
    is "$? $(grep -c '^ok' "$tmp/kill")" "0 $(($2 + 1))" "ranks on $1 are killed and stopped inside collectives: the others are told who" ||
        note "$(cat "$tmp/kill")"
    note "$(grep known "$tmp/kill")"
}
kills h1:2,h2:2 3
kills h1:2,h2:2 2 SEED=663990352 ROUND=0 # its first operations are an all-to-all and one that rank 0 is ahead in
kills h1:3,h2:1 3
kills h1:1,h2:2,h3:1 2 SEED=1029405593 ROUND=1
kills h1:2,h2:2 2 MUSTER_TRANSPORT=mpi
if [ "$ucx" = 1 ]; then
    kills h1:2,h2:2 2 MUSTER_TRANSPORT=ucx
else
    skip "a build without UCX"
fi
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
