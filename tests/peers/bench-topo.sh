#!/usr/bin/env bash
# make bench-topo: ranks on the NUMA node of their GPU, of muster and of Open MPI's mappings, on files of machines:
# FILES="a.xml b.xml", by default those of the tests and ../shared/data/topo. Nothing is started but mpirun's mapper (its
# ras simulator), so the figures are the same on any machine.
exec python3 tests/peers/bench_topo.py "$@"
