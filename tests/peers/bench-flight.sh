#!/usr/bin/env bash
# What the flight recorder costs an all-reduce of one float in host memory: at most 100 ns. RANKS=N, BOUND=NS for others.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
B=${B:-build/default}
home=$(mktemp -d /tmp/muster-flight.XXXXXX) || exit 2
trap 'rm -rf "$home"' EXIT
export MUSTER_HOME=$home/home MUSTER_RUN_ROOT=$home/run MUSTER_IDLE=1
"$B/bin/muster" run --oversubscribe -n "${RANKS:-2}" "$B/tests/peers/flight_cost" "${BOUND:-100}"
rc=$?
# The idle pool ends by itself; until then it would make its directories again.
for _ in {1..50}; do
    env -u MUSTER_HOME grep -lszqxF "MUSTER_HOME=$MUSTER_HOME" /proc/[0-9]*/environ || break
    sleep 0.2
done
exit $rc
