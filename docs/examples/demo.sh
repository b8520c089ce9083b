#!/usr/bin/env bash
# make demo: trains a real language model on 4 ranks, kills one of them on the way, and compares the weights with those of
# a run that nobody disturbed. Everything happens in a directory of its own, which is removed at the end.
set -u
B=$(cd "${B:-build/default}" && pwd) || exit 1
muster=$B/bin/muster train=$B/examples/train_lm
dir=$(mktemp -d "${TMPDIR:-/tmp}/muster-demo.XXXXXX") || exit 1
export MUSTER_HOME=$dir/home MUSTER_IDLE=2
steps=${DEMO_STEPS:-200} kill_at=${DEMO_KILL_AT:-110}
run=""
clean() {
    [ -n "$run" ] && kill "$run" 2>/dev/null && wait "$run" 2>/dev/null
    for _ in $(seq 100); do # the idle daemons end by themselves
        grep -qs "MUSTER_HOME=$dir/home" /proc/[0-9]*/environ || break
        sleep 0.1
    done
    rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

slots=$("$muster" nodes --json | python3 -c 'import json,sys; print(sum(n["slots"] for n in json.load(sys.stdin)["nodes"]))')
over=""
[ "${slots:-0}" -ge 4 ] || over=--oversubscribe

say "1. Training, undisturbed: muster run -n 4 $over train_lm --steps $steps"
# shellcheck disable=SC2086
"$muster" run -n 4 $over --name calm --ckpt-dir "$dir/calm" "$train" --steps "$steps" --log-every 20 | tee "$dir/calm.txt"
[ "${PIPESTATUS[0]}" = 0 ] || exit 1

say "2. The same once more; after step $kill_at one rank gets SIGKILL"
# shellcheck disable=SC2086
"$muster" run -n 4 $over --name disturbed --ckpt-dir "$dir/disturbed" "$train" --steps "$steps" --log-every 20 \
    --step-time-file "$dir/steps" >"$dir/disturbed.txt" 2>"$dir/disturbed.err" &
run=$!
tail -n +1 -s 0.1 -f --pid=$run "$dir/disturbed.txt" "$dir/disturbed.err" 2>/dev/null | grep --line-buffered -v -e '^==>' -e '^$' &
view=$!
reached=0
for _ in $(seq 1200); do
    reached=$(tail -n 1 "$dir/steps" 2>/dev/null | cut -d' ' -f2)
    [ "${reached:-0}" -ge "$kill_at" ] && break
    kill -0 $run 2>/dev/null || break
    sleep 0.1
done
victim=$(pgrep -f "^$train .*$dir/steps" | shuf -n 1)
if [ -z "$victim" ]; then
    echo "demo: no rank to kill was found"
    exit 1
fi
killed=$(date +%s.%N)
kill -9 "$victim"
echo "demo: kill -9 $victim (a rank) after step $reached"
wait $run
rc=$?
run=""
wait $view 2>/dev/null
[ $rc = 0 ] || { echo "demo: the disturbed run ended with $rc"; exit 1; }

say "3. What happened"
job=$("$muster" jobs --all --json | python3 -c 'import json,sys; print(max(j["id"] for j in json.load(sys.stdin)["jobs"]))')
"$muster" events "$job"
"$muster" events "$job" --json | python3 -c '
import json, sys
killed, steps = float(sys.argv[1]), sys.argv[2]
ev = json.load(sys.stdin)["events"]
def first(kind):
    return next((e for e in ev if e["kind"] == kind and e["t"] > killed - 0.05), None)
lost, again = first("rank-lost"), first("attempt-start")
done = next((line.split() for line in open(steps) if again and float(line.split()[0]) > again["t"]), None)
if not (lost and again and done):
    sys.exit("demo: the events do not show a recovery")
print()
print("  SIGKILL to its detection        %6.1f ms" % (1e3 * (lost["t"] - killed)))
print("  SIGKILL to the next attempt     %6.1f ms" % (1e3 * (again["t"] - killed)))
print("  SIGKILL to its first full step  %6.1f ms  (step %s)" % (1e3 * (float(done[0]) - killed), done[1]))
' "$killed" "$dir/steps" || exit 1

a=$(sed -n 's/^weights sha256 //p' "$dir/calm.txt") b=$(sed -n 's/^weights sha256 //p' "$dir/disturbed.txt")
say "4. The weights (SHA-256)"
echo "  undisturbed  $a"
echo "  killed once  $b"
if [ -n "$a" ] && [ "$a" = "$b" ]; then
    echo "  equal: the kill cost a moment and nothing else"
else
    echo "  NOT EQUAL"
    exit 1
fi
