#!/usr/bin/env bash
# make soak-gpu-faults: ROUNDS (50) of each kind of fault in operations in GPU memory, on the test doubles; NOISE (0): ms
# beyond the bounds that are let pass.
cd "$(dirname "$0")/../.." || exit 99
ROUNDS=${ROUNDS:-50} NOISE=${NOISE:-0} exec tests/doubles/faults.t
