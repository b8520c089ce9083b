#!/usr/bin/env bash
# make bench-policy: 10,000 jobs on 1,000 nodes through the queue's policy, and in turn; see tests/policy/kinds.c.
exec "${B:-build/default}/tests/policy/trace" --start "${SEED:-1}" --bench
