#!/usr/bin/env bash
# muster bench on one host: what it measures is there and sane, in the table, in the JSON and in the file of samples.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
raw=$tmp/raw.jsonl

# check PROGRAM: python over `runs` (of the raw file, each a list of lines), the last of which is `run`; prints nothing when all is well
check() {
    python3 - "$raw" 2>&1 <<PY
import json, statistics, sys
runs = []
for line in open(sys.argv[1]):
    line = json.loads(line)
    if line["kind"] == "run":
        runs.append([])
    runs[-1].append(line)
run = runs[-1]
every = [x for x in run if x["kind"] == "measurement"]
m = [x for x in every if not x["name"].startswith("counter.")]
def need(what, ok):
    if not ok: print("not so:", what)
need("a run has its head and its end", run[0]["schema"] == "muster.samples/1" and run[-1]["kind"] == "end")
need("the end counts", run[-1]["measurements"] == len(every))
need("counters of the host", any(x["name"] == "counter.tcp.retransmits" and x["p50"] >= 0 for x in every))
for x in m:
    need("the median is that of the values: " + x["name"], not x["values"] or
         abs(statistics.median(x["values"]) - x["p50"]) <= 1e-5 * abs(x["p50"]))
    need("the interval holds it", not x["ci95"] or x["ci95"][0] <= x["p50"] <= x["ci95"][1])
$1
PY
}

run_cmd timeout 120 "$muster" bench node --time 50ms --memory-size 12M --disk-size 8M --dir "$tmp" --raw "$raw" --trials 2
is "$rc" 0 "bench node" || note "$err"
like "$out" 'node\.mem\.triad +[^ ]+ +4 MiB .* GB/s' "has a table"
like "$out" '# skipped: node\.gpu on ' "and names what it skips"
is "$(check '
names = sorted(x["name"] for x in m)
want = sorted(2 * ["node." + x for x in "mem.copy mem.scale mem.add mem.triad mem.test cpu.fma cpu.gemm disk.write disk.read".split()])
need("each test once a trial: %s" % names, names == want)
need("figures", all(x["p50"] > 0 for x in m if x["unit"] != "errors"))
need("nothing wrong", all(x["wrong"] == 0 for x in m if x["name"] in ("node.mem.test", "node.cpu.gemm", "node.disk.read")))
need("a GPU is skipped once", [x["name"] for x in run if x["kind"] == "skip"] == ["node.gpu"])
')" "" "all of it is in the file"
is "$(find "$tmp" -maxdepth 1 -name '.muster*')" "" "no file is left"

run_cmd timeout 120 "$muster" bench pair -n 3 --oversubscribe --time 60ms --raw "$raw" --seed 5 --at-once 1 --launch 4 --json
is "$rc" 0 "bench pair" || note "$err"
is "$(python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["schema"], sum(x["scope"] == "pair" for x in d["tests"]), any("values" in x for x in d["tests"]))' <<<"$out")" \
    "muster.bench/1 15 False" "has JSON"
is "$(check '
need("the second run of the file", len(runs) == 2 and run[0]["bench"] == "pair" and run[0]["launch"] == 4 and run[0]["seed"] == 5)
ways = sorted((x["from"], x["to"]) for x in m if x["name"] == "pair.bw")
need("each direction by itself: %s" % ways, ways == [(a, b) for a in range(3) for b in range(3) if a != b])
need("latency of each pair", sorted((x["from"], x["to"]) for x in m if x["name"] == "pair.lat") == [(0, 1), (0, 2), (1, 2)])
# the least ones: on a busy machine others are anything
lat = {(x["from"], x["to"]): x["min"] for x in m if x["name"] == "pair.lat"}
one = {(x["from"], x["to"]): x["min"] for x in m if x["name"] == "pair.oneway"}
need("one way and back are a round trip: %s %s" % (lat, one), all(one[a, b] + one[b, a] < 3 * lat[a, b] + 5 for a, b in lat))
need("three rounds, one after the other", len({x["order"] for x in m}) == 9)
')" "" "every pair is in the file"

