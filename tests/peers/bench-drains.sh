#!/usr/bin/env bash
# make bench-drains: what drains spend on copies on peers, and on making them again (drain_cost.c), either way on the
# wire. HOSTS=8, MIB=64 a host, ROUNDS=5, PARITIES=2, LOST=2.
for wire in encrypted authenticated; do
    echo "# ${HOSTS:-8} drains, ${MIB:-64} MiB each, rs:${PARITIES:-2}, wire=$wire: medians, and from the least to the most"
    timeout 600 "$B/tests/peers/drain_cost" "${HOSTS:-8}" "${PARITIES:-2}" "${MIB:-64}" "${ROUNDS:-5}" "${LOST:-2}" $wire || exit
done
