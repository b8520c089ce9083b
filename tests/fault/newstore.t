#!/usr/bin/env bash
# The store goes away under a living agent, logs and all: job numbers begin at 1 again, unless a job runs, and the agent has had jobs of
# these numbers, and there is no copy of it. Where the logs stay, or the store has lost what was new in it, numbers go on.
# Longer than a busy machine takes from one command to the next: what is looked at are daemons of the same pool.
export MUSTER_IDLE=60
. "$(dirname "$0")/../lib.sh"

daemon() { cat "$MUSTER_RUN_ROOT"/*/*/"$1".lock 2>/dev/null; }
gone() { ! kill -0 "$1" 2>/dev/null; }
ids() { "$muster" jobs --all --json | python3 -c 'import json, sys
print(*[j["id"] for j in json.load(sys.stdin)["jobs"]])'; }
next_controller() { [ -n "$(daemon ctl)" ] && [ "$(daemon ctl)" != "$1" ]; }
lose_store() { # The agent sees the end of one controller when the next one is there: it neither starts that nor ends.
    local pid
    pid=$(daemon ctl)
    kill -STOP "$agent"
    kill -KILL "$pid"
    wait_for 30 gone "$pid"
    rm -r "$MUSTER_HOME"/*/jobs.db* "$MUSTER_HOME"/*/jobs "$MUSTER_HOME"/*/backup
    { wait_for 30 next_controller "$pid"; kill -CONT "$agent"; } &
}

run_soon() { # While something of the old store still ends on it, the node takes no job.
    local end=$((SECONDS + 60))
    while run_cmd timeout -k 5 60 "$muster" run -n 1 --oversubscribe "$@"; [ "$rc" = 2 ] && [ $SECONDS -lt $end ]; do
        sleep 0.1
    done
}

# Moved away under a living controller.
run_cmd "$muster" run -n 1 true
mv "$MUSTER_HOME" "$tmp/aside"
run_cmd timeout -k 5 60 "$muster" submit -n 1 true
like "$rc $err" "^2 .*jobs.db: it was moved away or removed while a controller has it open; put it back" \
    "its store moved away, a controller takes no job"
rm -rf "$MUSTER_HOME"
mv "$tmp/aside" "$MUSTER_HOME"
again() { run_cmd timeout -k 5 60 "$muster" run -n 1 true && [ "$rc" = 0 ]; }
wait_for 30 again
like "$? $(ids)" "^0 1 [0-9]+$" "put back, it goes on" || note "$err"
run_cmd "$muster" controller --stop
rm -rf "$MUSTER_HOME"

for i in 1 2 3; do run_cmd "$muster" run -n 1 true; done
is "$rc $(ids)" "0 1 2 3" "a pool has run three jobs"
agent=$(daemon agent)
lose_store
run_cmd timeout -k 5 60 "$muster" run -n 1 echo first
is "$rc $out" "0 first" "without its store the next job runs" || note "$err"
is "$(ids)" 1 "and its number is 1"
is "$(daemon agent)" "$agent" "with the same agent"
run_cmd timeout -k 5 60 "$muster" run -n 1 echo second
is "$rc $out $(ids)" "0 second 1 2" "and so does the one after it" || note "$err"

# Job 3 runs when the store goes, with all that tells of it: it is had from its agent, attempt, name and all.
run_cmd "$muster" submit -n 1 --oversubscribe --restarts 3 --name stays sh -c 'echo $$ >>"$1"; while [ ! -e "$1.go" ]; do sleep 0.05; done' - "$tmp/rank"
is "$rc $out" "0 3" "a job that stays"
wait_for 30 test -s "$tmp/rank"
rank=$(cat "$tmp/rank")
lose_store
run_soon echo "again"
is "$rc $out $(ids)" "0 again 3 4" "the next store has it, and goes on behind it" || note "$err"
kill -0 "$rank"
ok $? "it runs on"
is "$("$muster" status 3 --json | python3 -c 'import json, sys
j = json.load(sys.stdin)["jobs"][0]
print(j["name"], j["state"], j["attempt"])')" "stays running 1" "in its attempt"
like "$("$muster" events 3)" "adopted +.*the job store had lost attempt 1, which goes on" "which its events say"
kill -KILL "$rank"
wait_for 30 eval '[ "$(wc -l <"$tmp/rank")" = 2 ]'
ok $? "when it fails it is started again"
is "$("$muster" status 3 | awk '$1 == "attempt" { print $2 }')" 66 "with a number that no lost attempt can have had"
touch "$tmp/rank.go"
wait_for 30 job_is 3 completed
ok $? "and ends"
run_cmd "$muster" controller --stop --force
wait_for 30 no_leftovers
rm -rf "$MUSTER_HOME"

# Everything dies at once, and the store is damaged or lost while nothing runs.
warnings() { cat "$MUSTER_HOME"/*/log/controller.log | grep -c "job store $MUSTER_HOME/.*$1"; }
die() {
    signal_pool KILL
    wait_for 30 eval '[ -z "$(pool_processes)" ]'
}
for i in 1 2 3; do run_cmd "$muster" run -n 1 --output "$tmp/logs" echo "job $i"; done
run_cmd "$muster" run -n 1 echo fourth
die
rm -r "$MUSTER_HOME"/*/jobs.db* "$MUSTER_HOME"/*/backup
run_cmd timeout -k 5 60 "$muster" run -n 1 echo fifth
is "$rc $out $(ids)" "0 fifth 5" "the store is lost: the next number is above those of the logs" || note "$err"
is "$(warnings 'older than the logs: the newest job in it is 0, jobs/ beside it has one of 4; the next job will be 5')" 1 \
    "which the log says"
is "$(cat "$MUSTER_HOME"/*/jobs/4/latest/rank-0.out)" fourth "the old logs are as they were"
run_cmd timeout -k 5 60 "$muster" run -n 1 --output "$tmp/logs" echo sixth
is "$rc $(ids)" "0 5 6" "two more jobs, one with its output elsewhere"
wal=$(echo "$MUSTER_HOME"/*/jobs.db-wal)
die
size=$(stat -c %s "$wal")
[ "$size" -gt 20000 ]
ok $? "all were killed: the -wal file has $size bytes"
rm -r "$MUSTER_HOME"/*/backup
dd if=/dev/urandom of="$wal" bs=64 seek=1 count=$((size / 64 - 1)) conv=notrunc status=none
run_cmd timeout -k 5 60 "$muster" run -n 1 echo seventh
is "$rc $out $(ids)" "0 seventh 7" "it is damaged: no number is used twice" || note "$err"
is "$(warnings 'has lost its newest changes ([0-9]* events): .*; the newest job in it is 0, the next job will be 7')" 1 \
    "which the log says"
die
run_cmd timeout -k 5 60 "$muster" run -n 1 echo eighth
is "$rc $out $(ids) $(warnings '')" "0 eighth 7 8 2" "once: the next start is as any other" || note "$err"
"$muster" controller --stop
done_testing
