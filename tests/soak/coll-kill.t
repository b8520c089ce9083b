#!/usr/bin/env bash
# make soak-coll-kill: ROUNDS (1000) ranks killed or stopped inside collectives; a death is to be known after 50 ms.
cd "$(dirname "$0")/../.." || exit 99
ROUNDS=${ROUNDS:-1000} BOUND_MS=${BOUND_MS:-50} exec tests/fault/coll_kill.t
