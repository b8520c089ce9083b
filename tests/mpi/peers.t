#!/usr/bin/env bash
# make bench-peers, a little of it: all four operations are right on all three ways, and every size is in the table.
. "$(dirname "$0")/../lib.sh"

# Another MPI in processes of its own: here it is the same one.
out=$(MPICC=mpicc MPIEXEC='mpirun --oversubscribe' GLOO=/none B=$B QUICK=1 MIN=32K RANKS=3 "$root/tests/peers/bench-peers.sh" 2>&1)
ok $? "it runs" || note "$(tail -n 20 <<<"$out")"
for op in allreduce reduce_scatter allgather broadcast; do
    is "$(grep -cE "^$op +3 +(32|64) KiB( +[0-9.]+){6}  +[0-9.]+ \[[0-9.]+, [0-9.]+\] (slower|even|faster)  +[0-9.]+ \[" <<<"$out")" 2 "$op: two sizes"
done
! grep -q WRONG <<<"$out"
ok $? "and all results are right"
is "$(grep -cE "^[a-z_]+ +3 +(32|64) KiB( +[0-9.]+){6}  +[0-9.]+ \[[0-9.]+, [0-9.]+\] (slower|even|faster)$" <<<"$out")" 8 "and beside those in processes of their own"
grep -q '^# gloo: skipped' <<<"$out"
ok $? "what is not compared is said by name"
done_testing
