#!/usr/bin/env bash
# The queue: its order, backfill, holds and dependencies, and why a job waits.
# Longer than a busy machine takes from one command to the next: what is looked at are daemons of the same pool.
export MUSTER_IDLE=60
. "$(dirname "$0")/../lib.sh"
key() { # JOB KEY: of its JSON
    "$muster" status "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0][sys.argv[1]])' "$2"
}
settled() { "$muster" cancel --force "$@" >"$tmp/.settled" 2>&1; for j in "$@"; do wait_for 30 job_is "$j" cancelled; done; }

"$muster" run -n 1 true
slots=$("$muster" nodes --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["nodes"][0]["slots"])')

# in their order, but for priorities
all=$("$muster" submit -n "$slots" sleep 600)
wait_for 30 job_is "$all" running
first=$("$muster" submit -n "$slots" true)
second=$("$muster" submit -n "$slots" --priority 1 true)
is "$(key "$first" place) $(key "$second" place)" "2 1" "a higher priority comes before"
like "$(key "$first" reason)" "waiting for $slots slots?, 0 of $slots are free" "what the next one waits for"
run_cmd "$muster" jobs --why "$second"
like "$rc $out" "^0 job $second: waiting for $slots slots?, 0 of .*place +1 in the order.*starts +by 20.*priority +1.*fair share" "--why"
run_cmd "$muster" jobs --why "$all"
like "$rc $out" "^0 job $all does not wait: it is running" "of one that runs"
run_cmd "$muster" jobs --why 4711
like "$rc $err" "^1 muster jobs: there is no job 4711" "of none"

# what the queue would do
run_cmd "$muster" submit -n 1 --dry-run true
like "$rc $out" "queue: waiting .*; when it would start is not known|queue: waiting .*; it would start by 20.* at the latest" "--dry-run says that a job would wait, and for what"
run_cmd "$muster" submit -n 1 --hold --dry-run --json true
python3 -c 'import json,sys; d = json.loads(sys.argv[1]); sys.exit(not (d["starts"] is False and d["waits"].startswith("held until")))' "$out"
ok $? "in JSON, too" || note "$out"
is "$("$muster" jobs --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)["jobs"]))') $(key "$second" place)" "3 1" "and changes nothing"

# held ones are passed
run_cmd "$muster" hold "$second"
is "$rc $out" "0 job $second is held" "hold"
like "$(key "$second" reason)" "held by .*muster release $second" "is its reason, with the way out"
run_cmd "$muster" hold "$all"
like "$rc $err" "^1 muster hold: job $all is running; only a job that waits can be held" "one that runs is not held"
held=$("$muster" submit -n 1 --hold true)
isnt "$(key "$held" held_by)" None "submitted as held"
settled "$all"
wait_for 30 job_is "$first" completed
ok $? "the other one runs"
is "$(job_state "$second") $(job_state "$held")" "queued queued" "those that are held do not"
run_cmd "$muster" release "$second" "$held"
is "$rc $out" "0 job $second is released"$'\n'"job $held is released" "release"
wait_for 30 job_is "$second" completed && wait_for 30 job_is "$held" completed
ok $? "then they do"

# dependencies
all=$("$muster" submit -n "$slots" sh -c "while [ ! -e $tmp/go ]; do sleep 0.1; done")
after=$("$muster" submit -n 1 --after "$all" true)
last=$("$muster" submit -n 1 --after "$all,$after" true)
like "$(key "$after" reason)" "waiting for job $all to complete" "--after"
touch "$tmp/go"
wait_for 30 job_is "$last" completed
ok $? "starts when they have completed"
bad=$("$muster" submit -n 1 --hold true)
after=$("$muster" submit -n 1 --after "$bad" true)
last=$("$muster" submit -n 1 --after "$after" true)
"$muster" cancel "$bad" >"$tmp/.bad"
wait_for 30 job_is "$last" cancelled
is "$? $(job_state "$after")" "0 cancelled" "or is cancelled when one has not, and so on"
like "$(key "$after" reason)" "job $bad, which it was to come after, has not completed" "with the reason"
run_cmd "$muster" submit -n 1 --after 4711 true
like "$rc $err" "^2 muster submit: --after 4711: there is no such job" "a job that there is not"
run_cmd "$muster" submit -n 1 --after x true
like "$rc $err" "^2 muster submit: --after: takes numbers of jobs" "what is none"
run_cmd "$muster" submit -n 1 --priority 101 true
is "$rc" 2 "a priority that is too high"

