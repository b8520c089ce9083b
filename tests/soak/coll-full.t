#!/usr/bin/env bash
# The collectives in every configuration of tests/mpi/coll.t with all sizes and types, of which make test takes the large
# ones with 2 and 4 ranks alone.
cd "$(dirname "$0")/../.." || exit 99
COLL_FULL=1 LAUNCH=${LAUNCH:-${B:-build/default}/bin/muster run --oversubscribe} exec tests/mpi/coll.t
