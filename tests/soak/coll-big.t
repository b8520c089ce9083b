#!/usr/bin/env bash
# make soak-coll-big: messages of BYTES (4 GiB and a little) and counts beyond 2^31, in every way that they can go. Needs
# BYTES of free memory for each of at most three ranks.
. "$(dirname "$0")/../lib.sh"
bytes=${BYTES:-4294971393}

big() { # NAME RANKS NODES [VAR=VALUE...]
    local free
    free=$(awk '/^MemAvailable/ { printf "%d", $2 / 1024 }' /proc/meminfo)
    if [ "$free" -lt $((bytes * $2 / (1 << 20) + 1024)) ]; then
        skip "not enough free memory for $2 times $bytes bytes"
        return
    fi
    # shellcheck disable=SC2016
    run_cmd env COLL_NODES="$3" "${@:4}" timeout 1200 "$muster" run --oversubscribe -n "$2" \
        bash -c '[ -z "$COLL_NODES" ] || export MUSTER_SHM_HOST=${COLL_NODES:$RANK:1}; exec "$@"' nodes \
        "$B/tests/mpi/coll_big" "$bytes"
    [ "$rc" = 0 ] && [ "$(grep -c '^ok' <<<"$out")" = 7 ]
    ok $? "$1" || note "rc $rc" "$out" "$err"
}

big "two ranks, through memory" 2 ''
big "two ranks, everything through slots" 2 '' MUSTER_SHM=copy
big "two ranks on two nodes" 2 01
big "three ranks, nodes of two and one" 3 001
done_testing
