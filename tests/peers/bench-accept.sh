#!/usr/bin/env bash
# make bench-accept: how long muster accept takes over hosts of namespaces, from the command to the verdict, HOSTS=8
# PROFILE=quick RUNS=5; what it says of them, and which part took how long. Nothing is planted. KEEP=DIR keeps the runs.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
hosts=${HOSTS:-8} profile=${PROFILE:-quick} runs=${RUNS:-5}
cluster_up "$hosts" || exit
export MUSTER_SSH=$CLUSTER_SSH MUSTER_IDLE=600 MUSTER_YIELD=1
list=$(seq -s, -f 'h%g' "$hosts") bad=0
echo "# $hosts hosts on $(nproc) CPUs, profile $profile"
for ((i = 1; i <= runs; i++)); do
    began=$(date +%s%N)
    timeout 900 "$muster" accept -H "$list" -x MUSTER_YIELD --profile "$profile" --output "${KEEP:-$tmp}/$i" --json -q >"$tmp/o" 2>"$tmp/e"
    rc=$?
    took=$((($(date +%s%N) - began) / 1000000))
    case $rc in
    0 | 1 | 3) echo $took >>"$tmp/took" ;;
    *) bad=1 && cat "$tmp/e" ;;
    esac
    python3 - "${KEEP:-$tmp}/$i" $rc $took "$tmp/o" <<'PY'
import glob, json, sys
parts = []
for path in sorted(glob.glob(sys.argv[1] + "/raw/*.jsonl")):
    ends = [x for x in map(json.loads, open(path)) if x["kind"] == "end"]
    parts.append("%s %.1f" % (path.split("/")[-1][:-6], ends[-1]["seconds"] if ends else 0))
try:
    said = json.load(open(sys.argv[4]))
    said = ", ".join([said["verdict"]] + ["%s (%s: %s)" % (s["id"], s["test"], s["evidence"]) for s in said["suspects"]])
except ValueError:
    said = "none"
print("%6.1f s  exit %s, verdict %s; s: %s" % (int(sys.argv[3]) / 1e3, sys.argv[2], said, ", ".join(parts)), flush=True)
PY
done
sort -n "$tmp/took" | awk '{ v[NR] = $1 / 1e3 } END { if (NR) printf "median %.1f s, %.1f to %.1f\n", v[int((NR + 1) / 2)], v[1], v[NR] }'
timeout 60 "$muster" controller --stop --force >"$tmp/o" 2>&1 || bad=1
# shellcheck disable=SC2034
tap_planned=0
exit $bad
