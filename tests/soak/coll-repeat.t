#!/usr/bin/env bash
# make soak-coll-repeat: reductions TIMES (1000) times, on one node and on two, through memory and over MPI: the bits of
# the first time, whichever way they go.
. "$(dirname "$0")/../lib.sh"
times=${TIMES:-1000} few=$((${TIMES:-1000} / 10 + 1))

again() { # RANKS NODES TIMES [VAR=VALUE...]
    # shellcheck disable=SC2016
    run_cmd env COLL_NODES="$2" "${@:4}" timeout 1800 "$muster" run --oversubscribe -n "$1" \
        bash -c '[ -z "$COLL_NODES" ] || export MUSTER_SHM_HOST=${COLL_NODES:$RANK:1}; exec "$@"' nodes \
        "$B/tests/mpi/coll_repeat" "$3"
    [ "$rc" = 0 ] && grep -q '^ok 1' <<<"$out"
    ok $? "$1 ranks${2:+ on nodes $2}, $3 times${4:+, ${*:4}}" || note "rc $rc" "$out" "$err"
}

digest=
same() {
    local now
    now=$(grep '^# digest' <<<"$out")
    is "${now:-none}" "${digest:-$now}" "the same bits"
    digest=${digest:-$now}
}

for ranks in 2 3 4; do
    digest=
    again $ranks '' "$times"
    same
    for v in MUSTER_SHM=copy MUSTER_SHM=0 MUSTER_TUNE=64,64 MUSTER_TUNE=131072,1073741824 MUSTER_PROGRESS=1; do
        again $ranks '' $few $v
        same
    done
done
for nodes in 0011 0123 00112233; do
    digest=
    again ${#nodes} $nodes "$times"
    same
    for v in MUSTER_FLAT_MAX=1 MUSTER_FLAT_MAX=1000000000; do
        again ${#nodes} $nodes $few $v
        same
    done
done
again 4 0001 "$times"
again 8 '' $((times / 2 + 1))
done_testing
