#!/usr/bin/env bash
# The example job with its model in GPU memory, on the test doubles: against the CPU, after a resume and a death, and
# what it says where there is no GPU.
. "$(dirname "$0")/../lib.sh"
d=$B/tests/doubles
code=$d/train_lm_gpu.so
export MUSTER_CUDA_LIB=$d/libcuda.so.1 MUSTER_NCCL_LIB=$d/libnccl.so.2 MUSTER_NVML_LIB=$d/libnvidia-ml.so.1
small=(--hidden 64 --layers 2 --embed 16 --context 4 --batch 60 --lr 0.01 --steps 20 --log-every 1)
# shellcheck source=tests/gpu/curves.sh
. tests/gpu/curves.sh
train() { # RANKS MUSTER-OPTIONS... -- OPTIONS...
    local n=$1 opt=()
    shift
    while [ "$1" != -- ]; do opt+=("$1"); shift; done
    run_cmd timeout 100 "$muster" run --oversubscribe -n "$n" "${opt[@]}" "$B/examples/train_lm" "${small[@]}" "${@:2}"
}
gpu=(--device gpu --gpu-code "$code")

run_cmd timeout 100 "$B/tests/gpu/train_kernels" "$code"
is "$rc" 0 "kernels: gradients, losses as on the CPU, the same bits again" || note "$out" "$err"
build_mutant() { # SED
    mkdir -p "$tmp/mutant/docs/examples/train_lm"
    cp docs/examples/train_lm/kernels.h "$tmp/mutant/docs/examples/train_lm"
    cp tests/doubles/train_lm_gpu.c "$tmp/mutant/double.c"
    sed -i "$1" "$tmp/mutant/double.c" "$tmp/mutant/docs/examples/train_lm/kernels.h"
    if cmp -s docs/examples/train_lm/kernels.h "$tmp/mutant/docs/examples/train_lm/kernels.h" &&
        cmp -s tests/doubles/train_lm_gpu.c "$tmp/mutant/double.c"; then
        return 1
    fi
    # shellcheck disable=SC2086
    ${CC:-gcc} -std=c11 -D_GNU_SOURCE -O2 -fPIC -shared -I"$tmp/mutant" -I. -o "$tmp/mutant.so" "$tmp/mutant/double.c" \
        "$MUSTER_CUDA_LIB" -Wl,-rpath,"$d" -lm
}
mutant() { # WHAT SED: the check can fail
    build_mutant "$2" || { ok 1 "found: $1 (not built)"; return; }
    run_cmd timeout 100 "$B/tests/gpu/train_kernels" "$tmp/mutant.so"
    like "$rc:$out" '^1:.*not ok' "found: $1"
}
case ${B##*/} in
san-*) ;; # the same sources, and another runtime to preload
*)
    mutants=1
    mutant "a softmax slope that is off by a thousandth" 's/slope\[next\] -= a.scale;/slope[next] -= 0.999f * a.scale;/'
    mutant "a byte that occurs twice and is counted once" 's/sum += a.slopes/sum = a.slopes/'
    mutant "a moment that decays too fast" 's/(1 - a.beta2)/(1 - a.beta1)/'
    ;;
esac

for n in 1 3; do
    train $n -- --no-ckpt
    curve >"$tmp/cpu.$n"
    train $n -- --no-ckpt "${gpu[@]}"
    is "$rc" 0 "$n ranks train on the GPU" || note "$err"
    curve >"$tmp/gpu.$n"
    apart=$(curves_apart "$tmp/cpu.$n" "$tmp/gpu.$n" 22) # 20 steps, 2 at the end
    ok $? "with the losses of the CPU (${apart})"
done
sed 's/ 3\.1/ 3.2/' "$tmp/gpu.3" >"$tmp/off"
! curves_apart "$tmp/cpu.3" "$tmp/off" 22 >/dev/null
ok $? "other losses would be seen"
whole=$(hash_of)
if [ -n "${mutants-}" ] && build_mutant 's/cuEventRecord(events.*;/0;/; s/cuStreamWaitEvent(streams.*;/0 * later;/'; then
    train 3 --restarts 0 -- --no-ckpt --device gpu --gpu-code "$tmp/mutant.so"
    curve >"$tmp/gpu.wrong"
    ! { [ "$rc" = 0 ] && curves_apart "$tmp/cpu.3" "$tmp/gpu.wrong" 22 >/dev/null; }
    ok $? "found: streams that do not wait for one another"
fi

ckpt=(--ckpt "interval=4steps")
train 3 --ckpt-dir "$tmp/a" -- "${gpu[@]}" "${ckpt[@]}" --stop-at 10
like "$rc:$out" '^0:.*stopped after step 10 with a checkpoint' "a checkpoint of GPU memory" || note "$err"
train 3 --ckpt-dir "$tmp/a" -- "${gpu[@]}" "${ckpt[@]}"
like "$out" 'resumed at step 10 from checkpoint' "is resumed from" || note "$err"
is "$rc:$(hash_of)" "0:$whole" "and ends with the weights of a run in one go"
train 3 --ckpt-dir "$tmp/a" -- "${ckpt[@]}"
like "$rc:$out" '^0:.*resumed at step 20 from checkpoint' "the CPU goes on from it, too"

MUSTER_DOUBLE=die,rank=1,op=15 train 3 --ckpt-dir "$tmp/b" -- "${gpu[@]}" "${ckpt[@]}"
# Which of the checkpoints was whole by then is the machine's affair.
like "$err$out" 'killed by signal 9.*resumed at step (4|8|12) from checkpoint' "a rank dies in a reduction, the next attempt goes on" ||
    note "$err" "$out"
is "$rc:$(hash_of)" "0:$whole" "and ends with the same weights" || note "$out" "$err"
for _ in 1 2 3 4; do # the short deadline is also that of the start, which a loaded machine may miss
    MUSTER_TIMEOUT=2 MUSTER_DOUBLE=never-arrives,rank=1,op=5 train 3 --restarts 0 -- "${gpu[@]}" --no-ckpt
    [[ $err =~ 'called muster_init within' ]] || break
done
like "$rc:$err" '^[1-9].*average the gradients: .*operation 5 .*it has not ended in 2 s' "a GPU that hangs costs the deadline, and is told"

none() { # WHAT PATTERN OPTIONS...
    train 2 -- --no-ckpt --device gpu "${@:3}"
    like "$rc:$err" "^4:(.*"$'\n'")?train_lm: --device gpu: $2" "$1" || note "$out"
    is "$(grep -c '^train_lm: ' <<<"$err")" 1 "in one line"
}
MUSTER_DOUBLE_GPUS=0 none "no GPU" 'there is no GPU that can be used: CUDA_ERROR_NO_DEVICE' --gpu-code "$code"
none "no code for one" ".*$tmp/none.so.* \(it is built where nvcc is found\)" --gpu-code "$tmp/none.so"
none "other code" ".*libnull.so is not of this program" --gpu-code "$d/libnull.so"
if [ -e "$B/examples/train_lm_gpu.so" ] && [ ! -e /dev/nvidia0 ]; then
    none "the real code" 'there is no GPU that can be used: (there is no CUDA driver|[a-zA-Z ]+)'
fi
unlike "$(readelf -d "$B/examples/train_lm")" 'NEEDED.*(cuda|nvidia|nccl)' "the program itself needs no library of NVIDIA's"
wait_for 30 no_leftovers
ok $? "nothing is left"
done_testing
