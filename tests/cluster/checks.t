#!/usr/bin/env bash
# Health checks over several hosts: a host that fails one gets no more jobs, on whichever way it reaches the controller.
. "$(dirname "$0")/cluster.sh"

cluster_up 3
ok $? "three hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_QUARANTINE=3 MUSTER_FANOUT=1
nodes_of() { "$muster" jobs --all --json | python3 -c "import json, sys; print(*[j['nodes'] for j in json.load(sys.stdin)['jobs'] if j['id'] == $1][0])"; }

# each host has its own /tmp: what is wrong is said there
mkdir -p "$MUSTER_HOME"
mkdir -m 755 "$MUSTER_HOME/checks.d"
printf '#!/bin/sh\n[ ! -e /tmp/sick ] || { echo "fan 2 of $(uname -n) stands"; exit 1; }\n' >"$MUSTER_HOME/checks.d/fans"
printf '#!/bin/sh\n[ ! -e /tmp/stuck ] || { sleep 4712 & sleep 4712; }\n' >"$MUSTER_HOME/checks.d/stuck"
chmod 755 "$MUSTER_HOME/checks.d/"*
printf 'check fans = drain\ncheck stuck = quarantine\ntime-limit = 4s\nbefore-job-after-idle = 1s\n' >"$MUSTER_HOME/checks"

run_cmd "$muster" nodes add h1:2 h2:2 h3:2
is "$rc" 0 "hosts are added to the pool" || note "$err"
run_cmd "$muster" nodes check
is "$rc" 0 "all are well" || note "$out$err"
for h in h1 h2 h3; do like "$out" "$h +- +ok +[0-9]+ checks" "$h"; done
run_cmd "$muster" nodes check -a h2
like "$out" "h2 +clock +ok +it agrees" "clocks are compared"
unlike "$out" "h1" "of the hosts that are named alone"

cluster_exec h2 touch /tmp/sick
run_cmd "$muster" nodes check h1 h2
like "$rc $out" "^1 .*h2 +fans +failed +exit code 1: fan 2 of h2 stands; the node is drained" "one fails"
run_cmd "$muster" nodes
like "$out" "h2 +drained .*health check fans: exit code 1: fan 2 of h2 stands" "and is drained, by name and with the reason"
sleep 1.2
run_cmd "$muster" run -N 3 -n 6 sh -c 'echo $MUSTER_NODE'
is "$rc:$(sort -u <<<"$out" | tr '\n' ' ')" "0:h1 h3 $(uname -n) " "a job goes elsewhere" || note "$err" "$("$muster" nodes)"
cluster_exec h2 rm /tmp/sick
run_cmd "$muster" nodes check h2
is "$rc" 0 "it is well again" || note "$out"
node_is h2 drained
ok $? "but stays until somebody resumes it"
run_cmd "$muster" nodes resume h2
node_is h2 up
ok $? "which is then" || note "$("$muster" nodes)"

# Before its next job, and a script that hangs: quarantine, which ends when the node passes
cluster_exec h1 touch /tmp/stuck
sleep 1.2
run_cmd "$muster" run -N 2 -n 4 sh -c 'echo $MUSTER_NODE'
unlike "$rc:$out" "^0:.*h1" "a node that was idle is checked before it gets a job" || note "$("$muster" nodes)"
is "$rc" 0 "which starts on others" || note "$err"
wait_for 30 eval '! pgrep -f "[s]leep 4712"'
ok $? "what the script has started is ended"
run_cmd "$muster" nodes
like "$out" "h1 +quarantined .*health check stuck: it has not ended within 4.0* s" "it is in quarantine"
cluster_exec h1 rm /tmp/stuck
wait_for 30 node_is h1 up
ok $? "until it passes" || note "$("$muster" nodes)"

# A host that dies while it is being checked: its limit is far away
sed -i 's/time-limit = .*/time-limit = 100s/' "$MUSTER_HOME/checks"
kill -HUP "$(cat "$MUSTER_RUN_ROOT"/head/*/ctl.lock)"
wait_for 30 grep -q 'is read again' "$MUSTER_HOME/head/log/controller.log"
cluster_exec h3 touch /tmp/stuck
"$muster" nodes check h3 >"$tmp/check.out" 2>&1 &
check=$!
is_checked() { cluster_exec h3 pgrep -f '[s]leep 4712' >/dev/null; }
wait_for 30 is_checked
cluster_crash_host h3
wait $check
like "$? $(cat "$tmp/check.out")" '^1 .*h3 +- +failed +it has not answered' "a host that dies over its check" || note "$(cat "$tmp/check.out")"
run_cmd "$muster" nodes remove h1 h2 h3 --force
is "$rc" 0 "hosts leave the pool" || note "$err"
wait_for 30 eval '! pgrep -f "[m]uster agent --join"'
ok $? "and their agents end" || note "$(pgrep -af "[m]uster agent")"
run_cmd "$muster" controller --stop --force
done_testing
