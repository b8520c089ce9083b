#!/usr/bin/env bash
# A keeper that hangs: its agent kills it once it has been told to end its ranks, or itself, and stays silent.
. "$(dirname "$0")/../lib.sh"

keeper_of() { # JOB: its pid
    cat "$MUSTER_RUN_ROOT"/*/*/keeper."$1".lock 2>/dev/null
}
has_keeper() { [ -n "$(keeper_of "$1")" ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
log_says() { grep -qE "$1" "$MUSTER_HOME"/*/log/agent.log; }

# Not a stopped process, which is seen sooner.
stall() { "$B/tests/fault/stall" "$1"; }
sleep 60 &
probe=$!
sleeps() { grep -qx sleep "/proc/$probe/comm"; }
wait_for 30 sleeps # before, it is the shell, with signals blocked
stall $probe
traced=$?
{ kill -KILL $probe && wait $probe; } 2>/dev/null
[ $traced = 0 ] || skip_all "processes cannot be traced here"

# Job 1: cancelled while its keeper hangs.
run_cmd "$muster" submit -n 1 sh -c 'echo $$ >"$1"; exec sleep 300' - "$tmp/rank"
wait_for 30 test -s "$tmp/rank"
rank=$(cat "$tmp/rank") first=$(keeper_of 1)
stall "$first"
run_cmd "$muster" cancel --force 1
is "$rc" 0 "a job is cancelled while its keeper hangs"

# Job 2: has ended, but its keeper has output that nobody has read; then its reader dies.
"$muster" run -n 1 --oversubscribe sh -c 'echo up; until [ -e "$1" ]; do sleep 0.05; done; seq 2000000' - "$tmp/go" \
    >"$tmp/o" 2>&1 </dev/null &
client=$!
wait_for 30 grep -q up "$tmp/o"
kill -STOP $client
touch "$tmp/go"
wait_for 60 job_is 2 completed && has_keeper 2
ok $? "a job has ended and its output waits in its keeper" || note "$(job_state 2)"
second=$(keeper_of 2)
stall "$second"
{ kill -KILL $client && wait $client; } 2>/dev/null

wait_for 60 job_is 1 cancelled
ok $? "the cancelled job ends within the bound" || note "$(job_state 1)"
wait_for 30 gone "$first" && wait_for 30 gone "$rank"
ok $? "its keeper and its rank are gone"
log_says 'keeper of job 1 .*is frozen: it is stopped .*killed|job 1: its keeper hangs: .*killing it'
ok $? "the agent's log says so" || note "$(cat "$MUSTER_HOME"/*/log/agent.log)"
wait_for 60 gone "$second"
ok $? "the keeper that was released and does not end is killed"
log_says 'keeper of job 2 .*is frozen: it is stopped .*killed|job 2: its keeper does not end although the job has; killing it'
ok $? "the agent's log says so" || note "$(cat "$MUSTER_HOME"/*/log/agent.log)"
run_cmd "$muster" run -n 1 true
is "$rc" 0 "the next job runs"
done_testing
