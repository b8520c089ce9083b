#!/usr/bin/env bash
# muster bench over three hosts: clocks that are one and the same are found to be, a host that sends slowly is seen from
# all others in that direction and in no other, and a host that dies ends the benchmark.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 3
ok $? "three hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=120 MUSTER_YIELD=1
raw=$tmp/raw.jsonl

cluster_exec h2 tc qdisc add dev eth0 root tbf rate 16mbit burst 64k latency 2s
ok $? "h2 sends at 2 MB/s at most"
run_cmd timeout 120 "$muster" bench pair -H h1,h2,h3 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 --time 100ms --large 256K --samples 50 --at-once 1 --raw "$raw"
is "$rc" 0 "bench pair" || note "$err"
like "$out" 'pair\.bw +h2>h[13] ' "the slow direction comes first" || note "$out"
check=$(python3 - "$raw" 2>&1 <<'PY'
import json, sys
lines = [json.loads(x) for x in open(sys.argv[1])]
def need(what, ok):
    if not ok: print("not so:", what)
run, m = lines[0], [x for x in lines if x["kind"] == "measurement"]
need("a rank on each host", run["hosts"] == ["h1", "h2", "h3"] and run["host_of"] == [0, 1, 2])
clocks = {x["host"]: x for x in lines if x["kind"] == "clock"}
need("clocks of the others, twice", sorted(clocks) == ["h2", "h3"] and sum(x["kind"] == "clock" for x in lines) == 4)
for x in clocks.values(): # the kernel's clock is the same on all
    need("an offset of nothing, as far as a busy machine can tell: %s" % x, abs(x["offset_us"]) < 50000)
bw = {(x["from_host"], x["to_host"]): x["p50"] for x in m if x["name"] == "pair.bw"}
need("each direction", len(bw) == 6)
slow = {k for k, v in bw.items() if v < 0.004}
need("h2 sends slowly, and nobody else does: %s" % bw, slow == {("h2", "h1"), ("h2", "h3")})
PY
)
is "$check" "" "all of it is in the file"

run_cmd timeout 120 "$muster" bench pair -H h1,h2,h3 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 --time 20ms --large 64K --tests bw --pairs 'h1>h3,h3>h2' --pairs 'h2>h1' --json
is "$rc $(python3 -c 'import json,sys; print(*sorted("%(name)s %(from_host)s>%(to_host)s wrong %(wrong)s" % x for x in json.load(sys.stdin)["tests"] if x["scope"] == "pair"))' <<<"$out")" \
    "0 pair.bw h1>h3 wrong 0 pair.bw h2>h1 wrong 0 pair.bw h3>h2 wrong 0" "the pairs of a list, in their directions" || note "$err"
# Nobody has told these that their hosts are one machine.
run_cmd timeout 120 "$muster" bench pair -H h1,h2,h3 -x LSAN_OPTIONS=detect_leaks=0 --time 20ms --tests lat --raw "$tmp/untold"
is "$rc $(grep '"pair.lat"' "$tmp/untold" | grep -c '"shared"')" "0 $(($(nproc) < 3 ? 3 : 0))" "hosts that share processors are found to, if these are too few" || note "$err"
if grep -q 'define HAVE_UCX 1' "$B/config.h"; then
    run_cmd timeout 120 "$muster" bench pair -H h1,h2,h3 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 --time 20ms --large 64K --transport ucx --at-once 1 --json
    is "$rc $(python3 -c 'import json,sys; t=[x for x in json.load(sys.stdin)["tests"] if x["name"] == "pair.bw"]; print(len(t), sum(x["wrong"] for x in t), {x["transport"] for x in t})' <<<"$out")" \
        "0 6 0 {'ucx'}" "over UCX, too" || note "$err"
else
    skip "a build without UCX" 1
fi
run_cmd timeout 120 "$muster" bench pair -H h1,h2,h3 --pairs 'h1>h9'
like "$rc $err" '^2 .*--pairs h1>h9: takes two hosts of the job' "a host that is not there"

# The memory of the rank on h2 is bad: results are wrong with it, and right without it.
run_cmd timeout 120 "$muster" bench coll -H h1,h2,h3 --ppn 1 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 -x MUSTER_BENCH_CORRUPT=1 --min 4K --max 4K --bisect
like "$rc $out" '^5 .*coll\.allreduce, 4 KiB: wrong with h2 and any other' "bisection finds whose results are wrong" || note "$out" "$err"
run_cmd timeout 120 "$muster" bench coll -H h1,h2,h3 --ppn 1 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 --min 4K --max 4K --bisect
like "$rc $out" '^0 .*coll\.allreduce, 4 KiB: all hosts together are right' "and nobody where all are right" || note "$out" "$err"

run_cmd timeout 120 "$muster" bench fabric -H h1,h2,h3 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 --time 100ms --large 64K --raw "$raw" --json
is "$rc" 0 "bench fabric" || note "$err"
is "$(python3 -c 'import json,sys; print(*sorted(x["name"] + ":" + x.get("to_host", "all") for x in json.load(sys.stdin)["tests"] if x["scope"] == "group"))' <<<"$out")" \
    "fabric.alltoall:all fabric.bisection:all fabric.incast:h1 fabric.incast:h2 fabric.incast:h3" "each pattern, each target"

"$muster" bench pair -H h1,h2,h3 -x MUSTER_YIELD -x LSAN_OPTIONS=detect_leaks=0 --trials 1000 --at-once 1 >"$tmp/o" 2>&1 &
pid=$!
running() { "$muster" jobs --json | grep -q '"state":"running"'; }
wait_for 30 running && sleep 0.5
cluster_crash_host h3
wait $pid
is "$?" 1 "a benchmark whose host dies fails" || note "$(cat "$tmp/o")"
like "$(cat "$tmp/o")" 'h3' "and the host is named"
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
