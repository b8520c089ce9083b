#!/usr/bin/env bash
# shellcheck disable=SC2034
# For tests of object stores, in place of tests/lib.sh: a server of its own (s3_server.py) that keeps its objects below
# $s3 and ends with the test, credentials for it, and `ckpt`, which is muster ckpt by run_cmd.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
grep -q 'define HAVE_CURL 1' "$B/config.h" || skip_all "built without libcurl"
s3=$tmp/s3
mkdir "$s3"
python3 tests/fault/s3_server.py "$s3" 2>"$tmp/server.err" &
server=$!
trap 'kill $server 2>/dev/null; tap_exit' EXIT
wait_for 30 test -s "$s3/port" || note "$(cat "$tmp/server.err")"
unset "${!AWS_@}"
AWS_ENDPOINT_URL=http://127.0.0.1:$(cat "$s3/port")
export HOME=$tmp AWS_ACCESS_KEY_ID=AKTEST AWS_SECRET_ACCESS_KEY=SECRETTEST AWS_ENDPOINT_URL
ckpt() { run_cmd timeout 60 "$muster" ckpt "$@"; }
