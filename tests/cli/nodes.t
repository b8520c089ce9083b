#!/usr/bin/env bash
# slow
# muster nodes: the list, nodes that are drained and resumed, health checks.
# Longer than a busy machine takes from one command to the next: what is looked at are daemons of the same pool.
export MUSTER_IDLE=60
. "$(dirname "$0")/../lib.sh"
json() { # EXPRESSION NAME: about n, the first node of the last output
    python3 -c "import json,sys; j = json.load(open(sys.argv[1])); n = j['nodes'][0]; sys.exit(not ($1))" "$tmp/.out"
    ok $? "$2" || note "$out"
}
here=$(uname -n)

run_cmd "$muster" nodes list
like "$rc $out" "^0 NAME +STATE.*$here +up" "nodes list"
run_cmd "$muster" nodes list --json
json 'j["schema"] == "muster.nodes/1" and n["out"] is None' "nodes list --json"
run_cmd "$muster" nodes drain nosuch
like "$rc $err" '^2 muster nodes drain: host nosuch is not in the pool' "a host that is not there"

"$muster" run -n 1 sh -c "until [ -e $tmp/go ]; do sleep 0.05; done" >"$tmp/run.out" 2>&1 &
run=$!
wait_for 30 job_is 1 running
run_cmd "$muster" nodes drain -r 'fan 2' localhost
is "$rc:$out$err" "0:" "drain"
run_cmd "$muster" nodes
like "$out" "$here +draining .* $(id -un): fan 2" "who and why, while a job runs"
run_cmd "$muster" events 1
like "$out" "drained.*fan 2" "the job's events say it"
touch "$tmp/go"
wait "$run"
is $? 0 "what runs there runs on"
run_cmd "$muster" nodes --json
json 'n["state"] == "drained" and n["out"]["kind"] == "drain" and n["out"]["reason"] == "fan 2" and n["out"]["by"] and n["out"]["t"] > 1e9' "drained, with who, why and since when"
run_cmd "$muster" submit -n 1 true
job=$out
sleep 0.5
job_is "$job" queued
ok $? "no job gets it" || note "$("$muster" jobs --all)"
like "$("$muster" jobs --why "$job")" "have no room for it; 1 is drained or in quarantine" "and is told why"
"$muster" nodes label fast localhost
lame=$("$muster" submit -n 1 --label fast true)
"$muster" nodes label --none localhost
wait_for 30 sh -c "$muster jobs --why $lame | grep -q 'no node has that label'"
ok $? "also when its label is taken away" || note "$("$muster" jobs --why "$lame")"
"$muster" cancel "$lame" >"$tmp/.lame"
kill -9 "$(pgrep -f "^[^ ]*muster controller" | while read -r p; do grep -qz "^MUSTER_HOME=$MUSTER_HOME\$" "/proc/$p/environ" && echo "$p"; done)"
run_cmd "$muster" nodes
like "$out" "$here +drained .*: fan 2" "the next controller knows"
job_is "$job" queued
ok $? "the job still waits"
run_cmd "$muster" nodes resume localhost
is "$rc:$err" "0:" "resume"
wait_for 30 job_is "$job" completed
ok $? "and the job runs" || note "$("$muster" jobs --all)"
run_cmd "$muster" nodes --json
json 'n["state"] == "up" and n["out"] is None and n["reason"] == ""' "up again"
[ ! -e "$MUSTER_HOME/$here/marks" ]
ok $? "nothing of it is kept"

