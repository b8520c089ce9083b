#!/usr/bin/env bash
# What does not belong into the state directory is named at once: the controller waits for no pipe there.
. "$(dirname "$0")/../lib.sh"

run_cmd timeout 60 "$muster" run -n 1 --oversubscribe echo well
is "$rc $out" "0 well" "a pool" || note "$err"
state=$MUSTER_HOME/$(uname -n)
for file in "$MUSTER_HOME/policy" "$MUSTER_HOME/checks" "$state/nodes" "$state/labels" "$state/marks" "$state/port"; do
    wait_for 20 no_leftovers
    mkfifo "$file"
    run_cmd timeout 9 "$muster" run -n 1 --oversubscribe echo well
    if [ "$rc" = 0 ]; then
        is "$out" well "${file##*/}: a pipe in its place is as if there were none"
    else
        like "$rc $err" "^2 .*the controller did not start: .*/${file##*/} is a pipe" "${file##*/}: a pipe in its place is named"
    fi
    rm -f "$file"
done

run_cmd env MUSTER_HOME="/tmp$(printf '/%0250d' {1..17})" "$muster" run true
is "$rc $err" "2 muster run: MUSTER_HOME is too long; choose a shorter one" "a path that is too long is named, with what helps"
done_testing
