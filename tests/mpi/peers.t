#!/usr/bin/env bash
# make bench-peers, a little of it: all four operations are right on all three ways, and every size is in the table.
. "$(dirname "$0")/../lib.sh"

# Another MPI in processes of its own: here it is the same one.
out=$(MPICC=mpicc MPIEXEC='mpirun --oversubscribe' GLOO=/none B=$B KEEP=$tmp/runs QUICK=1 MIN=32K RANKS=3 "$root/tests/peers/bench-peers.sh" 2>&1)
ok $? "it runs" || note "$(tail -n 20 <<<"$out")"
for op in allreduce reduce_scatter allgather broadcast; do
    is "$(grep -cE "^$op +3 +(32|64) KiB( +[0-9.]+){6}  +[0-9.]+ \[[0-9.]+, [0-9.]+\] (slower|even|faster)  +[0-9.]+ \[" <<<"$out")" 2 "$op: two sizes"
done
! grep -q WRONG <<<"$out"
ok $? "and all results are right"
is "$(grep -cE "^[a-z_]+ +3 +(32|64) KiB( +[0-9.]+){6}  +[0-9.]+ \[[0-9.]+, [0-9.]+\] (slower|even|faster)$" <<<"$out")" 8 "and beside those in processes of their own"
grep -q '^# gloo: skipped' <<<"$out"
ok $? "what is not compared is said by name"
like "$out" 'MPI / mapped +3 +1 ( +[0-9]+){4}.*MPI / private +3 +1 .*mpich / private +3 +1 .*wrong results: muster 0$' "it says what it comes to"

# three runs: slower is who was said to be in two of them
said() { # FILE VERDICT...
    printf 'op              p     size  MPI / private, MPI / mapped [95 %%]\n' >"$1"
    printf '%-14s %2d %8s 1.0 1.0 1.0 1.0 1.0 1.0    0.90 [0.88, 0.92] %s    2.00 [1.90, 2.10] faster\n' \
        allreduce 2 '8 B' "$2" broadcast 2 '1 MiB' "$3" >>"$1"
}
said "$tmp/1" slower even
said "$tmp/2" even slower
said "$tmp/3" slower faster
printf 'allreduce       2     16 B 1.0 1.0 1.0 1.0 1.0 1.0    1.00 [0.98, 1.02] even    1.00 [0.98, 1.02] even  WRONG: MPI, gloo\n' >>"$tmp/3"
run_cmd python3 tests/peers/sum_peers.py "$tmp/1" "$tmp/2" "$tmp/3"
like "$rc $out" $'^0 .*MPI / private +2 +3 +1 +3 +3 +1\n' "runs are counted"
like "$out" 'slower in most runs: MPI / private, allreduce, 2 ranks, 8 B: 0\.90 \[0\.88, 0\.92\], 0' "who is slower in two of three is said"
unlike "$out" 'broadcast' "and nobody else"
like "$out" 'wrong results: muster 0, MPI 1, gloo 1$' "and whose results were wrong"
done_testing
