#!/usr/bin/env bash
# A checkpoint whose ranks contradict one another, which only older releases commit, is found by everybody who looks at
# it: in a directory, on its way to an object store, there, and on its way back.
. "$(dirname "$0")/s3.sh"

# The files of a generation as objects, as a push without a look would have made them.
as_objects() { # DIR PREFIX
    python3 - "$1" "$s3" "$2" <<'END'
import hashlib, json, os, struct, sys
from urllib.parse import quote
d, s3, prefix = sys.argv[1] + "/g00000001", sys.argv[2], sys.argv[3]
epoch, nonce = struct.unpack("<QQ", open(d + "/COMMIT", "rb").read()[40:56])
for f in os.listdir(d):
    data = open(f"{d}/{f}", "rb").read()
    key = quote(f"{prefix}/g00000001.a{epoch}.{nonce:016x}/{f}", safe="")
    open(f"{s3}/objects/{key}", "wb").write(data)
    open(f"{s3}/meta/{key}", "w").write(json.dumps({"meta": "", "etag": hashlib.md5(data).hexdigest()}))
END
}
while read -r kind text; do
    "$B/tests/fault/mixed" "$tmp/$kind" "$kind" || note "not made"
    ckpt verify "$tmp/$kind"
    like "$rc $out" "^1 .*$text" "$kind: ckpt verify" || note "$out" "$err"
    ckpt export "$tmp/$kind" "$tmp/file"
    like "$rc $err $(ls "$tmp/file" 2>&1)" "^1 .*cannot be used: .*$text.*No such file" "ckpt export" || note "$out" "$err"
    ckpt show "$tmp/$kind"
    like "$rc $err" "^1 .*$text" "ckpt show" || note "$out" "$err"
    run_cmd "$B/tests/fault/mixed" "$tmp/$kind" load
    like "$rc $out" "^0 .*$text" "a restore" || note "$out" "$err"
    ckpt push "$tmp/$kind" "s3://bucket/$kind"
    like "$rc $err" "^1 .*cannot be used: .*$text.*none of the checkpoints" "ckpt push" || note "$out" "$err"
    as_objects "$tmp/$kind" "$kind"
    ckpt verify "s3://bucket/$kind"
    like "$rc $out" "^1 .*$text" "ckpt verify s3://" || note "$out" "$err"
    ckpt pull "s3://bucket/$kind" "$tmp/back"
    like "$rc $err" "^1 .*cannot be used: .*$text" "ckpt pull" || note "$out" "$err"
    is "$(find "$tmp/back" -name 'g*1' 2>/dev/null)" "" "and nothing is there"
    rm -rf "$tmp/back"
done <<'END'
overlap the blocks of ranks 0 and 1 overlap
hole tensor "w" of \[8\]: no rank saves the block of \[1\] at \[3\]
types rank 0 saves it as float32, rank 1 as int32
END
done_testing
