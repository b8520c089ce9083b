#!/usr/bin/env bash
# Jobs of a pool get nodes by the fabric: which ones, what is said of it, a file that breaks and goes, a lost node.
. "$(dirname "$0")/cluster.sh"

cluster_up 6
ok $? "six hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_FABRIC=$tmp/topology.conf
json() { python3 -c "import json,sys; j=json.loads(sys.argv[1]); sys.exit(0 if ($1) else 1)" "$out"; }
sees() { "$muster" nodes | grep -qE -- "$1"; }
fabric() { # h1 and h4, h2 and h5, h3 and h6 share a leaf
    printf 'SwitchName=leaf1 Nodes=h1,h4\nSwitchName=leaf2 Nodes=h2,h5\nSwitchName=leaf3 Nodes=h3,h6\n'
    printf 'SwitchName=pod1 Switches=leaf1,leaf2\nSwitchName=top Switches=pod1,leaf3\n'
}
fabric >"$MUSTER_FABRIC"

run_cmd "$muster" nodes add h1:2 h2:2 h3:2 h4:2 h5:2 h6:2
is "$rc:$err" "0:" "they are the pool's"
run_cmd "$muster" nodes
like "$out" "h4 .* leaf1" "nodes says on which leaf each is"
like "$out" "fabric: $MUSTER_FABRIC, 6 hosts, a tree" "and what the fabric is"
like "$out" "fabric: not in it: $(uname -n)" "and who is not in it"
run_cmd "$muster" nodes --json
json "j['fabric']['hosts'] == 6 and j['fabric']['trouble'] is None and j['fabric']['unknown'] == ['$(uname -n)'] and
      {n['name']: n['leaf'] for n in j['nodes']}['h5'] == 'leaf2'"
ok $? "the same as JSON" || note "$out"

run_cmd "$muster" run --dry-run -N 2 --ppn 2 true
like "$out" "0 +h1 .*1 +h1 .*2 +h4 .*3 +h4 .*placed: 2 nodes on one leaf switch" "--dry-run says where a job would go, and why" || note "$err"
run_cmd "$muster" run --dry-run --json -N 4 --ppn 1 true
json "[r['node'] for r in j['ranks']] in (['h1', 'h4', 'h2', 'h5'], ['h2', 'h5', 'h1', 'h4']) and
      j['placed'] == '4 nodes on 2 leaf switches, a ring over them passes 4 cables between switches, the fewest possible'"
ok $? "the same as JSON" || note "$out"
run_cmd "$muster" run -N 2 --ppn 2 sh -c 'echo $RANK:$MUSTER_NODE'
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:0:h1 1:h1 2:h4 3:h4 " "and there it goes" || note "$err"
run_cmd "$muster" status 1
like "$out" $'\nplaced +2 nodes on one leaf switch' "status says why" || note "$out"
run_cmd "$muster" events 1
like "$out" 'placed +.*2 nodes on one leaf switch' "an event, too" || note "$out"

# Nodes that are taken
cat >"$tmp/job.sh" <<JOB
i=0
while [ ! -e $tmp/go ]; do sleep 0.05; done
JOB
run_cmd "$muster" submit -N 1 --ppn 2 sh "$tmp/job.sh"
first=$out
run_cmd "$muster" submit -N 2 --ppn 1 sh "$tmp/job.sh"
job=$out
wait_for 30 job_is "$job" running
run_cmd "$muster" status "$job" --json
json "sorted(j['jobs'][0]['nodes']) in (['h1', 'h4'], ['h2', 'h5'], ['h3', 'h6'])"
ok $? "a job on one leaf" || note "$out"
run_cmd "$muster" run --dry-run -N 6 --ppn 2 true
like "$rc:$out" "^0:.*placed: it would be queued: waiting for" "a job that would wait is placed as if it had not to" || note "$err"
touch "$tmp/go"
wait_for 30 job_is "$job" completed && wait_for 30 job_is "$first" completed
ok $? "they end" || note "$("$muster" jobs --all)"

# A file that is broken, gone, and there again
echo 'SwitchName=leaf1 Nodes=h1,h4 Switches=' >"$MUSTER_FABRIC"
wait_for 30 sees "^fabric: .*topology.conf:1: .*; it is used as it was read last"
ok $? "a broken file is told of in one line" || note "$("$muster" nodes)"
rm "$MUSTER_FABRIC"
wait_for 30 sees "^fabric: .*No such file or directory; it is used as it was read last"
ok $? "so is one that is gone" || note "$("$muster" nodes)"
run_cmd "$muster" run -N 2 --ppn 2 true
is "$rc" 0 "jobs run all the same" || note "$err"
fabric | sed 's/leaf1 Nodes=h1,h4/leaf1 Nodes=h1,h6/; s/leaf3 Nodes=h3,h6/leaf3 Nodes=h3,h4/' >"$MUSTER_FABRIC"
wait_for 30 sees "h6 .* leaf1"
ok $? "cables that were moved are noticed" || note "$("$muster" nodes)"
run_cmd "$muster" nodes
unlike "$out" "used as it was" "and all is well again"

