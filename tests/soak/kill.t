#!/usr/bin/env bash
# make soak-kill: the fault test with ROUNDS (200) random kills in a row.
cd "$(dirname "$0")/../.." || exit 99
ROUNDS=${ROUNDS:-200} exec tests/fault/kill.t
