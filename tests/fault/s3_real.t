#!/usr/bin/env bash
# slow
# Checkpoints in real object stores: Ceph's radosgw and OpenStack Swift, each where it is installed.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/s3_real.sh"
grep -q 'define HAVE_CURL 1' "$B/config.h" || skip_all "built without libcurl"
unset "${!AWS_@}"
export HOME=$tmp
trap 'down "$tmp/ceph"; down "$tmp/swift"; tap_exit' EXIT
ckpt() { run_cmd env MUSTER_HOME="$tmp/none" timeout 60 "$muster" ckpt "$@"; }
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)" <<<"$out"; }
"$B/tests/fault/generations" "$tmp/small" 3 200 3 && "$B/tests/fault/generations" "$tmp/large" 2 12000 1 && "$B/tests/fault/generations" "$tmp/grow" 2 6000 2 20 &&
    (umask 077 && printf '%064x\n' 12345 >"$tmp/key")
ok $? "directories of checkpoints"

try_store() { # NAME
    local url=s3://ckpt/job
    python3 tests/fault/s3_bucket.py ckpt >"$tmp/bucket"
    ok $? "$1: a bucket" || { note "$(cat "$tmp/bucket")" "$(tail -n 5 "$tmp/$1"/log/*)"; return; }
    ckpt push --all "$tmp/small" $url/small
    is "$rc $(grep -c sent <<<"$out")" "0 3" "$1: push" || note "$err"
    ckpt push --all --json "$tmp/small" $url/small
    is "$rc $(json "[g['there_bytes'] > 600000 and g['moved_bytes'] < 1000 for g in d['generations']]")" "0 [True, True, True]" "$1: what is there is not sent again"
    ckpt push --part-size 5M --read-back "$tmp/large" "$url/large +=&%"
    is "$rc" 0 "$1: parts, below a prefix that must be encoded" || note "$err"
    ckpt verify "$url/large +=&%"
    like "$rc $out" "^0 .*verified" "$1: verify" || note "$err"
    ckpt pull "$url/large +=&%" "$tmp/$1.large"
    diff -r "$tmp/large/g00000001" "$tmp/$1.large/g00000001" >/dev/null
    ok $? "$1: pull makes the same files" || note "$err"
    # a push that is killed on its way
    "$muster" ckpt push --part-size 5M --connections 1 "$tmp/large" $url/killed >/dev/null 2>&1 &
    sleep 0.3
    kill -9 $!
    wait $! 2>/dev/null
    ckpt push --part-size 5M --json "$tmp/large" $url/killed
    is "$rc" 0 "$1: the next push after one that was killed" || note "$err"
    note "$(json "'there %d, moved %d' % (d['generations'][0]['there_bytes'], d['generations'][0]['moved_bytes'])")"
    ckpt verify $url/killed
    is "$rc" 0 "$1: and all is there" || note "$err"
    ckpt pin $url/small 1
    ckpt prune --keep 1 $url/small
    like "$rc $out" "^0 removed generation 2" "$1: pin and prune" || note "$err"
    ckpt list --json $url/small
    is "$rc $(json "[(g['id'], g['complete'], g['pinned']) for g in d['generations']]")" "0 [(3, True, False), (1, True, True)]" "$1: list" || note "$err"
    for g in 1 2; do
        ckpt push --incremental --json --part-size 5M --key "$tmp/key" "$tmp/grow" $url/grow $g
    done
    is "$rc $(json "d['generations'][0]['moved_bytes'] < 6e6")" "0 True" "$1: encrypted, less what is there" || note "$out" "$err"
    ckpt pull --key "$tmp/key" $url/grow "$tmp/$1.grow"
    diff -r "$tmp/grow/g00000002" "$tmp/$1.grow/g00000002" >/dev/null
    ok $? "$1: it comes back as it was" || note "$err"
    for steps in 10 20; do
        rm -rf "$tmp/job"
        run_cmd timeout 60 "$muster" run -n 2 --oversubscribe --ckpt-dir "$tmp/job" --ckpt "store=$url/job,full=3,key=$tmp/key,interval=5steps" \
            "$B/tests/mpi/ckpt" train $steps keep=2
    done
    like "$rc $out" "^0 .*restored step 10 bit by bit" "$1: a job resumes from it" || note "$out" "$err"
    AWS_SECRET_ACCESS_KEY=wrong ckpt list $url/small
    like "$rc $err" "^1 .*403 SignatureDoesNotMatch.*credentials of AWS_ACCESS_KEY_ID$" "$1: a wrong secret"
    ckpt list s3://nosuch/x
    like "$rc $err" "^1 .*404 NoSuchBucket" "$1: no such bucket"
}

missing() { # COMMAND...: the first that is not installed
    local c
    for c in "$@"; do
        command -v "$c" >/dev/null || { echo "$c"; return 0; }
    done
    return 1
}
PATH=$PATH:/usr/sbin:/sbin
for store in ceph swift; do
    case $store in
    ceph) need=(radosgw radosgw-admin ceph-mon ceph-mgr ceph-osd ceph) ;;
    swift) need=(swift-proxy-server swift-object-server swift-container-server swift-account-server memcached) ;;
    esac
    if what=$(missing "${need[@]}"); then
        skip "$what is not installed" 13
        continue
    fi
    up_$store "$tmp/$store"
    ok $? "$store comes up" || { note "$(tail -n 20 "$tmp/$store"/log/*)"; continue; }
    try_store $store
    down "$tmp/$store"
done
done_testing
