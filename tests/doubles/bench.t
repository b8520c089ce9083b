#!/usr/bin/env bash
# Benchmarks of GPUs on the test doubles: what is measured of each GPU and how it is counted, wrong data, counters, who is
# named for being slow, and hosts without GPUs. No figure of speed comes from here but for delays that are planted.
. "$(dirname "$0")/../lib.sh"
d=$B/tests/doubles
export MUSTER_CUDA_LIB=$d/libcuda.so.1 MUSTER_NCCL_LIB=$d/libnccl.so.2 MUSTER_NVML_LIB=$d/libnvidia-ml.so.1
export MUSTER_CUBLAS_LIB=$d/libcublas.so.13 MUSTER_NVML_DOUBLE=$tmp/gpus MUSTER_DOUBLE_GPUS=2 MUSTER_TIMEOUT=20
export MUSTER_IDLE=20 # one pool for all of it
raw=$tmp/raw
says() { # WORDS: what the double of NVML says from now on
    echo "$*" >"$tmp/gpus.new"
    mv "$tmp/gpus.new" "$tmp/gpus"
}
node() { # TESTS [VAR=value...]
    rm -f "$raw"
    run_cmd timeout 60 env "${@:2}" "$muster" bench node --tests "$1" --time 10ms --gpu-size 256K --gpu-matrix 64 --raw "$raw" --quiet
}
check() { # NAME PYTHON: of m(name) -> {gpu: measurement}, skips
    run_cmd python3 - "$raw" "$2" <<'PY'
import json, sys
lines = [json.loads(x) for x in open(sys.argv[1])]
def m(name):
    return {x["gpu"]: x for x in lines if x["kind"] == "measurement" and x["name"] == name}
skips = [(x["name"], x["reason"]) for x in lines if x["kind"] == "skip"]
end = [x for x in lines if x["kind"] == "end"]
sys.exit(0 if eval(sys.argv[2]) else 1)
PY
    [ "$rc" = 0 ]
    ok $? "$1" || note "$err" "$(cat "$raw")"
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
    low < x["p50"] / most <= 1
    for t, most, low in (("h2d", 2**18 / 5e6, 0.2), ("d2h", 2**18 / 5e6, 0.2), ("hbm", 2 * 2**20 / 5e6, 0.2), ("gemm", 2 * 64**3 / 5e9, 0.2))
    for x in m("node.gpu." + t).values()) and all(x["size"] == 2**20 for x in m("node.gpu.hbm").values())'
check "counters of each have not grown" 'all(
    [x["p50"] for x in m("counter.gpu." + c).values()] == [0, 0]
    for c in ("ecc.corrected", "ecc.uncorrected", "xid", "pcie.replays", "remapped_rows")) and not skips'

# Wrong products: one of many, which is the first or a later one; and from one on all, each by the same.
for fault in gpu=1,op=1,times=1 gpu=1,op=7,times=1 gpu=1,op=8; do
    node node.gpu.gemm "MUSTER_DOUBLE=gemm-wrong,$fault"
    is "$rc" 5 "a wrong product ($fault) is found"
    check "on its GPU alone" 'm("node.gpu.gemm")[1]["wrong"] > 0 and m("node.gpu.gemm")[0]["wrong"] == 0 and end[0]["wrong"] > 0'
done
node node.gpu.hbm,node.gpu.d2h MUSTER_DOUBLE=copy-wrong,gpu=0
is "$rc" 5 "so is a wrong copy"
check "of that GPU" 'all(m(t)[0]["wrong"] > 0 and m(t)[1]["wrong"] == 0 for t in ("node.gpu.hbm", "node.gpu.d2h"))'
node node.gpu.h2d MUSTER_DOUBLE=copy-error,gpu=1,op=12
check "a GPU that fails has a figure of 0, and it is said why" 'm("node.gpu.h2d")[1]["p50"] == 0 and m("node.gpu.h2d")[0]["p50"] > 0 and
    skips[0][0] == "node.gpu.h2d" and skips[0][1].startswith("GPU 1 (GPU-") and "CUDA_ERROR_LAUNCH_FAILED" in skips[0][1]'

# Counters that grow while it is measured
says gpus=2 1.uncorrected=3
rm -f "$raw"
timeout 60 "$muster" bench node --tests node.gpu.h2d --gpu-size 64K --time 40ms --trials 6 --raw "$raw" --quiet >"$tmp/o" 2>&1 &
some() { grep -qs measurement "$raw"; }
wait_for 30 some
says gpus=2 1.uncorrected=5 1.xid=79 0.pcie-replays=4
wait $!
is $? 0 "memory errors end no benchmark"
check "and are told as they have grown, of their GPU" '[m("counter.gpu.ecc.uncorrected")[g]["p50"] for g in (0, 1)] == [0, 2] and
    [m("counter.gpu.xid")[g]["p50"] for g in (0, 1)] == [0, 1] and m("counter.gpu.pcie.replays")[0]["p50"] == 4'
like "$(cat "$tmp/o")" 'counter\.gpu\.ecc\.uncorrected +[^ ]*:gpu1 ' "in the table, too"
says gpus=2

node gpu MUSTER_DOUBLE_GPUS=0
is "$rc" 0 "a host without GPUs is none that fails"
check "it says so once" 'skips == [("node.gpu", "no GPU")] and not m("node.gpu.hbm")' 2>&1
node node.gpu.gemm "MUSTER_CUBLAS_LIB=$tmp/none.so"
check "what the product lacks is named, once" 'len(skips) == 1 and skips[0][0] == "node.gpu.gemm" and "cuBLAS: cannot be loaded as MUSTER_CUBLAS_LIB says" in skips[0][1]'
node node.gpu.gemm MUSTER_DOUBLE_CUBLAS=140000
check "so is a version that nobody knows" 'skips[0][1] == "cuBLAS 14 is not known, 11 to 13 are"'

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
like "$out" "GPU 1 \(GPU-[-0-9a-f]*1\) on n2: [5-9][0-9]\.[0-9] % less than the others \(node\.gpu\.d2h\)" "and is named, with its host and UUID"
is "$(grep -c ' less than the others' <<<"$out")" 1 "nobody else is" || note "$out"
done_testing
