#!/usr/bin/env bash
# make soak-early: the test of ranks that die at once with ROUNDS (500) jobs; SEED repeats one.
cd "$(dirname "$0")/../.." || exit 99
ROUNDS=${ROUNDS:-500} exec tests/fault/early.t
