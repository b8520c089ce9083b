#!/usr/bin/env bash
# make bench-ckpt, small: it measures what it says, and what it restores is right.
. "$(dirname "$0")/../lib.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root for hosts made of namespaces"
HOSTS=3 MIB=2 ROUNDS=2 LOSSES=1 PROTECT=rs:1 bash "$root/tests/peers/bench-ckpt.sh" >"$tmp/o" 2>"$tmp/e"
rc=$?
case $(cat "$tmp/o") in "1..0 # "*) skip_all "$(sed 's/.*[Ss][Kk][Ii][Pp] *//' "$tmp/o")" ;; esac
is $rc 0 "it runs" || note "$(cat "$tmp/o" "$tmp/e")"
for what in 'what is restored  *right, bit by bit' 'memcpy, prefaulted' 'save: the loop waits' 'save: protected after' 'save: durable after' \
    'restore from memory, verified' 'background, copies on peers' 'background, sums and writing' 'lost: init .* restored and verified'; do
    like "$(cat "$tmp/o")" "$what" "it says: $what"
done
wire=$(sed -n 's/^on the wire, a rank  *\([0-9.]*\) .*/\1/p' "$tmp/o")
ok "$(awk -v w="${wire:-0}" 'BEGIN { print !(w > 1 && w < 1.15) }')" "three hosts and one parity: a byte on the wire for each ($wire)"
done_testing
