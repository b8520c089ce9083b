#!/usr/bin/env bash
# Hosts of a pool and hosts of a job, with agents started over ssh; a controller that is away.
. "$(dirname "$0")/cluster.sh"

cluster_up 3
ok $? "three hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH
controller() { pgrep -f '^[^ ]*muster controller' | head -n 1; }

# Hosts of one job
run_cmd "$muster" run -H h1:2,h2:2 sh -c 'echo $MUSTER_NODE:$RANK'
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:h1:0 h1:1 h2:2 h2:3 " "a job on its own hosts" || note "$err"
wait_for 30 node_is h1 none && wait_for 30 node_is h2 none
ok $? "which leave with it" || note "$("$muster" nodes)"
wait_for 30 eval '[ -z "$(cluster_ps h1)$(cluster_ps h2)" ]'
ok $? "and keep nothing" || note "$(cluster_ps h1)" "$(cluster_ps h2)"
run_cmd "$muster" run -H h1:2,h9:2 true
like "$rc:$err" '^1:.*host h9' "an unknown host is named" || note "$err"
run_cmd "$muster" run -H h1:1,h2:1 "$B/tests/mpi/hello"
like "$out" 'hello from 1 of 2' "MPI over two hosts" || note "$err"

# Hosts of the pool
wait_for 30 node_is h1 none && wait_for 30 node_is h2 none # the job's have left
run_cmd "$muster" nodes add h1:2 h2:2
is "$rc:$err" "0:" "hosts are added to the pool"
node_is h1 up && node_is h2 up
ok $? "and are up" || note "$("$muster" nodes)"
run_cmd "$muster" nodes add h9
like "$rc:$err" '^1:.*h9' "an unknown host is named" || note "$err"
run_cmd "$muster" nodes remove h9 h3
like "$rc:$err" '^2:.*h3 is not one that was added' "nothing is removed when one is not there" || note "$err"
run_cmd "$muster" nodes remove h9
is "$rc" 0 "it is removed" || note "$err"

# The controller is away for longer than any lease: a job over h1 and h2 does not notice
cat >"$tmp/job.sh" <<JOB
i=0
while [ ! -e $tmp/go ]; do i=\$((i + 1)); sleep 0.05; done
echo done \$RANK
JOB
run_cmd "$muster" submit -n 6 -N 3 sh "$tmp/job.sh"
job=$out
wait_for 30 job_is "$job" running
ok $? "a job over three nodes runs" || note "$("$muster" jobs --all)"
pid=$(controller)
agent=$(pgrep -f '^[^ ]*muster agent --run.*--local' | head -n 1)
kill -STOP "$agent" # it would start another one
kill -9 "$pid"
sleep 4
[ -z "$(controller)" ]
ok $? "its controller is away for four seconds" || note "$(pgrep -af muster)"
kill -CONT "$agent"
wait_for 30 job_is "$job" running
run_cmd "$muster" status "$job" --json
like "$out" '"attempt": ?1,' "it is in its first attempt" || note "$("$muster" events "$job")"
wait_for 30 node_is h1 up && wait_for 30 node_is h2 up
ok $? "and the pool's hosts are known again" || note "$("$muster" nodes)"
touch "$tmp/go"
wait_for 30 job_is "$job" completed
ok $? "it completes" || note "$("$muster" jobs --all)"

# A job names hosts of the pool, and the controller dies under it: they stay the pool's
"$muster" run -H h1:1,h2:1 --ckpt-dir "$tmp/ckpt" "$B/examples/train_lm" --steps 4000 --hidden 16 --embed 4 --context 4 --batch 8 \
    --step-time-file "$tmp/steps" >"$tmp/out" 2>&1 &
train=$!
wait_for 30 eval '[ "$(wc -l <"$tmp/steps")" -gt 20 ]' 2>/dev/null
sleep 0.3
kill -9 "$(controller)"
wait $train
is $? 0 "a job on hosts of the pool outlives its controller" || note "$(cat "$tmp/out")"
run_cmd "$muster" events $((job + 1))
is "$(grep -c ' first-step ' <<<"$out")" 1 "which does not tell the first step again" || note "$out"
sleep 0.5
wait_for 30 node_is h1 up && wait_for 30 node_is h2 up
ok $? "and they are the pool's as before" || note "$("$muster" nodes)"

