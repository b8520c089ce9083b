#!/usr/bin/env bash
# The example job on real GPUs: its kernels against the CPU, then its training. One GPU is enough, as for conformance.t.
. "$(dirname "$0")/../lib.sh"
[ -e /dev/nvidia0 ] || skip_all "no GPU on this machine"
code=$B/examples/train_lm_gpu.so
[ -e "$code" ] || skip_all "no nvcc where this was built"
run_cmd timeout 280 "$B/tests/gpu/train_kernels" "$code"
is "$rc" 0 "kernels: gradients, losses as on the CPU, the same bits again" || note "$out" "$err"
if ldd "$B/examples/train_lm" | grep -q 'libmpi.*not found'; then
    skip "no MPI beside the GPU"
    done_testing
    exit
fi
# shellcheck source=tests/gpu/curves.sh
. tests/gpu/curves.sh
train() { # RANKS OPTIONS...
    # shellcheck disable=SC2016
    run_cmd timeout 280 "$muster" run --oversubscribe -n "$1" sh -c 'NCCL_HOSTID=rank$RANK NCCL_SOCKET_IFNAME=lo exec "$@"' - \
        "$B/examples/train_lm" --steps 60 --log-every 1 "${@:2}"
}
for n in 1 2; do
    train $n --no-ckpt
    curve >"$tmp/cpu"
    train $n --no-ckpt --device gpu
    is "$rc" 0 "$n ranks train on the GPU" || note "$err"
    curve >"$tmp/gpu"
    apart=$(curves_apart "$tmp/cpu" "$tmp/gpu" 62)
    ok $? "with the losses of the CPU (${apart})"
    whole=$(hash_of)
    train $n --no-ckpt --device gpu
    is "$(hash_of)" "$whole" "the same run again ends with the same weights"
    train $n --device gpu --ckpt "dir=$tmp/ckpt$n" --stop-at 30
    train $n --device gpu --ckpt "dir=$tmp/ckpt$n"
    like "$out" 'resumed at step 30 from checkpoint' "a checkpoint of GPU memory is resumed from"
    is "$(hash_of)" "$whole" "and ends with the same weights"
done
done_testing
