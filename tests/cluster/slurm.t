#!/usr/bin/env bash
# Jobs inside Slurm's allocations: the hosts are the allocation's, agents come by srun and go with it.
. "$(dirname "$0")/slurm.sh"
export MUSTER_IDLE=3
unset MUSTER_SSH MUSTER_ENGINE
cluster_up 4 && slurm_up --cpus 2
ok $? "Slurm with four nodes"

ours() { # HOST: what runs there of muster's
    cluster_ps "$1" 2>/dev/null | grep -E 'muster|until-|sleep 12345'
}
nothing_runs() {
    local h
    for h in $CLUSTER_HOSTS; do
        [ -z "$(ours "$h")" ] || return 1
    done
}
show() { for h in $CLUSTER_HOSTS; do note "$h:" "$(ours "$h")"; done; }
cat >"$tmp/until" <<'END'
#!/bin/sh
# until- FILE is there
echo "$RANK $MUSTER_NODE $MUSTER_ATTEMPT" >>"$1.ranks"
until [ -e "$1" ]; do sleep 0.1; done
echo "done $RANK $MUSTER_NODE"
END
chmod +x "$tmp/until"

run_cmd timeout 60 salloc -N4 "$muster" run sh -c 'echo $RANK $MUSTER_NODE $(uname -n)'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 h1 h1,1 h2 h2,2 h3 h3,3 h4 h4," "salloc -N4 muster run" || note "$err"
run_cmd timeout 60 salloc -n 8 "$muster" run -n 6 sh -c 'echo $RANK $MUSTER_NODE'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 h1,1 h1,2 h2,3 h2,4 h3,5 h3," "tasks are slots" || note "$err"
run_cmd timeout 60 salloc -N2 "$muster" run -n 3 true
like "$rc $err" '2 .*the hosts of this allocation have 2 slots: allocate more tasks' "more ranks than were allocated"
run_cmd timeout 60 salloc -N2 "$muster" run -H h1:1,h4:1 true
like "$rc $err" '1 .*host h[14]: srun: error: .*; is it in the allocation' "a host of another allocation"
run_cmd timeout 60 "$muster" run --engine slurm -H h1:1 true
like "$rc $err" '1 .*host h1: there is no allocation of Slurm.s' "no allocation"
wait_for 30 nothing_runs
ok $? "nothing is left in the hosts" || show

cat >"$tmp/batch" <<END
#!/bin/bash
exec "$muster" run sh -c 'echo \$RANK \$MUSTER_NODE'
END
job=$(sbatch --parsable -N3 -o "$tmp/batch.out" -e "$tmp/batch.err" "$tmp/batch")
wait_for 30 eval '[ "$(squeue -h -j "$job" 2>/dev/null | wc -l)" = 0 ]'
is "$(sort "$tmp/batch.out" | tr '\n' ,)" "0 h1,1 h2,2 h3," "a batch script; its host is one of the nodes" || note "$(cat "$tmp/batch.err")"
wait_for 30 nothing_runs
ok $? "nothing is left" || show

# scancel
cat >"$tmp/batch" <<END
#!/bin/bash
exec "$muster" run sh -c 'trap "" TERM; sleep 12345 & wait; sleep 12345'
END
job=$(sbatch --parsable -N4 -o "$tmp/batch.out" "$tmp/batch")
wait_for 30 eval '[ "$(for h in $CLUSTER_HOSTS; do ours $h; done | grep -cE "S +sleep 12345$")" = 4 ]'
ok $? "a job on four nodes runs" || show
scancel "$job"
wait_for 30 nothing_runs
ok $? "scancel leaves nothing" || show
wait_for 30 slurm_idle

# an agent dies: neither the ranks nor the step notice
timeout 100 salloc -N4 --no-kill "$muster" run -n 4 "$tmp/until" "$tmp/go" >"$tmp/run.out" 2>"$tmp/run.err" &
run=$!
wait_for 30 eval '[ "$(cat "$tmp/go.ranks" 2>/dev/null | wc -l)" = 4 ]'
agent=$(cluster_exec h2 ps -e -o pid=,stat=,args= | awk '/agent --join/ && $2 ~ /s/ { print $1 }')
cluster_exec h2 kill -KILL "$agent"
wait_for 30 eval '[ -n "$(cluster_ps h2 | grep -- --rejoin)" ]'
ok $? "kill -9 of an agent: its keeper starts another one" || show
sleep 1
is "$(cat "$tmp/go.ranks" | wc -l)" 4 "which is no new attempt" || note "$(cat "$tmp/run.err")"
touch "$tmp/go"
wait $run
is "$? $(sort "$tmp/run.out" | tr '\n' ,)" "0 done 0 h1,done 1 h2,done 2 h3,done 3 h4," "the job ends well" || note "$(cat "$tmp/run.err")"
wait_for 30 slurm_idle

# a node loses its power: the spare one takes its place, long before Slurm knows
timeout 100 salloc -N4 --no-kill "$muster" run -n 3 --spares 1 --restarts 2 "$tmp/until" "$tmp/go2" >"$tmp/run.out" 2>"$tmp/run.err" &
run=$!
wait_for 30 eval '[ "$(cat "$tmp/go2.ranks" 2>/dev/null | wc -l)" = 3 ]'
t=$EPOCHREALTIME
cluster_kill_host h2
wait_for 20 eval '[ "$(grep -c " 2$" "$tmp/go2.ranks")" = 3 ]'
rc=$?
note "$(((${EPOCHREALTIME/./} - ${t/./}) / 1000)) ms from the loss of power to the ranks of the next attempt"
is "$rc $(grep ' 2$' "$tmp/go2.ranks" | sort | tr '\n' ,)" "0 0 h1 2,1 h4 2,2 h3 2," "a lost node's place is the spare one's" || note "$(cat "$tmp/run.err")"
touch "$tmp/go2"
wait $run
is "$?" 0 "the job ends well" || note "$(cat "$tmp/run.err")"
wait_for 30 nothing_runs
ok $? "nothing is left" || show
rm -rf "$MUSTER_RUN_ROOT/h2" # of a host without power
cluster_start_host h2 && wait_for 30 slurm_idle && slurm_down
ok $? "Slurm ends"
done_testing
