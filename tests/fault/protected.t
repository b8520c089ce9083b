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
found() { # MISTAKE CASE WHAT BY_WHAT
    cases '' n "$2"
    is $? 0 "$3 is not there" || note "$(cat "$tmp/on")"
    cases -mutants m "$2" "$1"
    is "$? $(grep -cE "$4" "$tmp/om")" '1 1' "and would be found" || note "$(cat "$tmp/om")"
}
found 1 unsummed "a node that gives what it has not summed" 'step 2 is protected, .* came back'
found 2 early "a save that is said to be protected too early" 'is said to be protected, but node . has not sealed it'
found 3 newer "a parity that is written over the newer one" 'step 2 is protected, .* came back'
found 4 torn "a group that is read while the next one is set" 'step 2 is not protected: .*the attempt that made it is over'
done_testing
