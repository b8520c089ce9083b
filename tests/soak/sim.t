#!/usr/bin/env bash
# make soak-sim: SIM_SECONDS (an hour) of schedules from SIM_START on; a violation prints its seed, which replays exactly.
B=${B:-build/default}
start=${SIM_START:-$(date +%s)}
out=$("$B/tests/sim/sim" --start "$start" --seconds "${SIM_SECONDS:-3600}" 2>&1) && r="ok" || r="not ok"
echo "$r 1 - from seed $start on: $out"
echo "1..1"
[ "$r" = ok ]
