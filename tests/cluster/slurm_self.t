#!/usr/bin/env bash
# Slurm on the test cluster works as on a site of its own, and nothing of it is left.
. "$(dirname "$0")/slurm.sh"

cluster_up 4 && slurm_up
ok $? "Slurm comes up on four hosts" || done_testing
run_cmd srun -N4 --ntasks-per-node=2 hostname
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:h1 h1 h2 h2 h3 h3 h4 h4 " "srun" || note "$err" "$(slurm_log)"
wait_for 30 slurm_idle
run_cmd salloc -w 'h[1-3]' sh -c 'hostname; echo $SLURM_JOB_NODELIST; srun hostname | sort | tr "\n" " "'
is "$rc:$out" "0:head"$'\n'"h[1-3]"$'\n'"h1 h2 h3 " "salloc" || note "$err"
printf '#!/bin/sh\nhostname\nsrun hostname | sort | tr "\\n" " "\necho $SLURM_JOB_NUM_NODES\n' >"$tmp/job"
run_cmd sbatch -W -N4 -o "$tmp/job.out" "$tmp/job"
is "$rc:$(cat "$tmp/job.out")" "0:h1"$'\n'"h1 h2 h3 h4 4" "sbatch" || note "$err"
run_cmd cluster_exec h3 srun -N2 -w h1,h2 hostname
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:h1 h2 " "srun on a host" || note "$err"
run_cmd salloc -N2 --ntasks-per-node=2 mpirun --bind-to none "$B/tests/mpi/hello"
is "$rc:$(grep -c '^hello from . of 4' <<<"$out")" 0:4 "mpirun finds the allocation" || note "$out" "$err"

sbatch -N4 -o /dev/null --wrap 'srun sleep 1234' >/dev/null
sleeps() { [ "$(ps -e -o args= | grep -cE '^[^ ]*slee[p] 1234')" = "$1" ]; }
wait_for 30 sleeps 4
ok $? "a job runs on all hosts" || note "$(squeue)" "$(slurm_log)"
scancel -u root
wait_for 30 sleeps 0 && wait_for 30 slurm_idle
ok $? "scancel ends it" || note "$(sinfo -N)"
wait_for 30 eval '[ -z "$(cluster_orphans)" ]'
ok $? "nothing is left in any host, and Slurm's daemons are not taken for it" || note "$(cluster_orphans)"

cluster_kill_host h2
cluster_start_host h2
ok $? "a host boots again"
wait_for 30 slurm_idle && run_cmd srun -N4 hostname
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:h1 h2 h3 h4 " "and is back in Slurm" || note "$err" "$(sinfo -N)"
before=$(ls -l /etc/slurm)
slurm_down
ok $? "Slurm ends"
isnt "$(ls -l /etc/slurm)" "$before" "its configuration is gone"
is "$(pgrep -l 'slurm|munge')" "" "its daemons, too"
run_cmd cluster_orphans
is "$out" "" "and the hosts are as before"
slurm_up --cpus 4 --timeout 5 && run_cmd srun -n 16 hostname
is "$rc:$(sort <<<"$out" | uniq -c | tr -s ' \n' ' ')" "0: 4 h1 4 h2 4 h3 4 h4 " "it comes up again" || note "$err" "$(slurm_log)"
done_testing
