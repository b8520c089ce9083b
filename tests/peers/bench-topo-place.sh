#!/usr/bin/env bash
# make bench-topo-place: see topo_place.c. TRIALS=200 for each size of job, SEED=0.
exec "${B:-build/default}/tests/peers/topo_place" "${TRIALS:-200}" "${SEED:-0}"
