#!/usr/bin/env bash
# Benchmarks of GPUs on the test doubles: what is measured of each GPU and how it is counted, wrong data, counters, who is
# named for being slow, and hosts without GPUs. No figure of speed comes from here but for delays that are planted.
. "$(dirname "$0")/../lib.sh"
d=$B/tests/doubles
export MUSTER_CUDA_LIB=$d/libcuda.so.1 MUSTER_NCCL_LIB=$d/libnccl.so.2 MUSTER_NVML_LIB=$d/libnvidia-ml.so.1
export MUSTER_CUBLAS_LIB=$d/libcublas.so.13 MUSTER_NVML_DOUBLE=$tmp/gpus MUSTER_DOUBLE_GPUS=2 MUSTER_TIMEOUT=20
export MUSTER_GPU_HEALTH=0 # no agent hears of the Xid
raw=$tmp/raw
says() { # WORDS: what the double of NVML says from now on
    echo "$*" >"$tmp/gpus.new"
    mv "$tmp/gpus.new" "$tmp/gpus"
}
node() { # TESTS [VAR=value...]
    rm -f "$raw"
    run_cmd timeout 60 env "${@:2}" "$muster" bench node --tests "$1" --time 10ms --gpu-size 256K --gpu-matrix 64 --raw "$raw" --quiet
}
cat >"$tmp/check.py" <<'PY'
import json, sys
lines = [json.loads(x) for x in open(sys.argv[1])]
def m(name):
    return {x["gpu"]: x for x in lines if x["kind"] == "measurement" and x["name"] == name}
def ops():
    return [x for x in lines if x["kind"] == "measurement" and x["name"].startswith("coll.")]
skips = [(x["name"], x["reason"]) for x in lines if x["kind"] == "skip"]
end = [x for x in lines if x["kind"] == "end"]
if not eval("(" + sys.argv[2] + ")"):
    sys.exit("not so")
PY
check() { # NAME PYTHON: of m(name), by GPU, ops(), skips and end
    run_cmd python3 "$tmp/check.py" "$raw" "$2"
    is "$rc$err" 0 "$1" || note "$(cut -c1-1000 "$raw")"
}

says gpus=2
node gpu 'MUSTER_DOUBLE=copy-slow,ms=5;gemm-slow,ms=5'
is "$rc" 0 "every test of GPUs" || note "$err"
like "$out" 'node\.gpu\.h2d +[^ ]*:gpu1 ' "the table says which GPU"
check "each GPU is measured, by index and UUID" 'all(
    sorted(m(t)) == [0, 1] and all(x["uuid"].endswith("-00000000000%d" % g) and x["wrong"] == 0 and x["n"] >= 8 for g, x in m(t).items())
    for t in ("node.gpu.hbm", "node.gpu.h2d", "node.gpu.d2h", "node.gpu.gemm"))'
# A copy or product takes 5 ms and what it takes by itself.
check "bytes of copies are counted once, inside the GPU read and written; operations of products" 'all(
    low < x["max"] / most <= 1
    for t, most, low in (("h2d", 2**18 / 5e6, 0.2), ("d2h", 2**18 / 5e6, 0.2), ("hbm", 2 * 2**20 / 5e6, 0.2), ("gemm", 2 * 64**3 / 5e9, 0.2))
    for x in m("node.gpu." + t).values()) and all(x["size"] == 2**20 for x in m("node.gpu.hbm").values())'
check "counters of each have not grown" 'all(
    [x["p50"] for x in m("counter.gpu." + c).values()] == [0, 0]
    for c in ("ecc.corrected", "ecc.uncorrected", "xid", "pcie.replays", "remapped_rows")) and not skips'

