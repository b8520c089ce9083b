#!/usr/bin/env bash
# What a call in GPU memory costs in the library: at most 100 ns beyond a bare call, on a backend that does nothing.
# BOUND=NS for another bound.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
B=${B:-build/default}
null=$PWD/${B#"$PWD"/}/tests/doubles/libnull.so
home=$(mktemp -d /tmp/muster-overhead.XXXXXX) || exit 2
trap 'rm -rf "$home"' EXIT
export MUSTER_HOME=$home/home MUSTER_RUN_ROOT=$home/run MUSTER_IDLE=1 MUSTER_CUDA_LIB=$null MUSTER_NCCL_LIB=$null
"$B/bin/muster" run -n 1 "$B/tests/peers/gpu_overhead" "${BOUND:-100}"
rc=$?
# The idle pool ends by itself; until then it would make its directories again.
for _ in {1..50}; do
    env -u MUSTER_HOME grep -lszqxF "MUSTER_HOME=$MUSTER_HOME" /proc/[0-9]*/environ || break
    sleep 0.2
done
exit $rc
