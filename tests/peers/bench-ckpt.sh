#!/usr/bin/env bash
# make bench-ckpt: what checkpoints cost, beside a bare memcpy and plain writes of the same bytes in the same run
# (ckpt_cost.c says what is measured), and how soon a job goes on that has lost two of its hosts. HOSTS=8 hosts of
# namespaces with a rank each, MIB=256 of state a rank, ROUNDS=5, LOSSES=3, PROTECT="none mirror rs:1 rs:2". What is
# written goes below DISK: where the build is, as the hosts' /tmp is memory.
. "$(dirname "$0")/../cluster/cluster.sh"
hosts=${HOSTS:-8} mib=${MIB:-256} rounds=${ROUNDS:-5} losses=${LOSSES:-3}
spares=2 # hosts that are lost, and who takes their place
cluster_up $((hosts + spares)) || exit
export MUSTER_IDLE=60
bad=0
prog=$B/tests/peers/ckpt_cost
work=$(mktemp -d "${DISK:-$B}/bench-ckpt.XXXXXX") || exit
trap 'rc=$?; rm -rf "$work"; (exit $rc); tap_exit' EXIT
list=$(seq -s, -f 'h%g:1' "$hosts")
all=$(seq -s, -f 'h%g:1' $((hosts + spares)))

for protect in ${PROTECT:-none mirror rs:1 rs:2}; do
    dir=$work/$protect
    mkdir -p "$dir"
    echo "# $hosts hosts, $mib MiB a rank, protect=$protect: medians of $rounds rounds, and from the least to the most"
    timeout 900 "$muster" run --ssh "$CLUSTER_SSH" -H "$list" --restarts 0 "$prog" "$mib" "$rounds" "$dir" "protect=$protect" || {
        echo "failed"
        bad=1
    }
    rm -rf "$dir"
done

if [ "$losses" -gt 0 ]; then
    echo "# $hosts hosts, $mib MiB a rank, protect=rs:2, no directory: two hosts lose their power, two others take their place"
fi
for trial in $(seq "$losses"); do
    dir=$tmp/lost.$trial
    mkdir -p "$dir"
    timeout 300 "$muster" run --ssh "$CLUSTER_SSH" -H "$all" --spares $spares --restarts 2 "$prog" "$mib" lost "$dir" protect=rs:2 >"$tmp/o" 2>"$tmp/e" &
    run=$!
    held() { [ -e "$dir/held" ] || ! kill -0 $run 2>/dev/null; }
    wait_for 280 held
    date +%s.%N >"$dir/lost"
    cluster_kill_host h2
    cluster_kill_host h3
    if wait $run && grep '^lost: ' "$tmp/o"; then
        :
    else
        echo "failed"
        sed 's/^/# /' "$tmp/o" "$tmp/e"
        bad=1
    fi
    rm -rf "$dir"
    cluster_start_host h2
    cluster_start_host h3
done
"$muster" controller --stop --force
# shellcheck disable=SC2034
tap_planned=0
exit $bad
