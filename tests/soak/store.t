#!/usr/bin/env bash
# 10,000 seeded faults against checkpoints: tests/fault/store.c and tests/fault/protected.c. SEED=N CASES=N.
. "$(dirname "$0")/../lib.sh"
total=${CASES:-10000}
for t in store protected; do
    CASES=$((total / 4)) LIMIT=7200 bash "$root/tests/fault/$t.t" >"$tmp/$t" 2>&1
    ok $? "$t: $(grep -o '[0-9]* cases, [0-9]* failed' "$tmp/$t" | paste -sd ' ')" || note "$(cat "$tmp/$t")"
done
done_testing
