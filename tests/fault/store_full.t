#!/usr/bin/env bash
# The disk of the job store is full while a job ends, and the controller is killed before there is room again.
. "$(dirname "$0")/../lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root to mount a small disk"
mkdir -p "$MUSTER_HOME"
mount -t tmpfs -o size=4m,mode=0700 tmpfs "$MUSTER_HOME" 2>/dev/null || skip_all "a tmpfs cannot be mounted here"
unmount() { umount -l "$MUSTER_HOME" 2>/dev/null; }
trap 'unmount; tap_exit' EXIT

controller() { pool_processes | awk '$3 == "controller" { print $1 }'; }
keeper() { pool_processes | awk '$3 == "keeper" { print $1 }'; }
log() { cat "$MUSTER_HOME"/*/log/controller.log; }

run_cmd "$muster" submit -n 1 bash -c "while [ ! -e $tmp/go ]; do sleep 0.05; done; exit 7"
job=$out
is "$rc" 0 "a job is submitted" || note "$err"
wait_for 30 job_is "$job" running
ok $? "it runs"
head -c 8m /dev/zero >"$MUSTER_HOME/full" 2>/dev/null
touch "$tmp/go"
wait_for 30 eval 'log | grep -q "going on without it"'
ok $? "its end cannot be stored; the controller says so" || note "$(log)"
run_cmd "$muster" submit -n 1 touch "$tmp/ran"
like "$rc:$err" '^2:.*cannot be stored.*(full|space)' "nothing new is accepted, with the reason"
[ -n "$(keeper)" ]
ok $? "the keeper, which knows the end, stays"
refused() { "$muster" jobs --all --json | grep -o '"name": *"touch"'; }
is "$(refused)" "" "what was refused is no job"
kill -9 "$(controller)"
rm "$MUSTER_HOME/full"
wait_for 30 job_is "$job" failed
ok $? "after kill -9 of the controller, with room, the end is known" || note "$("$muster" status "$job")" "$(log)"
run_cmd "$muster" status "$job" --json
like "$out" '"attempt": ?1,' "it was not run again"
like "$out" '"exit_code": ?7' "with its exit code"
wait_for 30 eval '[ -z "$(keeper)" ]'
ok $? "and the keeper is let go"
is "$(refused)$(ls "$tmp/ran" 2>/dev/null)" "" "what was refused is none now either, and never ran"
done_testing
