#!/usr/bin/env bash
# make soak-gpu-faults: ROUNDS (50) of each kind of fault in operations in GPU memory, on the test doubles.
cd "$(dirname "$0")/../.." || exit 99
ROUNDS=${ROUNDS:-50} exec tests/doubles/faults.t
