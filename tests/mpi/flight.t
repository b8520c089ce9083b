#!/usr/bin/env bash
# What ranks had called last outlives them: muster events --flight.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

run_cmd timeout 60 "$muster" run -n 2 --restarts 0 "$B/tests/mpi/flight" die
isnt "$rc" 0 "a rank aborts"
run_cmd "$muster" events --flight --json 1
is "$rc" 0 "its calls are known" || note "$err"
is "$(python3 -c '
import json, sys
d = json.load(sys.stdin)
assert d["schema"] == "muster.flight/1" and d["job"] == 1 and d["attempt"] == 1
comms = sorted({r["comm"] for r in d["records"] if r["op"] != "muster_init"}, key=lambda c: -sum(r["comm"] == c for r in d["records"]))
for rank in 0, 1:
    mine = [r for r in d["records"] if r["rank"] == rank and r["comm"] == comms[0]]
    assert len(mine) == 256 and [r["seq"] for r in mine] == list(range(mine[-1]["seq"] - 255, mine[-1]["seq"] + 1))
    last = mine[-1]
    print(last["op"], last["dtype"], last["reduce"], last["count"], last["size"], last["peer"], last["state"])
    print(*[(r["op"], r["state"]) for r in d["records"] if r["rank"] == rank and r["comm"] == comms[1]])
    assert all(r["enqueued"] <= r["ended"] < r["enqueued"] + 60 for r in mine)
' <<<"$out" 2>&1)" "all-reduce float32 sum 100 2 None completed
('broadcast', 'completed') ('barrier', 'running')
all-reduce float32 sum 100 2 None completed
('broadcast', 'completed')" "the last of them in every communicator, and which one the dead rank had not called"
run_cmd "$muster" events --flight --last 1 1
is "$(grep -c barrier <<<"$out")$(grep -c '^20' <<<"$out")" 14 "the table has the newest of each rank and communicator" || note "$out"
run_cmd timeout 60 "$muster" run -n 2 "$B/tests/mpi/flight"
is "$rc" 0 "a job that ends well"
is "$(for job in 1 2; do "$muster" status --json $job; done | python3 -c '
import json, sys
for line in sys.stdin:
    j = json.loads(line)["jobs"][0]
    least = 2 * (300 * 400 + 3 * 8)
    assert 602 <= j["operations"] < 640 and least <= j["operation_bytes"] < least + 50000, j
' 2>&1)" "" "what ranks have called is counted, and nothing else, however a job ends"
run_cmd "$muster" events --flight 2
like "$rc $err" '^1 .*job 2 has left no flight records' "leaves none"
like "$("$muster" events --flight --attempt 7 1 2>&1)" 'no flight records' "nor is there one of an attempt that never was"

# While it runs
job=$("$muster" submit -n 2 --oversubscribe "$B/tests/mpi/flight" stay "$tmp/go")
waits() { "$muster" events --flight "$job" 2>/dev/null | grep -q 'barrier.*running'; }
wait_for 30 waits
ok $? "what a running job's ranks have called can be seen" || note "$("$muster" events --flight "$job" 2>&1)"
run_cmd "$muster" events --flight --json "$job"
is "$(python3 -c '
import json, sys
d = json.load(sys.stdin)
assert d["running"] is True and d["missing"] == [] and d["attempt"] == 1
print(*[(r["rank"], r["op"], r["state"]) for r in sorted(d["records"], key=lambda r: r["rank"]) if r["op"] in ("broadcast", "barrier")])
print(sum(r["op"] == "all-reduce" for r in d["records"]), all(r["enqueued"] for r in d["records"]))
' <<<"$out" 2>&1)" "(0, 'broadcast', 'completed') (0, 'barrier', 'running') (1, 'broadcast', 'completed')
512 True" "all of it, and who holds the others up" || note "$err"
run_cmd "$muster" events --flight --attempt 2 "$job"
like "$rc $err" '^1 ' "another attempt has nothing"
touch "$tmp/go"
wait_for 30 job_is "$job" completed
like "$("$muster" events --flight "$job" 2>&1)" 'has left no flight records' "when it has ended well, nothing is left"
like "$("$muster" events --last 3 1 2>&1)" '--last go with --flight' "options that say nothing are refused"
dir=$("$muster" status --json 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["log_dir"])')
echo '{"rank": 1}' >>"$dir/attempt-1/rank-1.flight"
like "$("$muster" events --flight 1 2>&1)" 'rank-1.flight: line [0-9]+ is no flight record' "a file that was written over is named"
rm "$dir/attempt-1/rank-1.flight" && mkfifo "$dir/attempt-1/rank-1.flight"
run_cmd timeout 60 "$muster" events --flight 1
like "$rc $err" '^2 .*rank-1.flight is a pipe' "nor is a pipe waited for"
"$muster" controller --stop
done_testing
