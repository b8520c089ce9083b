#!/usr/bin/env bash
# GPUs, memory and labels: what cannot be is said at once, what can is not given twice.
. "$(dirname "$0")/../lib.sh"
node() { "$muster" nodes --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["nodes"][0][sys.argv[1]])' "$1"; }
key() { # JOB KEY: of its JSON
    "$muster" status "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0][sys.argv[1]])' "$2"
}

"$muster" run -n 1 true
slots=$(node slots) memory=$(node memory) host=$(node name)

# impossible: at once
run_cmd "$muster" submit -n 1 --gpus-per-rank 1000 true
like "$rc $err" "^2 muster submit: 1 ranks with 1000 GPUs each do not fit: 1 node, with at most [0-9]+ GPUs and .* of memory; ask for less with --gpus-per-rank" "more GPUs than there are"
run_cmd "$muster" submit -n 1 --mem 900T true
like "$rc $err" "^2 muster submit: 1 ranks with 900 TiB each do not fit: 1 node" "more memory"
run_cmd "$muster" run -n 1 --mem 900T true
like "$rc $err" "^2 muster run: 1 ranks with 900 TiB each do not fit" "run says so, too"
run_cmd "$muster" submit -n 1 --label fast true
like "$rc $err" "^2 muster submit: no node has label fast; .*muster nodes label" "a label that no node has"
run_cmd "$muster" submit -n 1 --gpus-per-rank 1 --oversubscribe true
like "$rc $err" "^2 muster submit: --gpus-per-rank and --mem are of ranks with slots of their own" "not with --oversubscribe"
run_cmd "$muster" submit -n 1 --gpus-per-rank -1 true
like "$rc $err" "^2 muster submit: --gpus-per-rank takes a number" "no number of GPUs"
run_cmd "$muster" submit -n 1 --mem much true
like "$rc $err" "^2 muster submit: --mem takes a size" "no size"
run_cmd "$muster" submit -n 1 --label 'a b' true
like "$rc $err" "^2 muster submit: .*letters, digits" "no label"
is "$(wc -l <<<"$err")" 1 "in a line"
run_cmd "$muster" submit -n 1 --label "$(printf 'x%.0s' {1..200})" true
is "$rc $(wc -l <<<"$err")" "2 1" "one that is too long"

# memory is not given twice
if [ "$slots" -gt 1 ]; then
    most=$((memory / 5 * 3))
    a=$("$muster" submit -n 1 --mem $most sh -c "while [ ! -e $tmp/go ]; do sleep 0.1; done")
    wait_for 30 job_is "$a" running
    is "$? $(node memory_used)" "0 $most" "a job holds its memory"
    b=$("$muster" submit -n 1 --mem $most true) c=$("$muster" submit -n 1 --timeout 100 --mem 1M true)
    wait_for 30 job_is "$c" completed
    is "$? $(job_state "$b")" "0 queued" "another one with so much waits, one with less does not"
    like "$(key "$b" reason)" "waiting for 1 slot with .*iB each" "which is its reason"
    touch "$tmp/go"
    wait_for 30 job_is "$b" completed
    is "$? $(node memory_used)" "0 0" "until it is free"
else
    skip "one slot alone" 4
fi

# labels; of a pool that has just begun
"$muster" controller --stop
run_cmd "$muster" nodes label fast,rack3 "$host"
is "$rc $(node labels)" "0 ['fast', 'rack3']" "nodes label" || note "$err"
run_cmd "$muster" nodes
like "$out" "LABELS.*fast,rack3" "the table shows them"
run_cmd "$muster" run -n 1 --label rack3 true
is "$rc" 0 "a job with one of them runs there"
run_cmd "$muster" run -n 1 --constraint fast --tag-output true
is "$rc" 0 "as srun has it, too"
run_cmd "$muster" submit -n 1 --label rack true
is "$rc" 2 "with a part of one it does not"
run_cmd "$muster" nodes label fast nosuchhost
like "$rc $err" "^2 muster nodes label: host nosuchhost is not in the pool" "a host that is not there"
run_cmd "$muster" nodes label 'fast!' "$host"
like "$rc $err" "^2 muster nodes label: 'fast!': labels are of letters" "what is no label"
run_cmd "$muster" nodes label fast
like "$rc $err" "^2 muster nodes label: name the hosts behind the labels" "no host"
kill -9 "$(cat "$MUSTER_RUN_ROOT/$host"/*/ctl.lock)"
is "$(node labels)" "['fast', 'rack3']" "the next controller knows them"
run_cmd "$muster" nodes label --none "$host"
is "$rc $(node labels)" "0 []" "--none takes them away"
run_cmd "$muster" run -n 1 --label fast true
is "$rc" 2 "then there is none"
done_testing
