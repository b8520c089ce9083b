#!/usr/bin/env bash
# A save whose ranks contradict one another is refused by name on hosts that protect their saves for one another, too;
# when some of these are lost the one before comes back, out of their memory or the directory, and never that one.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 6 || exit
export MUSTER_IDLE=60
job=0
held() { [ -e "$dir/held" ]; }
ended() { ! kill -0 "$run" 2>/dev/null; }
text='tensor "more": the blocks of ranks 1 and 2 overlap, and are not the same block'
while read -r options lost wipe; do
    dir=$tmp/ckpt$((job += 1))
    "$muster" run --ssh "$CLUSTER_SSH" -H h1:1,h2:1,h3:1,h4:1,h5:1,h6:1 -n 4 --spares 2 --restarts 3 "$B/tests/fault/refused" "$dir" "$options" $wipe </dev/null >"$tmp/o" 2>"$tmp/e" &
    run=$!
    wait_for 90 held || { note "$(cat "$tmp/o" "$tmp/e")"; kill $run; }
    is "$(grep -c "^\(store\|peers\): refused on all ranks: .*$text" "$tmp/o")" 2 "$options: a save that contradicts itself is refused" ||
        note "$(cat "$tmp/o" "$tmp/e")"
    is "$(cd "$dir" && echo g*/COMMIT)" "$([ -n "$wipe" ] && echo 'g*' || echo g00000001)/COMMIT" "and not in the directory"
    for h in ${lost//,/ }; do cluster_kill_host "$h"; done
    wait_for 90 ended || { note "$("$muster" events $job)"; kill $run; }
    wait $run
    like "$(cat "$tmp/o")" "attempt 2: 0, step 1 right: .*$text" "${lost/,/ and } lost: the one before comes back${wipe:+, out of memory}" ||
        note "$(cat "$tmp/o" "$tmp/e")"
    for h in ${lost//,/ }; do cluster_start_host "$h"; done
done <<'END'
protect=rs:2 h2,h3 wipe
protect=rs:2 h1,h2
protect=mirror h3 wipe
END
"$muster" controller --stop --force
wait_for 30 eval '[ -z "$(cluster_orphans)" ]'
ok $? "nothing is left" || note "$(cluster_orphans)"
done_testing
