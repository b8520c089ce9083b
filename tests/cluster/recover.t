#!/usr/bin/env bash
# Ranks, daemons and hosts of a job over several hosts die or fall silent: the job ends with the weights of an
# undisturbed run, and whatever comes back neither disturbs nor is disturbed.
. "$(dirname "$0")/cluster.sh"
export MUSTER_LISTEN=10.213.0.254:7070
job=1 steps=360 every=30

join() { # HOST
    cluster_exec "$1" "$muster" agent --join head:7070 --node "$1" --slots 2 --key "$MUSTER_HOME/pool.key" --detach
}
field() { # nodes, attempt: of the job
    [[ $("$muster" status $job --json) =~ \"$1\":(\[[^]]*\]|[0-9]+) ]] || return
    tr -s '][",' ' ' <<<"${BASH_REMATCH[1]}" | sed 's/^ //; s/ $//'
}
nodes() { "$muster" nodes --json | python3 -c 'import json, sys
for n in json.load(sys.stdin)["nodes"]: print(n["name"], n["state"], n["used"])'; }
kinds() { "$muster" events $job | awk 'NR > 1 { printf "%s ", $3 }'; }
train() { # OPTIONS...: of muster run; the job in the background
    job=$((job + 1))
    "$muster" run --restarts 100 --ckpt-dir "$tmp/ckpt.$job" "$@" "$B/examples/train_lm" --steps $steps --hidden 64 --embed 8 \
        --context 8 --batch 40 --ckpt interval=${every}steps --step-time-file "$tmp/steps.$job" >"$tmp/out.$job" 2>&1 &
    train_pid=$!
}
at_step() { # N: whether the job comes to it
    wait_for 60 past_step "$tmp/steps.$job" "$1"
}
hash() { sed -n 's/^weights sha256 //p' "$tmp/out.$job"; }
ended() { # WHAT: the job has ended as if nothing had happened to it
    wait $train_pid
    is "$? $(hash)" "0 $want" "$1: the weights of an undisturbed run" ||
        note "$(tail -n 20 "$tmp/out.$job")" "$("$muster" events $job)" "$(nodes)" "$(tail -n 20 "$MUSTER_HOME/head/log/controller.log")"
}
goes_on() { # N WHAT: the job comes to the first step of attempt N
    wait_for 60 eval "[[ \"\$(kinds)\" =~ (attempt-start .*){$1}first-step ]]"
    ok $? "$2" || note "$("$muster" events $job)" "$(nodes)"
}
ranks_on() { cluster_exec "$1" pgrep -f '^[^ ]*train_lm'; }
kill_on() { cluster_exec "$1" pkill -KILL -o -f "$2"; } # HOST PATTERN
others="head"
another() { # sets h: a host of the job, each time another one, so that none fails often
    h=$(field nodes | tr ' ' '\n' | grep -vxE "$others" | tail -n 1)
    others+="|$h"
}

cluster_up 4
"$muster" run -n 1 true # starts the controller
for h in h1 h2 h3 h4; do join $h; done
is "$(nodes | grep -c ' up 0')" 5 "four hosts and the head are one pool" || note "$(nodes)"

train -N 4 -n 8
wait $train_pid
rc=$? want=$(hash)
like "$rc $want" '^0 [0-9a-f]{64}$' "an undisturbed run" || note "$(cat "$tmp/out.1")"

train -N 4 -n 8
at_step 1
h=$(field nodes | cut -d' ' -f2)
at_step 45
kill_on "$h" '^[^ ]*train_lm'
ended "a rank is killed"
like "$(kinds)" 'rank-lost .*attempt-start .*restored .*first-step ' "and events say so"
is "$(field attempt)" 2 "one more attempt"

train -N 4 -n 8
at_step 1
another
at_step 45
kill_on "$h" '^muster keeper'
ended "a keeper is killed"
like "$(kinds)" 'keeper-lost .*attempt-start .*restored .*first-step ' "and events say so"

train -N 4 -n 8
at_step 1
h=$(field nodes | cut -d' ' -f2)
at_step 45
kill_on "$h" '^[^ ]*muster agent'
wait_for 30 eval "[[ \"\$(kinds)\" = *agent-lost* ]]"
wait_for 30 node_is "$h" up
ok $? "an agent is killed: another one takes its place" || note "$(nodes)" "$("$muster" events $job)"
ended "an agent is killed"
is "$(field attempt) $(wc -l <"$tmp/steps.$job")" "1 $steps" "no attempt, no step is lost" || note "$("$muster" events $job)"

# A host dies, and is booted while the job trains.
train -N 4 -n 8 --spares 1
at_step 1
another
at_step 45
cluster_crash_host "$h"
goes_on 2 "a host dies: the job goes on without it"
is "$(field nodes | tr ' ' '\n' | sort)" "$(nodes | cut -d' ' -f1 | sort | grep -vx "$h")" "on the spare one"
cluster_start_host "$h" && join "$h"
wait_for 30 node_is "$h" up
ok $? "booted, it joins again" || note "$(nodes)"
is "$(ranks_on "$h")" "" "and has no ranks"
ended "a host dies"
like "$(kinds)" 'node-lost .*node-replaced .*attempt-start .*restored .*first-step ' "and events say so" || note "$("$muster" events $job)"
is "$(field attempt)" 2 "its return has not disturbed the job" || note "$("$muster" events $job)"

# A host falls silent, and is heard again while the job trains.
train -N 4 -n 8 --spares 1
at_step 1
another
at_step 45
cluster_cut "$h"
goes_on 2 "a host falls silent: the job goes on without it"
is "$(ranks_on "$h")" "" "what ran there has ended by itself"
unlike "$(field nodes)" "$h" "another one is in its place"
cluster_heal "$h"
wait_for 30 node_is "$h" up
ok $? "healed, it joins again" || note "$(nodes)"
ended "a host falls silent"
like "$(kinds)" 'node-lost .*node-replaced .*attempt-start .*restored .*first-step ' "and events say so" || note "$("$muster" events $job)"
is "$(field attempt)" 2 "its return has not disturbed the job" || note "$("$muster" events $job)"
others="head"

# Not enough hosts are left.
whole() { [ "$("$muster" nodes | awk '$2 == "up"' | wc -l)" = 5 ]; }
wait_for 60 whole
train -N 5 -n 10 --min-ranks 8
at_step 1
another
at_step 45
cluster_crash_host "$h"
wait $train_pid
is $? 0 "a host dies and there is no other: the job ends with fewer ranks" || note "$(cat "$tmp/out.$job")" "$("$muster" events $job)"
like "$(kinds)" 'node-lost .*shrunk .*restored .*first-step ' "and events say so" || note "$("$muster" events $job)"
like "$(cat "$tmp/out.$job")" '10 ranks.* 8 ranks' "it had 10 ranks, then 8"
cluster_start_host "$h" && join "$h"

# A job that has one host; its steps are short
steps=1500
train -N 1 -n 2
wait $train_pid
want=$(hash)
job=$((job + 1))
sleeper=$("$muster" submit -N 1 -n 2 sleep 1000)
is "$sleeper $(field nodes)" "$job head" "the head is taken"
train -N 1 -n 2
at_step 1
another
at_step 45
cluster_kill_host "$h"
goes_on 2 "a job's only host loses its power: it goes on elsewhere"
ended "a job's only host loses its power"
unlike "$(field nodes)" "$h|head" "on another one"
"$muster" cancel --force "$sleeper" >/dev/null
cluster_start_host "$h" && join "$h"
steps=360

# A node that fails often is not used for a while.
train -N 4 -n 8 --spares 1
at_step 1
another
for i in 1 2 3; do # at most: it may have failed above
    [[ "$(kinds)" = *quarantined* ]] && break
    goes_on $i "attempt $i of a node that fails"
    kill_on "$h" '^muster keeper'
    wait_for 30 eval "[ \"\$(kinds | grep -o keeper-lost | wc -l)\" = $i ]"
done
wait $train_pid
is $? 0 "after three failures the job has another node" || note "$("$muster" events $job)"
like "$(kinds)" 'keeper-lost .*keeper-lost quarantined .*node-replaced .*attempt-start ' "and events say so" ||
    note "$("$muster" events $job)"
unlike "$(field nodes)" "$h" "it has ended without that one"
run_cmd "$muster" nodes
like "$out" "$h +quarantined " "which is in quarantine"

# Nothing is left but the agents that were started by hand.
no_orphans() { ! cluster_orphans | grep -v "muster agent --join\|muster agent .*--rejoin"; }
wait_for 30 no_orphans >/dev/null
is "$(no_orphans)" "" "nothing of the jobs is left on any host"
"$muster" controller --stop --force
ok $? "the controller ends"
for h in h1 h2 h3 h4; do cluster_exec $h pkill -f 'muster agent'; done
done_testing
