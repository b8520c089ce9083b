#!/usr/bin/env bash
# The collectives at 1 to 5 ranks, whichever algorithm runs, and everything that can go wrong with them.
set -u
B=${B:-build/default}
LAUNCH=${LAUNCH:-mpirun --oversubscribe}
read -r -a launch <<<"$LAUNCH"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# MPI leaks; what leaks from us is looked for below.
export LSAN_OPTIONS=exitcode=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}
out=$(mktemp)
trap 'rm -f "$out"; [ -z "${MUSTER_TEST_DIR-}" ] || rm -rf "$TMPDIR"/ompi.*' EXIT # Open MPI 5 leaves those of singletons
n=0 bad=0

# One line of TAP for a whole run; its own lines are shown when it fails.
run() { # NAME RANKS [VAR=value...] -- PROGRAM ARGS...
    local name=$1 ranks=$2 rc=0 good=1
    shift 2
    local vars=()
    while [ "$1" != -- ]; do vars+=("$1"); shift; done
    shift
    local cmd=(env "${vars[@]}") prog=("$B/tests/mpi/$1" "${@:2}") v
    for v in "${vars[@]}"; do # ranks with other letters are on other nodes, or in other domains
        # shellcheck disable=SC2016
        case $v in COLL_NODES=*)
            prog=(bash -c 'export MUSTER_SHM_HOST=${COLL_NODES:$OMPI_COMM_WORLD_RANK:1}; exec "$@"' nodes "${prog[@]}")
            ;;
        COLL_DOMAINS=*)
            prog=(bash -c 'export MUSTER_SHM_DOMAIN=${COLL_DOMAINS:$OMPI_COMM_WORLD_RANK:1}; exec "$@"' domains "${prog[@]}")
            ;;
        esac
    done
    if [ "$ranks" != 0 ]; then
        cmd+=("${launch[@]}")
        [ -z "${COLL_SHORT-}" ] || cmd+=(-x COLL_SHORT)
        for v in "${vars[@]}"; do cmd+=(-x "${v%%=*}"); done
        cmd+=(-np "$ranks")
    fi
    timeout -k 10 300 "${cmd[@]}" "${prog[@]}" >"$out" 2>&1 </dev/null || rc=$?
    [ $rc = 0 ] && grep -q '^1\.\.[1-9]' "$out" && ! grep -q '^not ok' "$out" || good=0
    ! grep -qE '^ +#[0-9]+ .* in (mu_|muster_)' "$out" || good=0
    n=$((n + 1))
    if [ $good = 1 ]; then
        echo "ok $n - $name ($(grep -c '^ok' "$out") checks)"
    else
        echo "not ok $n - $name (code $rc)"
        sed 's/^/# /' "$out" | grep -v '^# ok' | head -n 60
        bad=1
    fi
}

same() { # the digest of the last run is that of $digest
    n=$((n + 1))
    if [ -n "$digest" ] && [ "$(grep '^# digest' "$out")" = "$digest" ]; then
        echo "ok $n - the same bits"
    else
        echo "not ok $n - the same bits"
        bad=1
    fi
}

run "all collectives, 2 ranks" 2 -- coll_all
run "all collectives, 4 ranks, with a thread for progress" 4 COLL_MEMORY=mixed MUSTER_PROGRESS=1 -- coll_all
[ -n "${COLL_FULL-}" ] || export COLL_SHORT=1 # without the largest vectors: make soak-coll has them
for p in 1 5 3; do
    run "all collectives, $p ranks" $p -- coll_all
done
digest=$(grep '^# digest' "$out")
for memory in mapped mixed; do
    run "all collectives, 3 ranks, $memory memory" 3 COLL_MEMORY=$memory -- coll_all
    same
done
run "all collectives, 3 ranks, everything through slots" 3 MUSTER_SHM=copy -- coll_all
same
for tune in 64,64 131072,1073741824; do # every threshold as low and as high as it can be
    run "all collectives, 3 ranks, thresholds $tune" 3 MUSTER_TUNE=$tune COLL_MEMORY=mixed -- coll_all
    same
done
for max in 1 1000000000; do
    run "all collectives, 3 ranks, over MPI, algorithms changed at $max bytes" 3 MUSTER_SHM=0 MUSTER_FLAT_MAX=$max -- \
        coll_all
    same
