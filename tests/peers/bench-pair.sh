#!/usr/bin/env bash
# make bench-pair: `muster bench pair` beside a bare ping-pong over MPI, turn by turn, on an idle link. Medians of the turns'
# ratios, which should be within 5 % of 1.
#   TURNS=11 SMALL=8 LARGE=1048576 TIME=300; RUN: options of muster run, such as "-H a,b --ppn 1" for a network (-n 2)
set -u
B=${B:-build/default}
TURNS=${TURNS:-11} SMALL=${SMALL:-8} LARGE=${LARGE:-1048576} TIME=${TIME:-300}
read -r -a run <<<"${RUN:--n 2}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
home=$(mktemp -d)
export MUSTER_HOME=$home/home MUSTER_RUN_ROOT=$home/run
trap '"$B/bin/muster" controller --stop --force >/dev/null 2>&1; rm -rf "$home"' EXIT
for ((i = 0; i < TURNS; i++)); do
    bare() { "$B/bin/muster" run "${run[@]}" "$B/tests/peers/pingpong" "$SMALL" "$LARGE" "$(bc -l <<<"$TIME / 1000")" | sed 's/^/bare /'; }
    ours() {
        "$B/bin/muster" bench pair -q "${run[@]}" --small "$SMALL" --large "$LARGE" --time "${TIME}ms" --json | python3 -c '
import json, sys
t = json.load(sys.stdin)["tests"]
def of(name, a, b): return next(x["p50"] for x in t if x["name"] == name and (x["from"], x["to"]) == (a, b))
print("ours", of("pair.lat", 0, 1), of("pair.bw", 0, 1), of("pair.bw", 1, 0))'
    }
    if ((i % 2)); then bare && ours; else ours && bare; fi || exit 1
done | tee /dev/stderr | python3 -c '
import statistics, sys
rows = [x.split() for x in sys.stdin]
got = {w: [list(map(float, r[1:])) for r in rows if r[0] == w] for w in ("ours", "bare")}
bad = not got["ours"] or len(got["ours"]) != len(got["bare"])
for i, what in enumerate(("latency", "bandwidth there", "bandwidth back")):
    if not got["ours"] or len(got["ours"]) != len(got["bare"]): break
    ratio = statistics.median(a[i] / b[i] for a, b in zip(got["ours"], got["bare"]))
    print("%-16s ours %.4g, bare %.4g, ratio %.3f" % (what, statistics.median(x[i] for x in got["ours"]), statistics.median(x[i] for x in got["bare"]), ratio))
    bad = bad or not 0.95 <= ratio <= 1.05
sys.exit(bad)'
