#!/usr/bin/env bash
# The test cluster seen from outside: nothing of it is to be seen, and it ends with whoever uses it, in whatever way.
# Links and mounts of others come and go: it looks at those of namespaces of its own.
if [ -z "${OUTSIDE_TEST-}" ]; then
    export OUTSIDE_TEST=1
    unshare -nm true 2>/dev/null && exec unshare -nm "$0"
fi
. "$(dirname "$0")/../lib.sh"
cluster=tests/cluster/cluster.sh
why=$($cluster missing)
[ -z "$why" ] || skip_all "$why"

export CLUSTER_ID=outside-$$ CLUSTER_SHARE=$tmp/own
mkdir "$tmp/own"
links() { ip -o link | cut -d: -f2 | sort; }
mounts() { sort /proc/self/mounts; }
# All processes of a cluster of this test: the command, head, hosts, what runs in them, as "PID COMMAND".
of_cluster() { # NAME
    local f
    f=$(grep -lszxF "CLUSTER_ID=$CLUSTER_ID-$1" /proc/[0-9]*/environ)
    for f in $f; do
        f=${f#/proc/} f=${f%/environ}
        [ ! -d "/proc/$f" ] || echo "$f $(tr '\0' ' ' 2>/dev/null <"/proc/$f/cmdline")"
    done
}
gone() { [ -z "$(of_cluster "$1")" ]; }
pid_of() { of_cluster "$1" | sed -nE "s/^([0-9]+) (.*)/\1 \2/; /^[0-9]+ ${2#^}/ { s/ .*//; p; q }"; }
links=$(links) mounts=$(mounts) id=$(cat /proc/sys/kernel/random/boot_id) uname=$(uname -n)
as_before() { # WHEN
    is "$(links)" "$links" "$1: the links of before"
    is "$(mounts)" "$mounts" "$1: the mounts of before"
    is "$(uname -n) $(cat /proc/sys/kernel/random/boot_id)" "$uname $id" "$1: the machine's name and boot id"
    is "$(find /tmp /dev/shm /run -maxdepth 1 -newer "$tmp/own" \( -name 'left*' -o -name 'cluster*' \))" "" "$1: no file"
}

run_cmd "$cluster" 2 sh -c 'uname -n; ssh h2 uname -n; echo >/tmp/left; echo >/dev/shm/left; echo >/run/left; exit 5'
is "$rc:$out" 5:head$'\n'h2 "a command in a cluster, with its exit status" || note "$err"
as_before "after it"
run_cmd "$cluster" up 2
is "$rc:$err" "1:cluster: up: not inside a cluster; cluster.sh N starts one" "a verb is for the inside"
run_cmd "$cluster" turn
is "$rc" 2 "a verb that there is not"
run_cmd "$cluster" 0
is "$rc:$err" "1:cluster: cluster_up: 1 to 250 hosts" "no hosts"

# Two at once, ended in each way; hosts and their sessions must go, too.
start() { # NAME: a cluster with a daemon on the head, one in a host, and a session; $started is the command
    # shellcheck disable=SC2016
    CLUSTER_ID=$CLUSTER_ID-$1 "$cluster" 2 bash -c 'trap "echo told >>$0; exit 9" TERM
        setsid -f sleep 1111; ssh h1 "setsid -f sleep 2222 </dev/null >/dev/null 2>&1"
        ssh h2 sleep 3333 & sleep 4444 & wait' "$tmp/own/$1" >"$tmp/own/$1.log" 2>&1 </dev/null &
    started=$!
    wait_for 30 all_run "$1" || { note "$(cat "$tmp/own/$1.log")" "$(of_cluster "$1")"; return 1; }
}
all_run() { # NAME
    local n
    for n in 1111 2222 3333 4444; do [ -n "$(pid_of "$1" "sleep $n")" ] || return; done
}
status_of() { # PID: sets rc
    wait_for 30 eval "! kill -0 $1 2>/dev/null" || kill -KILL "$1"
    wait "$1" 2>/dev/null
    rc=$?
}
start idle
idle=$started
ok $? "a cluster"
as_before "while it runs"
# who is killed: a pattern, or the command itself; how; the command's status
while read -r name signal status whom; do
    start "$name"
    pid=$started
    [ "$whom" = itself ] || pid=$(pid_of "$name" "$whom")
    kill -s "$signal" "$pid"
    wait_for 30 gone "$name"
    ok $? "$name: everything ends" || note "$(of_cluster "$name")"
    status_of "$started"
    like "$rc" "^($status)$" "$name: and this is known"
done <<ROWS
killed        KILL 137 itself
inner-killed  KILL 137 ^bash -c trap
head-killed   KILL 1|137 ^bash .*--head
asked         TERM 9   itself
inner-asked   TERM 9   ^bash -c trap
ROWS
is "$(cat "$tmp"/own/*asked)" "told"$'\n'"told" "asked to end, a test may clean up, and is told once"
all_run idle
ok $? "the other cluster has lived through that" || note "$(of_cluster idle)"
kill -KILL "$idle"
wait_for 30 gone idle
ok $? "it ends as well"
as_before "at the end"
done_testing