done
run "all collectives, 6 ranks" 6 COLL_MEMORY=mapped -- coll_all
digest=$(grep '^# digest' "$out")
for domains in 000111 001122; do
    run "all collectives, 6 ranks, domains $domains" 6 COLL_DOMAINS=$domains MUSTER_TUNE=64,1073741824,64 COLL_MEMORY=mapped -- \
        coll_all
    same
done
run "all collectives, nodes of 2 and 2 ranks" 4 COLL_NODES=0011 -- coll_all
digest=$(grep '^# digest' "$out")
for v in COLL_MEMORY=mixed MUSTER_FLAT_MAX=1 MUSTER_FLAT_MAX=1000000000; do
    run "all collectives, nodes of 2 and 2 ranks, $v" 4 COLL_NODES=0011 $v -- coll_all
    same
done
run "all collectives, one rank on each of 4 nodes" 4 COLL_NODES=0123 -- coll_all
digest=$(grep '^# digest' "$out")
for v in MUSTER_FLAT_MAX=1 MUSTER_FLAT_MAX=1000000000 MUSTER_HIER=0; do # pairs, halves, and slices
    run "all collectives, one rank on each of 4 nodes, $v" 4 COLL_NODES=0123 $v -- coll_all
    same
done
run "all collectives, one rank on each of 8 nodes" 8 COLL_NODES=01234567 -- coll_all
digest=$(grep '^# digest' "$out")
run "all collectives, one rank on each of 8 nodes, in halves" 8 COLL_NODES=01234567 MUSTER_FLAT_MAX=1 -- coll_all
same
run "all collectives, 5 ranks of a node" 5 -- coll_all
digest=$(grep '^# digest' "$out")
run "all collectives, 5 ranks of a node, over MPI" 5 MUSTER_SHM=0 -- coll_all
same
run "all collectives, 5 ranks of a node, over TCP" 5 MUSTER_SHM=0 MUSTER_TRANSPORT=tcp -- coll_all
same
run "the same calls again and again, 3 ranks" 3 -- coll_repeat 10
digest=$(grep '^# digest' "$out")
for v in MUSTER_SHM=copy MUSTER_PROGRESS=1; do
    run "the same calls again and again, 3 ranks, $v" 3 $v -- coll_repeat 3
    same
done
for nodes in 0001 0110 01122 01234 00112233; do
    run "all collectives, nodes $nodes" ${#nodes} COLL_NODES=$nodes -- coll_all
done
run "all collectives, nodes 0011 that are not used" 4 COLL_NODES=0011 MUSTER_HIER=0 COLL_STRICT=1 -- coll_all
differ=(elsewhere count bucket sizes dtype op root function leaf finalize)
run "disagreement: ${differ[*]}, over nodes" 4 COLL_NODES=0011 -- coll_errors "${differ[@]}"
for nodes in 001 011; do
    for c in late late-request; do
        run "deadline: $c over nodes $nodes" 3 MUSTER_TIMEOUT=1 COLL_NODES=$nodes -- coll_errors $c
    done
done
for shm in 1 0; do
    over=$([ $shm = 1 ] && echo "" || echo ", over MPI")
    run "disagreement: ${differ[*]}$over" 4 MUSTER_SHM=$shm -- coll_errors "${differ[@]}"
    [ $shm = 0 ] || run "disagreement: count, 2 ranks" 2 -- coll_errors count
    for c in late late-request; do
        run "deadline: $c$over" 3 MUSTER_TIMEOUT=1 MUSTER_SHM=$shm -- coll_errors $c
    done
done
run "disagreement: ${differ[*]}, over TCP" 4 MUSTER_SHM=0 MUSTER_TRANSPORT=tcp -- coll_errors "${differ[@]}"
run "deadline: late, over TCP" 3 MUSTER_TIMEOUT=1 MUSTER_SHM=0 MUSTER_TRANSPORT=tcp -- coll_errors late
run "deadline: late, while others wait for each other" 3 MUSTER_TIMEOUT=1 MUSTER_SHM=0 MUSTER_FLAT_MAX=1 -- coll_errors late
run "disagreement: p2p" 4 -- coll_errors p2p
run "deadline: late-recv" 3 MUSTER_TIMEOUT=1 -- coll_errors late-recv
run "a peer's death" 3 -- coll_errors abort
run "a peer's death between two calls" 2 -- coll_errors abort-later
run "arguments" 2 -- coll_errors arguments
run "broken launches" 0 -- coll_errors launch
echo "1..$n"
exit $bad