# One product of many, which is the first or a later one; and from one on all, each by the same.
node node.gpu.gemm MUSTER_DOUBLE_GPUS=4 'MUSTER_DOUBLE=gemm-wrong,gpu=1,op=1,times=1;gemm-wrong,gpu=2,op=7,times=1;gemm-wrong,gpu=3,op=8'
is "$rc" 5 "wrong products are found"
check "of each GPU that makes any, and of no other" '[x["wrong"] > 0 for g, x in sorted(m("node.gpu.gemm").items())] == [False, True, True, True] and
    end[0]["wrong"] >= 3'
node node.gpu.hbm,node.gpu.h2d,node.gpu.d2h MUSTER_DOUBLE_GPUS=3 'MUSTER_DOUBLE=copy-wrong,gpu=0;copy-error,gpu=1'
is "$rc" 5 "so are wrong copies"
check "of that GPU" 'all(m(t)[0]["wrong"] > 0 and m(t)[2]["wrong"] == 0 for t in ("node.gpu.hbm", "node.gpu.h2d", "node.gpu.d2h"))'
check "a GPU that fails has a figure of 0, and it is said why" 'm("node.gpu.h2d")[1]["p50"] == 0 and m("node.gpu.h2d")[2]["p50"] > 0 and
    len(skips) == 3 and all(why.startswith("GPU 1 (GPU-") and "CUDA_ERROR_LAUNCH_FAILED" in why for name, why in skips)'

# Counters that grow while it is measured; and a cuBLAS that nobody knows.
says gpus=2 1.uncorrected=3 1.uncorrected-grows=2 1.xid=31 xid-after=1 pcie-replays=7
node node.gpu.h2d,node.gpu.gemm MUSTER_DOUBLE_CUBLAS=140000
is "$rc" 0 "memory errors end no benchmark"
like "$out" 'counter\.gpu\.ecc\.uncorrected +[^ ]*:gpu1 ' "and are in the table"
check "as they have grown, of their GPU" '[m("counter.gpu.ecc.uncorrected")[g]["p50"] for g in (0, 1)] == [0, 2] and
    [m("counter.gpu.xid")[g]["p50"] for g in (0, 1)] == [0, 1] and m("counter.gpu.pcie.replays")[0]["p50"] == 0'
check "a version of cuBLAS that is not known is not tried" '[x for x in skips if x[1] == "cuBLAS 14 is not known, 11 to 13 are"] and not m("node.gpu.gemm")'
says gpus=2

node gpu MUSTER_DOUBLE_GPUS=0
is "$rc" 0 "a host without GPUs is none that fails"
check "it says so once" 'skips == [("node.gpu", "no GPU")] and not m("node.gpu.hbm")'
node node.gpu.gemm "MUSTER_CUBLAS_LIB=$tmp/none.so"
check "what the product lacks is named, once" 'len(skips) == 1 and skips[0][0] == "node.gpu.gemm" and "cuBLAS: cannot be loaded as MUSTER_CUBLAS_LIB says" in skips[0][1]'

