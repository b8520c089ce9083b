#!/usr/bin/env bash
# What does not belong into the state directory is named at once: the controller waits for no pipe there.
. "$(dirname "$0")/../lib.sh"

run_cmd timeout 60 "$muster" run -n 1 --oversubscribe echo well
is "$rc $out" "0 well" "a pool" || note "$err"
state=$MUSTER_HOME/$(uname -n)
for file in "$MUSTER_HOME/policy" "$MUSTER_HOME/checks" "$state/nodes" "$state/labels" "$state/marks" "$state/port" \
    "$state/audit/00000000000000009999.log"; do
    wait_for 30 no_leftovers
    mkfifo "$file"
    run_cmd timeout 60 "$muster" run -n 1 --oversubscribe echo well
    if [ "$rc" = 0 ]; then
        is "$out" well "${file##*/}: a pipe in its place is as if there were none"
    else
        like "$rc $err" "^2 .*the controller did not start: .*/${file##*/} is a pipe" "${file##*/}: a pipe in its place is named"
    fi
    rm -f "$file"
done

# whoever is to be ended cannot be reached
"$muster" submit -n 1 --oversubscribe sleep 300 >/dev/null
pid=$(cat "$MUSTER_RUN_ROOT"/*/*/ctl.lock)
sock=$(echo "$MUSTER_RUN_ROOT"/*/*/ctl.sock)
rm "$sock" && mkdir "$sock"
run_cmd timeout 60 "$muster" controller --stop --force
like "$rc $err" "^1 .*process $pid is the controller, and cannot be asked to end: .*; kill it$" "a controller without its socket is named"
rmdir "$sock"
wait_for 30 test -S "$sock"
ok $? "it makes it again once there is room for it"
rm "$sock"
wait_for 30 test -S "$sock"
ok $? "and whenever it is removed"
rm "$sock" && mkdir "$sock"
(sleep 0.5 && rmdir "$sock") &
run_cmd timeout 60 "$muster" nodes
is "$rc:$err" "0:" "a command that comes meanwhile waits for that"
run_cmd timeout 60 "$muster" controller --stop --force
wait_for 30 eval "! kill -0 $pid 2>/dev/null"
is "$? $rc" "0 0" "it is asked there to end, and ends" || note "$err"
for far in x /tmp /dev/null 127.0.0.1:1; do
    run_cmd env MUSTER_POOL="$far" timeout 60 "$muster" controller --stop
    like "$rc $err" "^[12] muster controller: .*$far" "nor is MUSTER_POOL=$far"
done

run_cmd env MUSTER_HOME="/tmp$(printf '/%0250d' {1..17})" "$muster" run true
is "$rc $err" "2 muster run: MUSTER_HOME is too long; choose a shorter one" "a path that is too long is named, with what helps"

# one that ends has let go of its port when the next one starts
port=$(free_port)
for _ in {1..20}; do
    MUSTER_LISTEN=127.0.0.1:$port "$muster" nodes >/dev/null 2>>"$tmp/taken" || break
    sock=$(echo "$MUSTER_RUN_ROOT"/*/*/ctl.sock)
    kill "$(cat "${sock%.sock}.lock")"
    end=$((SECONDS + 60))
    until [ ! -e "$sock" ] || [ $SECONDS -gt $end ]; do :; done # at once
done
is "$(cat "$tmp/taken")" "" "a controller that ends leaves its port to the next one"
done_testing
