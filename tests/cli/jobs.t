#!/usr/bin/env bash
# submit, jobs, status, events, logs, nodes, cancel: what they show and that their JSON is as documented.
. "$(dirname "$0")/../lib.sh"
json() { # EXPRESSION NAME: about j, the last output
    python3 -c "import json,sys; j = json.load(open(sys.argv[1])); sys.exit(not ($1))" "$tmp/.out"
    ok $? "$2" || note "$out"
}

run_cmd "$muster" jobs
like "$out" '^no jobs' "nothing yet"
run_cmd "$muster" run -n 1 true
is "$rc" 0 "the first job makes the pool"
run_cmd "$muster" nodes --json
json 'j["schema"] == "muster.nodes/1" and j["nodes"][0]["state"] == "up" and j["nodes"][0]["slots"] >= 1' "nodes --json"
json 'all(k in j["nodes"][0] for k in ("name", "state", "reason", "slots", "used", "gpus", "memory"))' "has its keys"
run_cmd "$muster" nodes
like "$out" "NAME +STATE +SLOTS.*$(uname -n) +up" "nodes"

run_cmd "$muster" submit -n 1 --name first sh -c 'echo out 1; echo err 1 >&2'
is "$rc" 0 "submit"
like "$out" '^[0-9]+$' "prints the number"
id=$out
wait_for 30 job_is "$id" completed
ok $? "the job runs by itself"
run_cmd "$muster" submit --json -n 1 sh -c 'echo x; sleep 0.2; exit 6'
json 'j["schema"] == "muster.submit/1" and j["id"] > 0' "submit --json"
bad=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["id"])' "$tmp/.out")
wait_for 30 job_is "$bad" failed
ok $? "one that fails"

run_cmd "$muster" jobs --json
json 'j == {"schema": "muster.jobs/1", "jobs": []}' "jobs shows what lives"
run_cmd "$muster" jobs --all --json
json 'len(j["jobs"]) == 3' "jobs --all shows what has ended, too"
json 'all(k in x for x in j["jobs"] for k in ("id", "name", "user", "state", "reason", "attempt", "ranks", "nodes", "step", "exit_code", "failure"))' "has its keys"
run_cmd "$muster" jobs --all
like "$out" "ID +NAME .*$id +first .*completed.*$bad +sh .*failed" "jobs as a table"
unlike "$out" $'\033' "no colour where nobody looks"
run_cmd "$muster" status "$bad" --json
json 'j["jobs"][0]["exit_code"] == 6 and j["jobs"][0]["failure"]["rank"] == 0 and j["jobs"][0]["failure"]["exit_code"] == 6' "status --json names the failure"
run_cmd "$muster" status "$bad"
like "$out" 'state +failed.*exit code +6.*last failure +rank 0 on' "status for people"

run_cmd "$muster" events "$bad" --json
json 'j["schema"] == "muster.events/1" and j["events"][0]["kind"] == "submitted" and j["events"][-1]["kind"] == "finished"' "events --json, in order"
json 'all(k in e for e in j["events"] for k in ("t", "kind", "job", "attempt", "rank", "node", "detail"))' "has its keys"
json '{"started", "attempt-start", "rank-lost"} <= {e["kind"] for e in j["events"]}' "the failure is among them"
json '[e["t"] for e in j["events"]] == sorted(e["t"] for e in j["events"])' "times grow"
run_cmd "$muster" events "$bad"
like "$out" 'TIME +EVENT.*submitted.*finished' "events as a table"

run_cmd "$muster" logs "$id"
is "$out/$err" 'out 1/err 1' "logs: output on output, errors on errors"
dir=$("$muster" status "$id" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0]["log_dir"])')
mv "$dir/attempt-1/rank-0.err" "$tmp/kept.err"
for how in 'mkfifo' 'ln -s /dev/zero'; do
    $how "$dir/attempt-1/rank-0.err"
    run_cmd timeout 60 "$muster" logs "$id"
    like "$rc $err" "^1 .*rank-0.err" "logs: $how in the place of a file is not waited for"
    rm "$dir/attempt-1/rank-0.err"
done
mv "$tmp/kept.err" "$dir/attempt-1/rank-0.err"
run_cmd "$muster" logs "$id" --stream err
is "$out/$err" '/err 1' "--stream"
run_cmd "$muster" logs "$id" --rank 5
is "$rc" 1 "a rank that there is not"
like "$err" 'has 1 ranks' "is said"
run_cmd "$muster" logs "$id" --attempt 9
is "$rc" 1 "an attempt that there was not"
two=$("$muster" submit -n 2 --oversubscribe --restarts 1 sh -c 'echo $MUSTER_ATTEMPT.$RANK; [ $MUSTER_ATTEMPT = 2 ] || exit 1')
wait_for 30 job_is "$two" completed
run_cmd "$muster" logs "$two"
is "$out" "[$two,0]<stdout>:2.0"$'\n'"[$two,1]<stdout>:2.1" "several ranks have tags; the last attempt"
run_cmd "$muster" logs "$two" --rank 1
is "$out" 2.1 "--rank"
run_cmd "$muster" logs "$two" --attempt 1 --plain
like "$out" '1\.[01]' "--attempt, --plain"