run_cmd timeout 120 "$muster" bench coll -n 2 --oversubscribe --op all --max 64 --min 32 --time 20ms --raw "$raw"
is "$rc" 0 "bench coll, all operations" || note "$err"
is "$(grep -c '^# .*, 2 ranks, private memory' <<<"$out")" 8 "has a table of each"
is "$(check '
need("each size of each operation", len(m) == 15 and {x["size"] for x in m} == {0, 32, 64})
need("all right", all(x["wrong"] == 0 for x in m))
')" "" "all of it is in the file"
for dtype in int64 float16 bfloat16 int8 float8_e4m3 float8_e5m2; do
    n=3
    [ $dtype != float8_e5m2 ] || n=2
    run_cmd timeout 120 "$muster" bench coll -n $n --oversubscribe --op all --place in --dtype $dtype --max 192 --min 192 --time 5ms --raw "$raw"
    is "$rc" 0 "in place, $dtype" || note "$err"
    is "$(check 'need("right", len(m) == 8 and all(x["wrong"] == 0 and x["place"] == ("out" if x["op"] in ("sendrecv", "barrier") else "in") for x in m))')" \
        "" "the same results"
done
run_cmd timeout 120 "$muster" bench coll -n 3 --oversubscribe --op all --place in --transport mpi --dtype int64 --max 192 --min 192 --time 5ms --raw "$raw"
is "$rc $(grep -c '^# .* of MPI int64, 3 ranks' <<<"$out")" "0 8" "the operations of MPI itself" || note "$err"
is "$(check 'need("right", len(m) == 8 and all(x["wrong"] == 0 and x["transport"] == "mpi" and x["place"] == ("out" if x["op"] in ("sendrecv", "barrier", "reduce_scatter") else "in") for x in m))')" \
    "" "are looked at in the same way"
for args in '--dtype bfloat16|has no floats of 8 or 16 bits' '--bisect|not with --bisect' '--memory device|not with'; do
    # shellcheck disable=SC2086
    run_cmd timeout 60 "$muster" bench coll --transport mpi ${args%|*}
    like "$rc $err" "^2 .*--transport mpi: .*${args#*|}" "${args%|*}: not those of MPI"
done
if grep -q 'define HAVE_UCX 1' "$B/config.h"; then
    run_cmd timeout 120 "$muster" bench pair -n 2 --oversubscribe -x LSAN_OPTIONS=detect_leaks=0 --transport ucx --time 60ms --large 256K --raw "$raw"
    is "$rc $(grep -c '^pair\.[a-z]*/ucx ' <<<"$out")" "0 5" "messages of UCX itself" || note "$err"
    is "$(check '
bw = [x for x in m if x["name"] == "pair.bw"]
need("both ways, and right", sorted((x["from"], x["to"], x["wrong"], x["transport"]) for x in bw) == [(0, 1, 0, "ucx"), (1, 0, 0, "ucx")])
need("figures", all(x["p50"] > 0 for x in m if x["name"].startswith("pair.")))
')" "" "are in the file"
    run_cmd env UCX_TLS=none timeout 60 "$muster" bench pair -n 2 --oversubscribe -x UCX_TLS --transport ucx
    like "$rc $out$err" '^2 .*--transport ucx: rank 0 on [^ ]*: UCX: ' "who has no UCX is named"
else
    skip "a build without UCX" 3
fi
run_cmd timeout 60 "$muster" bench coll -n 2 --oversubscribe --max 8 --time 5ms -x MUSTER_BENCH_CORRUPT=1 --raw "$raw"
is "$rc" 5 "wrong results have a code of their own"
like "$out" ' 1$' "and are counted in the table"
is "$(check 'need("in the file, too", m[0]["wrong"] == 1 and run[-1]["rc"] == 5 and run[-1]["wrong"] == 1)')" "" "and in the file"
run_cmd timeout 60 "$muster" bench coll -n 32 --oversubscribe --dtype int8 --max 64
like "$rc $err" '^2 .*--dtype int8 can be checked with up to 31 ranks' "a type in which the sum would not be exact"

