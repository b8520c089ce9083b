#!/usr/bin/env bash
# The simulator over seeded schedules, and each planted mutation caught by it.
B=${B:-build/default}
n=0 bad=0
ok() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; bad=1; fi; }

out=$("$B/tests/sim/sim" --start "${SIM_START:-1}" --seconds "${SIM_SECONDS:-40}" 2>&1)
ok $? "nothing is violated: $out"
while IFS=$'\t' read -r name text; do
    out=$(timeout "${MUSTER_TEST_LIMIT:-300}" "$B/tests/sim/sim-mutants" --seeds 20000 --mutant "$name" 2>&1)
    ok $? "caught: $text ($(echo "$out" | tail -n 1))"
done < <("$B/tests/sim/sim" --list)
# a replay gives the same
a=$("$B/tests/sim/sim" --start 7 --seeds 1 --trace | cksum) b=$("$B/tests/sim/sim" --start 7 --seeds 1 --trace | cksum)
[ "$a" = "$b" ]; ok $? "a seed replays exactly"
echo "1..$n"
exit $bad
