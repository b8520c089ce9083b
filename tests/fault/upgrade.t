#!/usr/bin/env bash
# An upgrade as docs/operations.md has it: the files of another build take the place of those that run, controller and
# agent are exchanged under a job that goes on without a lost step, what begins then is of the new build. Files of a
# build that speaks another version of the protocol are left alone until the pool is over.
. "$(dirname "$0")/../lib.sh"
at=$tmp/inst
mkdir -p "$at/bin" "$at/lib" "$at/examples"
cp -P "$B"/lib/libmuster.so* "$at/lib"
cp "$B/examples/train_lm" "$at/examples"
cat >"$tmp/make.py" <<'END'
"""FROM TO VERSION PROTOCOL: FROM as another build would be: of that version, and with that in its mark."""
import struct, sys
data = open(sys.argv[1], "rb").read()
old = sys.argv[5].encode()
assert len(old) == len(sys.argv[3])
data = data.replace(old, sys.argv[3].encode())
at = data.index(b"muster-wire\0") + 12
open(sys.argv[2], "wb").write(data[:at] + struct.pack("<I", int(sys.argv[4])) + data[at + 4:])
END
read -r _ version _ protocol <<<"$("$B/bin/muster" --version)"
version=${version%,}
build() { # VERSION PROTOCOL: and put in its place as a package does
    python3 "$tmp/make.py" "$B/bin/muster" "$at/bin/muster.new" "$1" "$2" "$version" && chmod 755 "$at/bin/muster.new" &&
        mv -f "$at/bin/muster.new" "$at/bin/muster"
}
muster=$at/bin/muster
build "$version" "$protocol" || { ok 1 "a copy is made"; done_testing; }
next=${version%.*}.9 far=${version%.*}.8
lock() { cat "$MUSTER_RUN_ROOT"/*/*/"$1".lock 2>/dev/null; }
exe() { readlink "/proc/$1/exe"; }
another() { # DAEMON PID: holds the lock now
    local pid
    pid=$(lock "$1") && [ -n "$pid" ] && [ "$pid" != "$2" ]
}
field() { # JOB KEY
    "$muster" status "$1" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['jobs'][0]['$2'])"
}
: >"$tmp/steps"
steps() { wc -l <"$tmp/steps"; }
past() { [ "$(steps)" -gt "$1" ]; }
further() { # makes some more steps from now on
    local now
    now=$(steps)
    wait_for 30 past $((now + 20))
}

run_cmd "$muster" submit -n 1 --bind none --restarts 3 --ckpt-dir "$tmp/ckpt" "$at/examples/train_lm" \
    --steps 100000000 --hidden 48 --layers 2 --embed 8 --context 4 --batch 16 --ckpt interval=200steps --step-time-file "$tmp/steps"
job=$out
further
ok $? "a job makes steps" || note "$err" "$("$muster" status "$job")"
ctl=$(lock ctl) agent=$(lock agent) keeper=$(lock "keeper.$job")
has_drain() { drain=$(pgrep -P "$keeper" -f '^muster drain'); }
wait_for 30 has_drain
ok $? "it has a drain"

# --- the files
build "$next" "$protocol"
like "$("$muster" --version)" "^muster $next, protocol $protocol$" "another build is installed"
cp -P "$B"/lib/libmuster.so "$at/lib/new" && mv -f "$at/lib/new" "$at/lib/libmuster.so"
is "$(exe "$keeper")" "$muster (deleted)" "what runs is of the old one"
"$muster" status "$job" >/dev/null
ok $? "commands of the new one are understood"

