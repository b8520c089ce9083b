#!/usr/bin/env bash
# Ranks run where the plan says, and when one does not it is told, whoever moved it.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
where=$B/tests/mpi/where
run() { run_cmd timeout 120 "$muster" run "$@"; }
last_job() { "$muster" jobs --all --json | python3 -c 'import json, sys; print(max(j["id"] for j in json.load(sys.stdin)["jobs"]))'; }
events() { "$muster" events --json "$(last_job)" | python3 -c 'import json, sys; [print(e["rank"], e["detail"]) for e in json.load(sys.stdin)["events"] if e["kind"] == "misbound"]'; }
# "rank 0: 0 1" a line, out of cpusets.
wanted() { python3 -c '
import json, sys
for r in json.load(sys.stdin)["ranks"]:
    cpus = [c for p in r["cpuset"].split(",") for c in range(int(p.split("-")[0]), int(p.split("-")[-1]) + 1)]
    print("rank %d: %s" % (r["rank"], " ".join(map(str, cpus))))'; }
mapfile -t cpus < <(python3 -c 'import os; print("\n".join(map(str, sorted(os.sched_getaffinity(0)))))')

for n in 1 2 3 8 16; do
    for how in "" "--bind numa" "--bind none" "--bind gpu --smt"; do
        [ $n -lt 3 ] || [ -z "${how#*none}" ] || continue # crowded: nobody is bound, whatever was asked for
        # shellcheck disable=SC2086
        plan=$("$muster" run --dry-run --json --oversubscribe -n $n $how "$where" | wanted)
        # shellcheck disable=SC2086
        run --oversubscribe -n $n $how "$where"
        [ "$rc" = 0 ] && [ "$(sort -V <<<"$out")" = "$plan" ]
        ok $? "$n ranks ${how:-by default}: where the plan wants them" || note "$out" "$err" "wanted $plan"
    done
done
is "$(for j in $("$muster" jobs --all --json | python3 -c 'import json, sys; [print(j["id"]) for j in json.load(sys.stdin)["jobs"]]'); do
    "$muster" events --json "$j"
done | grep -c misbound)" 0 "and nobody is accused"
run -n 1 --bind gpu "$where"
if [ -e /proc/driver/nvidia ] || [ -e /dev/kfd ]; then
    skip "needs a machine without GPUs" 2
else
    like "$err" 'muster: bound to cores: the node has no GPU' "without a GPU it says what it does instead"
    run -n 1 --map gpu "$where"
    like "$err" 'muster: bound to cores: the node has no GPU' "as for GPUs in turn"
fi
run --oversubscribe -n $((${#cpus[@]} + 1)) --bind core "$where"
like "$err" 'muster: not bound: ' "when there are more ranks than cores it says so"

if [ "${#cpus[@]}" -lt 2 ]; then
    note "one CPU: nothing can be moved"
    done_testing
fi
other=${cpus[-1]} first=${cpus[0]}
says="rank 0 is not where it was bound to: wanted CPUs $first, found $other"
for mode in before after; do
    run -n 1 "$where" $mode 600
    is "$rc" 0 "a rank that binds itself $mode MPI_Init goes on"
    like "$err" "muster: $says" "and is told of in its output"
    is "$(events)" "0 $says" "and in an event, once"
done
run -n 1 taskset -c "$other" "$where" stay 100
like "$err" "muster: $says" "taskset in front of the program"
"$muster" run -n 1 taskset -c "$other" sleep 300 2>"$tmp/err" &
wait_for 30 grep -q "^muster: $says" "$tmp/err"
ok $? "without MPI, too" || note "$(cat "$tmp/err")"
kill $!
wait $! 2>/dev/null
run -n 1 sh -c "taskset -c $other $where stay 600; true"
like "$err" "wanted CPUs $first, found $other of its process [0-9]+" "a program below a shell"
run -n 1 sh -c "taskset -cp $other \$\$ >&2; exec $where stay 100"
like "$err" "muster: $says" "a script that moves itself"
run -n 1 --bind none taskset -c "$other" "$where" stay 300
unlike "$err" 'not where' "what was not bound may go anywhere"

printf 'rank 0=localhost slot=p%s\nrank 1=+n0 slot=p%s\n' "$other" "$first" >"$tmp/ranks"
run -H localhost:2 --rankfile "$tmp/ranks" "$where"
is "$rc:$(sort <<<"$out")" "0:rank 0: $other"$'\n'"rank 1: $first" "a rank file" || note "$err"
printf 'rank 0=localhost slot=p%s\nrank 1=localhost slot=4000\n' "$other" >"$tmp/ranks"
run --rankfile "$tmp/ranks" "$where"
like "$rc:$err" '1:.*rank file: slot=4000: this node has no core 4000' "a core that is not there ends the job"
run --dry-run --rankfile "$tmp/ranks" "$where"
like "$rc:$err" "2:.*ranks: slot=4000: this node has no core 4000" "and is seen by --dry-run"

# What a dry run promises is of the agent's CPUs, not of its caller's.
"$muster" controller --stop
MUSTER_IDLE=60 "$muster" nodes >"$tmp/nodes"
run_cmd taskset -c "$other" "$muster" run --dry-run -n 2 "$where"
like "$rc:$out" "^0:.* 0 +[^ ]+ +$first +.*CPUs: of those that the agent" "a dry run with fewer CPUs than the agent has" || note "$err"
plan=$(taskset -c "$other" "$muster" run --dry-run --json -n 1 "$where")
run_cmd taskset -c "$other" "$muster" run -n 1 "$where"
is "$(wanted <<<"$plan")" "$out" "shows what the job gets"
like "$plan" '"cpus_of":"agent"' "and whose CPUs they are"
plan=$(MUSTER_HOME=$tmp/none taskset -c "$other" "$muster" run --dry-run --json -n 1 "$where")
is "$(wanted <<<"$plan")" "rank 0: $other" "without an agent they are the caller's"
like "$plan" '"cpus_of":"caller"' "and it says so"
"$muster" controller --stop

# Whoever owns the cgroup takes CPUs away.
group=/sys/fs/cgroup/cpuset/muster-bind-$$
if [ -w /sys/fs/cgroup/cpuset ] && mkdir "$group" 2>/dev/null; then
    cat /sys/fs/cgroup/cpuset/cpuset.mems >"$group/cpuset.mems"
    cat /sys/fs/cgroup/cpuset/cpuset.cpus >"$group/cpuset.cpus"
    wait_for 30 no_leftovers # a new pool, inside
    printf 'rank 0=localhost slot=p%s\n' "$other" >"$tmp/ranks"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec timeout 60 "$muster" run --rankfile "$tmp/ranks" "$where" until "$tmp/go" >"$tmp/out" 2>"$tmp/err"
    ) &
    wait_for 30 grep -qs "rank 0:" "$tmp/out"
    echo "$first" >"$group/cpuset.cpus"
    touch "$tmp/go"
    wait $!
    is "$(<"$tmp/out")" "rank 0: $other" "a rank in a cpuset"
    like "$(<"$tmp/err")" "rank 0 is not where it was bound to: wanted CPUs $other, found $first" "that loses its CPU is told of"
    wait_for 30 no_leftovers
    wait_for 30 rmdir "$group"
    ok $? "the cpuset is gone"
else
    skip "no cpuset cgroup can be made here" 3
fi
"$muster" controller --stop
done_testing
