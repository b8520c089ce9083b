#!/usr/bin/env bash
# A hundred seeded faults against saves that nodes protect for one another (tests/fault/protected.c), and that planted
# mistakes are found; make soak-store: thousands.
. "$(dirname "$0")/../lib.sh"
case $B in */san-*) skip_all "the shim is preloaded before the sanitizer's runtime" ;; esac
each=${CASES:-50}
first=${SEED:-$((RANDOM * 32768 + RANDOM))}
cases() { LD_PRELOAD=$B/tests/fault/io_shim.so timeout "${LIMIT:-500}" "$B/tests/fault/protected$1" "${@:3}" >"$tmp/o$2" 2>&1; }
cases '' a 1 "$each" &
a=$!
cases '' b "$first" "$each" &
b=$!
wait $a
ok $? "$(tail -n 1 "$tmp/oa"), of seeds 1 and on" || note "$(cat "$tmp/oa")"
wait $b
ok $? "$(tail -n 1 "$tmp/ob"), of seeds $first and on" || note "$(cat "$tmp/ob")"
found() { # MISTAKE SEED WHAT
    cases -mutants m "$2" 1 "$1"
    is $? 1 "$3 is found" || note "$(cat "$tmp/om")"
}
found 1 126 "a node that gives what it has not summed"
found 2 29 "a save that is said to be protected too early"
found 3 10 "a parity that is written over the newer one"
done_testing