# One rank comes to each start 1 ms late: the common start waits for it, and the figure is still that of the operation.
# On a busy machine few samples are undisturbed, so the least one is looked at, and it is tried again: without the common
# start none could be below 1 ms.
for _ in 1 2 3 4 5; do
    run_cmd timeout 120 "$muster" run -n 2 --oversubscribe "$B/libexec/muster/bench-rank" coll --timing start --min 8 --max 8 --time 500ms \
        --planted-late 1000
    printf '%s\n' "$out" | grep -v progress >"$raw"
    found=$(check '
need("samples: %s" % m, len(m) == 1 and m[0]["n"] > 0 and m[0]["timing"] == "start" and 0 <= m[0]["late"] < 1)
need("a late rank does not move them: %s us" % m[0]["min"], (m[0]["min"] or 1e9) < 900)
')
    [ "$rc$found" != 0 ] || break
done
is "$rc" 0 "bench coll from a common start" || note "$err"
is "$found" "" "a rank that is 1 ms late moves nothing"

run_cmd timeout 120 "$muster" bench fabric -n 3 --oversubscribe --time 50ms --large 4K --targets 2 --raw "$raw"
is "$rc" 0 "bench fabric" || note "$err"
is "$(check '
names = sorted(x["name"] for x in m)
need("each pattern: %s" % names, names == ["fabric.alltoall", "fabric.bisection", "fabric.incast", "fabric.incast"])
need("two targets, each once", len({x["to"] for x in m if "to" in x}) == 2)
need("figures of each rank", all([y["rank"] for y in x["per_rank"]] == [0, 1, 2] and "time_us" in x["per_rank"][2] for x in m))
')" "" "has each pattern"
run_cmd timeout 120 "$muster" bench overlap -n 2 --oversubscribe --time 100ms --large 64K --raw "$raw"
is "$rc" 0 "bench overlap" || note "$err"
is "$(check 'need("one figure, right", len(m) == 1 and m[0]["unit"] == "ratio" and m[0]["n"] >= 6 and m[0]["wrong"] == 0)')" "" "has its figure"

run_cmd timeout 120 "$muster" bench soak -n 2 --oversubscribe --for 400ms --window 100ms --memory-size 6M --large 4K --raw "$raw"
is "$rc" 0 "bench soak" || note "$err"
like "$out" 'node\.cpu\.gemm .* GFLOP/s +0' "has a trend"
is "$(check '
windows = {}
for x in m: windows.setdefault(x["name"], []).append(x["trial"])
need("windows of each: %s" % windows, sorted(windows) == ["coll.allreduce", "node.cpu.gemm", "node.mem.test", "node.mem.triad"])
need("one after the other", all(v == list(range(len(v))) for v in windows.values()))
need("all right", all(not x["wrong"] for x in m))
')" "" "all windows are in the file"

run_cmd timeout 60 "$muster" bench pair -n 1
is "$rc" 2 "a pair of one is refused"
like "$err" 'a pair needs two ranks; give -n 2 or more hosts' "with the fix"
run_cmd timeout 60 "$muster" bench node --tests mem,dsk
is "$rc" 2 "unknown tests, too"
like "$err" "^muster bench node: --tests mem,dsk: .*there are mem, memtest, cpu, disk, gpu" "and named"
run_cmd timeout 60 "$muster" bench node --tests mem --raw "$tmp/no/such"
like "$rc $err" "^2 muster bench node: --raw $tmp/no/such: No such file" "a file that cannot be written is said before anything runs"
run_cmd timeout 60 "$muster" bench node --tests disk --time 20ms --dir /proc
is "$rc" 0 "what cannot be measured is skipped"
like "$out" '# skipped: node.disk.write on [^ ]+: no file can be made in /proc; give another --dir' "and says why"

# Ended in the middle, in whatever way: the job goes, too.
running() { "$muster" jobs --json | grep -q '"state":"running"'; }
not_running() { ! running; }
for signal in TERM KILL; do
    "$muster" bench node --tests memtest --time 60s --memory-size 8M >"$tmp/o" 2>&1 &
    pid=$!
    wait_for 30 running
    ok $? "a bench of a minute"
    kill -$signal $pid
    wait $pid 2>/dev/null
    isnt "$?" 0 "fails when it is ended (SIG$signal)"
    wait_for 30 not_running
    ok $? "and its job ends with it"
done
# What is over its time is not repeated, and says so; the first time is always whole.
run_cmd timeout 120 "$muster" run -n 2 --oversubscribe "$B/libexec/muster/bench-rank" pair --tests bw --time 20ms --large 64K --trials 5 --within 1ms
is "$rc $(grep -c '"pair.bw"' <<<"$out") $(grep -o '"reason":"[^"]*"' <<<"$out")" '0 2 "reason":"there was time for 1 of 5 repetitions"' "--within" || note "$out" "$err"
"$muster" controller --stop
done_testing