# Four hosts, of which one has a GPU that is slower than those at its place elsewhere: one job, four benchmarks.
steps() { # ARG...: as rank 0 of bench-rank reads them
    local n=0 a
    for a; do n=$((n + ${#a} + 1)); done
    printf '%d\n' $n
    printf '%s\0' "$@"
}
for i in 1 2 3 4; do steps node --tests=node.gpu.d2h --gpu-size=64K --time=1ms --trials=3 --seed=$i; done |
    timeout 60 env 'MUSTER_DOUBLE=copy-slow,rank=2,gpu=1,ms=8;copy-slow,ms=2' "$muster" run -n 4 --oversubscribe --bind none \
        sh -c "MUSTER_NODE=n\$RANK exec $B/libexec/muster/bench-rank steps" >"$tmp/all" 2>"$tmp/e"
is $? 0 "four hosts are measured" || note "$(cat "$tmp/e")"
python3 - "$tmp/all" "$tmp/made" <<'PY'
import hashlib, json, os, sys
runs = []
for line in open(sys.argv[1]):
    if json.loads(line)["kind"] == "run":
        runs.append("")
    runs[-1] += line
os.makedirs(sys.argv[2] + "/raw")
with open(sys.argv[2] + "/journal.jsonl", "w") as f:
    print(json.dumps({"kind": "begin", "schema": "muster.accept-journal/1", "token": "made", "profile": "quick", "run": [], "seed": 1,
                      "t": 1790000000.0, "soak_s": 0.0, "command": "muster accept"}), file=f)
    for r, text in enumerate(runs):
        name = "again-%d.node" % r if r else "0.node"
        open("%s/raw/%s.jsonl" % (sys.argv[2], name), "w").write(text)
        print(json.dumps({"kind": "step", "name": name, "round": r, "rc": 0, "sha256": hashlib.sha256(text.encode()).hexdigest()}), file=f)
open(sys.argv[2] + "/criteria.txt", "w").write("check node.gpu.* each >= 0.94*median confirm=2/3\n")
PY
run_cmd timeout 60 "$muster" accept report "$tmp/made"
is "$rc" 1 "a slow GPU fails them" || note "$err"
like "$out" "GPU 1 \(GPU-[-0-9a-f]*1\) on n2: [0-9.]+ % less than the others \(node\.gpu\.d2h\)" "and is named, with its host and UUID"
is "$(grep -c ' less than the others' <<<"$out")" 1 "nobody else is" || note "$out"

# Collectives in GPU memory: every operation, right, and timed until the stream has done it.
coll() { # [VAR=value...] -- ARGS
    local vars=()
    while [ "$1" != -- ]; do vars+=("$1"); shift; done
    rm -f "$raw"
    run_cmd timeout 60 env "${vars[@]}" "$muster" bench coll --memory device -n 2 --oversubscribe --time 10ms --samples 3 --raw "$raw" --quiet "${@:2}"
}
coll MUSTER_DOUBLE=slow,ms=4 -- --op all --min 128K --max 128K
is "$rc" 0 "collectives in GPU memory" || note "$err"
like "$out" 'device memory.*128 KiB' "a table with algbw and busbw"
check "each operation is right, and takes as long as it does" '
    sorted(x["op"] for x in ops()) == "allgather allreduce alltoall barrier broadcast reduce reduce_scatter sendrecv".split() and
    all(x["wrong"] == 0 and x["memory"] == "device" and (x["op"] == "barrier" or x["min"] >= 4000) for x in ops())'
coll MUSTER_BENCH_CORRUPT=1 -- --op allgather --dtype bfloat16 --min 4 --max 16 --place in --timing start
is "$rc" 5 "what is wrong there is found"
check "by the rank that has it" 'len(ops()) == 3 and ops()[-1]["wrong"] > 0 and ops()[-1]["place"] == "in"'
coll MUSTER_DOUBLE_GPUS=0 --
is "$rc" 2 "without a GPU it is refused"
like "$err" "^bench coll: --memory device: rank 0 on [^ ]+: no GPU"$'\n|$' "in a line"

# NCCL's collectives are part of an acceptance where all hosts have GPUs.
accept() { # [VAR=value...]
    rm -rf "$tmp/accept"
    run_cmd timeout 120 env MUSTER_CUBLAS_LIB=/none "$@" "$muster" accept --only node.gpu,nccl --output "$tmp/accept" -q
    cat "$tmp"/accept/raw/*.jsonl >"$raw"
}
accept MUSTER_DOUBLE_GPUS=2
is "$rc" 3 "one host with two GPUs" || note "$out" "$err"
check "measures an all-reduce between them" '[(x["op"], x["memory"], x["wrong"], len(x["per_rank"])) for x in ops()] == [("allreduce", "device", 0, 2)]'
accept MUSTER_BENCH_CORRUPT=1
is "$rc" 5 "and says when it is wrong" || note "$out" "$err"
accept MUSTER_DOUBLE_GPUS=0
is "$rc $(cd "$tmp/accept/raw" && echo *nccl*)" "0 *nccl*" "without GPUs it is left out" || note "$out" "$err"
done_testing
