#!/usr/bin/env bash
# Agents by ssh on hosts with their own sshd: all at once, none where it cannot be, and what outlives what.
. "$(dirname "$0")/cluster.sh"
export MUSTER_IDLE=3
unset MUSTER_ENGINE
cluster_up 4 --setenv "XDG_CACHE_HOME=$tmp/cache"
ok $? "four hosts"
export MUSTER_SSH=$CLUSTER_SSH

ours() { cluster_ps "$1" 2>/dev/null | grep -E 'muster|until-'; }
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

run_cmd timeout 60 "$muster" run -H h1:2,root@h2:2,h3:2,h4:2 sh -c 'echo $RANK $MUSTER_NODE $(uname -n)'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 h1 h1,1 h1 h1,2 h2 h2,3 h2 h2,4 h3 h3,5 h3 h3,6 h4 h4,7 h4 h4," "eight ranks on four hosts" || note "$err"
wait_for 30 nothing_runs
ok $? "the agents end with the job" || show
is "$(stat -c %a "$MUSTER_HOME/pool.key") $(find "$MUSTER_HOME"/h* -name 'join*' -type f)" '600 ' "the key stays in the home, and nobody keeps it"
run_cmd timeout 60 "$muster" run -H h1:1,h2:1 "$B/tests/mpi/hello"
[ ! -x "$B/tests/mpi/hello" ] || is "$rc" 0 "an MPI program" || note "$out$err"
# shellcheck disable=SC2016
at='echo $RANK $MUSTER_NODE $(taskset -cp $$ | sed "s/.*: //")'
run_cmd timeout 60 "$muster" run -H h1:2,h2:2,h3:2 -n 4 --map node --bind none sh -c "$at"
is "$rc $(sort <<<"$out" | cut -d' ' -f1,2 | tr '\n' ,)" "0 0 h1,1 h1,2 h2,3 h3," "evenly over the hosts" || note "$out" "$err"
mapfile -t cpus < <(python3 -c 'import os; print("\n".join(map(str, sorted(os.sched_getaffinity(0)))))')
printf 'rank 2=+n0 slot=p%s\nrank 0=h3 slot=p%s\nrank 1=h3 slot=p%s\n' "${cpus[0]}" "${cpus[-1]}" "${cpus[0]}" >"$tmp/ranks"
run_cmd timeout 60 "$muster" run -H h2:4,h3:4 --rankfile "$tmp/ranks" sh -c "$at"
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 h3 ${cpus[-1]},1 h3 ${cpus[0]},2 h2 ${cpus[0]}," "a rank file over two hosts" || note "$out" "$err"
printf 'rank 0=h1\nrank 1=h2 slot=5000\n' >"$tmp/ranks"
run_cmd timeout 60 "$muster" run --rankfile "$tmp/ranks" sh -c "$at"
like "$rc $err" '^1 .*rank 1 on h2:? rank file: slot=5000: this node has no core 5000' "a core that another host does not have" || note "$out"

fails() { # PATTERN ARGUMENTS...
    local want=$1
    shift
    run_cmd timeout 60 "$muster" run "$@" true
    [ "$rc" = 1 ] && [[ $err =~ $want ]]
    ok $? "run $*: $(head -n 1 <<<"$err")" || note "rc=$rc want: $want" "$err"
}
fails 'host h9: ssh: Could not resolve hostname h9: .*; check -H or ~/.ssh/config' -H h1,h9
fails 'host h2: ssh: connect to host h2 port 23: Connection refused; no sshd answers there' --ssh "$CLUSTER_SSH -p 23" -H h2
fails 'host h2: .*Host key verification failed; accept its key once: ssh h2 true' --ssh "$CLUSTER_SSH -o UserKnownHostsFile=/dev/null" -H h2
ssh-keygen -q -t ed25519 -N '' -f "$tmp/other"
echo "h2 $(cut -d' ' -f1,2 "$tmp/other.pub")" >"$tmp/wrong"
fails 'host h2: its key is another one than known_hosts has; if the host was set up anew: ssh-keygen -R h2' --ssh "$CLUSTER_SSH -o UserKnownHostsFile=$tmp/wrong" -H h2
fails 'host h2: .*Permission denied .*; ssh must get in without asking: ssh-copy-id h2' --ssh "$CLUSTER_SSH -o User=nobody-here" -H h2
wait_for 30 nothing_runs
ok $? "nothing is left of these" || show

# no binary in the same place: it is brought, once for all that share a cache
mkdir -p /tmp/only-here && cp "$muster" /tmp/only-here/muster
mkdir "$tmp/home2"
export MUSTER_HOME=$tmp/home2
run_cmd timeout 60 /tmp/only-here/muster run -H h1,h2,h3,h4 sh -c 'echo $MUSTER_NODE'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 h1,h2,h3,h4," "hosts without muster get a copy" || note "$err"
is "$(find "$tmp/cache/muster" -type f | wc -l) $(find "$tmp/cache/muster" -type f -name muster -perm 700 | wc -l)" "1 1" "which is the only thing that stays there"
cmp -s "$(find "$tmp/cache/muster" -type f)" "$muster"
ok $? "and is whole"
wait_for 30 nothing_runs
/tmp/only-here/muster controller --stop
export MUSTER_HOME=$tmp/home

# silence
export MUSTER_START_TIMEOUT=5
"$muster" controller --stop
cluster_cut h4
fails 'host h4: no answer within 5 s' -H h1,h4
cluster_heal
wait_for 30 nothing_runs
"$muster" controller --stop
unset MUSTER_START_TIMEOUT

# agents, the controller, both at once
rejoined() { [ -n "$(cluster_ps "$1" | grep -- --rejoin)" ]; }
all_up() { [ "$("$muster" nodes | awk '$1 ~ /^h[0-9]/ && $2 == "up"' | wc -l)" = 4 ]; }
for try in 1 2 3; do
    rm -f "$tmp"/go*
    timeout 200 "$muster" run -H h1,h2,h3,h4 "$tmp/until" "$tmp/go" >"$tmp/run.out" 2>"$tmp/run.err" &
    run=$!
    wait_for 60 eval '[ "$(cat "$tmp/go.ranks" 2>/dev/null | wc -l)" = 4 ]'
    cluster_exec h2 pkill -KILL -f 'agent --join'
    wait_for 30 rejoined h2
    first=$?
    kill -9 "$(cat "$MUSTER_RUN_ROOT"/head/*/ctl.lock)"
    cluster_exec h3 pkill -KILL -f 'agent --join'
    wait_for 30 rejoined h3 && wait_for 30 all_up
    second=$?
    # on a machine that stands still for longer than a node may be silent it shows nothing
    [ $try != 3 ] && grep -q 'had lost contact' "$tmp/run.err" || break
    touch "$tmp/go"
    wait $run
    wait_for 30 nothing_runs
done
ok $first "kill -9 of an agent: its keeper starts another one" || show
ok $second "kill -9 of the controller and an agent: all are back" || note "$("$muster" nodes)"
is "$(cat "$tmp/go.ranks" | wc -l)" 4 "no rank has noticed" || note "$(cat "$tmp/run.err")"
touch "$tmp/go"
wait $run
is "$? $(sort "$tmp/run.out" | tr '\n' ,)" "0 done 0 h1,done 1 h2,done 2 h3,done 3 h4," "the job ends well" || note "$(cat "$tmp/run.err")"
wait_for 30 nothing_runs
ok $? "nothing is left" || show
done_testing
