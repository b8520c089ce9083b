#!/usr/bin/env bash
# make soak-calm: for MINUTES (30) LOOPS (64) processes spin beside a job over 4 hosts, and nothing is made of it.
. "$(dirname "$0")/../cluster/faults.sh"
cluster_serve 5 "$root/tests/soak/run_calm.py"
