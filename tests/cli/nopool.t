#!/usr/bin/env bash
# Where there is no pool, who only looks makes none: no directory, no daemon.
. "$(dirname "$0")/../lib.sh"

looks() { # RC TEXT WORDS...: exit code and all that is printed
    run_cmd timeout -k 5 60 "$muster" "${@:3}"
    is "$rc $out$err" "$1 $2" "${*:3}"
    is "$(find "$tmp" -mindepth 1 -maxdepth 1 ! -name '.*' -printf %f)" "${there-}" "makes nothing" || rm -rf "$MUSTER_HOME" "$MUSTER_RUN_ROOT"
}
all() {
    looks 0 'no jobs are queued or running; --all shows those that have ended' jobs
    looks 0 '{"schema":"muster.jobs/1","jobs":[]}' jobs --all --json
    for words in "status 3" "status 3 --json" "logs 3" "logs 3 -f" "events 3" "events 3 -f" "cancel 3"; do
        # shellcheck disable=SC2086
        looks 1 "muster ${words%% *}: there is no job 3; \`muster jobs --all\` lists them" $words
    done
    looks 2 "muster nodes remove: host h is not in the pool; \`muster nodes\` lists it" nodes remove h
    looks 2 "muster nodes resume: host h is not in the pool; \`muster nodes\` lists it" nodes resume h
    looks 0 "" controller --stop
}
all
mkdir "$MUSTER_HOME"
there=home all
is "$(ls -A "$MUSTER_HOME")" "" "an empty MUSTER_HOME stays so"
rmdir "$MUSTER_HOME"
run_cmd "$muster" doctor
like "$out" "state +ok +$MUSTER_HOME/.*: writable" "the doctor tries the state directory"
[ ! -e "$MUSTER_HOME" ]
ok $? "and takes it away again"

# moved away under a controller, which still answers, and then without one
run_cmd "$muster" run -n 1 true
mv "$MUSTER_HOME" "$tmp/aside"
run_cmd "$muster" jobs --all
like "$rc $out" "^0 ID .* 1 +true " "the state moved away: the controller that runs answers"
run_cmd "$muster" controller --stop
is "$rc $err" "0 " "and can be ended"
[ ! -e "$MUSTER_HOME" ]
ok $? "its state directory is not made anew"
run_cmd "$muster" jobs --all
is "$rc $out$(ls -A "$MUSTER_HOME" 2>/dev/null)" "0 no jobs" "without it there are no jobs, nor then a directory"
mv "$tmp/aside" "$MUSTER_HOME"
run_cmd "$muster" jobs --all
like "$rc $out" "^0 ID .* 1 +true " "put back, they are known again"
done_testing
