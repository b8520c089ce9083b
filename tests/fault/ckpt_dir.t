#!/usr/bin/env bash
# Two jobs that are given one directory for checkpoints: the second is refused while the first one lives, whoever started it.
. "$(dirname "$0")/../lib.sh"
dir=$tmp/shared
lm=("$B/examples/train_lm" --hidden 64 --layers 2 --embed 16 --context 4 --batch 60 --lr 0.01)
run() { run_cmd timeout 60 "$muster" run -n 1 "$@"; }
status() { "$muster" status "$1" --json | tr -d '\n'; }
has_run() { [[ $(status "$1") =~ \"attempt\":\ *$2 ]] && [[ $(status "$1") =~ \"state\":\ *\"running\" ]] && [ -d "$dir" ]; }
checkpoint() { [[ $(status "$1") =~ \"checkpoint_step\":\ *([0-9]+) ]] && echo "${BASH_REMATCH[1]}"; }
further() { # JOB: a newer checkpoint than $was
    local now
    now=$(checkpoint "$1")
    [ -n "$now" ] && [ "$now" -gt "${was:-0}" ]
}

first=$("$muster" submit -n 1 --ckpt-dir "$dir" "${lm[@]}" --steps 100000000 --ckpt interval=500steps)
was=0
wait_for 120 further "$first"
ok $? "a job uses a directory"

run --ckpt-dir "$dir" "${lm[@]}" --steps 50
is "$rc" 1 "a second one fails"
is "$(grep -c "$dir is in use by job $first (attempt 1) on $(uname -n)" <<<"$err")" 2 "one line says who has it, and again in the report"
like "$err" "not restarted: another job uses its checkpoint directory" "it is not restarted"
run --restarts 5 --ckpt-dir "$dir" "${lm[@]}" --steps 50
like "$err" "restarts +0 " "not even on request"

# the same number and attempt in another pool are another job
run_cmd env MUSTER_HOME="$tmp/home2" timeout 60 "$muster" run -n 1 --ckpt-dir "$dir" "${lm[@]}" --steps 50
like "$rc.$err" "^1\..*in use by job $first" "a job of another pool with the same number is refused"
run_cmd timeout 60 mpirun --oversubscribe -n 1 "${lm[@]}" --steps 50 --ckpt dir="$dir"
like "$rc.$err" "^1\..*in use by job $first" "a program that muster did not start is refused"

# a job that loses its directory between two attempts
# shellcheck disable=SC2016
run sh -c 'if [ "$MUSTER_ATTEMPT" = 1 ]; then "$@" --steps 40 --ckpt dir='"$tmp"'/own; kill -9 $$; fi; "$@" --steps 50 --ckpt dir='"$dir" sh "${lm[@]}"
like "$err" "attempt 2 starts.*not restarted: another job uses its checkpoint directory" "nor does a later attempt spend more"

was=$(checkpoint "$first")
wait_for 120 further "$first"
ok $? "the first job goes on all the while"
like "$(status "$first")" '"restarts": *0' "in its first attempt"

pid=$(pool_processes | awk '$0 ~ /100000000/ && $2 ~ /train_lm$/ { print $1 }')
was=$(checkpoint "$first")
kill -KILL "$pid"
wait_for 120 has_run "$first" 2 && wait_for 120 further "$first"
ok $? "its own next attempt takes the directory over"

"$muster" cancel --force "$first" >"$tmp/.out" 2>&1
wait_for 30 job_is "$first" cancelled
run --ckpt-dir "$dir" "${lm[@]}" --stop-at 1 --steps 100000000
like "$rc.$out" '^0\..*resumed at step [0-9]+' "the directory of a job that was killed is free at once"
done_testing
