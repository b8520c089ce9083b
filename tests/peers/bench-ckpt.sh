#!/usr/bin/env bash
# make bench-ckpt: what a checkpoint costs, unprotected and protected, beside a bare memcpy and plain writes of the same
# bytes in the same run. HOSTS=8 hosts of namespaces with a rank each, MIB=256 of state a rank, ROUNDS=5.
. "$(dirname "$0")/../cluster/cluster.sh"
hosts=${HOSTS:-8} mib=${MIB:-256} rounds=${ROUNDS:-5}
cluster_up "$hosts" || exit
export MUSTER_IDLE=60
list=$(seq -s, -f 'h%g:1' "$hosts")
cpu() { awk '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / 100 }' /proc/stat; }
sent() { # bytes that all hosts have sent
    local h n=0
    for h in $(seq -f 'h%g' "$hosts"); do
        n=$((n + $(cluster_exec "$h" cat /proc/net/dev | awk '/eth|veth|net/ { gsub(":", " "); s += $10 } END { print s + 0 }')))
    done
    echo $n
}
for protect in none mirror rs:1 rs:2; do
    dir=$tmp/ckpt.$protect
    mkdir -p "$dir"
    before=$(sent) busy=$(cpu)
    echo "# $hosts hosts, $mib MiB a rank, protect=$protect"
    timeout 900 "$muster" run --ssh "$CLUSTER_SSH" -H "$list" --restarts 0 "$B/tests/peers/ckpt_cost" "$mib" "$rounds" "$dir" "protect=$protect" ||
        echo "# failed"
    awk -v n="$(($(sent) - before))" -v b="$((hosts * mib * 1048576 * (rounds + 1)))" -v c="$(cpu)" -v was="$busy" \
        'BEGIN { printf "%-34s %8.2f B for each byte saved\n%-34s %8.2f s for each GiB saved, all work of the run\n", "on the wire", n / b, "CPU", (c - was) / (b / 1073741824) }'
    rm -rf "$dir"
done
"$muster" controller --stop --force
# shellcheck disable=SC2034
tap_planned=0
exit 0
