#!/usr/bin/env bash
# One job over two hosts: its ranks find one another, over fences that outlive controllers and agents, talk, and learn
# of each other's death.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 1 || exit
export MUSTER_IDLE=60 MUSTER_LOG=debug COLL_SHORT=1 MUSTER_YIELD=1
ctl=10.213.0.254:7071

"$muster" controller --listen "$ctl" >"$tmp/ctl.out" 2>&1 &
nodes_up() { [ "$("$muster" nodes --json | grep -o '"state":"up"' | wc -l)" = "$1" ]; }
wait_for 30 test -s "$MUSTER_HOME/pool.key" # else the next line would start one that listens nowhere
wait_for 30 nodes_up 1 # the ranks below go to the nodes in the order in which they have come
cluster_exec h1 "$muster" agent --join "$ctl" --slots 2 --detach >"$tmp/h1.out" 2>&1
wait_for 30 nodes_up 2
ok $? "two nodes" || {
    note "$(cat "$tmp/ctl.out" "$tmp/h1.out")" "$("$muster" nodes)"
    done_testing
}

# MPI leaks.
run() { run_cmd timeout 250 "$muster" run --oversubscribe -n 4 -N 2 -x LSAN_OPTIONS=detect_leaks=0 "$@"; }
completed() { job_is "$job" completed; }
checks() { # NAME: a run that prints TAP
    [ "$rc" = 0 ] && grep -q '^1\.\.[1-9]' <<<"$out" && ! grep -q '^not ok' <<<"$out"
    ok $? "$1 ($(grep -c '^ok' <<<"$out") checks)" || note "rc $rc" "$(grep -v '^ok' <<<"$out")" "$err"
}
logged() { # HOST PATTERN: the keeper of $job there has
    find "$MUSTER_HOME" -path "*$1*/log/keeper.$job.log" -exec grep -q "$2" {} \; -print | grep -q .
}

# shellcheck disable=SC2016
run sh -c 'echo "$RANK $LOCAL_RANK/$LOCAL_WORLD_SIZE $NODE_RANK $(uname -n) $MASTER_ADDR $((MASTER_PORT > 1023)) $WORLD_SIZE"; echo "port $MASTER_PORT"'
is "$(grep -v port <<<"$out" | sort)" "0 0/2 0 head head 1 4
1 1/2 0 head head 1 4
2 0/2 1 h1 head 1 4
3 1/2 1 h1 head 1 4" "ranks know who and where they are" || note "$err"
is "$(grep port <<<"$out" | sort -u | wc -l)" 1 "and agree on a port"
run "$B/tests/mpi/hello"
is "$rc $(sort <<<"$out" | tr '\n' ',')" "0 hello from 0 of 4,hello from 1 of 4,hello from 2 of 4,hello from 3 of 4," \
    "four ranks of MPI on two nodes" || note "$err"
is "$err" "" "quietly"
run -x COLL_SHORT -x COLL_NODES=0011 "$B/tests/mpi/coll_all"
checks "all collectives"
for c in count finalize p2p; do
    run "$B/tests/mpi/coll_errors" $c
    checks "disagreement over nodes: $c"
done
run "$B/tests/mpi/pmix_client"
is "$rc $(sort <<<"$out" | tr '\n' ',')" "0 0 of 4 ok,1 of 4 ok,2 of 4 ok,3 of 4 ok," \
    "fences with and without data, and questions" || note "$err"
job=$("$muster" jobs --all --json | grep -o '"id":[0-9]*' | cut -d: -f2 | sort -n | tail -n 1)
logged h1 'node 0 asks what rank [23] has published'
ok $? "which go from keeper to keeper"
run -x OMPI_MCA_pmix_base_collect_data=0 "$B/tests/mpi/coll_errors" p2p
checks "MPI without data in its fences"

run --restarts 2 "$B/tests/fault/arena" "$tmp/ckpt-arena" wait wipe die
is "$rc $(grep -o 'attempt 2 restored 8 right' <<<"$out")" "0 attempt 2 restored 8 right" \
    "checkpoints from the memory of two nodes, which send each other what both need" || note "$out" "$err"