# backfill: what ends in time starts before its turn, what does not waits
if [ "$slots" -gt 1 ]; then
    one=$("$muster" submit -n 1 --timeout 600 sleep 600)
    wait_for 30 job_is "$one" running
    wide=$("$muster" submit -n "$slots" sleep 600)
    long=$("$muster" submit -n 1 sleep 600)
    short=$("$muster" submit -n 1 --timeout 100 sleep 0.2)
    wait_for 30 job_is "$short" completed
    ok $? "a short job goes before a wide one"
    is "$(job_state "$wide") $(job_state "$long")" "queued queued" "a long one does not"
    like "$(key "$long" reason)" "waiting behind job $wide, which has been promised" "which is its reason"
    run_cmd "$muster" submit -n 1 --timeout 60 --dry-run true
    like "$rc $out" "queue: it would start at once" "--dry-run knows that a short one would start"
    run_cmd "$muster" submit -n "$slots" --priority 1 --timeout 60 --dry-run --json true
    python3 -c 'import json,sys,time; d = json.loads(sys.argv[1]); sys.exit(not (d["starts"] is False and 0 < d["expected_t"] - time.time() < 700))' "$out"
    ok $? "and when another one would, by the time limits of those before it" || note "$out"
    settled "$one" "$wide" "$long"
else
    skip "one slot alone" 5
fi

# one that runs waits again, and goes on from the next attempt
run=$("$muster" submit -n "$slots" sh -c "echo \$MUSTER_ATTEMPT >>$tmp/attempts; [ \$MUSTER_ATTEMPT = 2 ] || exec sleep 600")
wait_for 30 test -s "$tmp/attempts"
next=$("$muster" submit -n 1 --priority 1 sh -c "cp $tmp/attempts $tmp/seen")
run_cmd "$muster" requeue "$run"
is "$rc $out" "0 job $run is put back into the queue" "requeue"
wait_for 30 job_is "$run" completed
is "$? $(sort -u "$tmp/attempts" | tr '\n' ' ')$(sort -u "$tmp/seen")" "0 1 2 1" "another one runs before its next attempt"
is "$(key "$run" requeues) $(job_state "$next")" "1 completed" "it is counted"
run_cmd "$muster" requeue "$run"
like "$rc $err" "^1 muster requeue: job $run has ended; submit it again" "not when it has ended"

# one that is cancelled while it waits again
gone=$("$muster" submit -n "$slots" sleep 600)
wait_for 30 job_is "$gone" running
next=$("$muster" submit -n "$slots" --name $'=a,"b\n\e[31m' --priority 1 sleep 600)
"$muster" requeue "$gone" >"$tmp/.gone"
wait_for 30 job_is "$next" running
sleep 0.3
run_cmd "$muster" jobs --why "$gone"
python3 -c 'import json,re,sys,time; j = json.loads(sys.argv[2])["jobs"][0]; sys.exit(not (j["waits_since_t"] > j["submitted_t"] and "has waited" in sys.argv[1]))' "$out" "$("$muster" status "$gone" --json)"
ok $? "it has waited since it was put back" || note "$out"
settled "$gone" "$next"

# preemption: what the policy's file says
cat >"$MUSTER_HOME/policy" <<'POLICY'
preempt = force
preempt-after = 0s
POLICY
kill -HUP "$(cat "$MUSTER_RUN_ROOT/$(uname -n)"/*/ctl.lock)"
wait_for 30 grep -q "the policy is read again" "$MUSTER_HOME/$(uname -n)/log/controller.log"
low=$("$muster" submit -n "$slots" sh -c "[ \$MUSTER_ATTEMPT = 2 ] || exec sleep 600")
wait_for 30 job_is "$low" running
high=$("$muster" submit -n 1 --priority 1 sh -c "while [ ! -e $tmp/high ]; do sleep 0.1; done")
wait_for 30 job_is "$high" running
is "$? $(job_state "$low")" "0 suspended" "a job of a lower priority is ended for it"
touch "$tmp/high"
wait_for 30 job_is "$low" completed
is "$? $(key "$low" attempt)" "0 2" "and goes on afterwards"
echo 'depht = 7' >"$MUSTER_HOME/policy"
kill -HUP "$(cat "$MUSTER_RUN_ROOT/$(uname -n)"/*/ctl.lock)"
wait_for 30 grep -q "policy:1:1: there is no setting 'depht'; the nearest is 'depth'; the policy stays as it is" "$MUSTER_HOME/$(uname -n)/log/controller.log"
ok $? "a mistake in the file is logged with its place"
rm "$MUSTER_HOME/policy"
mkfifo "$MUSTER_HOME/policy" "$tmp/pipe"
kill -HUP "$(cat "$MUSTER_RUN_ROOT/$(uname -n)"/*/ctl.lock)"
wait_for 30 grep -q "policy is a pipe: .*; the policy stays as it is" "$MUSTER_HOME/$(uname -n)/log/controller.log"
ok $? "a pipe in its place is not waited for"
run_cmd timeout 60 "$muster" submit "$tmp/pipe"
like "$rc $err" "^2 muster submit: " "nor one in place of a program"

