#!/usr/bin/env bash
# Hosts and their names: one host under two, two hosts under one, names that are none, hosts that were removed; and what an ssh
# does that starts nothing or says too much.
. "$(dirname "$0")/cluster.sh"

cluster_up 3
ok $? "three hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_LISTEN=10.213.0.254:7070
join() { # HOST NAME
    run_cmd timeout 60 nsenter --target "$(cl_pid "$1")" --net --uts --ipc --pid --mount -- \
        "$muster" agent --join head:7070 --node "$2" --slots 2 --key "$MUSTER_HOME/pool.key" --detach
}

# One host under two names
run_cmd timeout 60 "$muster" run -H h1:1,root@h1:1 true
like "$rc:$err" "^2:.*'h1' and 'root@h1' are one host" "a host with and without a user, in one list"
run_cmd timeout 60 "$muster" run -H h1:1 -H root@h1:1 true
like "$rc:$err" "^2:.*'h1' and 'root@h1' are one host" "and in two" || note "$out" "$err"
run_cmd timeout 60 "$muster" nodes add h1 root@h1
like "$rc:$err" "^2:.*'h1' and 'root@h1' are one host" "and for the pool" || note "$out" "$err"
printf 'h1 slots=2\0h2\n' >"$tmp/zero"
run_cmd timeout 60 "$muster" run --hostfile "$tmp/zero" true
like "$rc:$err" "^2:.*zero:1: a zero byte" "a host file that is no text"

# Two hosts under one name
run_cmd timeout 60 "$muster" nodes add h1:2 h2:2
is "$rc:$err" "0:" "two hosts in the pool"
join h3 h2
like "$rc:$err" "^1:.*another host of this pool is called h2 already; give this one a name of its own: --node" \
    "a third one that calls itself as the second does is refused"
join h3 head
like "$rc:$err" "^1:.*another host of this pool is called head already" "or as the controller's" || note "$out"
is "$(cluster_ps h3)" "" "and nothing of it stays"
run_cmd timeout 60 "$muster" run -n 3 -N 3 sh -c 'uname -n'
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:h1 h2 head " "a job runs where its nodes are" || note "$err"
grep -rqs 'agent at .* is refused: another host of this pool is called h2' "$MUSTER_HOME"
ok $? "the controller's log says so"
for name in a,b ../x a/b -x hé a@b ''; do
    join h3 "$name"
    [ "$rc" = 2 ]
    ok $? "'$name' is no name for a node" || note "$rc $out" "$err"
done

# A host that was removed while nobody heard it
cluster_cut h2
wait_for 30 eval '! node_is h2 up'
ok $? "h2 is silent" || note "$("$muster" nodes)"
run_cmd timeout 60 "$muster" nodes remove h2
is "$rc:$err" "0:" "it is removed"
cluster_heal
wait_for 30 eval '[ -z "$(cluster_ps h2)" ]'
ok $? "heard again, its agent ends" || note "$(cluster_ps h2)"
is "$(node_state h2)" none "and it is not of the pool"
run_cmd timeout 60 "$muster" nodes add h2:2
is "$rc:$err" "0:" "until it is added again"
is "$(node_state h2)" up "and up"

# An ssh that does nothing, and one that repeats what it hears
printf '#!/bin/sh\nexit 0\n' >"$tmp/silent"
printf '#!/bin/sh\nread x; echo "got $x" >&2; exit 255\n' >"$tmp/talks"
chmod +x "$tmp/silent" "$tmp/talks"
"$muster" controller --stop --force
export MUSTER_START_TIMEOUT=2
run_cmd timeout 60 "$muster" run --ssh "$tmp/silent" -H h3:1 true
like "$rc:$err" '^1:.*host h3: .* ended well, but no agent has come' "an ssh that starts nothing is named" || note "$out"
run_cmd timeout 60 "$muster" run --ssh "$tmp/talks" -H h3:1 true
like "$rc:$err" '^1:.*host h3: got \*\*\*' "an ssh that repeats the key: it is not shown" || note "$out"
key=$(tr -cs '0-9a-f' '\n' <"$MUSTER_HOME/pool.key" | awk 'length > 20' | head -n 1 | cut -c 1-24)
[ -n "$key" ] && ! grep -rlF -- "$key" "$MUSTER_HOME" "$tmp" --include='*' 2>/dev/null | grep -v '/pool\.key$\|/join\.key$'
ok $? "and is in no file but those for it"

"$muster" controller --stop --force
wait_for 30 eval '[ -z "$(cluster_orphans)" ]'
ok $? "nothing is left" || note "$(cluster_orphans)"
done_testing
