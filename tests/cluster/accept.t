#!/usr/bin/env bash
# muster accept over four hosts: well ones pass, one that sends slowly is named with its direction, a rank that spoils
# data is named, what was killed goes on where it was.
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cluster_up 4
ok $? "four hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=120 MUSTER_YIELD=1
# Hosts share this machine's processors, so what they compute says nothing, and a link may be seen at a third of the
# others'; the one that is made slow is at a hundredth.
cat >"$tmp/criteria" <<'ROWS'
check pair.bw each >= 0.1*median confirm=2/3
check node.mem.triad each >= 0.001 GB/s optional
ROWS
accept() { run_cmd timeout 200 "$muster" accept -H h1,h2,h3,h4 -x MUSTER_YIELD --criteria "$tmp/criteria" --json "$@"; }
suspects() { python3 -c 'import json,sys; print(*[" ".join([s["kind"], s["id"], s.get("direction", "-")]) for s in json.load(sys.stdin)["suspects"]], sep=", ")' <<<"$1"; }

accept --only pair,coll --at-once 1 --output "$tmp/well"
is "$rc" 0 "well hosts pass" || note "$out" "$err"
is "$(suspects "$out")" "" "and nobody is accused"
(cd "$tmp/well" && sha256sum --quiet -c MANIFEST.sha256)
ok $? "the manifest holds"

# The memory of h3 is bad: what it sends is wrong. Pairs show it, and where only collectives are made, halves of the hosts.
spoil=(-x LD_PRELOAD="$B/tests/fault/io_shim.so" -x MUSTER_SPOIL=h3 -x MUSTER_TRANSPORT=mpi)
accept "${spoil[@]}" --only pair --at-once 1 --output "$tmp/spoilt"
is "$rc $(suspects "$out")" "5 rank 2 out" "a rank whose data is wrong is named" || note "$out" "$err"
accept "${spoil[@]}" --only node,coll --output "$tmp/halves"
is "$rc $(suspects "$out")" "5 rank 2 -" "and found by bisection where there are no pairs" || note "$out" "$err"

cluster_exec h2 tc qdisc add dev eth0 root tbf rate 80mbit burst 64k latency 400ms
# What is killed is resumed: of two steps one is done.
timeout 200 "$muster" accept -H h1,h2,h3,h4 -x MUSTER_YIELD --only pair,coll --at-once 1 --criteria "$tmp/criteria" --output "$tmp/killed" -q >"$tmp/o" 2>&1 &
pid=$!
first_done() { grep -q '"name":"0.pair"' "$tmp/killed/journal.jsonl" 2>/dev/null; }
wait_for 60 first_done
pkill -KILL -P $pid
wait $pid
one=$(sha256sum "$tmp/killed/raw/0.pair.jsonl")
run_cmd timeout 200 "$muster" accept --resume "$tmp/killed" --json
is "$rc" 1 "one that sends slowly fails, when it is resumed" || note "$out" "$err"
is "$(suspects "$out")" "node h2 out" "and is named, with its direction" || note "$out"
is "$(sha256sum "$tmp/killed/raw/0.pair.jsonl")" "$one" "what was measured is not measured again"
is "$(python3 - "$tmp/killed/raw/again-1.pair.jsonl" 2>"$tmp/again" <<'PY'
import json, sys
m = [json.loads(x) for x in open(sys.argv[1])]
m = {(x["from_host"], x["to_host"]) for x in m if x.get("scope") == "pair" and x["name"] == "pair.bw"}
# Partners are those that nothing is suspected of, which on a busy machine are not all three.
print(any(x[0] == "h2" for x in m), any(x[1] == "h2" for x in m), len(m) < 12)
print(sorted(m), file=sys.stderr)
PY
)" "True False True" "only it and its like are measured again, in that direction" || note "$(cat "$tmp/again")"

run_cmd "$muster" accept compare "$tmp/well" "$tmp/killed"
like "$rc $out" '^1 .*pair\.bw .*h2>h[134]: .* worse' "two runs are compared, the worst first"

# in a pool: who fails gets no more jobs, when that is wanted, until somebody resumes it
run_cmd "$muster" nodes add h1:2 h2:2 h3:2 h4:2
is "$rc" 0 "hosts are added to the pool" || note "$err"
run_cmd timeout 200 "$muster" accept -x MUSTER_YIELD -N 2 --only pair.lat --output "$tmp/two"
like "$rc $out" '^3 .*; 2 hosts, ' "two nodes of it" || note "$err"
run_cmd timeout 200 "$muster" accept -x MUSTER_YIELD --at-once 1 --only pair --criteria "$tmp/criteria" --output "$tmp/pool" --quarantine
is "$rc" 1 "the pool is judged" || note "$out" "$err"
like "$err" 'h2 gets no more jobs; `muster nodes resume h2` undoes it' "who fails is taken out, and it is said"
node_is h2 drained
ok $? "it is drained" || note "$("$muster" nodes)"
node_is h1 up
ok $? "and nobody else"
"$muster" nodes resume h2
node_is h2 up
ok $? "resume undoes it"
run_cmd "$muster" nodes remove h1 h2 h3 h4
is "$rc" 0 "they leave the pool" || note "$err"

cluster_crash_host h3
accept --only pair --output "$tmp/dead"
is "$rc" 4 "with a host that is off it cannot be run" || note "$out" "$err"
like "$err" 'h3' "and the host is named"
"$muster" controller --stop --force >"$tmp/stop" 2>&1
ok $? "the pool ends" || note "$(cat "$tmp/stop")"
done_testing