# scripts
cat >"$tmp/job.sh" <<'SCRIPT'
#!/bin/sh
#MUSTER -n 1 --hold
echo "$RANK $0 $1" >>"$OUT"
SCRIPT
id=$(OUT=$tmp/said "$muster" submit "$tmp/job.sh" argument)
is "$(key "$id" name) $(job_state "$id") $(key "$id" held_by | grep -c None)" "job.sh queued 0" "a script's options count"
echo 'exit 9' >"$tmp/job.sh"
"$muster" release "$id" >"$tmp/.released"
wait_for 30 job_is "$id" completed
is "$? $(cat "$tmp/said")" "0 0 $tmp/job.sh argument" "it runs as it was when it was handed in"
printf '#!/bin/sh\n#MUSTER -n 0\n' >"$tmp/job.sh"
run_cmd "$muster" submit "$tmp/job.sh"
like "$rc $err" "^2 muster submit: .*/job.sh:2: #MUSTER: -n takes a number" "a mistake in it is named"
mkfifo "$tmp/pipe"
run_cmd timeout 60 "$muster" submit "$tmp/pipe"
like "$rc $err" "^2 muster submit: $tmp/pipe is not executable" "a pipe is no script, and not waited for"
rm "$MUSTER_HOME/policy"
mkfifo "$MUSTER_HOME/policy"
kill -HUP "$(cat "$MUSTER_RUN_ROOT"/*/*/ctl.lock)"
wait_for 30 grep -q "policy is a pipe: write its text into a file; the policy stays as it is" "$MUSTER_HOME/$(uname -n)/log/controller.log"
ok $? "a pipe in its place is not waited for"
rm "$MUSTER_HOME/policy"
kill -HUP "$(cat "$MUSTER_RUN_ROOT/$(uname -n)"/*/ctl.lock)"
wait_for 30 grep -q "the policy is read again" "$MUSTER_HOME/$(uname -n)/log/controller.log"

# what jobs have used
run_cmd "$muster" jobs --history
like "$rc $out" "^0 +ID +NAME +USER +STATE +WAITED +RAN +RANK-HOURS +GPU-HOURS +RESTARTS +REQUEUES.*$run +sh .*completed" "--history"
run_cmd "$muster" jobs --history --csv
like "$out" "^job,name,state,exit_code,submitted_t,started_t,ended_t,user,jobs,waited_s,ran_s,rank_s,restarts,requeues," "--csv"
line=$(grep "^$run," <<<"$out")
python3 -c 'import sys; f = sys.argv[1].split(","); n = int(sys.argv[2]); sys.exit(not (f[2] == "completed" and f[12:14] == ["0", "1"] and float(f[9]) > 0 and float(f[11]) >= float(f[10]) * n * 0.99))' "$line" "$slots"
ok $? "waited twice, ran twice, was put back once" || note "$line"
line=$(grep "^$gone," <<<"$out")
python3 -c 'import sys; f = sys.argv[1].split(","); sys.exit(not (f[2] == "cancelled" and f[12:14] == ["0", "1"] and float(f[9]) > 0.3 and float(f[11]) > 0))' "$line"
ok $? "one that ended while it waited has waited for that time, too, and was not restarted" || note "$line"
like "$out" $'\n'"$next,\"'=a,\"\"b.n.x1b\\[31m\",cancelled," "names do no harm to spreadsheets and terminals"
"$muster" jobs --history --json --by user >"$tmp/users"
"$muster" jobs --history --json --by node >"$tmp/nodes"
python3 -c 'import json,sys; u, n = [sum(r["rank_s"] for r in json.load(open(f))["rows"]) for f in sys.argv[1:]]; sys.exit(not abs(u - n) < 0.001)' "$tmp/users" "$tmp/nodes"
ok $? "users and nodes have used the same" || note "$(cat "$tmp/users" "$tmp/nodes")"
run_cmd "$muster" jobs --history --csv --by user
is "$(wc -l <<<"$out") $(cut -d, -f1 <<<"$out" | head -n 1)" "2 user" "by user"
run_cmd "$muster" jobs --history --json --by user
like "$rc $out" '^0 .*"schema":"muster.history/1","by":"user","rows":\[.*"rank_s":[0-9.]+,"gpu_s":0.0,"useful_s":' "as JSON"
run_cmd "$muster" jobs --history --json --by node
like "$rc $out" "\"node\":\"$(uname -n)\"" "by node"
run_cmd "$muster" jobs --history --json --csv
like "$rc $err" "^2 muster jobs: --csv or --json, not both" "one of them"
run_cmd "$muster" jobs --csv
like "$rc $err" "^2 muster jobs: --csv and --by go with --history" "not without"

# all of it outlives the controller
all=$("$muster" submit -n "$slots" sleep 600)
wait_for 30 job_is "$all" running
a=$("$muster" submit -n 1 true) b=$("$muster" submit -n 1 --priority 2 true) c=$("$muster" submit -n 1 --hold true)
kill -9 "$(cat "$MUSTER_RUN_ROOT/$(uname -n)"/*/ctl.lock)"
places() { echo "$(key "$b" place) $(key "$a" place) $(key "$c" place)"; }
wait_for 30 eval '[ "$(places)" = "1 2 None" ]'
is "$(places)" "1 2 None" "the order after a crash of the controller"
settled "$all" "$c"
wait_for 30 job_is "$a" completed && wait_for 30 job_is "$b" completed
ok $? "and all run"
"$muster" controller --stop
done_testing
