#!/usr/bin/env bash
# make bench-recovery: faults at random moments in a job of 8 ranks on 4 hosts of the test cluster, until the first
# completed step of the next attempt; muster against tuned mpirun over ssh in a shell loop, interleaved in one run. See
# the .py for what is measured. TRIALS=20, SEED=1, FAULTS=rank,host for some of the faults only.
. "$(dirname "$0")/../cluster/faults.sh"
cluster_serve 5 "$root/tests/peers/bench_recovery.py"
