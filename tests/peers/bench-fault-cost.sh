#!/usr/bin/env bash
# make bench-fault-cost: what looking for failures and disagreements costs: the library beside a build of it that does
# neither (-DMU_UNCHECKED), turn by turn. At most 5 %: "slower" says that they cost more; the ratio is the time
# without them through the time with them. Determinism has no build without it: whatever the order, the same inputs are read once.
#   RANKS="2 4 8" OPS="allreduce reduce_scatter allgather broadcast" MIN=8 MAX=64M TRIALS=21; QUICK=1: few and small
set -u
B=${B:-build/default}
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
if [ -n "${QUICK-}" ]; then
    : "${RANKS:=2}" "${MAX:=64K}" "${TRIALS:=3}"
fi
: "${RANKS:=2 4 8}" "${MAX:=64M}" "${TRIALS:=21}"
export RANKS MAX TRIALS
unchecked=${B%/*}/unchecked
env -u MAKEFLAGS -u MAKELEVEL -u B make --no-print-directory B="$unchecked" CFLAGS=-DMU_UNCHECKED MUSTER_NO_DEPS=1 lib >/dev/null || exit
exec python3 tests/peers/bench_others.py "$B" "$unchecked"
