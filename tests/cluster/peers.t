#!/usr/bin/env bash
# Checkpoints in the memory of hosts that die: what two of them had is made again from the others' parity, without a
# directory; so is what is damaged.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 6 || exit
export MUSTER_IDLE=60
prog=$B/tests/fault/arena
job=0
held() { [ -e "$dir/held" ]; }
ended() { ! kill -0 "$run" 2>/dev/null; }
begin() { # WORDS...: a job on h1 to h4 with two spares, until it has been saved and waits
    dir=$tmp/ckpt$((job += 1))
    "$muster" run --ssh "$CLUSTER_SSH" -H h1:1,h2:1,h3:1,h4:1,h5:1,h6:1 --spares 2 --restarts 3 "$prog" "$dir" "$@" >"$tmp/o" 2>"$tmp/e" &
    run=$!
}

begin protect=rs:2 wait wipe hold
wait_for 60 held
ok $? "four hosts protect a save for two of them, and lose the directory" || note "$(cat "$tmp/o" "$tmp/e")"
cluster_kill_host h2
cluster_kill_host h3
wait_for 90 ended
ok $? "two hosts lose their power" || { note "$("$muster" events $job)"; kill $run; }
wait $run
like "$(cat "$tmp/o")" 'attempt 2 restored 8 right' "their parts are made again on the spares, and all is as it was saved" || note "$(cat "$tmp/o" "$tmp/e")"
like "$(cat "$tmp/o")" 'attempt 2 durable' "and it gets into the directory"
is "$(ls -d "$dir"/g*/COMMIT 2>/dev/null | wc -l)" 1 "where it is"
cluster_start_host h2
cluster_start_host h3

begin protect=rs:1 wait flip wipe die
wait_for 90 ended
wait $run
like "$(cat "$tmp/o")" 'attempt 2 restored 8 right' "a flipped bit in one host's memory is made good" || note "$(cat "$tmp/o" "$tmp/e")"

begin protect=mirror wire=authenticated wait wipe hold
wait_for 60 held
cluster_kill_host h4
wait_for 90 ended
wait $run
like "$(cat "$tmp/o")" 'attempt 2 restored 8 right' "a mirror gives back a host's part, of what is authenticated and not encrypted" || note "$(cat "$tmp/o" "$tmp/e")"
cluster_start_host h4

begin protect=rs:1 wait wipe hold
wait_for 60 held
cluster_kill_host h1
cluster_kill_host h2
wait_for 90 ended
wait $run
like "$(cat "$tmp/o")" 'attempt 2 restored nothing: .*none of 2 saves in the nodes. memory can be used, and no checkpoint is in ' "more than the parity can make good: an error, and why" || note "$(cat "$tmp/o" "$tmp/e")"
"$muster" controller --stop --force
wait_for 30 eval '[ -z "$(cluster_orphans)" ]'
ok $? "nothing is left" || note "$(cluster_orphans)"
done_testing
