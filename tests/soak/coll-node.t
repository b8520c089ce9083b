#!/usr/bin/env bash
# make soak-coll-node: ROUNDS (1000) ranks of one node killed or stopped inside collectives; a death is to be known after 50 ms.
# make soak-coll does that, and the same between hosts (coll-hosts.t).
cd "$(dirname "$0")/../.." || exit 99
ROUNDS=${ROUNDS:-1000} BOUND_MS=${BOUND_MS:-50} exec tests/fault/coll_kill.t
