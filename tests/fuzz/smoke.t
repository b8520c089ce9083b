#!/usr/bin/env bash
# Each fuzz target for a few seconds; `make fuzz` runs them for longer.
cd "$(dirname "$0")/../.." || exit 99
FUZZ_SECONDS=${FUZZ_SECONDS:-2} exec tests/fuzz/run.sh
