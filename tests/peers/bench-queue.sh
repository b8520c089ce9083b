#!/usr/bin/env bash
# make bench-queue: submit, listing and the next start, with 1,000 jobs queued in a real controller. TRIALS=20, QUEUED=1000.
exec python3 "$(dirname "$0")/bench_queue.py" "${B:-build/default}" "${TRIALS:-20}" "${QUEUED:-1000}"
