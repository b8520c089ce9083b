#!/usr/bin/env bash
# The RAM arena: what ranks have saved outlives them, is checked, gets into the directory whoever dies, and is gone with
# the job.
. "$(dirname "$0")/../lib.sh"
prog=$B/tests/fault/arena
n=0
fresh() { dir=$tmp/ckpt$((n += 1)); }
run() { run_cmd timeout 100 "$muster" run -n 2 --oversubscribe --restarts "$@"; }
drains() { pool_processes | awk '$2 ~ /muster$/ && $3 == "drain" { print $1 }'; }
memory() { # of arenas that some process of this pool still has, in descriptors
    local p
    while read -r p _; do
        [ -z "$p" ] || ls -l "/proc/$p/fd" 2>/dev/null
    done < <(pool_processes) | grep -c 'memfd:muster-ckpt'
}

fresh
run 2 "$prog" "$dir" wait wipe die
like "$out" 'attempt 1 restored nothing' "nothing at first"
like "$out" 'attempt 2 restored 8 right' "a rank dies and the directory is lost: restored from memory" || note "$err"
like "$out" 'attempt 2 durable' "and on its way into the directory again"
is "$(ls -d "$dir"/g* 2>/dev/null | wc -l)" 1 "where it is, without a copy by the ranks"

fresh
run 2 "$prog" "$dir" wait flip die
like "$out" 'attempt 2 restored 8 right' "a flipped bit in memory: the same one from the directory" || note "$err"
fresh
run 2 "$prog" "$dir" wait flip wipe die
like "$out" "attempt 2 restored 7 right .*rank 1's copy in memory is damaged" "without a directory: the one before, and why" || note "$err"

fresh
run 0 "$prog" "$dir" wait levels
like "$out" 'under way: .*the peers do not have the checkpoint of step 8 yet' "peers that are still at it are waited for, though it is durable" || note "$err"
like "$out" 'given up: 0' "what they have given up is safe as it is durable"
like "$out" 'there: 0' "and what they have is"

fresh
run 0 "$prog" "$dir" exit
is "$rc" 3 "a job that fails right after a save"
two() { [ "$(ls -d "$dir"/g*/COMMIT 2>/dev/null | wc -l)" = 2 ]; }
wait_for 30 two
ok $? "its last save is made durable all the same"

# the drain is stopped while ranks save and die
no_drain() { [ -z "$(drains)" ]; }
wait_for 30 no_drain
fresh
"$muster" run -n 2 --oversubscribe --restarts 2 "$prog" "$dir" stopped die >"$tmp/o" 2>"$tmp/e" &
job=$!
has_drain() { [ -n "$(drains)" ]; }
wait_for 30 has_drain
ok $? "a process drains"
stopped=$(drains)
kill -STOP "$stopped"
touch "$dir/go"
restored() { grep -q 'attempt 2 restored 7 right' "$tmp/o"; }
wait_for 40 restored
ok $? "nothing of it is in the directory, and it is restored" || note "$(cat "$tmp/o" "$tmp/e")"
kill -KILL "$stopped" 2>/dev/null # if the keeper has not done so
wait $job
is "$?" 0 "the drain is killed: another one takes its place" || note "$(cat "$tmp/e")"
like "$(cat "$tmp/o")" 'attempt 2 durable' "and makes it durable"
is "$(ls -d "$dir"/*.tmp 2>/dev/null | wc -l)" 0 "nothing unfinished is left"

# the same, and nobody but the keeper sees it
wait_for 30 no_drain
fresh
"$muster" run -n 2 --oversubscribe --restarts 0 "$prog" "$dir" wait stopped >"$tmp/o" 2>"$tmp/e" &
job=$!
wait_for 30 has_drain
stopped=$(drains)
kill -STOP "$stopped"
touch "$dir/go"
killed() { ! kill -0 "$stopped" 2>/dev/null; }
wait_for 90 killed
ok $? "a drain that is stopped is killed" || note "$(cat "$tmp/e")"
kill -KILL "$stopped" 2>/dev/null
wait $job
is "$?" 0 "another one takes its place, and the job goes on" || note "$(cat "$tmp/e")"

# the keeper dies, and with it the node's memory
wait_for 30 no_drain
fresh
"$muster" run -n 2 --oversubscribe --restarts 2 "$prog" "$dir" wait stopped >"$tmp/o" 2>"$tmp/e" &
job=$!
wait_for 30 has_drain
ok $? "a process drains again"
gone=$(drains)
keeper=$(pool_processes | awk '$3 == "keeper" { print $1 }')
kill -KILL $keeper
dead() { ! kill -0 "$gone" 2>/dev/null; }
wait_for 30 dead
ok $? "a keeper that is killed takes its drain along"
second() { grep -q 'attempt 2' "$tmp/o"; }
wait_for 40 second
ok $? "the next attempt goes on" || note "$(cat "$tmp/e")"
"$muster" cancel --force 1 2 3 4 5 6 7 8 >/dev/null 2>&1
touch "$dir/go"
wait $job
none() { [ "$(memory)" = 0 ]; }
wait_for 30 none
ok $? "no memory is left when the job has ended"
done_testing
