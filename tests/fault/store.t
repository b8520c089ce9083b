#!/usr/bin/env bash
# Hundreds of seeded faults against a checkpoint directory and the arena (tests/fault/store.c); make soak-store: thousands.
. "$(dirname "$0")/../lib.sh"
case $B in */san-*) skip_all "the shim is preloaded before the sanitizer's runtime" ;; esac
each=${CASES:-150}
first=${SEED:-$((RANDOM * 32768 + RANDOM))}
cases() { LD_PRELOAD=$B/tests/fault/io_shim.so TMPDIR=$tmp timeout "${LIMIT:-500}" "$B/tests/fault/store" "$1" "$each" >"$tmp/o$2" 2>&1; }
cases 1 a &
a=$!
cases "$first" b &
b=$!
wait $a
ok $? "$(tail -n 1 "$tmp/oa"), of seeds 1 and on" || note "$(cat "$tmp/oa")"
wait $b
ok $? "$(tail -n 1 "$tmp/ob"), of seeds $first and on" || note "$(cat "$tmp/ob")"
is "$(find "$tmp" -name 'muster-ckpt-*' | wc -l)" 0 "nothing is left"
done_testing
