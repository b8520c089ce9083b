#!/usr/bin/env bash
# The simulator over seeded schedules, and each planted mutation caught by it.
. "$(dirname "$0")/seeds.sh"
sim=$B/tests/sim/sim

holds "$sim" --start "${SIM_START:-1}" --seconds "${SIM_SECONDS:-40}"
each_caught "$sim" 60000
replay() { "$sim" --start 7 --seeds 1 --trace | cksum; }
is "$(replay)" "$(replay)" "a seed replays exactly"
done_testing
