#!/usr/bin/env bash
# Checkpoints over MPI: save on four ranks, restore on others; damage, retention, killed ranks.
B=${B:-build/default}
LAUNCH=${LAUNCH:-mpirun --oversubscribe}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 MUSTER_TIMEOUT=60
prog=$B/tests/mpi/ckpt
tmp=$(mktemp -d) n=0 bad=0
trap 'rm -rf "$tmp"' EXIT
export MUSTER_CKPT_DIR=$tmp/ckpt

result() { # STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        sed 's/^/# /' "$tmp/log"
        bad=1
    fi
}
job() { # NAME RANKS ARGS...
    timeout 120 $LAUNCH -n "$2" "$prog" "${@:3}" >"$tmp/log" 2>&1
    result $? "$1"
}
flip() { # FILE OFFSET: another byte there
    local was
    was=$(od -An -tu1 -j"$2" -N1 "$1")
    printf "\\x$(printf %x $((was ^ 64)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
generations() { ls -d "$MUSTER_CKPT_DIR"/g* 2>/dev/null | wc -l; }

job "four ranks train and save every five steps" 4 train 20 interval=5steps
for ranks in 1 2 3 4 6; do
    job "restored on $ranks ranks" $ranks restore 20
done
[ "$(generations)" = 3 ]
result $? "three are kept by default"

cp -a "$MUSTER_CKPT_DIR" "$tmp/whole"
job "two ranks go on, keep=2" 2 train 35 interval=5steps,keep=2
[ "$(generations)" = 2 ]
result $? "two are kept"
rm -rf "$MUSTER_CKPT_DIR" && cp -a "$tmp/whole" "$MUSTER_CKPT_DIR"

newest=$(ls -d "$MUSTER_CKPT_DIR"/g* | tail -1)
[ -z "$newest" ] || flip "$newest/seg.2" 5000
job "a flipped bit in the newest: the one before it" 4 restore 15 "is damaged at byte"
job "the same on 3 ranks" 3 restore 15 "is damaged at byte"
job "training goes on from there" 4 train 25 interval=5steps
job "and its checkpoint is the newest" 4 restore 25
for g in "$MUSTER_CKPT_DIR"/g*; do : >"$g/man.1"; done
job "nothing usable: an error, nothing touched" 4 restore -14 "not a manifest"
rm -rf "$MUSTER_CKPT_DIR"
job "nothing there: ENOCKPT" 2 restore -13 "no checkpoint in"

rm -rf "$MUSTER_CKPT_DIR"
job "eight ranks save" 8 train 10 interval=5steps
for ranks in 6 12; do
    job "and $ranks go on from there" $ranks restore 10
done
rm -rf "$MUSTER_CKPT_DIR"

job "errors are refused and explained" 3 errors
rm -rf "$MUSTER_CKPT_DIR"
job "due: halt file, interval in time" 2 notices
rm -rf "$MUSTER_CKPT_DIR"

for delay in 0.35 0.5 0.62 0.71; do
    $LAUNCH -n 3 "$prog" train 1000000 "interval=5steps,keep=2,dir=$MUSTER_CKPT_DIR" >"$tmp/log" 2>&1 &
    launcher=$!
    for _ in $(seq 1200); do
        [ "$(generations)" -ge 2 ] && break
        sleep 0.05
    done
    sleep "$delay"
    victim=$(pgrep -f "^[^ ]*mpi/ckpt train 1000000 .*dir=$MUSTER_CKPT_DIR" | head -n 1)
    kill -KILL "${victim:-none}"
    killed=$?
    kill -TERM $launcher # whatever it would do about that
    wait $launcher 2>/dev/null
    [ $killed = 0 ] || result 1 "a rank to kill ($delay s)"
    job "a rank killed while it saves ($delay s): bit by bit what was saved" 3 restore any
done
echo "1..$n"
exit $bad
