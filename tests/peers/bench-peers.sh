#!/usr/bin/env bash
# make bench-peers: four collectives at 2, 4 and 8 ranks of one host beside Open MPI, turn by turn in the same processes.
# Figures are microseconds a call, medians and minima; ratios above 1 are in favour of muster, "slower" and "faster" are
# said only when the 95 % interval of the median of the trials' ratios lies below 0.95 or above 1.05.
# Then the same beside MPICH and gloo, where they are installed (packages mpich and libgloo-dev, with g++; MPICC, MPIEXEC and
# GLOO for what lies elsewhere).
#   RANKS="2 4 8" OPS="allreduce reduce_scatter allgather broadcast" MIN=8 MAX=256M TRIALS=11; QUICK=1: few and small
#   RUNS=3: so often, with what it comes to: where muster is slower in most of them. KEEP=DIR: what each run has said
set -u
B=${B:-build/default}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
if [ -n "${QUICK-}" ]; then
    : "${RANKS:=2}" "${MAX:=64K}" "${TRIALS:=3}"
fi
: "${RUNS:=1}" "${RANKS:=2 4 8}" "${MIN:=8}" "${MAX:=256M}" "${TRIALS:=11}" "${OPS:=allreduce reduce_scatter allgather broadcast}"
export MIN MAX TRIALS OPS

here=$(dirname "${BASH_SOURCE[0]}") dir=${KEEP-}
if [ -z "$dir" ]; then
    dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
fi
mkdir -p "$dir" || exit 1
echo "# $(mpirun --version | head -n 1); $(nproc) CPUs, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
rc=0
one_run() {
    local p rc=0
    for p in $RANKS; do
        bind=(--bind-to core)
        [ "$p" -le "$(nproc)" ] || bind=(--oversubscribe --bind-to none)
        mpirun "${bind[@]}" -x MIN -x MAX -x TRIALS -x OPS -np "$p" "$B/tests/peers/bench_peers" || rc=1
    done
    # Those that cannot be in one process with Open MPI, turn by turn in processes of their own.
    RANKS=$RANKS python3 "$here/bench_others.py" "$B" || rc=1
    return $rc
}
for ((i = 1; i <= RUNS; i++)); do
    one_run | tee "$dir/run.$i"
    [ "${PIPESTATUS[0]}" = 0 ] || rc=1
done
python3 "$here/sum_peers.py" "$dir"/run.* || rc=1
exit $rc
