#!/usr/bin/env bash
# Ranks, keepers and agents that are stopped on one host of several: who is named, and what it costs.
. "$(dirname "$0")/cluster.sh"
export MUSTER_LISTEN=10.213.0.254:7070 MUSTER_HANG_TIMEOUT=2
job=1 steps=400 every=30

join() { # HOST
    cluster_exec "$1" "$muster" agent --join head:7070 --node "$1" --slots 2 --key "$MUSTER_HOME/pool.key" --detach
}
nodes() { "$muster" nodes --json | python3 -c 'import json, sys
for n in json.load(sys.stdin)["nodes"]: print(n["name"], n["state"], n["used"])'; }
kinds() { "$muster" events $job | awk 'NR > 1 { printf "%s ", $3 }'; }
event() { # KIND: rank, node and detail of the first one
    "$muster" events $job --json | python3 -c 'import json, sys
print(*[(e["rank"], e["node"], e["detail"]) for e in json.load(sys.stdin)["events"] if e["kind"] == sys.argv[1]][:1])' "$1"
}
attempts() { # [HOST]: without those that ended as others than HOST lost contact: the machine of these tests stood still for a second
    "$muster" events $job --json | python3 -c 'import json, sys
e = json.load(sys.stdin)["events"]
still = {x["attempt"] for x in e if x["kind"] == "lease-lost" and x["node"] != sys.argv[1]}
print(len({x["attempt"] for x in e if x["kind"] == "attempt-start"} - still))' "${1-}"
}
run() { # OPTIONS AND PROGRAM...: in the background
    job=$((job + 1))
    "$muster" run -n 4 --restarts 100 --ckpt-dir "$tmp/ckpt.$job" "$@" >"$tmp/out.$job" 2>&1 </dev/null &
    pid=$!
}
train() { # OPTIONS...
    run -H h1:2,h2:2,h3:2 "$@" "$B/examples/train_lm" --steps $steps --hidden 64 --embed 8 --context 8 --batch 40 \
        --ckpt interval=${every}steps --step-time-file "$tmp/steps.$((job + 1))"
}
at_step() { # N: whether the job comes to it
    wait_for 60 past_step "$tmp/steps.$job" "$1"
}
hash() { sed -n 's/^weights sha256 //p' "$tmp/out.$job" | tail -n 1; }
ended() { # WHAT
    wait $pid
    is "$? $(hash)" "0 $want" "$1: the weights of an undisturbed run" ||
        note "$(tail -n 20 "$tmp/out.$job")" "$("$muster" events $job)" "$(nodes)" "$(tail -n 20 "$MUSTER_HOME/head/log/controller.log")"
}
of() { cluster_exec "$1" pgrep -o -f "$2"; } # HOST PATTERN: pid there

cluster_up 3
"$muster" run -n 1 true # starts the controller
for h in h1 h2 h3; do join $h; done
is "$(nodes | grep -c '^h. up 0')" 3 "three hosts" || note "$(nodes)"
train
wait $pid
rc=$? want=$(hash)
like "$rc $want" '^0 [0-9a-f]{64}$' "an undisturbed run" || note "$(cat "$tmp/out.$job")"

train
at_step 1
pid_there=$(of h2 '^[^ ]*train_lm')
at_step 45
t=${EPOCHREALTIME/./}
cluster_stop h2 "$pid_there"
wait_for 60 eval '[[ $(kinds) = *hang* ]]'
ms=$(((${EPOCHREALTIME/./} - t) / 1000))
[ $ms -ge 1000 ] && [ $ms -le 30000 ] # the others may have waited for it before
ok $? "a rank is stopped: it is named after its time ($ms ms)"
ended "a rank is stopped"
like "$(event hang)" "^\([23], 'h2', 'rank [23] on h2 .*it is stopped \(state T\)" "with the host that it is on"
is "$(attempts)" 2 "one more attempt" || note "$("$muster" events $job)"

# The one that holds up the others is on another host than they are: the controller asks there.
run -H h1:3,h3:1 "$B/tests/fault/hangs" chain 60
wait $pid
is $? 0 "a rank of another host does not come"
like "$(event hang)" "^\(3, 'h3', 'rank 3 on h3 has not sent what rank 1 has waited for for .*it sleeps" "it is named" ||
    note "$("$muster" events $job)" "$(cat "$tmp/out.$job")"

train
at_step 1
pid_there=$(of h1 '^muster keeper')
at_step 45
cluster_stop h1 "$pid_there"
ended "a keeper is stopped"
like "$(event keeper-lost)" "'h1', 'its keeper was frozen and has been killed" "its agent has killed it" || note "$("$muster" events $job)"
is "$(attempts)" 2 "one more attempt" || note "$("$muster" events $job)"

# An agent that is stopped looks like a host that fell silent. When it goes on it lets go of what it has.
train --spares 1
at_step 1
h=$("$muster" status $job --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["nodes"][1])')
agent=$(of "$h" '^[^ ]*muster agent')
at_step 45
cluster_stop "$h" "$agent"
wait_for 60 eval '[[ $(kinds) =~ (attempt-start .*){2}(first-step|finished) ]]' # its last step may have been done before
ok $? "an agent is stopped: the job goes on without its host" || note "$("$muster" events $job)" "$(nodes)"
is "$(of "$h" '^[^ ]*train_lm')" '' "whose ranks have ended by themselves"
cluster_cont "$h" "$agent"
wait_for 30 node_is "$h" up
ok $? "it goes on: the host joins again" || note "$(nodes)"
wait_for 30 eval '[ -z "$(of $h "^muster keeper")" ]'
ok $? "and its keeper is gone" || note "$(cluster_ps "$h")"
ended "an agent is stopped"
is "$(attempts "$h")" 2 "its return has not disturbed the job" || note "$("$muster" events $job)"

# Whoever is to join does not wait for an agent that is stopped.
agent=$(of h1 '^[^ ]*muster agent')
cluster_stop h1 "$agent"
wait_for 30 node_is h1 lost
join h1
ok $? "another agent takes the place of one that is stopped"
wait_for 30 node_is h1 up
ok $? "and joins" || note "$(nodes)"
unlike "$(of h1 '^[^ ]*muster agent')" "^$agent\$" "the stopped one is gone"
"$muster" controller --stop
for h in h1 h2 h3; do cluster_exec $h pkill -TERM -f '^[^ ]*muster agent'; done
done_testing
