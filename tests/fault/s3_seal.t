#!/usr/bin/env bash
# Encrypted checkpoints in an object store: key files, rotation, damage, a running job.
. "$(dirname "$0")/s3.sh"
dir=$tmp/ckpt url=s3://bucket/seal
key() { (umask 077 && printf '%064x\n' "$@" >"$tmp/$name"); }
"$B/tests/fault/generations" "$dir" 2 6000 2 20
name=old key 17
name=new key 99 17
name=other key 5

ckpt push --all --part-size 5M --key "$tmp/old" "$dir" $url
is "$rc" 0 "pushed with a key, in parts" || note "$err"
is "$(grep -rlE 'shared|MUSEG|MUMAN|MUCOM' "$s3/objects" | wc -l)" 0 "nothing of it can be read there"
ckpt pull --key "$tmp/old" $url "$tmp/back"
diff -r "$dir/g00000002" "$tmp/back/g00000002" >/dev/null
ok $? "it comes back as it was" || note "$out" "$err"
ckpt verify --key "$tmp/new" $url
is "$rc $(grep -c ' verified' <<<"$out")" "0 2" "and with a key that has taken the old one's place in front of it" || note "$out"
ckpt pull $url "$tmp/none"
like "$rc $out$err" '^2 .*is encrypted: name the key file \(--key FILE' "without a key it says so"
ckpt pull --key "$tmp/other" $url "$tmp/none"
like "$rc $out$err" '^2 .*is encrypted with key [0-9a-f]{8}\.\.\., which is not in the key file' "another key does not do"
chmod 600 "$tmp/other"
for key in "" "--key $tmp/other"; do
    ckpt verify $key $url
    like "$rc $out$err" '^2 muster ckpt verify: [^ ]* is encrypted' "nor does verify take it for damaged (${key:-no key})" || note "$out"
done
chmod 644 "$tmp/other"
ckpt list --key "$tmp/other" $url
like "$rc $err" '^2 .*may be read by others: chmod 600' "a key that others may read is refused"
victim=$(ls "$s3"/objects/*g00000002*seg.1)
cp "$victim" "$tmp/seg"
printf '\xff' | dd of="$victim" bs=1 seek=1500000 conv=notrunc status=none
ckpt verify --key "$tmp/old" $url 2
like "$rc $out" '^1 .*seg.1.*(damaged|not what was encrypted)' "a damage is found" || note "$out"
cp "$(ls "$s3"/objects/*g00000002*seg.0)" "$victim"
ckpt verify --key "$tmp/old" $url 2
like "$rc $out" '^1 .*not what was encrypted' "and an object in another one's place" || note "$out"
ckpt prune --keep 1 --key "$tmp/old" $url
is "$rc" 0 "prune"
ckpt prune --keep 1 $url
like "$rc $err" '^2 .*are encrypted, and there is no key' "which without the key would find nothing to remove, and says so"
before=$(ls "$s3/objects" | wc -l)
ckpt push --all "$dir" $url
like "$rc $err" '^2 .*s3://bucket/seal are encrypted, and there is no key: name the key file \(--key FILE' "a push without a key goes nowhere beside what is encrypted" || note "$out" "$err"
ckpt push --incremental --all "$dir" $url
like "$rc $err" '^2 .*are encrypted, and there is no key' "nor an incremental one"
chmod 600 "$tmp/other"
ckpt push --all --key "$tmp/other" "$dir" $url
like "$rc $err" '^2 .*are encrypted with key [0-9a-f]{8}\.\.\., which is not in the key file' "nor one with a key that does not open it" || note "$out" "$err"
is "$(ls "$s3/objects" | wc -l)" "$before" "and nothing was sent"
while read -r way; do # what a push has left that was broken off is another key's
    url2=s3://bucket/left-$way
    echo '9999 403 PUT man.1' >"$s3/faults"
    ckpt push ${way/whole/} --key "$tmp/old" "$dir" "$url2"
    was=$rc$(find "$s3/objects" -name "left-$way*" | wc -l)
    rm "$s3/faults"
    ckpt push ${way/whole/} --key "$tmp/other" "$dir" "$url2"
    ckpt verify --key "$tmp/other" "$url2"
    like "$was $rc" '^1[1-9] 0$' "a push ($way) that is taken up with another key sends all with that" || note "$out" "$err"
    ckpt push ${way/whole/} --key "$tmp/other" --json "$dir" "$url2"
    like "$rc $out" '^0 .*"moved_bytes": ?[0-9]{3,4},' "once" || note "$out" "$err"
    (umask 077 && cat "$tmp/old" "$tmp/other" >"$tmp/rotated")
    ckpt push ${way/whole/} --key "$tmp/rotated" "$dir" "$url2"
    ckpt verify --key "$tmp/old" "$url2"
    is "$rc" 0 "and anew once the key has been rotated" || note "$out" "$err"
done <<'END'
whole
--incremental
END
ckpt list --endpoint http://127.0.0.1:99999 $url
like "$rc $err" "^2 .*endpoint http://127.0.0.1:99999: '99999' is no port; it is 1 to 65535" "nor is there such a port" || note "$err"
ckpt push "$dir" s3://bucket/clear
ckpt list --key "$tmp/old" s3://bucket/clear
like "$out" 'is not encrypted' "what is not encrypted is told apart" || note "$out"
before=$(ls "$s3/objects" | wc -l)
ckpt push --all --key "$tmp/old" "$dir" s3://bucket/clear
like "$rc $err $(ls "$s3/objects" | wc -l)" "^2 .*are not encrypted, and there is a key: take another prefix.* $before$" "and a push with a key sends nothing there" || note "$out" "$err"
began=$SECONDS
truncate -s 1M "$s3"/objects/clear*g00000002*seg.1
ckpt verify --timeout 300s s3://bucket/clear
like "$rc $out" '^1 .*seg.1' "an object that has become shorter" || note "$out" "$err"
[ $((SECONDS - began)) -lt 60 ]
ok $? "is not asked for again and again"

dir=$tmp/job
job() { run_cmd timeout 60 "$muster" run -n 2 --oversubscribe --ckpt-dir "$dir" --ckpt "store=s3://bucket/job,$1,interval=5steps" "$B/tests/mpi/ckpt" "${@:2}"; }
job "full=4,key=$tmp/old" train 15 keep=2
is "$rc" 0 "a job with a key" || note "$out" "$err"
printf '%063x\n' 1 >"$tmp/short" && chmod 600 "$tmp/short"
while read -r file text; do
    job "full=4,key=$tmp/$file" train 17 keep=2
    like "$rc $out$err" "^[^0].*$text" "a directory with checkpoints, and $file: said when the job begins" || note "$out" "$err"
done <<'END'
missing key file .*missing: No such file
short short: key 1 is not 64 hexadecimal digits
other are encrypted with key [0-9a-f]{8}\.\.\., which is not in the key file
END
job "full=4" train 17 keep=2
like "$rc $out$err" '^[^0].*are encrypted, and there is no key' "nor does it go on without" || note "$out" "$err"
job "full=4,key=$tmp/old" train 20 keep=2
like "$rc $out" '^0 .*restored step 15' "and with the right one it does" || note "$out" "$err"
rm -rf "$dir"
job "full=4,key=$tmp/new" train 25 keep=2
like "$rc $out" '^0 .*restored step 20 bit by bit' "resumes with a newer one before it" || note "$out" "$err"
rm -rf "$dir"
job "full=4" train 30 keep=2
like "$rc $out$err" '^[^0].*is encrypted: name the key file' "and not without" || note "$out" "$err"
done_testing
