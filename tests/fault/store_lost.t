#!/usr/bin/env bash
# The drill of docs/operations.md: the job store is removed, emptied, cut, overwritten or loses its -wal file, under a
# living controller and under a dead one, while jobs run and wait. Each time the next controller has it again, running
# jobs go on where they are, waiting ones start, and no number and no attempt is given twice.
export MUSTER_BACKUP=1h
. "$(dirname "$0")/../lib.sh"

state=$MUSTER_HOME/$(uname -n)
db=$state/jobs.db
log=$state/log/controller.log
ctl() { cat "$MUSTER_RUN_ROOT"/*/*/ctl.lock 2>/dev/null; }
next_controller() { [ -S "$(echo "$MUSTER_RUN_ROOT"/*/*/ctl.sock)" ] && [ -n "$(ctl)" ] && [ "$(ctl)" != "$1" ]; }
attempt_of() { "$muster" status "$1" | awk '$1 == "attempt" { print $2 }'; }
ids() { "$muster" jobs --all --json | python3 -c 'import json, sys
print(*sorted(j["id"] for j in json.load(sys.stdin)["jobs"]))'; }
summary() { # ID:STATE:ATTEMPT of each job
    "$muster" jobs --all --json | tr '{' '\n' | sed -n 's/^"id":\([0-9]*\),.*"state":"\([a-z]*\)",.*"attempt":\([0-9]*\),.*/\1:\2:\3/p' |
        sort -n | paste -sd' '
}
flip() { # FILE: all but its first page, where a look at the head finds it
    python3 - "$1" <<'END'
import os, sys
with open(sys.argv[1], "r+b") as f:
    size = os.fstat(f.fileno()).st_size
    for at in range(4096, size, 4096):
        f.seek(at)
        f.write(os.urandom(64))
END
}
stay='echo $$ >"$0"; while [ ! -e "$0.go" ]; do sleep 0.05; done; echo done $MUSTER_ATTEMPT'
begin_job() { # NAME: a job that stays, until NAME.go is there
    run_cmd "$muster" submit -n 1 --oversubscribe --restarts 3 sh -c "$stay" "$tmp/$1"
    eval "$1=\$out"
    wait_for 30 test -s "$tmp/$1"
    eval "$1_pid=\$(cat \"\$tmp/\$1\")"
}

run_cmd "$muster" store verify
like "$rc $err" "^1 .*no copy of $db.*muster store backup" "without a store there is nothing to verify"
MUSTER_BACKUP=0 run_cmd "$muster" store verify
like "$rc $out$err" "^0 no copies of $db are made: MUSTER_BACKUP is 0$" "unless nothing is to be"
begin_job a
run_cmd "$muster" store verify
like "$rc $out" "^0 .* journal .* good$" "a new store's journal is enough"
elsewhere=(env MUSTER_HOME="$tmp/bare" MUSTER_RUN_ROOT="$tmp/bare.run")
"${elsewhere[@]}" "$muster" submit -n 1 --hold true >/dev/null
bare() { # its controller soon makes another copy
    rm -rf "$tmp/bare/$(uname -n)/backup"
    run_cmd "${elsewhere[@]}" MUSTER_BACKUP=0 "$muster" store verify
    [[ "$rc $err" =~ ^1\ .*no\ copy\ of\ $tmp/bare/ ]]
}
wait_for 30 bare
ok $? "without it that is said, of the controller that runs" || note "$rc $out $err"
"${elsewhere[@]}" "$muster" controller --stop --force
MUSTER_HOME=$tmp/bare MUSTER_RUN_ROOT=$tmp/bare.run wait_for 30 no_leftovers
ok $? "whose pool ends"
begin_job b
kill -KILL "$b_pid"
wait_for 30 eval 'job_is "$b" running && [ "$(attempt_of "$b")" = 2 ] && ! grep -qx "$b_pid" "$tmp/b"'
ok $? "job $b is at its second attempt"
b_pid=$(cat "$tmp/b")
run_cmd "$muster" submit -n 1 --hold true
want=$(summary)

goes_on() { # WHAT: after the fault
    wait_for 30 eval '[ "$(summary)" = "$want" ]'
    is "$(summary)" "$want" "$1: all jobs are there, their states and attempts as they were" || note "$(tail -n 5 "$log")"
    kill -0 "$a_pid" 2>/dev/null && kill -0 "$b_pid" 2>/dev/null
    ok $? "$1: those that ran run on" || note "$(tail -n 5 "$log")"
}

# --- under a controller that lives
under_living() { # WHAT COMMAND...
    local what=$1 pid
    shift
    pid=$(ctl)
    "$@"
    wait_for 30 next_controller "$pid"
    ok $? "$what: another controller takes over" || note "$(tail -n 5 "$log")"
    goes_on "$what"
}
under_living removed rm "$db"
like "$(cat "$log")" " removed[^:]*: another controller takes over.*job store $db is missing; it is made anew from its journal" \
    "which the log says"
under_living "removed with its -wal file" rm "$db" "$db-wal"
under_living emptied truncate -s 0 "$db"
run_cmd "$muster" store backup
like "$rc $out" "^0 copy [0-9]+ " "a copy is made by hand" || note "$err"
overwrite_head() { # the -wal file may have all pages still
    dd if=/dev/urandom of="$db" bs=100 count=1 conv=notrunc status=none
    rm -f "$db-wal"
}
under_living "its head overwritten" overwrite_head
# Whoever closes it writes what its -wal file, open though removed, has of the head: then nothing is damaged any more.
lost=3
if ! grep -q "copy [0-9]* of 20.* takes its place" "$log"; then
    lost=2
    like "$(head -c 15 "$db" | tr -d '\0')" "^SQLite format 3$" "its head is whole again" || note "$(tail -n 8 "$log")"
fi

# --- under one that was killed, and cannot tell anybody
under_dead() { # WHAT COMMAND...: the agent begins the next one only when the file has been dealt with
    local what=$1 pid agent
    shift
    pid=$(ctl)
    agent=$(cat "$MUSTER_RUN_ROOT"/*/*/agent.lock)
    kill -STOP "$agent"
    kill -KILL "$pid"
    wait_for 30 eval '! kill -0 "$pid" 2>/dev/null'
    "$@"
    { wait_for 30 next_controller "$pid"; kill -CONT "$agent"; } &
    run_cmd timeout -k 5 60 "$muster" jobs
    wait $!
    is "$rc" 0 "$what: the next command begins another controller" || note "$err"
    goes_on "$what"
}
under_dead "removed, all of it" rm "$db" "$db-wal" "$db-mark"
under_dead "cut in the middle" truncate -s 5000 "$db"
run_cmd "$muster" submit -n 1 --hold true # it is in the -wal file alone
want=$(summary)
under_dead "its -wal file removed" rm "$db-wal"
like "$(tail -n 20 "$log")" "[0-9]* changes were taken from the journal" "they come from the journal"
flip_all() { rm -f "$db-wal"; flip "$db"; }
under_dead "its pages overwritten" flip_all
like "$(tail -n 5 "$log")" "copy [0-9]* of 20.* takes its place" "now the copy is what it is made of"
cp "$state"/backup/*.db "$tmp"
newest=$(find "$state/backup" -name '*.db' | sort | tail -n 1)
both() { flip "$newest"; rm "$db" "$db-wal"; }
under_dead "removed, and the newest copy damaged" both
like "$(tail -n 20 "$log")" "backup/[0-9]*.db is damaged: .*made anew from its journal" "journals go back as far as is needed"
[ "$(find "$state" -maxdepth 1 -name 'jobs.db.lost-?' | wc -l)" -ge $lost ]
ok $? "what was damaged is set aside, not thrown away"

run_cmd "$muster" store verify
is "$rc" 1 "a damaged copy is named"
like "$out" "backup/[0-9]+.db is damaged" "with its file"

# --- the copies alone are removed, and the store later
rm -r "$state/backup"
copied() { "$muster" store verify | grep -q "copy .* good$"; }
wait_for 30 copied
ok $? "copies that were removed are made again" || note "$(tail -n 3 "$log")"
"$muster" cancel 4 >/dev/null
want=$(summary)
under_dead "removed after its copies" rm "$db" "$db-wal"

# --- the copies are lost as well: what runs is had from its agent
all_gone() { rm -r "$db" "$db-wal" "$state/backup"; }
want="$a:running:1 $b:running:2"
under_dead "removed with all copies" all_gone
like "$(tail -n 20 "$log")" "job store .*/jobs.db has lost its newest changes" "which the log says"
run_cmd "$muster" submit -n 1 --hold true
is "$out" 5 "no number is given twice"
want+=" 5:queued:0"
under_dead "killed once more" true

# --- and all ends as ever
touch "$tmp/a.go" "$tmp/b.go"
wait_for 30 eval 'job_is "$a" completed && job_is "$b" completed'
ok $? "the jobs end well" || note "$("$muster" jobs --all)"
is "$(tail -n 1 "$state/jobs/$b/latest/rank-0.out")" "done 2" "in the attempt that they were in"
like "$("$muster" events "$b")" "adopted.*finished" "which their events tell"
"$muster" release 5 >/dev/null
wait_for 30 job_is 5 completed
ok $? "and the one that waited runs"
"$muster" controller --stop --force
wait_for 30 no_leftovers
run_cmd "$muster" store restore
like "$rc $out" "^0 .*(takes its place|made anew)" "muster store restore makes the store of the newest good copy and the journals" || note "$err"
is "$(ids)" "$a $b 5" "with all jobs"
done_testing
