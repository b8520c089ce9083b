#!/usr/bin/env bash
# make soak-queue: the trace of the fault test with OPS (500) operations, of SEED= when that is given.
cd "$(dirname "$0")/../.." || exit 99
OPS=${OPS:-500} exec tests/fault/queue_kill.t