run --restarts 2 "$B/tests/fault/arena" "$tmp/ckpt-arena" wait flip wipe die
like "$out" "attempt 2 restored 7 right .*rank 1's copy in memory is damaged" "and the one before when that is damaged" || note "$out" "$err"

for victim in 0 3; do
    run --on-failure=keep "$B/tests/mpi/outlive" $victim $((victim ? 400000 : 1000)) pipe
    where=$([ $victim = 0 ] && echo head || echo h1)
    is "$rc $(grep -c ": -4 .*: rank $victim on $where was killed by signal 9$" <<<"$out")" "137 3" \
        "rank $victim is killed: the others live on, and are told who and where" || note "$out" "$err"
    is "$(grep -c ": -6 .*: rank $victim on $where was killed by signal 9$" <<<"$out")" 3 "for good" || note "$out"
done
run --restarts 0 "$B/tests/mpi/outlive" 3
like "$rc $err" '^137 .*rank 3 on h1 was killed by signal 9' "a rank is killed: the job is over, and says which"

job=$("$muster" submit --oversubscribe -n 4 -N 2 --ckpt-dir "$tmp/ckpt" -x LSAN_OPTIONS=detect_leaks=0 "$B/examples/train_lm" --steps 400 --hidden 96 --embed 8 \
    --context 8 --batch 64 --ckpt interval=50steps --step-time-file "$tmp/steps")
wait_for 30 eval '[ "$(cat "$tmp/steps" 2>/dev/null | wc -l)" -gt 120 ]'
cluster_exec h1 pkill -KILL -n train_lm
wait_for 60 completed
like "$? $("$muster" status "$job")" '^0 .*attempt  *2.*resumed from  *[1-3][05]0' \
    "a rank is killed: the next attempt resumes on both nodes" || note "$("$muster" events "$job")"

# --- fences and what dies under them ------------------------------------------------------------------------------

ctl_pid() { cat "$MUSTER_RUN_ROOT/head"/*/ctl.lock 2>/dev/null; }
first_try() { # NAME
    wait_for 60 completed
    is "$? $("$muster" logs "$job" | grep -c '. of 4 ok') $("$muster" status "$job" --json | grep -o '"attempt":[0-9]*' | head -n 1)" \
        '0 4 "attempt":1' "$1" || note "$("$muster" status "$job" 2>&1; "$muster" events "$job" 2>&1)"
}
late() { # WHERE: a job whose ranks on that host wait for $tmp/go
    rm -f "$tmp/go"
    job=$("$muster" submit --oversubscribe -n 4 -N 2 --restarts 0 -x LSAN_OPTIONS=detect_leaks=0 "$B/tests/mpi/pmix_client" "$1" "$tmp/go")
}

late h1
wait_for 30 logged head 'fence 0 begins'
kill -9 "$(ctl_pid)"
wait_for 30 nodes_up 2
touch "$tmp/go"
first_try "a controller that dies under a fence: the next one gathers it anew"

late h1
wait_for 30 logged head 'fence 0 begins'
kill -9 "$(cat "$MUSTER_RUN_ROOT/head"/*/agent.lock)"
touch "$tmp/go"
first_try "an agent that dies under a fence: the keeper says its part to the next one"

# The answer is on its way to h1 and gets lost there; who had it helps.
ended() { [[ $(job_state "$job") = @(completed|failed) ]]; }
for _ in 1 2 3 4 5; do
    late head
    wait_for 30 logged h1 'fence 0 begins'
    sleep 0.1
    cluster_stop h1 'muster agent'
    touch "$tmp/go"
    wait_for 30 logged head 'fence 0 is done'
    kill -9 "$(ctl_pid)"
    logged h1 'fence 0 is done'
    half=$?
    cluster_exec h1 pkill -KILL -f 'muster agent'
    wait_for 60 ended
    # all that took longer than a node may be silent
    "$muster" events "$job" | grep -q lease-lost || break
    wait_for 30 nodes_up 2
done
is $half 1 "half of the keepers have the answer"
first_try "when the controller and the agent of the other half die"

signal_pool TERM
cluster_exec h1 pkill muster
wait_for 30 no_leftovers
is "$(find "$MUSTER_HOME" -name '*.log' -exec grep -h Sanitizer {} +)" '' "no daemon has died of a sanitizer"
done_testing
