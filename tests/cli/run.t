#!/usr/bin/env bash
# muster run: exit codes, programs, environment, output, input, time limit, restarts, the report.
. "$(dirname "$0")/../lib.sh"
m() { run_cmd timeout 60 "$muster" run "$@"; }

m -n 2 true
is "$rc" 0 "a job that succeeds"
is "$out$err" '' "says nothing"
m -n 2 sh -c 'exit $((RANK * 7))'
is "$rc" 7 "the code of the rank that failed"
like "$err" "failed: rank 1 on $(uname -n) exited with code 7" "which one, where and how"
m -n 1 sh -c 'kill -SEGV $$'
is "$rc" 139 "128+n for a signal"
like "$err" 'signal 11 \(Segmentation fault\)' "with its name"
printf '#!/nosuch/interpreter\n' >"$tmp/script"
chmod +x "$tmp/script"
m -n 1 "$tmp/script"
is "$rc" 2 "an interpreter that is not there"

# the report fits a screen and shows the last lines, harmless to the terminal
m -n 2 sh -c 'i=0; while [ $i -lt 40 ]; do echo "line $i" >&2; i=$((i+1)); done; printf "\033[31mred\033[0m\n" >&2
    sleep 0.3; [ $RANK = 0 ] || exit 3; sleep 5'
is "$rc" 3 "rank 1 fails, rank 0 is ended"
report=$(sed -n '/^muster: job/,$p' "$tmp/.err")
like "$report" 'failed first +rank 1 on .*exited with code 3' "who failed first"
like "$report" '\| line 39' "its last lines on stderr"
unlike "$report" $'\033' "without what would move the terminal"
like "$report" 'logs +/.*muster logs [0-9]+ --rank 1' "where the logs are"
[ "$(wc -l <<<"$report")" -le 24 ]
ok $? "on one screen"

# programs
m -n 1 echo a b : -n 1 -x WHO=second sh -c 'echo $WHO $RANK $WORLD_SIZE'
is "$(sort <<<"$out")" $'a b\nsecond 1 2' "two programs, one job"
m -n 1 sleep 5 : -n 1 sh -c 'exit 3'
like "$rc $err" '^3 .*failed first +rank 1 \(sh\) on .*exited with code 3' "the report names the program of the rank that failed"
m -n 1 -- echo one : two
is "$out" 'one : two' "behind -- a ':' is an argument"
m -np 1 sh -c 'echo "$@"' - '*' "it's" '' '$HOME' $'new\nline'
is "$out" "* it's  \$HOME new"$'\n'"line" "arguments arrive as they are"

# directory and environment
mkdir "$tmp/d"
cp "$(type -P true)" "$tmp/d/own"
m -n 1 --wdir "$tmp/d" sh -c 'pwd; echo $PWD'
is "$out" "$tmp/d"$'\n'"$tmp/d" "--wdir and PWD"
m -n 1 --wdir "$tmp/d" ./own
is "$rc" 0 "a program's path is seen from there"
FOO=shell BAR=shell run_cmd timeout 60 "$muster" run -n 1 -x BAR=option -x NEW=1 sh -c 'echo $FOO $BAR $NEW'
is "$out" 'shell option 1' "the environment is handed on, -x wins"
SLURM_JOB_ID=5 PMIX_RANK=9 RANK=4 OMPI_MCA_x=1 run_cmd timeout 60 "$muster" run -n 1 sh -c 'echo "$SLURM_JOB_ID|$RANK|$OMPI_MCA_x"'
is "$out" '|0|1' "less what belongs to another launch"
m -n 1 --mca btl self --mca pml=ob1 sh -c 'echo $OMPI_MCA_btl $OMPI_MCA_pml'
is "$out" 'self ob1' "--mca"
(umask 027 && run_cmd timeout 60 "$muster" run -n 1 sh -c umask && [ "$out" = 0027 ])
ok $? "the umask is ours"

# output
m -n 2 --tag-output sh -c 'echo out; echo err >&2'
like "$(sort <<<"$out")" '^\[[0-9]+,0\]<stdout>:out.\[[0-9]+,1\]<stdout>:out$' "tags on standard output"
like "$(sort <<<"$err")" '^\[[0-9]+,0\]<stderr>:err.\[[0-9]+,1\]<stderr>:err$' "and on standard error"
m -n 2 --tag-output sh -c 'i=0; while [ $i -lt 300 ]; do printf "begin "; printf "%s\n" "end"; i=$((i+1)); done'
is "$(grep -vcE '^\[[0-9]+,[01]\]<stdout>:begin end$' <<<"$out")/$(wc -l <<<"$out")" 0/600 "lines stay whole"
m -n 1 printf 'no newline'
is "$(od -An -c <"$tmp/.out" | tr -d ' ')" 'nonewline' "a single rank's output is passed on byte by byte"
m -n 1 head -c 3000000 /dev/zero
is "$(stat -c %s "$tmp/.out")" 3000000 "also where there are no lines"
m -n 2 --output "$tmp/logs" sh -c 'echo rank $RANK; echo bad $RANK >&2'
is "$(cat "$tmp"/logs/attempt-1/rank-{0,1}.{out,err} | sort)" $'bad 0\nbad 1\nrank 0\nrank 1' "--output keeps the logs"

