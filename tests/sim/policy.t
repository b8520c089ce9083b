#!/usr/bin/env bash
# The queue's policy over seeded traces of jobs, and each planted mutation caught by them.
B=${B:-build/default}
n=0 bad=0
ok() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; bad=1; fi; }

out=$("$B/tests/policy/trace" --start "${POLICY_START:-1}" --seeds "${POLICY_SEEDS:-300}" 2>&1)
ok $? "nothing is violated: $out"
while IFS=$'\t' read -r name text; do
    out=$(timeout "${MUSTER_TEST_LIMIT:-300}" "$B/tests/policy/trace-mutants" --seeds 1000 --mutant "$name" 2>&1)
    ok $? "caught: $text ($(echo "$out" | tail -n 1))"
done < <("$B/tests/policy/trace" --list)
echo "1..$n"
exit $bad
