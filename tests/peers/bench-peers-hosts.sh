#!/usr/bin/env bash
# make bench-peers-hosts: all operations over two and four hosts (network namespaces) with links of 1 Gbit/s, beside Open
# MPI's own, turn by turn in the same processes, after both were found right. Columns as of make bench-peers; "of the wire"
# is the time that what has to move takes on each link (of an all-reduce 2 (n - 1) / n of the vector, of a reduce-scatter or
# all-gather half of that, of a broadcast all of it), through the median; more than 100 %: the bucket was not empty.
#   HOSTS="2 4" PPN="1 2" OPS=allreduce,reduce_scatter,allgather,broadcast MIN=8 MAX=16M TRIALS=11 RATE=1000 (Mbit/s); QUICK=1: few and small
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
if [ -n "${QUICK-}" ]; then
    : "${HOSTS:=2}" "${MAX:=64K}" "${TRIALS:=3}"
fi
: "${HOSTS:=2 4}" "${PPN:=1 2}" "${OPS:=allreduce,reduce_scatter,allgather,broadcast}" "${MIN:=8}" "${MAX:=16M}" "${TRIALS:=11}" "${RATE:=1000}"
BURST=256 # kB that a link lets through at once: before a batch it waits until the one before has left that
export OPS MIN MAX TRIALS WIRE REST
WIRE=$((RATE / 8)) REST=$((BURST * 8000 / RATE * 3 / 2))
sizes=$HOSTS most=0
for n in $sizes; do [ "$n" -le $most ] || most=$n; done
cluster_up "$most" || exit
echo "# $(mpirun --version | head -n 1); $(nproc) CPUs for all hosts, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
if unshare --net tc qdisc add dev lo root tbf rate 1gbit burst 256kb latency 50ms 2>/dev/null; then
    for ((i = 1; i <= most; i++)); do
        tc qdisc replace dev "h$i" root tbf rate "${RATE}mbit" burst "${BURST}kb" latency 50ms &&
            cluster_exec "h$i" tc qdisc replace dev eth0 root tbf rate "${RATE}mbit" burst "${BURST}kb" latency 50ms || exit
    done
    echo "# links of $RATE Mbit/s each way"
else
    echo "# links of $RATE Mbit/s: skipped, this kernel has no token bucket (tbf); the links are as fast as the machine"
    unset WIRE REST
fi
rc=0
for n in $sizes; do
    for ppn in $PPN; do
        where=$(for ((i = 1; i <= n; i++)); do printf '%sh%d:%d' "$([ $i = 1 ] || echo ,)" $i "$ppn"; done)
        echo "# $n hosts, ranks on each: $ppn"
        export HOSTS=$n
        # Hosts that are one machine do not see that it has fewer CPUs than ranks: both are told.
        export MUSTER_YIELD=$((n * ppn > $(nproc)))
        cluster_mpirun --mca mpi_yield_when_idle $MUSTER_YIELD --oversubscribe -H "$where" -x MIN -x MAX -x TRIALS -x OPS \
            -x HOSTS -x MUSTER_YIELD ${WIRE:+-x WIRE -x REST} -np $((n * ppn)) "$B/tests/peers/bench_peers" || rc=1
    done
done
# shellcheck disable=SC2034
tap_planned=0
exit $rc
