#!/usr/bin/env bash
# make bench-metrics: how long a scrape of /metrics takes with 1,000 agents connected over the real wire (tests/scale/agents.c),
# and how long one that has been made within the last half second; the same for the status page (/) and what it polls, with
# JOBS in the queue. It fails when the median of a scrape is above 100 ms, or that of a page above 200 ms.
#   JOBS     how many are in the queue (1000)
#   AGENTS   how many (1000)
#   SCRAPES  how many are timed (20)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
B=${B:-build/default}
agents=${AGENTS:-1000}
tmp=$(mktemp -d) || exit 2
pool=
trap '[ -z "$pool" ] || { kill "$pool"; wait "$pool"; } 2>/dev/null; rm -rf "$tmp"' EXIT
export MUSTER_HOME=$tmp/home MUSTER_RUN_ROOT=$tmp/run
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port/metrics
MUSTER_METRICS=$port "$B/tests/scale/agents" --agents "$agents" --fanout 32 --rounds 1 --rest 300 --muster "$B/bin/muster" >"$tmp/out" 2>&1 &
pool=$!
up() { curl -s --max-time 5 "$url" | grep -c '^muster_node_up.* 1$'; }
for ((i = 0; i < 240; i++)); do
    [ "$(up)" -lt "$agents" ] || break
    kill -0 "$pool" 2>/dev/null || { echo "the pool has ended"; tail -n 5 "$tmp/out"; exit 1; }
    sleep 0.5
done
times() { # PAUSE [PATH]: sorted, ms
    local i
    for ((i = 0; i < ${SCRAPES:-20}; i++)); do
        sleep "$1"
        curl -s --max-time 10 -o "$tmp/text" -w '%{time_total}\n' "${url%/metrics}${2-/metrics}"
    done | awk '{ printf "%.2f\n", $1 * 1000 }' | sort -n
}
say() { # TITLE TIMES
    awk -v t="$1" '{ v[NR] = $1 } END { printf "  %-36s p50 %.2f ms, worst %.2f ms\n", t, v[int((NR + 1) / 2)], v[NR] }' <<<"$2"
}
made=$(times 0.6) same=$(times 0)
printf '%s nodes that are up, %s samples, %s bytes\n' "$(up)" "$(grep -c '^muster' "$tmp/text")" "$(stat -c %s "$tmp/text")"
say "a scrape" "$made"
say "the same text again" "$same"
seq "${JOBS:-1000}" | xargs -P 8 -I{} "$B/bin/muster" submit --hold -n 1 --name "job {}" true >/dev/null
fail=0
for path in / /status.json; do
    page=$(times 0.6 "$path")
    say "$path, $(stat -c %s "$tmp/text") bytes, ${JOBS:-1000} jobs" "$page"
    awk '{ v[NR] = $1 } END { exit !(v[int((NR + 1) / 2)] < 200) }' <<<"$page" || fail=1
done
grep -q "^{\"schema\":\"muster.page/1\".*\"waiting_all\":${JOBS:-1000},.*}$" "$tmp/text" || fail=1
[ $fail = 0 ] && [ "$(up)" -ge "$agents" ] && awk '{ v[NR] = $1 } END { exit !(v[int((NR + 1) / 2)] < 100) }' <<<"$made"
