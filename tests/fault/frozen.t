#!/usr/bin/env bash
# slow
# Ranks that hang, ranks and daemons that are stopped: who is named, when, and what it costs.
. "$(dirname "$0")/../lib.sh"
hangs=$B/tests/fault/hangs
mkdir "$tmp/o"

# Several at once, each with a pool of its own. A shell forgets how a child ended once its number is used again.
begin() { # CASE OPTIONS AND PROGRAM...
    (
        MUSTER_HOME=$tmp/o/$1.home "$muster" run -n 4 --oversubscribe --bind none "${@:2}" >"$tmp/o/$1" 2>&1 </dev/null &
        echo $! >"$tmp/o/$1.pid"
        wait $!
        echo $? >"$tmp/o/$1.rc"
    ) &
    pids[$1]=$!
}
run_case() { # CASE SECONDS OPTIONS...: in the background; its output in $tmp/o/CASE
    begin "$1" "${@:3}" "$hangs" "$1" "$2"
}
event() { # CASE KIND: rank and detail of its first one
    MUSTER_HOME=$tmp/o/$1.home "$muster" events 1 --json | python3 -c 'import json, sys
print(*[(e["rank"], e["detail"]) for e in json.load(sys.stdin)["events"] if e["kind"] == sys.argv[1]][:1])' "$2"
}
trains() { MUSTER_HOME=$tmp/o/$1.home "$muster" events 1 2>/dev/null | grep -q ' first-step '; } # CASE
ended() { # CASE: sets rc
    wait "${pids[$1]}" 2>/dev/null
    rc=$(cat "$tmp/o/$1.rc")
}
named() { # CASE RANK PATTERN WHAT: it was named so, and the job has ended well in its second attempt
    local e
    ended "$1"
    e=$(event "$1" hang)
    [[ $rc = 0 && $e =~ ^\($2,.*rank\ $2\ on\ .*$3 ]]
    ok $? "$1: $4" || note "rc=$rc $e" "$(tail -n 5 "$tmp/o/$1")"
}
declare -A pids

bad() { # WANT OPTIONS...
    run_cmd "$muster" run -n 1 "${@:2}" true
    like "$rc $err" "^2 .*$1" "${*:2}: $err"
}
bad '--hang-timeout: takes 1s or more, or 0 for never' --hang-timeout 10ms
bad '--hang-timeout' --hang-timeout soon
MUSTER_HANG_TIMEOUT=never bad 'MUSTER_HANG_TIMEOUT=never: not a duration'

holder() { # NAME ROLE: pid of its daemon
    local f
    for f in "$MUSTER_RUN_ROOT"/*/*/"$2".lock; do
        if tr '\0' '\n' <"/proc/$(cat "$f")/environ" | grep -qx "MUSTER_HOME=$tmp/o/$1.home"; then cat "$f"; fi
    done 2>/dev/null
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# --- daemons that ranks do not need: not a step is lost; looked at in the end, as it takes a while ------------------
steps_of() { # NAME
    begin "$1" --hang-timeout 2 "$hangs" steps 900
}
steps_of undisturbed
steps_of agent
steps_of controller
wait_for 60 trains agent
agent=$(holder agent agent)
kill -STOP "$agent"
wait_for 60 trains controller
controller=$(holder controller ctl)
kill -STOP "$controller"

# --- ranks, in small programs: they hang for a minute if nobody ends them --------------------------------------------
run_case late 60 --hang-timeout 2
run_case receive 60 --hang-timeout 2
run_case polled 60 --hang-timeout 2
named late 1 'has not entered all-reduce #[0-9]+, which 3 ranks have waited in for ([2-9]|[1-9][0-9])\.[0-9] s; it sleeps \(state S\)' \
    "a rank that sleeps while the others wait"
named receive 1 'has not sent what rank 0 has waited for' "a message that does not come"
named polled 3 'has not entered' "who polls with muster_test waits, too"
run_case circle 60 --hang-timeout 2
run_case starts 60 --hang-timeout 2 --restarts 3
run_case stops 60 --hang-timeout 2
named circle '[0-3]' 'ranks wait for one another' "collectives in different orders"
named starts 1 'has not called muster_init, which 3 ranks have waited in' "a rank that does not call muster_init"
named stops 1 'has not entered muster_finalize.*it is stopped \(state T\)' "one that is stopped"
run_case send 60 --hang-timeout 2
run_case busy 60 --hang-timeout 2 --restarts 0
run_case alone 5 --hang-timeout 2
named send 1 'has not received what rank 0 has tried to send for' "a message that is not taken"
ended busy
like "$rc $(event busy hang)" '^137 .*rank 1 on .*it runs \(state R\)' "busy: a rank that computes while the others wait"
like "$(cat "$tmp/o/busy")" 'rank 1 on .* has not entered all-reduce' "the report says it, too"
ended alone
is "$rc $(event alone hang)" '0 ' "alone: a rank that computes while nobody waits is left alone" || note "$(cat "$tmp/o/alone")"
rm -rf "$tmp"/o/receive* "$tmp"/o/stops*
run_case stops 4 --hang-timeout 0
for _ in 1 2 3 4; do
    MUSTER_TIMEOUT=3 run_case receive 60
    ended receive
    # this deadline is also that of the start, which a busy machine may miss
    grep -q 'called muster_init within' "$tmp/o/receive" || break
    rm -rf "$tmp"/o/receive*
done
named receive 1 'has not (sent what rank 0 has|entered all-reduce #[0-9]+, which 2 ranks have) waited' "the deadline of the library's own is earlier: whoever missed it is named, not the victim"
ended stops
is "$rc $(event stops hang)" '0 ' "with --hang-timeout 0 nobody is judged" || note "$(cat "$tmp/o/stops")"

# stopped on purpose
run_case steps 250 --hang-timeout 2
wait_for 30 trains steps
kill -TSTP "$(cat "$tmp/o/steps.pid")"
sleep 4
kill -CONT "$(cat "$tmp/o/steps.pid")"
ended steps
is "$rc $(event steps hang)" '0 ' "Ctrl-Z and fg are no hang" || note "$(cat "$tmp/o/steps")"

# --- SIGSTOP --------------------------------------------------------------------------------------------------------
small=(--hidden 64 --embed 8 --context 8 --batch 64 --ckpt interval=50steps --steps 700)
train() { # NAME OPTIONS...: in the background; its steps in $tmp/o/NAME.steps
    begin "$1" --hang-timeout 2 --ckpt-dir "$tmp/o/$1.ckpt" "$B/examples/train_lm" "${small[@]}" "${@:2}" \
        --step-time-file "$tmp/o/$1.steps"
}
steps() { # NAME N: so many at least
    [ -e "$tmp/o/$1.steps" ] && [ "$(wc -l <"$tmp/o/$1.steps")" -ge "$2" ]
}
hash_of() { sed -n 's/^weights sha256 //p' "$tmp/o/$1"; }
rank_pid() { # NAME RANK
    local p
    for p in $(pgrep -f "train_lm .*--step-time-file $tmp/o/$1.steps"); do
        if tr '\0' '\n' <"/proc/$p/environ" | grep -qx "RANK=$2"; then echo "$p"; fi
    done
}
since() { echo $(((${EPOCHREALTIME/./} - $1) / 1000)); }

train calm
ended calm
want=$(hash_of calm)
isnt "$want" '' "an undisturbed run" || note "$(cat "$tmp/o/calm")"

train rank
wait_for 60 steps rank 120
pid=$(rank_pid rank 2)
t=${EPOCHREALTIME/./}
kill -STOP "$pid"
wait_for 60 gone "$pid"
ms=$(since "$t")
[ "$ms" -ge 1000 ] && [ "$ms" -le 30000 ] # the others may have waited for it before
ok $? "SIGSTOP of a rank: it is killed after its time ($ms ms)"
named rank 2 'it is stopped \(state T\)' "it is named"
is "$(hash_of rank)" "$want" "the weights are those of the undisturbed run"

train keeper
wait_for 60 steps keeper 120
pid=$(holder keeper keeper.1)
t=${EPOCHREALTIME/./}
kill -STOP "$pid"
wait_for 60 gone "$pid"
ok $? "SIGSTOP of a keeper: its agent kills it ($(since "$t") ms)"
ended keeper
like "$rc $(event keeper keeper-lost)" '0 .*was frozen and has been killed' "the events say so"
like "$(event keeper keeper-lost) $(cat "$tmp/o/keeper")" 'output of ranks 0 to 3 may be missing.*output of ranks 0 to 3 may be missing' "and, as the command does, that output may be missing"
is "$(hash_of keeper)" "$want" "the weights are those of the undisturbed run"

# a busy machine is no reason
busy=()
for _ in {1..16}; do
    while :; do :; done &
    busy+=($!)
done
train beside --steps 200
ended beside
kill "${busy[@]}"
wait "${busy[@]}" 2>/dev/null
is "$rc $(event beside hang)" '0 ' "no alarm beside 16 busy processes" || note "$(cat "$tmp/o/beside")"

# --- and now the daemons
wait_for 60 gone "$agent"
ok $? "SIGSTOP of an agent: its controller kills it"
wait_for 60 gone "$controller"
ok $? "SIGSTOP of a controller: its agent kills it"
ended undisturbed
value=$(grep ^value "$tmp/o/undisturbed")
for role in agent controller; do
    ended $role
    out=$(MUSTER_HOME=$tmp/o/$role.home "$muster" status 1 --json)
    like "$(grep ^value "$tmp/o/$role") $rc $out" "^${value:-nothing} 0 .*\"attempt\":1,.*\"step\":900" "$role: it costs nothing"
done
wait_for 30 no_leftovers
done_testing
