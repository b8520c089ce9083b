#!/usr/bin/env bash
# A Prometheus that scrapes a pool, as docs/monitoring sets it up: each query of the dashboard has an answer, and a host that
# is cut off raises an alert. The hosts' GPUs are those of a test double of NVML.
. "$(dirname "$0")/cluster.sh"

command -v prometheus >/dev/null || skip_all "prometheus is not installed"
grep -q 'define HAVE_MICROHTTPD 1' "$B/config.h" || skip_all "built without libmicrohttpd"
nvml=(MUSTER_NVML_LIB="$B/tests/doubles/libnvidia-ml.so.1" MUSTER_NVML_DOUBLE="$tmp/gpus")
echo gpus=2 >"$tmp/gpus"
cluster_up 2 --setenv "${nvml[0]}" --setenv "${nvml[1]}"
ok $? "two hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=0 MUSTER_METRICS=9470
run_cmd "$muster" nodes add h1:2 h2:2
is "$rc:$err" "0:" "a pool"
run_cmd "$muster" submit -n 2 --oversubscribe --name 'a "name"' --ckpt-dir "$tmp/ckpt" --ckpt interval=200steps,keep=2 \
    "$B/examples/train_lm" --steps 100000000 --hidden 32 --layers 1 --embed 8 --context 4 --batch 64
is "$rc" 0 "a job that trains" || note "$err"

approved() { "$muster" inventory approve --by test --why "as they are" >"$tmp/approve" 2>&1; }
wait_for 30 approved
ok $? "what its nodes are made of is approved" || note "$(cat "$tmp/approve")"
run_cmd timeout 60 "$muster" store backup
is "$rc" 0 "and its store is copied" || note "$err"

cp docs/monitoring/*.yml "$tmp"
(cd "$tmp" && exec prometheus --config.file=prometheus.yml --storage.tsdb.path=tsdb --web.listen-address=127.0.0.1:9090 \
    --log.level=warn) >"$tmp/prometheus.log" 2>&1 &
prometheus=$!
cat >"$tmp/ask.py" <<'PY'
import json, sys, time, urllib.parse, urllib.request

def get(path, **args):
    url = "http://127.0.0.1:9090/api/v1/" + path + "?" + urllib.parse.urlencode(args)
    return json.load(urllib.request.urlopen(url, timeout=5))["data"]

def firing():
    try:
        return sorted(a["labels"]["alertname"] + " " + a["labels"].get("node", "") for a in get("alerts")["alerts"] if a["state"] == "firing")
    except OSError:
        return []

if sys.argv[1] == "alert":
    end = time.monotonic() + float(sys.argv[3])
    while sys.argv[2] not in firing():
        if time.monotonic() > end:
            sys.exit("firing: %s" % firing())
        time.sleep(0.2)
elif sys.argv[1] == "queries":
    queries = [l.rstrip("\n") for l in open(sys.argv[2])]
    end = time.monotonic() + float(sys.argv[3])
    while queries:
        left = {}
        for q in queries:
            try:
                if not get("query", query=q)["result"]:
                    left[q] = "no series"
            except OSError as e:
                left[q] = e
        queries = list(left)
        if queries and time.monotonic() > end:
            sys.exit("\n".join("%s: %s" % row for row in left.items()))
        time.sleep(0.5)
else:
    print(firing())
PY
python3 - >"$tmp/queries" <<'PY'
import json
for p in json.load(open("docs/monitoring/dashboard.json"))["panels"]:
    for t in p.get("targets", []):
        print(t["expr"].replace("$__rate_interval", "25s").replace("$job", ".*").replace("$node", ".*"))
for family in ("operations_total", "operation_bytes_total", "saves_total", "save_seconds_total", "checkpoint_bytes_total"):
    print("muster_job_%s > 0" % family)
PY
run_cmd python3 "$tmp/ask.py" queries "$tmp/queries" 90
is "$rc" 0 "each query of the dashboard returns a series" || note "$err" "$(cat "$tmp/prometheus.log")" "$("$muster" jobs --all)"
like "$("$muster" status 1)" 'saves +[0-9]+ held up the job for [0-9.e-]+ s, the last one for [0-9.e-]+ s' "what its saves cost is told"
like "$("$muster" top --once -d 0.1)" 'a "name" .* [0-9]\.[0-9]{2}s ' "at a glance, too"
run_cmd python3 "$tmp/ask.py" firing
is "$out" "[]" "no alert fires"

began=${EPOCHREALTIME/./}
cluster_cut h2
run_cmd python3 "$tmp/ask.py" alert "MusterNodeLost h2" 60
took=$(((${EPOCHREALTIME/./} - began) / 1000))
[ "$rc" = 0 ] && [ $took -lt 15000 ]
ok $? "a host is cut off: its alert is firing within 15 s" || note "$err"
note "after $took ms"
cluster_heal
quiet() { [ "$(python3 "$tmp/ask.py" firing)" = "[]" ]; }
wait_for 40 quiet
ok $? "it comes back: the alert is over" || note "$("$muster" nodes)"
kill $prometheus
{ wait $prometheus; } 2>/dev/null
run_cmd timeout 60 "$muster" controller --stop --force
is "$rc" 0 "the pool ends" || note "$err"
done_testing
