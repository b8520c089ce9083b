#!/usr/bin/env bash
# slow
# Controller and agent are stopped at once, so that neither looks after the other: who waits for them sees to it.
# Longer than a busy machine takes from one command to the next: what is looked at are daemons of the same pool.
export MUSTER_IDLE=60
. "$(dirname "$0")/../lib.sh"
hangs=$B/tests/fault/hangs
holder() { cat "$MUSTER_RUN_ROOT"/*/*/"$1".lock; }
gone() { ! kill -0 "$1" 2>/dev/null; }

"$muster" run -n 2 --oversubscribe --bind none "$hangs" steps 1500 >"$tmp/o" 2>&1 </dev/null &
job=$!
trains() { "$muster" events 1 2>/dev/null | grep -q first-step; }
wait_for 60 trains
ok $? "a job runs"
controller=$(holder ctl) agent=$(holder agent)
kill -STOP "$controller" "$agent"
wait_for 40 gone "$controller"
ok $? "muster run ends a controller that is stopped with its agent"
wait_for 30 gone "$agent"
ok $? "the next controller ends the agent"
wait $job
is "$?" 0 "the job comes to its end" || note "$(cat "$tmp/o")"
is "$(grep -c 'the controller was stopped and has been killed' "$tmp/o")" 1 "and why it was away is told once" || note "$(cat "$tmp/o")"
is "$("$muster" status 1 | awk '$1 == "attempt" { print $2 }')" 1 "in its first attempt" || note "$("$muster" events 1)"

controller=$(holder ctl) agent=$(holder agent)
kill -STOP "$controller" "$agent"
run_cmd timeout 60 "$muster" submit -n 1 true
is "$rc" 0 "a submission gets through as well" || note "$err"
gone "$controller"
ok $? "past a controller that was stopped"
"$muster" controller --stop --force >/dev/null
done_testing
