#!/usr/bin/env bash
# The conformance suite on real GPUs. One is enough: with a host name of its own each rank passes for one of another node,
# and NCCL uses sockets. Without a GPU tests/doubles/conformance.t runs it on test doubles.
. "$(dirname "$0")/../lib.sh"
[ -e /dev/nvidia0 ] || skip_all "no GPU on this machine"
kernels=$B/lib/libmuster_cuda.so
if [ -e "$kernels" ]; then
    export MUSTER_KERNELS_LIB=$kernels
else
    skip "no nvcc where this was built"
fi
for n in 1 2 4; do
    for mode in safe fast; do
        run_cmd timeout 280 env RANKS=$n MUSTER_NCCL_MODE=$mode "$B/tests/gpu/conformance"
        is "$rc" 0 "$n ranks, $mode mode" || note "$out" "$err"
    done
done
done_testing
