#!/usr/bin/env bash
# Disks that are full: checkpoints that find no room cost no job, output that finds none is shown all the same.
# A small tmpfs in a mount namespace of our own is the disk.
if [ -z "${DISK_TEST-}" ]; then
    export DISK_TEST=1
    for flags in -m -rm; do
        unshare $flags true 2>/dev/null && exec unshare $flags "$0"
    done
fi
. "$(dirname "$0")/../lib.sh"
mkdir "$tmp/disk"
mount -t tmpfs -o size=900k none "$tmp/disk" 2>/dev/null || skip_all "no mount namespaces here"
trap 'rc=$?; umount -l "$tmp/disk"; (exit $rc); tap_exit' EXIT
small=(--hidden 64 --layers 2 --embed 16 --context 4 --batch 60 --lr 0.01)
train() { run_cmd "$muster" run -n 2 --oversubscribe "${@:2}" --ckpt-dir "$1" "$B/examples/train_lm" "${small[@]}" "${lm[@]}"; }
fill() { head -c 100M /dev/zero >"$tmp/disk/ballast" 2>/dev/null; }

# --- checkpoints: two fit, the third does not
lm=(--steps 60 --ckpt "interval=5steps,keep=2" --last-save 2)
train "$tmp/disk/c"
is "$rc" 3 "a job whose last checkpoint finds no room ends with 3"
like "$out" "step 60 loss .*weights sha256" "trained to its end"
like "$err" "train_lm: going on without a new checkpoint: [^
]*step [0-9]+[^
]* bytes for $tmp/disk/c/[^
]*: No space left on device" "a failed save is one line with the step and the place"
like "$err" "train_lm: step 60 is in no checkpoint" "and so is the failed last one"
is "$(head -n 8 "$tmp/.err" | grep -o 'previous checkpoint failed (step [0-9]*' | sort | uniq -d)" "" "ranks do not repeat one another"
like "$err" "not restarted: its ranks had ended in good order" "nor is it trained again"
is "$("$muster" status 1 --json | grep -o '"restarts": *[0-9]*' | tr -d ' ')" '"restarts":0' "no attempt was spent"
is "$(echo "$tmp"/disk/c/g*)" "$tmp/disk/c/g00000001 $tmp/disk/c/g00000002" "the good checkpoints are there, and nothing else"
is "$(find "$tmp/disk/c" -name 'seg.*' | wc -l)" 4 "of the others nothing is left"

# --- room comes back
rm -rf "$tmp/disk/c"
mount -o remount,size=1400k "$tmp/disk"
lm=(--steps 12 --stop-at 6 --ckpt "interval=3steps,keep=2")
train "$tmp/disk/c"
is "$rc" 0 "a checkpoint while there is room"
fill
lm=(--steps 60 --ckpt "interval=5steps,keep=2" --last-save 60)
train "$tmp/disk/c" &
job=$!
wait_for 60 grep -q 'without a new checkpoint' "$tmp/.err"
ok $? "the disk is full: saves fail"
rm "$tmp/disk/ballast"
wait $job
rc=$? out=$(cat "$tmp/.out") err=$(cat "$tmp/.err")
like "$out" "resumed at step 6.*weights sha256" "the job could open its directory, and came to its end"
unlike "$err" "is in no checkpoint" "the next save was made as soon as there was room"
lm=(--steps 60)
train "$tmp/disk/c"
like "$out" "resumed at step 60 " "and is a whole one"

# --- output: the logs are on the full disk
# Prints a line, awaits $tmp/go, prints many more, awaits $tmp/end, prints the last.
cat >"$tmp/print" <<'SH'
echo ready
until [ -e "$1/go" ]; do sleep 0.05; done
i=0
while [ $i -lt 3000 ]; do echo "line $i of many"; i=$((i + 1)); done
echo the disk is full
until [ -e "$1/end" ]; do sleep 0.05; done
echo last
SH
wanted() { echo ready; seq -f 'line %.0f of many' 0 2999; echo "the disk is full"; echo last; }
print() { # ARGS...: runs it in the background
    rm -f "$tmp/go" "$tmp/end" "$tmp/.out" "$tmp/.err"
    "$muster" run -n 1 "$@" sh "$tmp/print" "$tmp" >"$tmp/.out" 2>"$tmp/.err" </dev/null &
    job=$!
    wait_for 30 grep -q ready "$tmp/.out"
}
shows() { # the live output, all of it, to the last line
    touch "$tmp/go"
    wait_for 60 grep -q 'the disk is full' "$tmp/.out"
}
rm -rf "$tmp/disk/c"
print --output "$tmp/disk/o"
ok $? "a job's output goes to a disk"
fill
shows
ok $? "when it is full the terminal shows the output all the same"
touch "$tmp/end"
wait $job
is "$?" 0 "the job ends well"
cmp -s "$tmp/.out" <(wanted)
ok $? "all of its output was shown, in order"
err=$(cat "$tmp/.err")
file=$(cat "$tmp/disk/o/latest/rank-0.out")
lost=$(($(wanted | wc -l) - $(wc -l <<<"$file")))
is "$(grep -c 'cannot be written' <<<"$err")" 1 "that the log cannot be written is told once"
like "$err" "muster: the log of rank 0 cannot be written \(No space left on device\)" "with the reason"
like "$err" "muster: $lost lines of output are not in the logs \(No space left on device\)"$'(\n|$)' "and how many lines it lacks: $lost"
id=$(sed -n 's/.*"id": *\([0-9]*\).*/\1/p' <<<"$("$muster" jobs --all --json | tr '{' '\n')" | sort -n | tail -1)
like "$("$muster" events "$id")" "output-lost .*No space left.*output-lost .*$lost lines of output not in the logs" "the events have it"
like "$("$muster" status "$id" --json | tr -d '\n ')" "\"lost_lines\":$lost,\"unseen_lines\":0" "and the job's record"

rm "$tmp/disk/ballast"
print --output "$tmp/disk/o"
fill
shows
rm "$tmp/disk/ballast"
touch "$tmp/end"
wait $job
cmp -s "$tmp/.out" <(wanted)
ok $? "with room again, nothing is shown twice" || note "$(diff "$tmp/.out" <(wanted) | head)"
like "$(tail -n 2 "$tmp/disk/o/latest/rank-0.out")" '^muster: [0-9]+ lines of this output could not be kept \(No space left on device\)
last$' "and the log goes on, with a line that says how much it lacks"

# the state directory on the full disk
mkdir "$tmp/disk/home"
mount -o remount,size=3m "$tmp/disk"
(
    export MUSTER_HOME=$tmp/disk/home
    print
    fill
    shows
    ok $? "the same with the default place of the logs"
    touch "$tmp/end"
    wait $job
    cmp -s "$tmp/.out" <(wanted)
    ok $? "all of it is shown"
    rm "$tmp/disk/ballast"
    "$muster" controller --stop >/dev/null 2>&1
    echo "$tap_n $tap_bad" >"$tmp/taps"
)
read -r tap_n tap_bad <"$tmp/taps"
MUSTER_HOME=$tmp/disk/home wait_for 30 no_leftovers
ok $? "nothing of it is left"
done_testing
