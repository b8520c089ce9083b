#!/usr/bin/env bash
# The time of the day is set by a year while jobs with a time limit run: it is not what they are measured by, neither by
# ranks nor by the next controller.
. "$(dirname "$0")/../lib.sh"

cat >"$tmp/clock.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* CLOCK_REALTIME is ahead by as many seconds as the file CLOCK_SET says. */
int clock_gettime(clockid_t id, struct timespec *t)
{
    int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, t), fd = rc || id != CLOCK_REALTIME ? -1 : open(getenv("CLOCK_SET"), O_RDONLY | O_CLOEXEC);
    char text[32] = "";

    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) > 0)
            t->tv_sec += atoll(text);
        close(fd);
    }
    return rc;
}
C
${CC:-cc} -shared -fPIC -o "$tmp/clock.so" "$tmp/clock.c" -ldl
ok $? "a clock that can be set"
echo 0 >"$tmp/set"
shifted() { env CLOCK_SET="$tmp/set" ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" LD_PRELOAD="$tmp/clock.so" "$@"; }
events() { shifted "$muster" events "$1" 2>&1; }
year=31536000
lm=$B/examples/train_lm

shifted timeout 120 "$muster" run -n 2 --oversubscribe --timeout 1h "$lm" --steps 40 --batch 32 >"$tmp/o" 2>&1 &
job=$!
wait_for 60 eval 'events 1 | grep -q first-step'
echo $year >"$tmp/set"
wait $job
is "$? $(grep -c '^final loss' "$tmp/o")" "0 1" "ranks do not take the end of a job with an hour left for near" || note "$(cat "$tmp/o")"

shifted timeout 120 "$muster" run -n 2 --oversubscribe --timeout 15s "$lm" --steps 1000000 --batch 32 >"$tmp/o" 2>&1
like "$? $(cat "$tmp/o")" "^0 .*with a checkpoint: the time limit is near" "when it is near they do"

shifted timeout 120 "$muster" run -n 1 --oversubscribe --timeout 50s sh -c 'until [ -e "$0" ]; do sleep 0.1; done' "$tmp/go" >"$tmp/o" 2>&1 &
job=$!
wait_for 60 eval 'events 3 | grep -q attempt-start'
echo $((2 * year)) >"$tmp/set"
kill -9 "$(cat "$MUSTER_RUN_ROOT"/*/*/ctl.lock)"
events 3 >/dev/null
sleep 0.5
: >"$tmp/go"
wait $job
is "$? $(cat "$tmp/o")" "0 " "nor does the controller that comes after the clock was set"
run_cmd shifted "$muster" jobs --history --json
is "$(printf '%s' "$out" | python3 -c 'import json, sys
print([j["id"] for j in json.load(sys.stdin)["jobs"] if not 0 < j["ran_s"] < 100])')" "[]" "and what they have used is what they have" || note "$out"
done_testing
