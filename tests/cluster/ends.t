#!/usr/bin/env bash
# What is lost or waited for at the ends of a job: output under way when its ranks have ended, hosts that do not reach
# one another when an attempt starts.
. "$(dirname "$0")/cluster.sh"

cluster_up 4
ok $? "four hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH
job=0 many=1500000
flood() { # starts a job of ranks 0 on h1 and 1 on h2; all have ended, much of their output is under way
    job=$((job + 1))
    "$muster" run -H h1:1,h2:1 sh -c 'yes "rank $RANK is here and says as much as it can, again and again" | head -n '$many'; echo done $RANK' \
        >"$tmp/flood.out" 2>"$tmp/flood.err" &
    run=$!
    wait_for 90 eval '"$muster" events $job 2>/dev/null | grep -q finished'
    ok $? "ranks that have printed much have ended"
}
ended() { # sets rc
    wait "$run"
    rc=$?
    lines0=$(grep -c '^rank 0' "$tmp/flood.out") lines1=$(grep -c '^rank 1' "$tmp/flood.out")
}
told() {
    is "$rc:$lines0" "1:$many" "the other host's is whole, the exit code is 1" || note "$lines1"
    like "$(<"$tmp/flood.err")" 'the last output of rank 1 on h2 may be missing: its host or keeper died' "what is missing is told" ||
        note "$(<"$tmp/flood.err")"
    like "$("$muster" events "$job" | grep -c output-lost):$("$muster" status "$job")" '^1:.*rank 1 on h2' "once in an event, and in the status" ||
        note "$("$muster" events "$job")"
}

flood
pkill -9 -f '^[^ ]*muster controller'
ended
is "$rc:$lines0:$lines1:$(grep -c '^done' "$tmp/flood.out")" "0:$many:$many:2" "a controller that dies then costs no line" ||
    note "$(<"$tmp/flood.err")" "$("$muster" events "$job")"
too_late() { [ "$rc:$lines1" = "0:$many" ]; } # all was through before anything died
for _ in 1 2 3 4 5; do
    flood
    cluster_exec h2 pkill -9 -f 'muster keeper'
    ended
    too_late || break
done
told
for _ in 1 2 3 4 5; do
    flood
    cluster_kill_host h2
    ended
    too_late || break
    cluster_start_host h2
done
told
cluster_start_host h2
ok $? "the host is up again"

# h1 and h2 reach the controller, but not one another: MPI does not even come up in the next attempt
"$muster" run -H h1:1,h2:1,h3:1,h4:1 --spares 1 --hang-timeout 2s --ckpt-dir "$tmp/ckpt" \
    "$B/examples/train_lm" --hidden 48 --embed 8 --context 8 --batch 84 --ckpt interval=20steps --steps 400 --step-time-file "$tmp/steps" \
    >"$tmp/cut.out" 2>&1 &
run=$!
job=$((job + 1))
wait_for 30 eval '[ "$(cat "$tmp/steps" 2>/dev/null | wc -l)" -gt 40 ]'
cluster_cut h1 h2
wait_for 90 eval '! kill -0 $run 2>/dev/null'
ok $? "the job ends" || { note "$("$muster" events "$job")"; kill "$run"; }
wait "$run"
is $? 0 "it has been mended" || note "$(<"$tmp/cut.out")"
events=$("$muster" events "$job")
like "$(grep ' hang  *2 ' <<<"$events")" 'muster_init.*do the job.s hosts reach one another' "the attempt that did not come up ends with its reason" ||
    note "$events"
like "$(grep ' node-replaced ' <<<"$events")" 'h4 .*in place of h[12]' "and the spare takes the place of one of the two" || note "$events"
cluster_heal
"$muster" controller --stop --force
wait_for 30 eval '[ -z "$(cluster_orphans)" ]'
ok $? "nothing is left" || note "$(cluster_orphans)"
done_testing
