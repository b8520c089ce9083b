#!/usr/bin/env bash
# make soak-coll-hosts: ROUNDS (1000) ranks killed or stopped inside collectives between hosts, a quarter of the rounds on
# each of four layouts; a death is to be known everywhere after 1 s. SEED repeats the choices.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
cluster_up 4
ok $? "four hosts" || done_testing
# Hosts that are one machine do not see that it has fewer CPUs than ranks.
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=120 MUSTER_YIELD=1
rounds=$(((${ROUNDS:-1000} + 3) / 4)) seed=${SEED:-$RANDOM$RANDOM}
for hosts in h1:1,h2:1 h1:2,h2:2 h1:3,h2:1 h1:1,h2:2,h3:1,h4:1; do
    TMPDIR=$tmp HOSTS=$hosts STOPS=1 ROUNDS=$rounds SEED=$seed BOUND_MS=${BOUND_MS:-1000} \
        "$root/tests/fault/coll_kill.t" >"$tmp/kill" 2>&1
    is $? 0 "ranks on $hosts are killed and stopped inside collectives: the others are told who" || note "$(grep -v ^ok "$tmp/kill")"
    note "$(grep known "$tmp/kill")"
done
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