long=$("$muster" submit -n 1 --restarts 1 sh -c 'for i in 1 2 3; do echo $MUSTER_ATTEMPT.$i; sleep 0.1; done
    [ $MUSTER_ATTEMPT = 2 ] || { until [ -e "$0" ]; do sleep 0.05; done; exit 1; }' "$tmp/seen")
timeout 60 "$muster" logs -f "$long" >"$tmp/follow" &
follower=$!
wait_for 30 grep -q 1.3 "$tmp/follow"
touch "$tmp/seen"
wait $follower
is "$? $(tr '\n' ' ' <"$tmp/follow")" "0 1.1 1.2 1.3 2.1 2.2 2.3 " "logs -f follows a job over its restart to its end"
slow=$("$muster" submit -n 1 --restarts 1 sh -c 'sleep 1; [ $MUSTER_ATTEMPT = 2 ] || exit 1')
run_cmd timeout 60 "$muster" events -f "$slow"
is "$rc $(grep -c '^TIME' <<<"$out") $(tail -n 1 <<<"$out" | cut -c26-33)" "0 1 finished" "events -f prints one head" || note "$out"
run_cmd timeout 60 "$muster" events -f --json "$long"
is "$rc $(tail -n 1 <<<"$out" | python3 -c 'import json,sys; print(json.load(sys.stdin)["kind"])')" '0 finished' "events -f ends with the job"

run=$("$muster" submit -n 1 sleep 60)
wait_for 30 job_is "$run" running
run_cmd "$muster" jobs
like "$out" "$run +sleep .*running" "it runs"
run_cmd "$muster" cancel "$run"
is "$rc" 0 "cancel"
wait_for 30 job_is "$run" cancelled
ok $? "ends it"
like "$("$muster" events "$run")" " cancelled by $(id -un), exit code 143" "once said is enough"
slow=$("$muster" submit -n 1 --grace 60 sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done')
follow() { "$muster" logs "$slow" 2>&1 | grep -q ready; }
wait_for 30 follow
"$muster" cancel "$slow" >"$tmp/slow"
like "$("$muster" status "$slow" --json)" "\"state\":\"running\",\"reason\":\"cancelled by $(id -un)\"" "while it ends, its reason says by whom"
"$muster" cancel --force "$slow" >"$tmp/slow"
wait_for 30 job_is "$slow" cancelled
like "$("$muster" status "$slow" --json)" "\"reason\":\"cancelled by $(id -un)\"" "and in the end, too"
run_cmd "$muster" cancel "$run"
is "$rc" 1 "twice does not work"
is "$err" "muster cancel: job $run has already been cancelled" "and says why"
run_cmd "$muster" cancel 999
is "$rc" 1 "nor what does not exist"
deaf=$("$muster" submit -n 1 --grace 60s sh -c 'trap "" TERM; while :; do sleep 0.1; done')
wait_for 30 job_is "$deaf" running
run_cmd "$muster" cancel --force "$deaf"
wait_for 30 job_is "$deaf" cancelled
ok $? "cancel --force waits for nobody"

slots=$("$muster" nodes --json | python3 -c 'import json,sys; print(sum(n["slots"] for n in json.load(sys.stdin)["nodes"]))')
a=$("$muster" submit -n "$slots" sleep 60)
b=$("$muster" submit -n 1 true)
wait_for 30 job_is "$a" running
job_is "$b" queued
ok $? "what does not fit waits"
run_cmd "$muster" status "$b"
like "$out" 'reason +waiting for' "and says for what"
run_cmd "$muster" logs "$b"
is "$rc $out$err" "0 muster logs: job $b has not started yet; -f waits for it" "and has no logs yet"
"$muster" cancel "$a" >/dev/null
wait_for 30 job_is "$b" completed
ok $? "until it does"

evil=$("$muster" submit -n 1 --name $'a\033[2Jb\xff"\\' true)
wait_for 30 job_is "$evil" completed
run_cmd "$muster" jobs --all
unlike "$out" $'\033' "a hostile name does nothing to the terminal"
run_cmd "$muster" jobs --all --json
json 'any("\x1b[2J" in x["name"] for x in j["jobs"])' "and is valid JSON"

for words in "jobs --all" "jobs --all --json" "status $evil" "status $evil --json" nodes "nodes --json" \
    "events $evil" "events $evil --json" "submit -n 1 true" "logs $two"; do
    # shellcheck disable=SC2086
    err=$("$muster" $words 2>&1 >/dev/full </dev/null)
    like "$?:$err" '^1:.*cannot be written: No space left|^1:muster: cannot write standard output: No space left' \
        "muster $words on a full disk: a line, and not 0"
done
like "$("$muster" submit -n 1 true 2>&1 >/dev/full)" "muster submit: job [0-9]+ is handed in; its number cannot" \
    "what was submitted is named nevertheless"

"$muster" jobs --all | head -n 1 >/dev/null
like "${PIPESTATUS[0]}" '^(0|141)$' "muster jobs | head ends quietly"
done_testing
