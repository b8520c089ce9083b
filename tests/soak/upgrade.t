#!/usr/bin/env bash
# make soak-upgrade: upgrades of a pool of three hosts, to and fro, ROUNDS (5) of them, SEED= for the order and the
# signals: controller and agents are exchanged one by one while a job over all hosts makes steps. None of them is lost.
. "$(dirname "$0")/../cluster/cluster.sh"
cluster_up 3
ok $? "three hosts" || done_testing
export MUSTER_LISTEN=10.213.0.254:7070 MUSTER_SSH=$CLUSTER_SSH
ROUNDS=${ROUNDS:-5} RANDOM=${SEED:=$RANDOM}
note "SEED=$SEED"
at=$tmp/inst
mkdir -p "$at/bin" "$at/lib" "$at/examples"
cp -P "$B"/lib/libmuster.so* "$at/lib"
cp "$B/examples/train_lm" "$at/examples"
read -r _ version _ <<<"$("$B/bin/muster" --version)"
version=${version%,}
build() { # VERSION
    python3 -c 'import sys
data = open(sys.argv[1], "rb").read().replace(sys.argv[3].encode(), sys.argv[4].encode())
open(sys.argv[2], "wb").write(data)' "$B/bin/muster" "$at/bin/muster.new" "$version" "$1" && chmod 755 "$at/bin/muster.new" &&
        mv -f "$at/bin/muster.new" "$at/bin/muster"
}
build "$version"
muster=$at/bin/muster
: >"$tmp/steps"
steps() { wc -l <"$tmp/steps"; }
past() { [ "$(steps)" -gt "$1" ]; }
further() { # makes some more steps from now on
    local now
    now=$(steps)
    wait_for 60 past $((now + 20))
}
nodes_up() { [ "$("$muster" nodes --json | grep -o '"state": *"up"' | wc -l)" = 4 ]; }
exe_of() { cluster_exec "$1" sh -c "readlink /proc/\$(pgrep -o -f '^muster $2')/exe"; } # HOST DAEMON
new_exe() { [ "$(exe_of "$1" "$2")" = "$muster" ]; }

# one by ssh, two as units have them
"$muster" nodes add h1:2 || note "h1 is not there"
for h in h2 h3; do
    cluster_exec $h "$muster" agent --join head:7070 --node $h --slots 2 --key "$MUSTER_HOME/pool.key" --detach
done
wait_for 20 nodes_up
ok $? "the nodes are up" || note "$("$muster" nodes)"
"$muster" nodes label work h1 h2 h3
run_cmd "$muster" submit -n 6 --label work --bind none --restarts 3 --ckpt-dir "$tmp/ckpt" "$at/examples/train_lm" --steps 100000000 \
    --hidden 48 --layers 2 --embed 8 --context 4 --batch 24 --ckpt interval=50steps --step-time-file "$tmp/steps"
job=$out
further
ok $? "a job over the hosts makes steps" || note "$err" "$("$muster" status "$job")"

signals=(TERM KILL)
for ((round = 1; round <= ROUNDS; round++)); do
    build "${version%.*}.$((round % 10))"
    for what in $(printf '%s\n' head h1 h2 h3 | shuf --random-source=<(yes $RANDOM)); do
        sig=${signals[RANDOM % 2]}
        if [ "$what" = head ]; then
            kill -s $sig "$(pgrep -o -f '^[^ ]*muster controller')"
            wait_for 10 eval '[ "$(readlink /proc/$(pgrep -o -f "^[^ ]*muster controller")/exe)" = "$muster" ]' || note "no new controller after $sig"
        else
            cluster_exec "$what" pkill -$sig -o -f '^[^ ]*muster agent'
            wait_for 10 new_exe "$what" agent || note "no new agent on $what after $sig: $(exe_of "$what" agent)"
        fi
        further && wait_for 20 nodes_up && [ "$("$muster" status "$job" --json | grep -o '"attempt": *[0-9]*' | head -n 1 | tr -dc 0-9)" = 1 ]
        ok $? "round $round: the job goes on after $sig for $what" ||
            { note "$("$muster" events "$job" | tail -n 20)" "$("$muster" nodes)"; break 2; }
    done
done
is "$(awk '$2 != NR { print NR ": " $2; exit }' <(head -n "$(steps)" "$tmp/steps"))" "" "no step is lost or made twice, of $(steps)"
"$muster" cancel "$job" >/dev/null
keepers() { for h in h1 h2 h3; do cluster_exec $h pgrep -f '^muster keeper'; done; }
wait_for 20 eval '[ -z "$(keepers)" ]'
"$muster" nodes remove h1 >/dev/null
for h in h2 h3; do cluster_exec $h pkill -f '^[^ ]*muster agent'; done
"$muster" controller --stop --force
wait_for 20 eval '[ -z "$(cluster_ps h1)$(cluster_ps h2)$(cluster_ps h3)" ]'
ok $? "nothing is left on the hosts" || note "$(cluster_ps h1)" "$(cluster_ps h2)" "$(cluster_ps h3)"
done_testing