# --- the controller, then the agent
kill "$ctl"
wait_for 30 another ctl "$ctl"
ok $? "another controller takes over"
is "$(exe "$(lock ctl)")" "$muster" "of the new build"
run_cmd "$muster" audit
like "$out" "starts, version $next" "as the audit log says"
kill -KILL "$agent"
wait_for 30 another agent "$agent"
ok $? "another agent takes over"
is "$(exe "$(lock agent)")" "$muster" "of the new build, though an old keeper has begun it"
ctl=$(lock ctl)
MUSTER_IDLE=2 "$muster" controller --foreground --take-over 2>"$tmp/over" &
over=$!
took_over() { [ "$(lock ctl)" = $over ]; }
wait_for 30 took_over
ok $? "as a unit of systemd would have it, one takes the place of the other" || note "$(cat "$tmp/over")"
wait_for 30 eval '! kill -0 "$ctl" 2>/dev/null'
ok $? "which is gone"
further
ok $? "the job goes on"
is "$(field "$job" attempt) $(lock "keeper.$job") $(exe "$keeper")" "1 $keeper $muster (deleted)" "in its attempt, with its keeper"
is "$(awk '$2 != NR { print NR ": " $2; exit }' <(head -n "$(steps)" "$tmp/steps"))" "" "no step is lost or made twice"
unlike "$("$muster" events "$job")" "failed|restored|(rank|node|keeper)-lost" "and nothing has failed"

# --- what begins now
second=$("$muster" submit -n 1 sleep 60)
running() { job_is "$1" running; }
wait_for 30 running "$second"
is "$(exe "$(lock "keeper.$second")")" "$muster" "a new job has a keeper of the new build"
was=$drain
kill -KILL "$was"
new_drain() { drain=$(pgrep -P "$keeper" -f '^muster drain') && [ "$drain" != "$was" ]; }
wait_for 30 new_drain
is "$(exe "$drain")" "$muster (deleted)" "a keeper's drain is of the keeper's build"
kill -KILL "$(pgrep -P "$keeper" -f train_lm | head -n 1)"
second_attempt() { running "$job" && [ "$(field "$job" attempt)" = 2 ]; }
wait_for 30 second_attempt
further
ok $? "the next attempt of the old job, with the new library under the old keeper, goes on, too" || note "$("$muster" status "$job")"
like "$("$muster" events "$job")" "resum|restor" "from its checkpoint"

# --- one that cannot work with what runs
build "$far" $((protocol + 1))
ctl=$(lock ctl) agent=$(lock agent)
kill -KILL "$agent"
wait_for 30 another agent "$agent"
like "$(exe "$(lock agent)")" "/muster \(deleted\)$" "of another version of the protocol nothing is started"
kill "$ctl"
wait_for 30 another ctl "$ctl"
is "$(exe "$(lock ctl)")" "$muster (deleted)" "neither an agent nor a controller"
"$muster" cancel "$second" >/dev/null
third=$("$muster" submit -n 1 sleep 60)
wait_for 30 running "$third"
is "$(exe "$(lock "keeper.$third")")" "$muster (deleted)" "nor a keeper: all go on as they were"
further
ok $? "jobs as well"
"$muster" controller --stop --force
wait_for 30 no_leftovers
ok $? "it ends as ever" || note "$(leftovers)"

# --- and the other way round: a controller that finds an agent that it cannot understand
last=$("$muster" submit -n 1 sleep 60)
wait_for 30 running "$last"
is "$(exe "$(lock agent)")" "$muster" "a pool of that version"
ctl=$(lock ctl) agent=$(lock agent)
build "$next" "$protocol"
kill -STOP "$agent"
kill -KILL "$ctl"
run_cmd timeout 60 "$muster" jobs
like "$rc $err" "^2 .*process [0-9]+ \((agent|keeper.$last)\) speaks version $((protocol + 1)) of the protocol, this muster $protocol: " "keeps this one from beginning"
kill -CONT "$agent"
old_again() { [ "$(exe "$(lock ctl)")" = "$muster (deleted)" ] && "$muster" jobs >/dev/null 2>&1; }
wait_for 30 old_again
wait_for 30 running "$last"
run_cmd "$muster" status "$last"
like "$rc $out" "^0 .*running" "its job has not noticed" || note "$err"
"$muster" controller --stop --force
wait_for 30 no_leftovers
done_testing
