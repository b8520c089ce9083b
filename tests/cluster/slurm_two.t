#!/usr/bin/env bash
# Two allocations of one account on the same nodes: who waits for whom, and what their ends mean to those who wait.
. "$(dirname "$0")/slurm.sh"
export MUSTER_IDLE=3
unset MUSTER_SSH MUSTER_ENGINE
cluster_up 2 && slurm_up --cpus 4
ok $? "Slurm with two nodes"

alloc_of() { sed -n 's/.*Granted job allocation \([0-9]*\).*/\1/p' "$1"; }
has() { grep -qE -- "$2" "$1" 2>/dev/null; }
timeout 100 salloc -N2 -n2 "$muster" run sh -c 'echo runs; exec sleep 12345' >"$tmp/one" 2>&1 &
one=$!
wait_for 30 has "$tmp/one" runs
ok $? "the first one's job runs" || note "$(cat "$tmp/one")"
timeout 100 salloc -N2 -n2 "$muster" run true >"$tmp/two" 2>&1 &
two=$!
wait_for 30 has "$tmp/two" 'is queued'
like "$(cat "$tmp/two")" "job 2 is queued: waiting for host h[12]: job 1 of Slurm's allocation $(alloc_of "$tmp/one") has it; an allocation with a MUSTER_HOME of its own has a pool" "the second one's waits, and says for whom"
MUSTER_HOME=$tmp/home3 run_cmd timeout 60 salloc -N2 -n2 "$muster" run sh -c 'echo $RANK $MUSTER_NODE'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 h1,1 h2," "that of a third one does not, with a home of its own" || note "$err"

scancel "$(alloc_of "$tmp/two")"
wait_for 30 eval '! kill -0 '$two' 2>/dev/null'
ok $? "when its allocation ends, who waits ends" || note "$(cat "$tmp/two")"
like "$(cat "$tmp/two")" "job 2 .true. was cancelled: Slurm's allocation $(alloc_of "$tmp/two") has ended \((CANCELLED|COMPLETING)\)" "and says why"
kill -0 $one
ok $? "the first one's job runs on" || note "$(cat "$tmp/one")"
scancel "$(alloc_of "$tmp/one")"
wait_for 60 eval '! kill -0 '$one' 2>/dev/null'
ok $? "until its own ends" || note "$(cat "$tmp/one")"
nothing_runs() { [ -z "$(for h in $CLUSTER_HOSTS; do cluster_ps "$h" 2>/dev/null | grep -E 'muster|sleep 12345'; done)" ]; }
wait_for 30 nothing_runs && wait_for 30 slurm_idle && slurm_down
ok $? "nothing is left"
done_testing
