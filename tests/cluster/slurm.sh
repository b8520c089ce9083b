#!/usr/bin/env bash
# Slurm on the test cluster: slurmctld on the head, slurmd and munged in each host, the configuration in /etc/slurm as
# on a real site. A test sources this in place of cluster.sh:
#     . "$(dirname "$0")/slurm.sh"
#     cluster_up 4 && slurm_up --cpus 2
#     run_cmd salloc -N4 "$muster" run ./train
# A host that loses its power and boots again comes back to Slurm by itself. The head runs munged, too, and is no node.
#
#   slurm_up [--cpus N] [--timeout SECONDS]  2 CPUs a node; seconds until Slurm calls a silent node down (15)
#   slurm_down                               ends it all (not needed at the end)
#   slurm_idle                               whether all nodes are idle
#   slurm_log                                the ends of the daemons' logs
slurm_dir=/run/cluster/slurm

slurm_missing() { # prints why there can be no Slurm here; nothing if there can
    local c
    for c in slurmctld slurmd srun munged; do
        command -v $c >/dev/null || { echo "$c is not installed"; return; }
    done
}
PATH=$PATH:/usr/sbin:/sbin
slurm_why=$(slurm_missing)
if [ -n "$slurm_why" ]; then
    echo "1..0 # SKIP $slurm_why"
    exit 0
fi
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"

slurm_log() { tail -n 15 $slurm_dir/*.log $CLUSTER_DIR/h*/slurm*.log 2>/dev/null; }
slurm_idle() { [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = "$(wc -l <$CLUSTER_DIR/hosts)" ]; }

slurm_up() {
    local cpus=2 timeout=15 n
    while [ $# -gt 0 ]; do
        case $1 in
        --cpus) cpus=$2 ;;
        --timeout) timeout=$2 ;;
        *) cl_fail "slurm_up: unknown option '$1'" || return ;;
        esac
        shift 2
    done
    n=$(wc -l <$CLUSTER_DIR/hosts) || return
    mkdir -p $slurm_dir/etc $slurm_dir/state
    (umask 077 && head -c 128 /dev/urandom >$slurm_dir/munge.key)
    cat >$slurm_dir/etc/slurm.conf <<END
ClusterName=muster
SlurmctldHost=head($(cl_addr head))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=$slurm_dir/state
SlurmctldPidFile=$slurm_dir/slurmctld.pid
SlurmctldLogFile=$slurm_dir/slurmctld.log
SlurmdSpoolDir=$CLUSTER_DIR/%n/slurm
SlurmdPidFile=$CLUSTER_DIR/%n/slurmd.pid
SlurmdLogFile=$CLUSTER_DIR/%n/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000
ReturnToService=2
SlurmdTimeout=$timeout
SlurmctldTimeout=15
InactiveLimit=0
KillWait=5
Waittime=0
NodeName=h[1-$n] NodeAddr=10.213.0.[1-$n] CPUs=$cpus State=UNKNOWN
PartitionName=all Nodes=h[1-$n] Default=YES MaxTime=INFINITE State=UP
END
    # Newer ones look for a cgroup of their own, older ones do not know the word.
    if [[ $(slurmd -V) =~ ([0-9]+)\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}${BASH_REMATCH[2]}" -ge 2311 ]; then
        echo CgroupPlugin=disabled >$slurm_dir/etc/cgroup.conf
    fi
    cat >$slurm_dir/munged.sh <<END
mkdir -p /run/munge
exec munged --force --key-file=$slurm_dir/munge.key --socket=/run/munge/munge.socket.2 --pid-file=/run/munge/munged.pid \
    --seed-file=\$1.seed --log-file=\$1.log
END
    cat >$slurm_dir/services <<END
mountpoint -q /etc/slurm || mount --bind $slurm_dir/etc /etc/slurm # of the head, where that came first
bash $slurm_dir/munged.sh $CLUSTER_DIR/\$1/munged && slurmd || exit
# it has become the daemon that stays when it has written its number
for i in \$(seq 500); do [ -s $CLUSTER_DIR/\$1/slurmd.pid ] && kill -0 \$(cat $CLUSTER_DIR/\$1/slurmd.pid) && exit; sleep 0.02; done
exit 1
END
    "${cl_clean[@]}" bash $slurm_dir/munged.sh $slurm_dir/munged && mount --bind $slurm_dir/etc /etc/slurm &&
        "${cl_clean[@]}" slurmctld && cluster_services $slurm_dir/services && cl_wait 60 slurm_idle ||
        cl_fail "Slurm does not come up: $(sinfo 2>&1)" "$(slurm_log)"
}

slurm_down() {
    local h
    rm -f $CLUSTER_DIR/services
    for h in $(cl_hosts); do
        [ ! -e "$CLUSTER_DIR/$h/up" ] || cluster_exec "$h" sh -c 'pkill -x slurmd; pkill -x slurmstepd; pkill -x munged; umount /etc/slurm'
    done
    pkill -x slurmctld
    pkill -x munged
    cl_wait 60 eval '! pgrep "^(slurm|munged)" >/dev/null' || cl_fail "Slurm does not end"
    umount /etc/slurm
    rm -rf $slurm_dir
}
