#!/usr/bin/env bash
# make bench-pair: `muster bench pair` beside a bare ping-pong over MPI, turn by turn, on an idle link: between two hosts of
# namespaces, which takes root. Medians of the turns' ratios, which must be within 5 % of 1. Then, for comparison only,
# between two processes of one host.
#   TURNS=11 SMALL=8 LARGE=1048576 TIME=300; RUN: options of muster run, such as "-H a,b --ppn 1", for your own network in
#   place of these
if [ -z "${RUN-}" ]; then
    # shellcheck source=tests/cluster/cluster.sh
    . "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh"
    cluster_up 2 || exit
    export MUSTER_SSH=$CLUSTER_SSH
else
    muster=${B:-build/default}/bin/muster tmp=$(mktemp -d)
    export MUSTER_HOME=$tmp/home MUSTER_RUN_ROOT=$tmp/run
    trap 'rm -rf "$tmp"' EXIT
fi
set -u
TURNS=${TURNS:-11} SMALL=${SMALL:-8} LARGE=${LARGE:-1048576} TIME=${TIME:-300}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

bare() { "$muster" run "$@" "${B:-build/default}/tests/peers/pingpong" "$SMALL" "$LARGE" "$(bc -l <<<"$TIME / 1000")" | sed 's/^/bare /'; }
ours() {
    "$muster" bench pair -q "$@" --small "$SMALL" --large "$LARGE" --time "${TIME}ms" --json | python3 -c '
import json, sys
t = json.load(sys.stdin)["tests"]
def of(name, a, b): return next(x["p50"] for x in t if x["name"] == name and (x["from"], x["to"]) == (a, b))
print("ours", of("pair.lat", 0, 1), of("pair.bw", 0, 1), of("pair.bw", 1, 0))'
}
turns() { # OPTIONS OF RUN...: fails where a ratio is off
    local i
    echo "# muster run $*: us, GB/s, GB/s" >&2
    for ((i = 0; i < TURNS; i++)); do
        if ((i % 2)); then bare "$@" && ours "$@"; else ours "$@" && bare "$@"; fi || return 2
    done | tee /dev/stderr | python3 -c '
import statistics, sys
rows = [x.split() for x in sys.stdin]
got = {w: [list(map(float, r[1:])) for r in rows if r[0] == w] for w in ("ours", "bare")}
if not got["ours"] or len(got["ours"]) != len(got["bare"]): sys.exit(2)
bad = 0
for i, what in enumerate(("latency", "bandwidth there", "bandwidth back")):
    ratio = statistics.median(a[i] / b[i] for a, b in zip(got["ours"], got["bare"]))
    print("%-16s ours %.4g, bare %.4g, ratio %.3f" % (what, statistics.median(x[i] for x in got["ours"]), statistics.median(x[i] for x in got["bare"]), ratio))
    bad = bad or not 0.95 <= ratio <= 1.05
sys.exit(bad)'
}

if [ -n "${RUN-}" ]; then
    read -r -a run <<<"$RUN"
    turns "${run[@]}"
    code=$?
else
    turns -H h1:1,h2:1 --bind none
    code=$?
    echo "# no link, so not judged:"
    turns -H h1:2 -n 2
    [ $? -le 1 ] || code=2
fi
timeout 60 "$muster" controller --stop --force >"$tmp/stop" 2>&1 || cat "$tmp/stop"
# shellcheck disable=SC2034
tap_planned=0
exit $code