# Health checks; a pool of one node never loses it to them
run_cmd "$muster" nodes check
is "$rc" 0 "nodes check" || note "$out$err"
like "$out" "NODE +CHECK +RESULT +REASON.*$here +- +ok +[0-9]+ checks" "all is well"
run_cmd "$muster" nodes check --all "$here"
like "$out" "$here +memory +ok .*$here +disk +ok .*$here +stray +ok" "each of them"
run_cmd "$muster" nodes check nosuch
like "$rc $err" '^2 .*host nosuch is not in the pool' "a host that is not there"
mkdir -m 755 "$MUSTER_HOME/checks.d"
printf '#!/bin/sh\necho "$PWD fan 2 stands"; exit 1\n' >"$MUSTER_HOME/checks.d/fans"
printf '#!/bin/sh\necho warm; exit 3\n' >"$MUSTER_HOME/checks.d/heat"
printf '#!/bin/sh\ntouch %s\n' "$tmp/was-run" >"$MUSTER_HOME/checks.d/open"
chmod 755 "$MUSTER_HOME/checks.d/"*
chmod g+w "$MUSTER_HOME/checks.d/open"
run_cmd "$muster" nodes check
is "$rc" 1 "a script that fails"
like "$out" "$here +fans +failed +exit code 1: / fan 2 stands" "is shown"
like "$out" "$here +heat +warning +exit code 3: warm" "so is one that warns"
like "$out" "$here +open +warning +.*checks.d/open is not run: others can write to it" "and one that others can change"
[ ! -e "$tmp/was-run" ]
ok $? "which is not run"
run_cmd "$muster" nodes
like "$out" "$here +up .*health check fans: exit code 1: / fan 2 stands; it stays" "the node is not taken out, but it is said"
run_cmd "$muster" run -n 1 true
is "$rc" 0 "and jobs run"
run_cmd "$muster" nodes check --json
python3 - "$tmp/.out" <<'P'
import json, sys
j = json.load(open(sys.argv[1]))
n, = j["nodes"]
by = {c["name"]: c for c in n["checks"]}
assert j["schema"] == "muster.checks/1" and n["answered"] and n["state"] == "up" and n["out"] is None and n["t"] > 1e9, n
assert by["fans"]["level"] == "failed" and by["heat"]["level"] == "warning" and by["memory"]["level"] == "ok", by
assert by["fans"]["seconds"] < 20
P
ok $? "nodes check --json" || note "$out"

# GPUs, by a library that stands in for NVIDIA's
mkdir "$tmp/lib"
cat >"$tmp/nvml.c" <<'C'
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int is(const char *what) { char path[4096]; snprintf(path, sizeof path, "%s/%s", TMP, what); return !access(path, F_OK); }
int nvmlInit_v2(void) { return is("none") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = is("fewer") ? 3 : 4; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(uintptr_t)(i + 1); return i == 2 && is("lost") ? 15 : 0; }
const char *nvmlErrorString(int rc) { return rc == 15 ? "GPU is lost" : "Driver Not Loaded"; }
int nvmlDeviceGetTotalEccErrors(void *d, int t, int c, unsigned long long *n) { *n = t == 1 && c == 0 && d == (void *)1 && is("ecc") ? 2 : 0; return 0; }
C
${CC:-gcc} -w -shared -fPIC -DTMP="\"$tmp\"" -o "$tmp/lib/libnvidia-ml.so.1" "$tmp/nvml.c"
"$muster" controller --stop
export LD_LIBRARY_PATH=$tmp/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
gpu() { # STATE ROW NAME
    [ "$1" = good ] || touch "$tmp/$1"
    run_cmd timeout 60 "$muster" nodes check -a
    rm -f "$tmp/$1"
    like "$out" "$here +gpu +$2" "$3"
}
gpu good 'ok +4 GPUs answer' "GPUs that answer"
gpu lost 'failed +GPU 2: GPU is lost' "one that is lost"
gpu ecc 'failed +GPU 0: 2 memory errors could not be corrected' "one with errors in its memory"
gpu fewer 'failed +3 of 4 GPUs are left' "one that is not seen any more"
gpu none '(skipped|failed) +.*Driver Not Loaded' "none for lack of a driver"

# What hangs is ended at its limit
printf '#!/bin/sh\nsleep 4711.%d\n' $$ >"$MUSTER_HOME/checks.d/fans"
printf 'time-limit = 1s # each\ncheck heat = off\n' >"$MUSTER_HOME/checks"
pid=$(pgrep -f "^[^ ]*muster controller" | while read -r p; do grep -qz "^MUSTER_HOME=$MUSTER_HOME\$" "/proc/$p/environ" && echo "$p"; done)
kill -HUP "$pid"
wait_for 30 grep -q "is read again" "$MUSTER_HOME/$here/log/controller.log"
run_cmd timeout 60 "$muster" nodes check
like "$out" "$here +fans +failed +it has not ended within 1.0* s" "a script that hangs"
unlike "$out" heat "one that is switched off"
printf 'every = often\n' >"$MUSTER_HOME/checks"
kill -HUP "$pid"
logged() { grep -q "checks:1:9: 'often' is not a time" "$MUSTER_HOME/$here/log/controller.log"; }
wait_for 30 logged
ok $? "a mistake in the settings is logged" || note "$(tail -n 3 "$MUSTER_HOME/$here/log/controller.log")"
run_cmd "$muster" controller --stop
wait_for 30 eval '! pgrep -f "[s]leep 4711.$$" >/dev/null'
ok $? "nothing is left"
run_cmd "$muster" nodes
like "$rc $err" "2 .*checks:1:9: 'often' is not a time such as" "a controller does not start with it"
done_testing
