#!/usr/bin/env bash
# store=s3://...: a running job's checkpoints go to an object store behind its back, through faults of all kinds, and
# come back from there when nothing else is left.
. "$(dirname "$0")/../lib.sh"
grep -q 'define HAVE_CURL 1' "$B/config.h" || skip_all "built without libcurl"
s3=$tmp/s3 prog=$B/tests/mpi/ckpt dir=$tmp/ckpt url=s3://bucket/job
mkdir "$s3"
STALL=9 python3 tests/fault/s3_server.py "$s3" 2>"$tmp/server.err" &
server=$!
trap 'kill $server 2>/dev/null; tap_exit' EXIT
wait_for 30 test -s "$s3/port" || note "$(cat "$tmp/server.err")"
unset "${!AWS_@}"
export HOME=$tmp
endpoint=http://127.0.0.1:$(cat "$s3/port")
(umask 077 && printf '[default]\naws_access_key_id=AKTEST\naws_secret_access_key=SECRETTEST\n' >"$tmp/key")
opts="store=$url,endpoint=$endpoint,credentials=$tmp/key,interval=5steps"
job() { run_cmd timeout 90 "$muster" run -n 2 --oversubscribe --ckpt-dir "$dir" "$@"; }
ckpt() { run_cmd timeout 60 "$muster" ckpt "$@" --endpoint "$endpoint" --credentials "$tmp/key"; }
faults() { printf '%s\n' "$@" >"$s3/faults"; }
steps() { # what the store has, newest first
    ckpt list --json $url
    python3 -c "import json,sys; print([g['step'] for g in json.load(sys.stdin)['generations'] if g['complete']])" <<<"$out"
}
events() { # KIND
    run_cmd "$muster" events "$("$muster" jobs --all --json | python3 -c \
        "import json,sys; print(max(j['id'] for j in json.load(sys.stdin)['jobs']))")"
    grep -c " $1 " <<<"$out" # and all of them in out
}

job --ckpt "$opts" "$prog" train 20 keep=2
is "$rc" 0 "a job with an object store" || note "$out" "$err"
like "$(steps)" '^\[20' "its last checkpoint is there when it ends"
like "$(steps)" '^\[20(, [0-9]+)?\]$' "keep counts there, too"
like "$(events stored)" '^[1-9]' "it is told" || note "$out"
like "$(cat "$dir/SHIPPED")" "^muster-shipped/1 4 20 $url [0-9a-f]{8}$" "and written down"
is "$(ls "$dir"/g*/HOLD 2>/dev/null | wc -l)" 0 "nothing is held any more"
ckpt verify $url
is "$rc" 0 "all of it is as it was saved" || note "$out"

rm -rf "$dir"
job --ckpt "$opts" "$prog" train 30 keep=2
like "$rc $out" '^0 .*restored step 20 bit by bit' "the directory is lost: fetched from the store" || note "$out" "$err"
like "$(steps)" '^\[30' "and it goes on there"
rm -rf "$dir"
job "$prog" train 10 "$opts,every=3,store=s3://bucket/other"
like "$rc $out" '^0 .*nothing to restore' "another prefix has nothing" || note "$out" "$err"

# what passes
for f in "2 503 PUT seg;1 cut PUT seg.1;1 lost PUT COMMIT;2 badkey GET list-type" "1 torn GET list-type;2 403 PUT COMMIT"; do
    rm -rf "$dir" "$s3"/objects/* "$s3"/meta/*
    tr ';' '\n' <<<"$f" >"$s3/faults"
    job --ckpt "$opts" "$prog" train 10 keep=2
    like "$rc $(steps)" '^0 \[10' "a job bears: $f" || note "$out" "$err"
done

# what does not pass strands nobody, and is told
rm -rf "$dir" "$s3"/objects/* "$s3"/meta/*
job --ckpt "$opts" "$prog" train 5 keep=2
faults "100000 403 * ."
start=$SECONDS
job --ckpt "$opts" "$prog" train 15 keep=2 away
is "$rc" 0 "a job whose key is taken no more goes on to its end" || note "$out" "$err"
[ $((SECONDS - start)) -lt 80 ]
ok $? "and is not held up"
events store-trouble >"$tmp/count"
like "$(cat "$tmp/count") $out" '^[1-9].*403.*it is tried again, the job goes on' "the reason is told" || note "$out"
: >"$s3/faults"
job --ckpt "$opts" "$prog" train 20 keep=2
like "$rc $(steps)" '^0 \[20' "later it is sent" || note "$out" "$err"

# an empty directory and a store that does not answer: nobody begins anew by mistake
rm -rf "$dir"
faults "100000 403 * ."
job --restarts 0 "$prog" train 5 "$opts"
like "$rc $out" '^[^0].*cannot be asked for one' "without an answer a job does not begin anew" || note "$out" "$err"
: >"$s3/faults"
job "$prog" train 25 "$opts,rate=100M"
like "$rc $out" '^0 .*restored step 20 bit by bit' "with one it resumes" || note "$out" "$err"

AWS_ACCESS_KEY_ID=AKTEST AWS_SECRET_ACCESS_KEY=SECRETTEST AWS_ENDPOINT_URL=$endpoint job "$prog" train 30 "store=$url,interval=5steps"
like "$rc $(steps)" '^0 \[30' "endpoint and key of the job's environment" || note "$out" "$err"
run_cmd env MUSTER_CKPT_DIR="$tmp/none" timeout 60 "$prog" train 5 "store=$url"
like "$rc $out" "^1 .*needs \`muster run\`" "outside of muster run it is refused, with a hint" || note "$out" "$err"
done_testing
