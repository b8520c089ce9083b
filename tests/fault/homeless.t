#!/usr/bin/env bash
# The state directory is removed while a job runs: the job ends as ever, then so do the daemons, which cannot store
# anything any more, whatever MUSTER_IDLE says. The next job finds a new pool.
MUSTER_IDLE=0
. "$(dirname "$0")/../lib.sh"

job() { "$muster" run -n 1 --oversubscribe sh -c ': >"$0.runs"; while [ ! -e "$0" ]; do sleep 0.1; done; echo done' "$tmp/go"; }
job >"$tmp/job" 2>"$tmp/job.err" &
job=$!
wait_for 30 test -e "$tmp/go.runs"
ok $? "a job runs"
keeper=$(pool_processes | awk '$3 == "keeper" { print $1 }')
log=$(readlink -f "/proc/$(cat "$MUSTER_RUN_ROOT"/*/*/ctl.lock)/fd/2")
exec 9<"$log"
rm -rf "$MUSTER_HOME"
run_cmd timeout 60 "$muster" run -n 1 --oversubscribe true
like "$rc $err" "^2 .*jobs.db: it was removed while a controller has it open, .* ends when none runs; try again then" \
    "its state directory removed, the pool takes no more jobs"
[ ! -e "$MUSTER_HOME" ]
ok $? "and the command makes no other one: this one may only have been moved, and is put back"
kill -0 "$keeper"
ok $? "but the one that runs goes on"
touch "$tmp/go"
wait "$job"
is "$? $(cat "$tmp/job")" "0 done" "to its end" || note "$(cat "$tmp/job.err")"
wait_for 30 no_leftovers
ok $? "then everything ends" || note "$(leftovers)"
like "$(cat <&9)" "removed while a controller has it open.*no job runs: ending" "for a reason that is logged"
is "$(find "$MUSTER_HOME" -name jobs.db 2>/dev/null)" "" "nothing is stored behind its back"

export MUSTER_IDLE=2
run_cmd timeout 60 "$muster" run -n 1 echo well
is "$rc $out" "0 well" "the next job begins a new pool" || note "$err"
is "$("$muster" jobs --all --json | python3 -c 'import json, sys
print(*[j["id"] for j in json.load(sys.stdin)["jobs"]])')" 1 "with the number 1"

rm -rf "$MUSTER_HOME"
wait_for 30 no_leftovers
ok $? "an idle pool ends without it, too" || note "$(leftovers)"
done_testing
