#!/usr/bin/env bash
# Checkpoints in an object store that refuses, stalls, breaks off, lies and forgets (tests/fault/s3_server.py).
# A connection that stalls counts as failed after a quarter of --timeout.
. "$(dirname "$0")/../lib.sh"
grep -q 'define HAVE_CURL 1' "$B/config.h" || skip_all "built without libcurl"
s3=$tmp/s3 dir=$tmp/ckpt url=s3://bucket/some/prefix
mkdir "$s3"
PAGE=3 STALL=9 python3 tests/fault/s3_server.py "$s3" 2>"$tmp/server.err" &
server=$!
trap 'kill $server 2>/dev/null; tap_exit' EXIT
wait_for 30 test -s "$s3/port" || note "$(cat "$tmp/server.err")"
unset "${!AWS_@}"
export HOME=$tmp AWS_ACCESS_KEY_ID=AKTEST AWS_SECRET_ACCESS_KEY=SECRETTEST
AWS_ENDPOINT_URL=http://127.0.0.1:$(cat "$s3/port")
export AWS_ENDPOINT_URL
ckpt() { run_cmd env MUSTER_HOME="$tmp/none" timeout 60 "$muster" ckpt "$@"; }
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)" <<<"$out"; }
faults() { printf '%s\n' "$@" >"$s3/faults"; }
left() { awk '{ n += $1 } END { print n + 0 }' "$s3/faults"; } # faults that nobody ran into
sent() { grep -cE "^PUT [^ ]*$1" "$s3/log"; }
empty() { # a store without anything
    rm -f "$s3"/objects/* "$s3"/meta/* "$s3/log" "$s3/faults"
    : >"$s3/log"
}
objects() { find "$s3/objects" -type f -name "*$1*" | wc -l; }
gen="$B/tests/fault/generations"
"$gen" "$dir" 3 200 3 && "$gen" "$tmp/large" 2 12000 1
ok $? "directories of checkpoints"

ckpt push "$dir" $url
like "$rc $out $err" "^0 generation 3, step 30: 8.* KiB sent, in .*s $" "push takes the newest"
ckpt push --all --json "$dir" $url
is "$rc $(json "d['schema'], [(g['id'], g['moved_bytes'] > 200000, g['there_bytes'] > 200000) for g in d['generations']]")" \
    "0 muster.ckpt/1 [(3, False, True), (2, True, False), (1, True, False)]" "all: what is there is not sent again"
is "$(tail -n 3 "$s3/log" | grep -c COMMIT)" 2 "the commit comes last, and is read back"
ckpt list --json $url
is "$rc $(json "[(g['id'], g['step'], g['complete'], g['ranks']) for g in d['generations']]")" \
    "0 [(3, 30, True, 3), (2, 20, True, 3), (1, 10, True, 3)]" "list"
ckpt verify $url
is "$rc $(grep -c ' verified' <<<"$out")" "0 3" "verify"
ckpt pull $url "$tmp/new"
is "$rc $(cd "$tmp/new" && echo g*)" "0 g00000003" "pull takes the newest" || note "$err"
diff -r "$dir/g00000003" "$tmp/new/g00000003" >/dev/null
ok $? "and it is the same, byte for byte"
ckpt verify "$tmp/new"
is "$rc" 0 "the directory can be restored from"
ckpt pull $url "$tmp/new" 3 1
like "$rc $out" "^0 generation 3.* 0 B fetched, 8.*were there.*generation 1, step 10" "pull of what is there, and of one that is named"
ckpt pin $url 1
ckpt prune --keep 1 --dry-run $url
like "$rc $out" "^0 would remove generation 2 \(step 20\)$" "prune --dry-run"
ckpt prune --keep 1 $url
like "$rc $out $(objects g00000002) $(objects g00000001)" "^0 removed generation 2 .* 0 8$" "prune leaves the pinned one"
ckpt unpin $url 1
ckpt prune --keep 1 $url
is "$(objects g00000001)" 0 "no longer pinned, it goes"

# what passes is tried again
for f in "3 503 PUT seg" "1 cut PUT seg.1" "1 lost PUT seg.2" "1 lost PUT COMMIT" "1 503 GET list-type" "1 torn GET list-type" \
    "1 cut GET COMMIT" "1 stall PUT man.0" "2 503 HEAD ." "2 503 GET uploads"; do
    empty
    faults "$f"
    ckpt push --timeout 16s "$dir" $url
    like "$rc $(left) $out" '^0 ([02]) generation 3.*(made again|sent, in)' "push survives: $f" || note "$err"
    ckpt verify $url
    is "$rc" 0 "what is there is whole" || note "$out" "$err"
done
for f in "2 503 GET seg" "1 cut GET seg.1" "1 flip GET seg.2" "1 torn GET seg.0" "1 stall GET seg.0" "1 slow GET seg.0" "1 cut GET man"; do
    rm -rf "$tmp/new"
    faults "$f"
    ckpt pull --timeout 16s $url "$tmp/new"
    is "$rc $(left)" "0 0" "pull survives: $f" || note "$out" "$err"
    diff -r "$dir/g00000003" "$tmp/new/g00000003" >/dev/null
    ok $? "and it is the same"
done

# what does not pass is said, and soon
empty
faults "99 503 PUT seg.1"
start=$SECONDS
ckpt push --timeout 2s "$dir" $url
like "$rc $err" "^1 muster ckpt push: gave up after [0-9]+ tries in .*: s3://bucket/some/prefix/g00000003.*seg.1: PUT: 503 SlowDown: Please reduce" "a store that stays busy"
[ $((SECONDS - start)) -lt 50 ]
ok $? "that has an end"
is "$(objects COMMIT)" 0 "nothing is committed"
ckpt list $url
is "$rc $(wc -l <<<"$out")" "0 1" "an unfinished push is not listed"
faults "0 503 PUT x"
ckpt push --json "$dir" $url
is "$rc $(json "d['generations'][0]['there_bytes'] > 200000")" "0 True" "the next push goes on with it"
for f in "403 AccessDenied: Access <Denied>; the credentials are those of AWS_ACCESS_KEY_ID" "badkey InvalidAccessKeyId: The key does not exist; the store does not take the credentials of AWS_ACCESS_KEY_ID"; do
    faults "9 ${f%% *} * ."
    ckpt push "$dir" $url
    is "$rc $(left) $err" "1 8 muster ckpt push: s3://bucket: GET: 403 ${f#* }" "refused at once: ${f%% *}"
done
rm "$s3/faults"
AWS_SECRET_ACCESS_KEY=wrong ckpt list $url
like "$rc $err" "^1 .*403 SignatureDoesNotMatch.*does not take the credentials of AWS_ACCESS_KEY_ID$" "a wrong secret"
unlike "$err" "wrong" "which is not shown"
ckpt list s3://nosuch/x
like "$rc $err" "^1 .*404 NoSuchBucket" "no such bucket"
start=$SECONDS
ckpt list --timeout 1s --endpoint http://127.0.0.1:1 $url
like "$rc $err $((SECONDS - start < 50))" "^1 .*gave up after .*onnect.* 1$" "nobody there"

faults "999999 endless GET list-type"
ckpt list $url
like "$rc $err" "^1 .*listing does not come to an end" "a listing that names the same next page again"
rm "$s3/faults"
ckpt verify s3://bucket/nothing
like "$rc $err" "^1 .*no checkpoint in s3://bucket/nothing" "verify where there is none"

# damage: in the directory it is not sent, in the store it is found
empty
cp -r "$dir" "$tmp/bad"
printf '\xff' | dd of="$tmp/bad/g00000003/seg.1" bs=1 seek=9000 conv=notrunc status=none
ckpt push "$tmp/bad" $url
like "$rc $out $err" "^0 generation 2, step 20.*generation 3 cannot be used: .*seg.1 is damaged at byte 4096" "a damaged one is not pushed, the one before is"
is "$(objects COMMIT) $(objects g00000003.*COMMIT)" "1 0" "and not committed"
ckpt push "$tmp/bad" $url 3
like "$rc $err" "^1 .*damaged" "if it is named, that is the end"
ckpt push "$dir" $url
printf '\xff' | dd of="$(ls "$s3"/objects/*g00000003*seg.0)" bs=1 seek=9000 conv=notrunc status=none
ckpt verify $url
like "$rc $out $err" "^1 .*seg.0 in the store is damaged at byte 4096.*1 of 2 generations cannot be restored" "verify finds a damage in the store"
ckpt pull $url "$tmp/new2"
like "$rc $(cd "$tmp/new2" && echo g????????) $out $err" "^0 g00000002 generation 2, .*generation 3 cannot be used" "pull takes the one before"
mkdir "$tmp/new2/g00000001.a2.00000000000000ff.pull" "$tmp/new2/g1.pull"
ckpt pull $url "$tmp/new2"
is "$rc $(cd "$tmp/new2" && echo *pull)" "0 g1.pull" "what pulls of others have left goes" || note "$err"
rm "$s3"/objects/*g00000003*man.2
ckpt list $url
like "$out" "g00000003.*man.2 is missing" "list says what is missing"
empty
faults "1 flip GET COMMIT"
ckpt push "$dir" $url
like "$rc $err" "^1 .*COMMIT is not what was sent" "a commit that reads back differently"
faults "3 flip GET seg.0"
ckpt push --read-back "$dir" $url
like "$rc $err" "^1 .*seg.0 in the store is damaged" "--read-back finds what does not come back as it was sent"
"$gen" "$tmp/other" 2 50 3
rm -f "$s3/faults"
ckpt push "$dir" $url
ckpt push "$tmp/other" $url
like "$rc $err" "^1 .*has another checkpoint with the number 3, of another directory; push to a prefix of its own" "another directory's numbers are not mixed in"

# large files go in parts
empty
ckpt push --part-size 5M "$tmp/large" $url
like "$rc $out" "^0 generation 1, step 10: 35.2 MiB sent" "parts"
is "$(sent 'seg.0.*partNumber=')" 4 "four of each segment"
ckpt pull $url "$tmp/large2"
diff -r "$tmp/large/g00000001" "$tmp/large2/g00000001" >/dev/null
ok $? "which make the same files"
empty
faults "99 503 PUT seg.1.*partNumber=3"
ckpt push --timeout 1s --part-size 5M --connections 2 "$tmp/large" $url
is "$rc $(objects COMMIT)" "1 0" "a push breaks off in the middle of a segment"
rm "$s3/faults"
: >"$s3/log"
ckpt push --part-size 5M --json "$tmp/large" $url
is "$rc $(sent 'seg.0') $(sent 'seg.1.*partNumber=[12]&') $(sent 'seg.1.*partNumber=3')" "0 0 0 1" "and goes on with the parts that are missing" || note "$err"
is "$(grep -c '^POST.*uploads=' "$s3/log")" 0 "in the same upload"
for f in "1 lost POST uploadId" "2 500body POST uploadId" "1 503 POST uploads" "1 lost POST uploads" "1 cut PUT partNumber=2"; do
    empty
    faults "$f"
    ckpt push --timeout 16s --part-size 5M "$tmp/large" $url
    is "$rc $(left)" "0 0" "parts survive: $f" || note "$out" "$err"
done
ckpt verify $url
is "$rc" 0 "what is there is whole" || note "$out" "$err"
cp -r "$tmp/large2" "$tmp/large3"
mv "$tmp/large3/g00000001" "$tmp/large3/$(basename "$(ls "$s3"/objects/*COMMIT)" | sed 's/.*%2F\(g.*\)%2FCOMMIT/\1/').pull"
dd if=/dev/zero of="$(echo "$tmp"/large3/*.pull/seg.0)" bs=1M seek=1 count=1 conv=notrunc status=none
ckpt pull --json $url "$tmp/large3"
is "$rc $(json "d['generations'][0]['there_bytes'] > d['generations'][0]['moved_bytes'] > 0")" "0 True" "a pull goes on, too" || note "$err"
diff -r "$tmp/large/g00000001" "$tmp/large3/g00000001" >/dev/null
ok $? "with the same files"

# who we are, and where
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL
ckpt list $url
like "$rc $err" "^2 .*no credentials for s3://bucket: there is no aws_access_key_id" "no credentials"
ckpt list --credentials "$tmp/nosuch" $url
like "$rc $err" "^2 .*credentials file .*nosuch: No such file" "no such file of them"
printf '[other]\naws_access_key_id=x\naws_secret_access_key=y\n[default]\naws_access_key_id = AKTEST\naws_secret_access_key = SECRETTEST\n' >"$tmp/cred"
ckpt list --credentials "$tmp/cred" $url
like "$rc $err" "^2 .*cred holds credentials, and others may read it; chmod 600" "a file that others may read"
chmod 600 "$tmp/cred"
mkdir -p "$tmp/.aws"
printf '[default]\nregion = eu-x\nendpoint_url = http://127.0.0.1:%s\n[profile p]\nendpoint_url = ftp://x\n' "$(cat "$s3/port")" >"$tmp/.aws/config"
ckpt list --credentials "$tmp/cred" $url
like "$rc $out" "^0 .*complete" "a file of credentials, and ~/.aws/config" || note "$err"
cp -p "$tmp/cred" "$tmp/.aws/credentials"
ckpt list $url
is "$rc" 0 "the account's own credentials"
AWS_PROFILE=p ckpt list $url
like "$rc $err" "^2 .*endpoint ftp://x: it is https://HOST or http://HOST" "a profile, with an endpoint that cannot be"
for bad in "list s3://" "list s3:///x" "list s3://b/../x" "list s3://b//x" "show $url" "push $dir" "push $dir $dir" "push $url $url" "pull $dir $dir" "pull $url $url" \
    "push --part-size 1M $dir $url" "push --connections 0 $dir $url" "pull $url $tmp/q 77" "list --endpoint http://u@h $url"; do
    # shellcheck disable=SC2086
    ckpt $bad
    is "$rc $(wc -l <"$tmp/.err")" "2 1" "muster ckpt $bad: $err"
done
[ ! -e "$tmp/none" ]
ok $? "nothing is made of a pool"
done_testing
