#!/usr/bin/env bash
# Disks that are full: checkpoints that find no room cost no job.
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
wait_for 20 grep -q 'without a new checkpoint' "$tmp/.err"
ok $? "the disk is full: saves fail"
rm "$tmp/disk/ballast"
wait $job
rc=$? out=$(cat "$tmp/.out") err=$(cat "$tmp/.err")
like "$out" "resumed at step 6.*weights sha256" "the job could open its directory, and came to its end"
unlike "$err" "is in no checkpoint" "the next save was made as soon as there was room"
lm=(--steps 60)
train "$tmp/disk/c"
like "$out" "resumed at step 60 " "and is a whole one"
done_testing
