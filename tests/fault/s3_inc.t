#!/usr/bin/env bash
# Incremental generations in an object store: what has not changed is not sent again, and nothing goes that others need.
. "$(dirname "$0")/s3.sh"
dir=$tmp/ckpt url=s3://bucket/inc
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)" <<<"$out"; }
objects() { find "$s3/objects" -type f -name "*$1*" | wc -l; }
push() { ckpt push --incremental --json "$@"; }
same() { # GENERATION: comes back byte for byte
    rm -rf "$tmp/back"
    ckpt pull $url "$tmp/back" "$1"
    diff -r "$dir/g0000000$1" "$tmp/back/g0000000$1" >/dev/null
    ok $? "generation $1 comes back as it was" || note "$out" "$err"
}
gen="$B/tests/fault/generations"
"$gen" "$dir" 2 6000 4 20
ok $? "four generations, of which each shares most with the one before"

push --part-size 5M "$dir" $url 1
is "$rc $(json "d['generations'][0]['moved_bytes'] > 17e6") $(grep -c 'PUT.*inc.*partNumber=' "$s3/log")" "0 True 4" "the first is sent whole, in parts" || note "$err"
push "$dir" $url 2
is "$rc $(json "1e6 < d['generations'][0]['moved_bytes'] < 6e6, d['generations'][0]['there_bytes'] > 12e6")" "0 True True" \
    "the second less what the first has" || note "$out" "$err"
push "$dir" $url 3
is "$rc $(json "d['generations'][0]['moved_bytes'] < 6e6") $(objects seg.)" "0 True 0" "and the third" || note "$out" "$err"
push "$dir" $url 3
is "$rc $(json "d['generations'][0]['moved_bytes'] < 100000")" "0 True" "once more: nothing to send" || note "$out" "$err"
same 1
same 3
ckpt verify $url
is "$rc $(grep -c ' verified' <<<"$out")" "0 3" "verify follows the references" || note "$out" "$err"

while read -r sent; do # newest first: all of them whole; the second time each has an older one that it might be built on
    push --all "$dir" s3://bucket/all
    is "$rc $(json "all(g['moved_bytes'] $sent for g in d['generations'])")" "0 True" "all are pushed, $sent" || note "$out" "$err"
done <<'END'
> 16e6
< 100000
END
ckpt verify s3://bucket/all
is "$rc $(grep -c ' verified' <<<"$out")" "0 4" "which leaves what others may be built on as it is" || note "$out" "$err"
push "$dir" s3://bucket/late 1
for g in 3 4 2 3; do push "$dir" s3://bucket/late $g; done
ckpt verify s3://bucket/late
is "$rc $(grep -c ' verified' <<<"$out")" "0 4" "also when one was left out at first" || note "$out" "$err"
echo '9999 403 PUT ref.1' >"$s3/faults"
push "$dir" s3://bucket/mixed 3
was=$rc/$(objects mixed*ref.)/$(objects mixed*inc.)
rm "$s3/faults"
ckpt push "$dir" s3://bucket/mixed 3
ckpt verify s3://bucket/mixed
is "$was $rc $(objects mixed*ref.) $(objects mixed*inc.)" "1/1/2 0 0 0" "a whole push that takes up an incremental one leaves nothing of it" || note "$out" "$err"
push "$dir" s3://bucket/mixed 4
ckpt push "$dir" s3://bucket/mixed 4
ckpt verify s3://bucket/mixed
is "$rc $(objects mixed*ref.)" "0 2" "nor changes what one has committed" || note "$out" "$err"
rm -f "$s3"/objects/{all,late,mixed}* "$s3"/meta/{all,late,mixed}*

ckpt prune --keep 1 $url
is "$rc $out" "0 " "prune leaves what the newest is made of"
ckpt push "$dir" $url 4
ckpt prune --keep 1 $url
like "$rc $out" '^0 .*generation 3.*generation 1' "a whole one needs none of them"
is "$(objects inc.)" 0 "and all are gone"
same 4

rm -f "$s3"/objects/* "$s3"/meta/*
for g in 1 2 3; do push "$dir" $url $g; done
printf '\xff' | dd of="$(ls "$s3"/objects/*g00000001*inc.0)" bs=1 seek=9000000 conv=notrunc status=none
ckpt verify $url 3
like "$rc $out" '^1 .*inc.0 in the store is damaged' "damage in one is found by those that need it" || note "$out" "$err"
rm "$s3"/objects/*g00000001*COMMIT
ckpt list $url
like "$out" ' 3 .*generation 1, on which it builds, is gone' "list says what is missing" || note "$out"
ckpt pull $url "$tmp/none"
is "$rc" 1 "and nothing comes of it" || note "$out"
push "$dir" $url 4
is "$rc $(json "d['generations'][0]['moved_bytes'] > 17e6")" "0 True" "the next is whole again" || note "$out" "$err"
same 4

# a running job: the replicated tensor of 2.7 MiB changes at each step, the rest is small
dir=$tmp/job url=s3://bucket/job
job() { run_cmd timeout 60 "$muster" run -n 2 --oversubscribe --ckpt-dir "$dir" --ckpt "store=$url,full=3,interval=5steps" "$B/tests/mpi/ckpt" "$@"; }
job train 30 keep=2
is "$rc $(objects seg.) $(($(objects ref.) > 2))" "0 0 1" "full=3: a job's generations are incremental" || note "$out" "$err"
rm -rf "$dir"
job train 40 keep=2
like "$rc $out" '^0 .*restored step 30 bit by bit' "and one resumes from them" || note "$out" "$err"
ckpt verify $url
is "$rc" 0 "what is left is whole" || note "$out"
done_testing