# Without a file from the start
"$muster" nodes remove h1 h2 h3 h4 h5 h6
"$muster" controller --stop
rm "$MUSTER_FABRIC"
run_cmd "$muster" run -H h1:1,h2:1 true
is "$rc" 0 "a fabric that was never there keeps no job from running" || note "$err"
run_cmd "$muster" run -n 1 true
is "$rc" 0 "nor one of the pool" || note "$err"
run_cmd "$muster" nodes
like "$out" "fabric: .*No such file or directory; jobs are placed without it" "it is said" || note "$out"
"$muster" controller --stop
run_cmd env MUSTER_FABRIC=a::b "$muster" run -n 1 true
like "$rc:$err" "^[12]:.*MUSTER_FABRIC: an empty name" "a setting that cannot be meant is refused"

# Adapters that are called after nobody: their nodes' agents say whose they are
adapter() { # HOST GUID: sysfs shows it there
    # shellcheck disable=SC2016
    cluster_exec "$1" sh -c 'mount -t tmpfs none /sys/class && mkdir -p /sys/class/infiniband/mlx5_0 &&
        echo "$0" >/sys/class/infiniband/mlx5_0/node_guid' "$2"
}
for i in 1 2 3 4; do adapter h$i 0000:0000:0000:0a0$i; done
adapter h5 0000:0000:0000:0a01
ok $? "hosts with adapters"
export MUSTER_FABRIC=$tmp/ibnetdiscover
{
    printf 'switchguid=0x10\nSwitch 4 "S-10" # "west"\n[1] "H-a01"[1]\n[2] "H-a03"[1]\n[4] "S-30"[1]\n\n'
    printf 'switchguid=0x20\nSwitch 4 "S-20" # "east"\n[1] "H-a02"[1]\n[2] "H-a04"[1]\n[4] "S-30"[2]\n\n'
    printf 'switchguid=0x30\nSwitch 4 "S-30" # "top"\n[1] "S-10"[4]\n[2] "S-20"[4]\n\n'
    for i in 1 2 3 4; do
        printf 'caguid=0xa0%d\nCa 1 "H-a0%d" # "MT4123 ConnectX6"\n[1] "S-%d0"[%d]\n\n' $i $i $((2 - i % 2)) $(((i + 1) / 2))
    done
} >"$MUSTER_FABRIC"
run_cmd "$muster" nodes add h1:1 h2:1 h3:1 h4:1
is "$rc:$err" "0:" "they are the pool's"
wait_for 30 sees "h3 .* west" && wait_for 30 sees "h4 .* east"
ok $? "are known by their adapters" || note "$("$muster" nodes)"
"$muster" nodes --guids >"$tmp/guids"
is "$(sort "$tmp/guids" | head -n 2)" "0x0000000000000a01 h1"$'\n'"0x0000000000000a02 h2" "nodes prints whose adapters are which"
run_cmd "$muster" topo fabric --fabric-file "$MUSTER_FABRIC" --guids "$tmp/guids" --json
json "sorted(h for u in j['units'] for h in u['hosts']) == ['h1', 'h2', 'h3', 'h4']"
ok $? "which topo takes" || note "$out" "$err"
run_cmd "$muster" run -N 2 --ppn 1 sh -c 'echo $MUSTER_NODE'
like "$(sort <<<"$out" | tr '\n' ' ')" '^(h1 h3|h2 h4) $' "and get jobs so" || note "$out" "$err"
run_cmd "$muster" nodes add h5:1
wait_for 30 sees "^fabric: adapter 0x0000000000000a01 is said to be in h1 and in h5;"
ok $? "two nodes with one adapter are told of in one line" || note "$("$muster" nodes)"
run_cmd "$muster" run -N 5 --ppn 1 sh -c 'echo $MUSTER_NODE'
is "$rc:$(wc -l <<<"$out")" "0:5" "and jobs run on them" || note "$err"
"$muster" nodes remove h1 h2 h3 h4 h5
"$muster" controller --stop
wait_for 30 eval '[ -z "$(cluster_orphans)" ]'
is "$(cluster_orphans)" "" "nothing is left"
done_testing
