#!/usr/bin/env bash
# slow
# Signals to muster run, and a controller that is killed under it.
. "$(dirname "$0")/../lib.sh"

# A background job of a script ignores SIGINT; python gives it back its default.
start() {
    : >"$tmp/o"
    : >"$tmp/e"
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.argv[1], sys.argv[1:])' "$muster" run "$@" >"$tmp/o" 2>"$tmp/e" </dev/null &
    pid=$!
}
ranks_up() { [ "$(grep -c up "$tmp/o")" -ge "${1:-1}" ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }

for row in INT:130 TERM:143 HUP:129; do
    start -n 2 sh -c 'echo up; exec sleep 60'
    wait_for 30 ranks_up 2
    kill -s "${row%:*}" $pid
    wait $pid
    is $? "${row#*:}" "SIG${row%:*} ends the job and gives ${row#*:}"
    is "$(grep -c 'was cancelled' "$tmp/e")" 1 "which is said"
done

start -n 1 --grace 600s sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
wait_for 30 ranks_up
kill -TERM $pid
asked() { [[ $("$muster" jobs --json) == *'"reason":"cancelled by'* ]]; }
wait_for 30 asked # two signals at once are one
sleep 0.5
kill -0 $pid
ok $? "a rank that does not listen has its grace"
kill -TERM $pid
wait_for 60 gone $pid || kill -KILL $pid
wait $pid
is $? 143 "the second signal kills it"

start -n 1 --grace 60s sh -c 'trap "echo asked; sleep 0.3; exit 0" TERM; echo up; while :; do sleep 0.05; done'
wait_for 30 ranks_up
kill -TERM $pid
wait $pid
is $? 143 "a rank that ends by itself when asked"
is "$(tail -n 1 "$tmp/o")" asked "has its output shown"

start -n 1 sh -c 'trap "echo usr1" USR1; trap "echo usr2; exit 5" USR2; echo up; while :; do sleep 0.05; done'
wait_for 30 ranks_up
kill -USR1 $pid
wait_for 30 grep -q usr1 "$tmp/o"
ok $? "SIGUSR1 is handed on"
kill -USR2 $pid
wait $pid
is $? 5 "and so is SIGUSR2"

start -n 1 sh -c 'echo $$ >"$1"; echo up; exec sleep 60' - "$tmp/rank"
wait_for 30 ranks_up
stopped() { [ "$(sed 's/.*) //' "/proc/$1/stat" | cut -c1)" = T ]; }
kill -TSTP $pid
wait_for 30 stopped "$(cat "$tmp/rank")" && wait_for 30 stopped $pid
ok $? "SIGTSTP stops the rank and then us"
kill -CONT $pid
running() { ! stopped "$1"; }
wait_for 30 running "$(cat "$tmp/rank")" && wait_for 30 running $pid
ok $? "SIGCONT lets both go on"
kill -TERM $pid
wait $pid

controller() { cat "$MUSTER_RUN_ROOT"/*/*/ctl.lock 2>/dev/null; }
another() { [ -S "$(echo "$MUSTER_RUN_ROOT"/*/*/ctl.sock)" ] && [[ $(controller) != @(|"$killed") ]]; }
start -n 2 sh -c 'echo up; i=0; until [ -e "$0" ]; do echo "$RANK $i"; i=$((i+1)); sleep 0.05; done; echo "$RANK $i"' "$tmp/end"
wait_for 30 ranks_up 2
for _ in 1 2; do
    sleep 0.2
    killed=$(controller)
    kill -9 "$killed"
    wait_for 30 another
    ok $? "a controller is killed, another one comes"
done
sleep 0.2
touch "$tmp/end"
wait $pid
is $? 0 "the job outlives both"
is "$(grep -v up "$tmp/o" | sort -n -k 1,1 -k 2,2 | awk '$2 != n[$1]++ { bad = 1 } END { print bad + 0, (n[0] > 9), (n[1] > 9) }')" "0 1 1" \
    "and every line of it is shown once"
unlike "$(cat "$tmp/e")" 'attempt' "without a restart"

seq 200000 >"$tmp/in"
: >"$tmp/o"
"$muster" run -n 1 sh -c 'head -c 10; echo; echo up; sleep 1; cksum' <"$tmp/in" >"$tmp/o" 2>"$tmp/e" &
pid=$!
wait_for 30 ranks_up
kill -9 "$(controller)"
wait $pid
is "$(tail -n 1 "$tmp/o")" "$(tail -c +11 "$tmp/in" | cksum)" "input is neither lost nor doubled by that"

start -n 1 sh -c 'echo $$ >"$1"; echo up; exec sleep 60' - "$tmp/rank"
wait_for 30 ranks_up
kill -9 $pid
wait $pid 2>/dev/null
wait_for 30 gone "$(cat "$tmp/rank")"
ok $? "a client that is killed takes its job with it"
done_testing
