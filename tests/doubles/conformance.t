#!/usr/bin/env bash
# Operations in GPU memory on the test doubles of NCCL and CUDA: the conformance suite of tests/gpu, and the public
# functions under muster run.
. "$(dirname "$0")/../lib.sh"
d=$B/tests/doubles
export MUSTER_CUDA_LIB=$d/libcuda.so.1 MUSTER_NCCL_LIB=$d/libnccl.so.2 MUSTER_NVML_LIB=$d/libnvidia-ml.so.1
export MUSTER_KERNELS_LIB=$d/libmuster_cuda.so

conform() { # NAME VAR=value...
    run_cmd timeout 300 env "${@:2}" "$B/tests/gpu/conformance"
    is "$rc" 0 "$1" || note "$out"
}
for n in 1 2 3 4; do conform "$n ranks" RANKS=$n; done
conform "fast mode" MUSTER_NCCL_MODE=fast
conform "NCCL 2.18, which has no all-to-all" "MUSTER_NCCL_LIB=$d/libnccl-2.18.so"
conform "GPUs on which NCCL does not reduce 8-bit floats" RANKS=2 MUSTER_DOUBLE_CAPABILITY=89
conform "NCCL that is still at work when its calls return" RANKS=2 MUSTER_DOUBLE=in-progress,ms=1
conform "every rank slow at times" RANKS=3 'MUSTER_DOUBLE=slow,rank=0,op=7,times=5,ms=20;slow,rank=1,op=100,times=5,ms=20'

ranks() { # VAR=value... -- ARGS...
    local vars=()
    while [ "$1" != -- ]; do vars+=("$1"); shift; done
    run_cmd timeout 60 env "${vars[@]}" "$muster" run --oversubscribe -n 2 "$B/tests/fault/gpu_ranks" "${@:2}"
}
ranks MUSTER_TIMEOUT=20 -- good
is "$rc:$out" "0:good
good" "the public functions, requests and groups" || note "$err"
ranks MUSTER_TIMEOUT=20 "MUSTER_NCCL_LIB=$d/libnccl-2.17.so" -- first
like "$out" "-9 .*muster_allreduce in GPU memory: rank 0 on .*: NCCL: 2\.17\.1 is too old, 2\.18 or later is needed" \
    "an NCCL that is too old is named, and who has it"
like "$out" "host 0" "and host memory works on"
ranks MUSTER_TIMEOUT=20 "MUSTER_NCCL_LIB=$tmp/libnccl.so.2" -- first
like "$out" "-9 .*NCCL: cannot be loaded as MUSTER_NCCL_LIB says \($tmp/libnccl\.so\.2: " "so is one that is missing"
ranks MUSTER_TIMEOUT=20 MUSTER_NCCL_MODE=quick -- first
like "$out" "-1 .*MUSTER_NCCL_MODE=quick: safe or fast is needed" "a mode that there is not"
for start in quick 0 3s 20; do
    ranks MUSTER_TIMEOUT=5 "MUSTER_NCCL_START=$start" MUSTER_DOUBLE=init-error,rank=1 -- first
    like "$out" "-1 .*MUSTER_NCCL_START=$start: a number of seconds above 0 and below MUSTER_TIMEOUT \(5\) is needed" \
        "MUSTER_NCCL_START=$start" || note "$err"
done
ranks MUSTER_TIMEOUT=5 MUSTER_NCCL_START=2 MUSTER_DOUBLE=init-error,rank=1 -- first
like "$out" "in 3 tries: rank 1 on [^ ]*: NCCL .*system error" "who does not come up is named" || note "$err"
ranks MUSTER_TIMEOUT=3 MUSTER_DOUBLE=capturing -- loop 3
like "$out" "FAILED rank=0 code=-1 .*muster_allreduce in GPU memory: .*captured" \
    "a wait for what a graph has caught is refused" || note "$err"
# What goes as 16 bits in GPU memory needs our kernels: none, another library, or for other GPUs.
ranks MUSTER_TIMEOUT=20 -- narrow
like "$rc:$out" "^0:0 " "a bucket that goes as 16 bits" || note "$err"
mkdir "$tmp/lib"
cp "$B/lib/libmuster.so" "$tmp/lib/libmuster.so.1"
ranks MUSTER_TIMEOUT=20 "LD_LIBRARY_PATH=$tmp/lib" MUSTER_KERNELS_LIB= -- narrow
like "$rc:$out" "^0:-16 muster_bucket_add: float32 as bfloat16 in GPU memory: GPU kernels: not found \($tmp/lib/libmuster_cuda\.so: .*; they are built where nvcc is found" \
    "kernels that are not there are named, and where they were looked for" || note "$err"
for row in "libnull.so||-9|GPU kernels: .*libnull\.so has no muster_wire_kernels_" "none.so||-9|GPU kernels: cannot be loaded as MUSTER_KERNELS_LIB says" \
    "libmuster_cuda.so|no-kernels|-9|GPU kernels: .*libmuster_cuda\.so does not give them" \
    "libmuster_cuda.so|no-image|-9|GPU kernels: they do not run on this GPU: no kernel image"; do
    IFS='|' read -r file fault code text <<<"$row"
    ranks MUSTER_TIMEOUT=20 "MUSTER_KERNELS_LIB=$d/$file" "MUSTER_DOUBLE=$fault" -- narrow
    like "$rc:$out" "^0:$code muster_bucket_add: float32 as bfloat16 in GPU memory: $text" "$file ${fault}" || note "$err"
done
if [ -e "$B/lib/libmuster_cuda.so" ] && [ ! -e /dev/nvidia0 ]; then
    ranks MUSTER_TIMEOUT=20 MUSTER_KERNELS_LIB= -- narrow
    like "$rc:$out" "^0:-9 .*: GPU kernels: they do not run on this GPU: (there is no CUDA driver|[a-zA-Z ]+)" "the real kernels" || note "$err"
fi
ranks MUSTER_TIMEOUT=3 -- message
like "$out" "0: -5 muster_recv in GPU memory, after operation 1 of rank 0: it has not ended in 3 s: the other end, rank 1 on " \
    "a message that nobody sends is named, and who should have" || note "$err"
ranks MUSTER_TIMEOUT=3 -- left
like "$out" "1: -5 muster_allreduce in GPU memory, operation 2 of rank 1: .*; rank 0 on [^ ]* has left the communicator" \
    "who has left is named" || note "$err"
run_cmd timeout 60 env MUSTER_TIMEOUT=3 MUSTER_SHM=0 "$muster" run --on-failure=keep --oversubscribe -n 2 "$B/tests/fault/gpu_ranks" late 1 3
like "$out" "rank=0 code=-5 .*operation 3 of rank 0: it has not ended in 3 s; the ranks of this node have enqueued it" \
    "who is late on another node is not seen, and that is said"
done_testing
