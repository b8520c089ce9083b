#!/usr/bin/env bash
# muster nodes: the list, and nodes that are drained and resumed.
. "$(dirname "$0")/../lib.sh"
json() { # EXPRESSION NAME: about n, the first node of the last output
    python3 -c "import json,sys; j = json.load(open(sys.argv[1])); n = j['nodes'][0]; sys.exit(not ($1))" "$tmp/.out"
    ok $? "$2" || note "$out"
}
state_is() { [ "$("$muster" status "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0]["state"])')" = "$2" ]; }
here=$(uname -n)

run_cmd "$muster" nodes list
like "$rc $out" "^0 NAME +STATE.*$here +up" "nodes list"
run_cmd "$muster" nodes list --json
json 'j["schema"] == "muster.nodes/1" and n["out"] is None' "nodes list --json"
run_cmd "$muster" nodes drain nosuch
like "$rc $err" '^2 muster nodes drain: host nosuch is not in the pool' "a host that is not there"

"$muster" run -n 1 sh -c "until [ -e $tmp/go ]; do sleep 0.05; done" >"$tmp/run.out" 2>&1 &
run=$!
wait_for 10 sh -c "$muster jobs | grep -q running"
run_cmd "$muster" nodes drain -r 'fan 2' localhost
is "$rc:$out$err" "0:" "drain"
run_cmd "$muster" nodes
like "$out" "$here +draining .* $(id -un): fan 2" "who and why, while a job runs"
run_cmd "$muster" events 1
like "$out" "drained.*fan 2" "the job's events say it"
touch "$tmp/go"
wait "$run"
is $? 0 "what runs there runs on"
run_cmd "$muster" nodes --json
json 'n["state"] == "drained" and n["out"]["kind"] == "drain" and n["out"]["reason"] == "fan 2" and n["out"]["by"] and n["out"]["t"] > 1e9' "drained, with who, why and since when"
run_cmd "$muster" submit -n 1 true
job=$out
sleep 0.5
state_is "$job" queued
ok $? "no job gets it" || note "$("$muster" jobs --all)"
kill -9 "$(pgrep -f "^[^ ]*muster controller" | while read -r p; do grep -qz "^MUSTER_HOME=$MUSTER_HOME\$" "/proc/$p/environ" && echo "$p"; done)"
run_cmd "$muster" nodes
like "$out" "$here +drained .*: fan 2" "the next controller knows"
state_is "$job" queued
ok $? "the job still waits"
run_cmd "$muster" nodes resume localhost
is "$rc:$err" "0:" "resume"
wait_for 10 state_is "$job" completed
ok $? "and the job runs" || note "$("$muster" jobs --all)"
run_cmd "$muster" nodes --json
json 'n["state"] == "up" and n["out"] is None and n["reason"] == ""' "up again"
[ ! -e "$MUSTER_HOME/$here/marks" ]
ok $? "nothing of it is kept"
run_cmd "$muster" controller --stop
done_testing