# a reader that does not read holds up nobody else
mkfifo "$tmp/pipe"
# shellcheck disable=SC2217 # holds the pipe open and reads nothing
sleep 300 <"$tmp/pipe" &
reader=$!
"$muster" run -n 1 sh -c 'seq 200000; echo done >"$1"; sleep 60' - "$tmp/done" >"$tmp/pipe" 2>"$tmp/blocked" </dev/null &
blocked=$!
wait_for 30 [ -s "$tmp/done" ]
ok $? "a terminal that is stopped does not stop the rank"
kill $reader
wait $blocked
is $? 141 "when it is gone the job is over"
timeout 60 "$muster" run -n 1 yes 2>/dev/null | head -n 1 >/dev/null
is "${PIPESTATUS[0]}" 141 "muster run ... | head"

for program in 'echo x' 'sh -c "echo x; exit 9"'; do
    rm -f "$tmp/end"
    err=$(eval "timeout 60 \"$muster\" run -n 1 sh -c '\"\$@\"; rc=\$?; touch $tmp/end; exit \$rc' - $program" 2>&1 >/dev/full </dev/null)
    rc=$?
    [ -e "$tmp/end" ]
    is "$? $rc" "0 $([ "${program%% *}" = echo ] && echo 1 || echo 9)" "standard output is a full disk: $program runs to its end, and the code is not 0"
    like "$err" 'standard output cannot be written: No space left on device; the job goes on' "which is said"
done

err=$(timeout 60 "$muster" run -n 1 echo x 2>&1 >&- </dev/null)
like "$? $err" '^1 .*standard output cannot be written: Bad file descriptor; the job goes on' "standard output is closed"

"$muster" run -n 1 --output "$tmp/gone" sh -c "echo one; until [ -e $tmp/removed ]; do sleep 0.05; done; echo two" >"$tmp/o" 2>"$tmp/.err" &
job=$!
wait_for 30 grep -q one "$tmp/o"
rm -r "$tmp/gone"
touch "$tmp/removed"
wait $job
like "$? $(cat "$tmp/.err")" '^0 .*muster: 2 lines of output are not in the logs \(No such file or directory\)' "logs that somebody removes meanwhile"

# input
seq 50000 | timeout 60 "$muster" run -n 2 sh -c '[ $RANK = 0 ] && cksum || wc -c' >"$tmp/o" 2>&1
is "$(sort "$tmp/o")" "$( (seq 50000 | cksum; echo 0) | sort)" "standard input goes to rank 0 alone"
echo hello | timeout 60 "$muster" run -n 1 --stdin none cat >"$tmp/o" 2>&1
is "$(cat "$tmp/o")" '' "--stdin none"
yes | timeout 60 "$muster" run -n 1 true
is "${PIPESTATUS[1]}" 0 "a program that does not read its input ends nevertheless"

# ends
m -n 1 --timeout 300ms sleep 20
is "$rc" 124 "the time limit"
like "$err" 'time limit' "is named"
m -n 2 --restarts 2 sh -c '[ $RANK$MUSTER_ATTEMPT != 11 ] || exit 9; echo attempt $MUSTER_ATTEMPT'
is "$rc" 0 "a restart mends it"
like "$err" 'rank 1 on .* exited with code 9; attempt 2 starts' "and is told as it happens"
like "$err" 'completed in attempt 2, after 1 restart' "and at the end"
m -n 2 --quiet --restarts 2 sh -c '[ $RANK$MUSTER_ATTEMPT != 11 ] || exit 9'
is "$rc$err" 0 "not with --quiet"
m -n 1 --restarts 1 sh -c 'exit 4'
is "$rc" 4 "no more restarts: the code of the failure"
like "$err" 'not restarted: .*--restarts 1' "and why there is no other"

# what would be started
m --dry-run -n 2 --bind none echo 'a b'
like "$out" "0 +$(uname -n) .*echo 'a b'" "--dry-run shows the command line"
m --dry-run --json -n 1 -x A=1 echo $'bad \xff byte'
python3 -c 'import json,sys; j = json.load(open(sys.argv[1])); assert j["schema"] == "muster.dry-run/1"
assert j["ranks"][0]["rank"] == 0 and "A=1" in j["ranks"][0]["env"] and j["ranks"][0]["argv"][0] == "echo"' "$tmp/.out"
ok $? "--dry-run --json"

# names that want to be more than names
m -n 1 --name $'x\033[2J\nmuster: all is well' false
unlike "$err" $'\033' "a hostile name is shown harmless"
is "$(grep -c '^muster: all is well' <<<"$err")" 0 "and does not forge a line"
done_testing