# A host that a job has named takes the place of another one
run_cmd "$muster" nodes add h3:2
run_cmd "$muster" submit -H h1:1,h2:1,h3:1 -N 2 -n 2 sh -c "until [ -e $tmp/go2 ]; do sleep 0.05; done"
job=$out
wait_for 30 job_is "$job" running
cluster_crash_host h2
wait_for 30 eval '[[ "$("$muster" jobs)" = *h1,h3* ]]' && wait_for 30 job_is "$job" running
ok $? "a job's host dies: it goes on with the one that it named, too" || note "$("$muster" events "$job")" "$("$muster" nodes)"
touch "$tmp/go2"
wait_for 30 job_is "$job" completed
cluster_start_host h2

# Nobody waits for a job, and nothing of it is on the controller's machine
run_cmd "$muster" submit -H h1:1 sleep 1000
job=$out
wait_for 30 job_is "$job" running
pid=$(controller)
kill -9 "$pid"
wait_for 30 eval '[[ "$(controller)" != @(|$pid) ]]'
ok $? "kill -9 of a controller with jobs on other hosts alone: another one comes by itself"
wait_for 30 job_is "$job" running
ok $? "and knows the job" || note "$("$muster" jobs --all)"
"$muster" cancel --force "$job" >/dev/null
wait_for 30 job_is "$job" cancelled
kill "$(controller)"
wait_for 30 eval '! pgrep -f "^[^ ]*muster (controller|agent --run)" >/dev/null'
ok $? "told to end without jobs it ends, and so does its agent" || note "$(pgrep -af muster)"

# An agent that dies without a keeper beside it is started again
wait_for 30 node_is h2 up
was=$(cluster_exec h2 pgrep -f 'muster agent')
cluster_exec h2 kill -9 $was
another() { [[ $(cluster_exec h2 pgrep -f 'muster agent') != @(|"$was") ]] && node_is h2 up; }
wait_for 60 another
ok $? "an agent of the pool that dies is started again" || note "$("$muster" nodes)"
run_cmd "$muster" nodes remove h1 h2 h3
is "$rc" 0 "hosts leave the pool" || note "$err"
wait_for 30 node_is h1 none && wait_for 30 node_is h2 none
ok $? "and are gone" || note "$("$muster" nodes)"

# One that was removed while it was silent, and whose agent is being started, is gone for a while
"$muster" nodes add h2 >/dev/null
stays=$("$muster" submit -n 1 --oversubscribe sleep 1000) # and with it the controller, without a host
cluster_kill_host h2
wait_for 30 node_is h2 lost
port=$(cat "$MUSTER_HOME/head/port")
run_cmd "$muster" nodes remove h2
cluster_start_host h2
run_cmd cluster_exec h2 timeout 60 "$muster" agent --join "head:$port" --node h2 --key "$MUSTER_HOME/pool.key" --detach
like "$rc:$err" '^1:.*this host was just removed from the pool; try again in a minute' "who joins by hand at once is told" || note "$("$muster" nodes)" "$(tail -n 12 "$MUSTER_HOME"/head/log/controller.log)" "$(cat "$MUSTER_HOME"/h2/*/log/agent.log | tail -n 9)"
"$muster" cancel --force "$stays" >/dev/null
wait_for 30 job_is "$stays" cancelled

# An agent that comes when the controller is leaving: our own agent, which is stopped, keeps it for a while.
printf '#!/bin/sh\nuntil [ -e %s/leaving ]; do sleep 0.02; done\nexec %s "$@"\n' "$tmp" "$CLUSTER_SSH" >"$tmp/slow-ssh"
chmod +x "$tmp/slow-ssh"
"$muster" nodes >/dev/null
wait_for 30 node_is head up
MUSTER_SSH=$tmp/slow-ssh "$muster" nodes add h1 >"$tmp/add" 2>&1 &
add=$!
wait_for 30 pgrep -f slow-ssh >/dev/null
kill "$add" # it would begin another controller
wait "$add" 2>/dev/null
own=$(cat "$MUSTER_RUN_ROOT"/*/*/agent.lock)
sock=$(echo "$MUSTER_RUN_ROOT"/head/*/ctl.sock)
kill -STOP "$own"
{ wait_for 30 test ! -e "$sock"; touch "$tmp/leaving"; } &
run_cmd timeout 60 "$muster" controller --stop --force
kill -CONT "$own"
is "$rc" 0 "the pool ends while an agent is being started" || note "$err"
none_on() { [ -z "$(cluster_ps "$1")" ]; }
wait_for 30 none_on h1
ok $? "which ends, too" || note "$(cluster_ps h1)" "$(tail -n 5 "$tmp"/home/*/log/controller.log)"
like "$(cat "$tmp"/home/*/log/controller.log)" 'the agent on h1 comes too late and is told to end' "as it is told"
done_testing
