#!/usr/bin/env bash
# The run directory is removed while the pool runs, as by who cleans /tmp: commands find the job again, which goes on,
# restarts and ends as ever. And nothing is left of the daemons that had lost it.
. "$(dirname "$0")/../lib.sh"
prog=$B/tests/fault/hangs

daemons() { pool_processes | awk '$2 ~ /muster$/ && ($3 == "controller" || $3 == "agent") { print $1 }' | sort -n | tr '\n' ' '; }
id=$("$muster" submit -n 2 --oversubscribe --restarts 3 "$prog" steps 100000)
runs() { [ -n "$("$muster" events "$id" 2>/dev/null | grep first-step)" ]; }
wait_for 60 runs
ok $? "a job runs"
old=$(daemons)
keeper=$(pool_processes | awk '$3 == "keeper" { print $1 }')
rm -rf "$MUSTER_RUN_ROOT"
answers() { "$muster" jobs >"$tmp/jobs" 2>"$tmp/jobs.err" && grep -q running "$tmp/jobs"; }
wait_for 30 answers
ok $? "without its run directory it is found again" || note "$(cat "$tmp/jobs.err")" "$(tail -n 3 "$MUSTER_HOME"/*/log/*.log)"
moved() {
    local p
    for p in $old; do ! kill -0 "$p" 2>/dev/null || return 1; done
    [ "$(daemons | wc -w)" = 2 ]
}
wait_for 30 moved
ok $? "by a controller and an agent that have taken over" || note "old $old, now $(daemons)"
is "$("$muster" status "$id" | awk '$1 == "attempt" { print $2 }')" 1 "in the same attempt" || note "$("$muster" events "$id")" "$(cat "$MUSTER_HOME"/*/log/*.log)"
kill -0 "$keeper"
ok $? "of the same keeper"

pkill -KILL -P "$keeper" -f "$prog"
again() { "$muster" events "$id" | grep -q 'first-step  *2 '; }
wait_for 60 again
ok $? "a rank dies: the next attempt finds all that it needs" || note "$("$muster" events "$id")"
"$muster" cancel -f "$id" >"$tmp/o" 2>&1
ok $? "and can be cancelled" || note "$(cat "$tmp/o")"
ended() { "$muster" jobs --all | grep -q cancelled; }
wait_for 30 ended
ok $? "it ends"
run_cmd timeout 60 "$muster" run -n 1 echo well
is "$rc $out" "0 well" "the pool takes new jobs" || note "$err"

rm -rf "$MUSTER_RUN_ROOT"
none() { [ -z "$(daemons)" ]; }
wait_for 30 none
ok $? "an idle pool without its run directory ends" || note "$(daemons)"

mkdir -p "$MUSTER_RUN_ROOT"
run_cmd "$muster" run -n 1 true
run=$(echo "$MUSTER_RUN_ROOT"/*/*)
mkdir -p "$run.gone.99999/k1" && : >"$run.gone.99999/ctl.lock"
"$muster" controller --stop
ls -d "$run".gone.* >"$tmp/o" 2>&1
ok $? "a run directory whose removal a crash has ended"
run_cmd timeout 60 "$muster" run -n 1 true
is "$rc $(ls -d "$run".gone.* 2>/dev/null)" "0 " "is removed by the next start" || note "$err"
done_testing
