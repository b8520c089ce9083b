#!/usr/bin/env bash
# The audit log: what is in it, what --verify sees, and what is promised when the controller is killed or there is no room.
. "$(dirname "$0")/../lib.sh"
state=$MUSTER_HOME/$(uname -n)
trail=$state/audit
log=$state/log/controller.log
controller() { pool_processes | awk '$3 == "controller" { print $1 }'; }
py() { python3 -c "import json,sys; d=json.load(sys.stdin); e=d['entries']; $1"; }
has() { "$muster" audit --json | py "sys.exit(not any($1 for x in e))"; }
gone() { ! kill -0 "$1" 2>/dev/null; }
remembered() { "$muster" audit --verify --json | py "v=d['verified']; sys.exit(v['remembered'] != v['last'])"; }

run_cmd "$muster" audit
is "$rc $out$err" "0 " "no pool, no log"
run_cmd "$muster" audit --verify
like "$rc $out" "^0 the audit log is empty" "which is no fault"
job=$("$muster" submit -n 1 --name quiet --hold true)
"$muster" release "$job" >/dev/null
"$muster" cancel 4711 >/dev/null 2>&1
"$muster" nodes drain --reason "fan 2" "$(uname -n)"
"$muster" nodes resume "$(uname -n)"
run_cmd "$muster" audit
like "$out" "LINE +TIME +WHO +ROLE +WHAT +JOB +RESULT +DETAIL" "a table"
like "$out" "$(id -un) +owner +submit +$job +done +1 ranks of true, named quiet" "a submission with its outcome"
like "$out" "owner +release +$job +done" "what is done to a job"
like "$out" "owner +cancel +4711 +refused .*there is no job 4711" "what was refused, and why"
like "$out" "nodes drain .*done +$(uname -n).*fan 2" "what is done to nodes"
has "x['what'] == 'submit' and x['who'] == '$(id -un)' and x['result'] == 'done' and x['job'] == $job and x['pid'] > 0 and x['from'] == 'socket'"
ok $? "the same in JSON: who, when, what, from where, result"
run_cmd "$muster" audit --since 1h --json
like "$out" '"what":"submit"' "--since"
run_cmd "$muster" audit --since '2000-01-01 10:00' --json
like "$out" '"what":"submit"' "with a date"
sleep 1.1
run_cmd "$muster" audit --since 1s --json
unlike "$out" '"what":"submit"' "leaves out what is older"
run_cmd "$muster" audit --since yesterday
like "$rc $err" "^2 muster audit: --since yesterday: not a time" "what it does not know"
run_cmd "$muster" audit --hash 12
like "$rc $err" "^2 muster audit: --hash goes with --verify" "a hash that is none"
wait_for 30 remembered
ok $? "the job store remembers its end within seconds"
run_cmd "$muster" audit --verify
like "$rc $out" "^0 whole: lines 1 to [0-9]+, the last one's hash is [0-9a-f]{64}" "--verify"
hash=$(grep -oE '[0-9a-f]{64}' <<<"$out")
run_cmd "$muster" audit --verify --hash "$hash"
is "$rc" 0 "with a hash that was noted"
run_cmd "$muster" audit --verify --hash "${hash//[0-9]/f}"
like "$rc $out" "^1 WRONG: no line has the hash" "one that was never there"

# what has a job has a line, whenever the controller is killed
for i in 1 2 3 4 5 6 7 8; do
    "$muster" submit -n 1 --hold --name "k$i" true >/dev/null 2>&1 &
    one=$!
    pid=$(controller)
    sleep "0.0$((RANDOM % 4))"
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
    wait $one
done
"$muster" jobs --json >"$tmp/jobs"
"$muster" audit --json >"$tmp/audit"
python3 - "$tmp/jobs" "$tmp/audit" <<'END'
import json, sys
jobs = [j["name"] for j in json.load(open(sys.argv[1]))["jobs"]]
lines = [e.get("detail", "") for e in json.load(open(sys.argv[2]))["entries"] if e["what"] == "submit"]
bad = [j for j in jobs if not any(l.endswith("named " + j) for l in lines)]
print("#", len(jobs), "jobs", len(lines), "lines", bad)
sys.exit(bool(bad) or not jobs)
END
ok $? "no job without a line after eight kill -9 of the controller"
run_cmd "$muster" audit --verify
like "$rc $out" "^0 whole" "and the log is whole" || note "$out"

# somebody's hands in it, with the controller away
stop_pool
file=$(ls "$trail"/*.log | tail -n 1)
cp "$file" "$tmp/good"
try() { # NAME WANTED: of the file as it is now
    run_cmd "$muster" audit --verify
    like "$rc $out" "^1 WRONG: .*$2" "$1"
    stop_pool
    rm -f "$trail"/*
    cp "$tmp/good" "$file"
}
run_cmd "$muster" audit --verify
like "$rc $out" "^0 whole" "whole with the controller started anew"
stop_pool
cp "$file" "$tmp/good"
sed -i '3s/"who":"[^"]*"/"who":"eve"/' "$file"
try "a changed name" "line 2 was changed"
sed -i 5d "$file"
try "a missing line" "line 4 is missing"
sed -i '5{h;d};6{G}' "$file"
try "two lines that have changed places" "missing before it.*comes after"
sed -i '$d' "$file"
sed -i '$d' "$file"
try "the end cut off" "missing"
rm "$trail"/*
run_cmd "$muster" audit --verify
like "$out" "lines 1 to [0-9]+ are not here" "all of it removed: the next one says where it begins"
like "${out##*$'\n'}" "hash is [0-9a-f]{64}$" "and the hash is in the last line, as it is noted elsewhere"
stop_pool
rm -rf "$trail"

# a log that cannot be written costs no job
touch "$trail"
run_cmd "$muster" run -n 1 echo still-runs
is "$rc $out" "0 still-runs" "jobs go on without it"
grep -q 'audit error: .*: changes go on without lines in it' "$log"
ok $? "the log says so"
run_cmd "$muster" audit
like "$rc $err" "^1 muster audit: this controller has no audit log; its log says why" "and so does the command"
stop_pool
rm "$trail"

if [ "$(id -u)" != 0 ]; then
    skip "needs root to mount a small disk"
elif mkdir -p "$trail" && ! mount -t tmpfs -o size=64k,mode=0700 tmpfs "$trail" 2>/dev/null; then
    skip "a tmpfs cannot be mounted here"
else
    trap 's=$?; umount -l "$trail" 2>/dev/null; (exit $s); tap_exit' EXIT
    "$muster" submit -n 1 --hold true >/dev/null
    head -c 1m /dev/zero >"$trail/full" 2>/dev/null
    for ((i = 0; i < 40; i++)); do "$muster" cancel 4711 >/dev/null 2>&1; done
    run_cmd "$muster" run -n 1 echo still-runs
    is "$rc $out" "0 still-runs" "jobs go on while its disk is full"
    grep -q 'audit error: audit log .*No space left on device: changes go on without lines in it' "$log"
    ok $? "the controller's log says so"
    run_cmd "$muster" audit --verify
    like "$rc $out" "[0-9]+ changes have no line: the log cannot be written" "and so does --verify"
    rm "$trail/full"
    "$muster" submit -n 1 --hold true >/dev/null
    has "x['what'] == 'lost' and x['lines'] > 10"
    ok $? "with room again a line says how many are missing"
    run_cmd "$muster" audit --verify
    like "$rc $out" "^0 .*whole: " "and the chain is whole" || note "$out"
    stop_pool
    umount -l "$trail"
fi
done_testing
