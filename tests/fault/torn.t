#!/usr/bin/env bash
# A restore says that it failed before it touches a tensor, or not at all; and never takes what the commit has refused.
. "$(dirname "$0")/../lib.sh"
for lost in "" lost; do
    rm -rf "$tmp/ckpt"
    run_cmd timeout 90 "$muster" run -n 2 --oversubscribe --on-failure=keep --restarts 0 --ckpt-dir "$tmp/ckpt" \
        "$B/tests/fault/torn" interval=1h $lost
    like "$out" '^(0 restored|-[0-9]+ untouched)$' "a rank dies while its tensors are written${lost:+, of a checkpoint in memory alone}" ||
        note "$out" "$err"
done
rm -rf "$tmp/ckpt"
run_cmd timeout 90 "$muster" run -n 2 --oversubscribe --restarts 0 --ckpt-dir "$tmp/ckpt" "$B/tests/mpi/ckpt_refused" interval=1h
is "$rc $(grep -c '^ok' <<<"$out") $(grep -c '^not ok' <<<"$out")" "0 9 0" "what ranks describe in ways that do not fit is refused, and not restored from memory" ||
    note "$out" "$err"
done_testing
