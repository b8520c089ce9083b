#!/usr/bin/env bash
# The queue's policy over seeded traces of jobs, and each planted mutation caught by them.
. "$(dirname "$0")/seeds.sh"

holds "$B/tests/policy/trace" --start "${POLICY_START:-1}" --seeds "${POLICY_SEEDS:-300}"
each_caught "$B/tests/policy/trace" 1000
done_testing
