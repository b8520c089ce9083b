#!/usr/bin/env bash
# Checkpoints of tensors in GPU memory, on the test double of CUDA.
. "$(dirname "$0")/../lib.sh"
export MUSTER_CUDA_LIB=$B/tests/doubles/libcuda.so.1 MUSTER_TIMEOUT=20
ranks() { # DIR MODE
    run_cmd timeout 60 "$muster" run --oversubscribe --restarts 0 -n 2 --ckpt-dir "$tmp/$1" "$B/tests/fault/gpu_ckpt" "$2"
    out=$(sort <<<"$out")
}
ranks a save
is "$rc:$out" "0:rank 0 saved 0 
rank 1 saved 0 " "a save has what the stream was about to write, and nothing that came later" || note "$err"
ranks a restore
is "$rc:$out" "0:rank 0 restored 6 1 
rank 1 restored 6 1 " "another job gets it back, into the GPU" || note "$err"
ranks b apart
like "$out" 'rank 1 apart -1 muster_ckpt_add: tensor "elsewhere": it is on GPU 5, the tensors before it are on GPU 1' "tensors of two GPUs are refused"
MUSTER_TIMEOUT=5 MUSTER_DOUBLE=copy-error,rank=1,op=4 ranks c error
like "$out" 'rank 0 error 0 .rank 1 error -9 muster_ckpt_save: GPU 1: copying for a checkpoint: CUDA_ERROR_LAUNCH_FAILED \(719\)' "a GPU that does not copy is named"
done_testing
