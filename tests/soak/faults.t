#!/usr/bin/env bash
# make soak-faults: ROUNDS (200) random faults in a row in jobs over 4 hosts with one spare; SEED repeats the choices.
. "$(dirname "$0")/../cluster/faults.sh"
cluster_serve 5 "$root/tests/soak/run_faults.py"
