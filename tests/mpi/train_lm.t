#!/bin/bash
# The example job learns, repeats itself bit for bit, resumes to the same weights, and says what is wrong.
B=${B:-build/default}
LAUNCH=${LAUNCH:-mpirun --oversubscribe}
CC=${CC:-gcc}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

LM=$B/examples/train_lm
SRC=docs/examples/train_lm.c
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
n=0
failed=0

ok() { # ok STATUS "what holds": shows the last output if it does not
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        sed 's/^/# /' "$tmp/out" "$tmp/err" | tail -n 20
        failed=1
    fi
}
run() { # run NP ARG...: leaves out, err and rc
    local np=$1
    shift
    $LAUNCH -np "$np" "$LM" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    rc=$?
    return $rc
}
hash_of() { sed -n 's/^weights sha256 \([0-9a-f]\{64\}\)$/\1/p' "$tmp/out"; }
loss_of_step() { sed -n "s/^step $1 loss \([0-9.]*\) .*/\1/p" "$tmp/out"; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 < b + 0) }'; }

# --- the gradients, and that the check can fail
run 1 --gradcheck
[ $rc -eq 0 ] && [ "$(grep -c 'max error' "$tmp/out")" -eq 9 ] && grep -q '^gradcheck passed' "$tmp/out"
ok $? "the gradients of all tensors agree with differences of the loss"

san=
case ${B##*/} in san-*) san=-fsanitize=$(tr - , <<<"${B##*/san-}") ;; esac
# All mistakes are in one program: MUTANT is the number of the one that it makes, 0 is none.
cat >"$tmp/mutant.h" <<'C'
#include <stdlib.h>
static int mutant;
__attribute__((constructor)) static void choose(void)
{
    mutant = atoi(getenv("MUTANT"));
}
C
cp -r "$SRC" "${SRC%.c}" "$tmp"
sed -i 's/slope\[next\] -= scale;/slope[next] -= (mutant == 1 ? 0.999f : 1.0f) * scale;/
    s/activation(l->z\[i\]) + (n ? l->x\[i\] : 0);/activation(l->z[i]) + (n \&\& mutant != 2 ? l->x[i] : 0);/
    s/return z > 0 ? 2 \* z : 0;/return z > 0 ? (mutant == 3 ? 1 : 2) * z : 0;/
    s/to\[e\] += from\[e\];/to[e] = (mutant == 4 ? 0 : to[e]) + from[e];/' "$tmp/train_lm/model.c"
$CC -std=c11 -D_GNU_SOURCE -O2 $san -include "$tmp/mutant.h" -Iruntime/include -o "$tmp/mutant" "$tmp/train_lm.c" "$tmp"/train_lm/*.c \
    -L"$B/lib" -lmuster -Wl,-rpath,"$(realpath "$B/lib")" -lcrypto -lm 2>"$tmp/err"
check() { # check N: what it says of that mistake
    : >"$tmp/out"
    [ -x "$tmp/mutant" ] || return 99
    MUTANT=$1 $LAUNCH -np 1 "$tmp/mutant" --gradcheck >"$tmp/out" 2>"$tmp/err"
}
finds() { # finds N "what"
    check "$1"
    [ $? -ne 0 ] && grep -q "mutant [!=]= $1 " "$tmp/train_lm/model.c" && grep -q '^gradcheck FAILED' "$tmp/out" && ! grep -qE 'inf|nan' "$tmp/out"
    ok $? "the gradient check finds $2"
}
check 0
ok $? "a copy of the program without a mistake passes"
finds 1 "a softmax slope that is off by a thousandth"
finds 2 "a lost residual connection"
finds 3 "a wrong activation slope"
finds 4 "a byte that occurs twice and is counted once"

# --- training
small=(--hidden 64 --layers 2 --embed 16 --context 4 --batch 60 --lr 0.01 --steps 20)
run 2 "${small[@]}" --steps 80 --no-ckpt
unigram=$(sed -n 's/^final loss .* unigram \([0-9.]*\) .*/\1/p' "$tmp/out")
trained=$(sed -n 's/^final loss \([0-9.]*\) .*/\1/p' "$tmp/out")
[ $rc -eq 0 ] && below "$trained" "$unigram" && below "$trained" "$(loss_of_step 10)"
ok $? "80 steps bring the loss below the unigram entropy (${trained:-none} < ${unigram:-none})"

run 2 "${small[@]}" --no-ckpt
whole=$(hash_of)
run 2 "${small[@]}" --no-ckpt && [ -n "$whole" ] && [ "$(hash_of)" = "$whole" ]
ok $? "the same run again ends with the same weights"
run 2 "${small[@]}" --no-ckpt --seed 2 && [ -n "$(hash_of)" ] && [ "$(hash_of)" != "$whole" ]
ok $? "another seed ends with other weights"

run 1 "${small[@]}" --no-ckpt --log-every 1
one=$(loss_of_step 1) one_last=$(loss_of_step 20)
run 3 "${small[@]}" --batch 61 --steps 1 --no-ckpt --log-every 1
three_odd=$(loss_of_step 1)
run 1 "${small[@]}" --batch 61 --steps 1 --no-ckpt --log-every 1
[ -n "$three_odd" ] && [ "$three_odd" = "$(loss_of_step 1)" ]
ok $? "uneven shares: one rank and three see the same batch"
run 3 "${small[@]}" --no-ckpt --log-every 1
[ -n "$one" ] && [ "$(loss_of_step 1)" = "$one" ] &&
    awk -v a="$one_last" -v b="$(loss_of_step 20)" 'BEGIN { d = a - b; exit !(a > 0 && d < 0.01 && d > -0.01) }'
ok $? "one rank and three learn the same"

# --- checkpoints
ckpt=(--ckpt "dir=$tmp/ckpt,interval=4steps")
run 2 "${small[@]}" "${ckpt[@]}" --stop-at 10
[ $rc -eq 0 ] && grep -q '^stopped after step 10 with a checkpoint' "$tmp/out" && [ -z "$(hash_of)" ]
ok $? "--stop-at saves and ends with 0"
run 2 "${small[@]}" "${ckpt[@]}" --stop-at 10 && grep -q '^resumed at step 10 from checkpoint' "$tmp/out" &&
    grep -q '^stopped after step 10' "$tmp/out"
ok $? "where nothing is left to do nothing is done"
run 2 "${small[@]}" "${ckpt[@]}" --step-time-file "$tmp/times"
[ $rc -eq 0 ] && grep -q '^resumed at step 10 from checkpoint' "$tmp/out" && [ -n "$whole" ] && [ "$(hash_of)" = "$whole" ]
ok $? "10 steps and the 10 after a resume end with the weights of 20 in one go"
[ "$(grep -cE '^[0-9]{10,}\.[0-9]{9} [0-9]+$' "$tmp/times" 2>/dev/null)" = 10 ] &&
    awk '$2 != NR + 10 || $1 < last { exit 1 } { last = $1 }' "$tmp/times"
ok $? "--step-time-file has a line for each completed step, in order"
run 2 "${small[@]}" "${ckpt[@]}" && grep -q '^resumed at step 20 from checkpoint' "$tmp/out" && [ "$(hash_of)" = "$whole" ]
ok $? "a finished job started again says the same"
head -c 50000 "$SRC" >"$tmp/other"
run 2 "${small[@]}" "${ckpt[@]}" --data "$tmp/other"
[ $rc -ne 0 ] && grep -q 'checkpoint is of another text' "$tmp/err"
ok $? "a checkpoint of another text is refused"

# --- bad input: one line, from one rank; all at once, because mpirun takes its time over a failed job
cases=0
refuse() { # refuse CODE "pattern" ARG...
    local dir=$tmp/refuse$((++cases))
    mkdir "$dir"
    printf '%s\n' "$1" "$2" "${*:3}" >"$dir/want"
    {
        $LAUNCH -np 2 "$LM" "${@:3}" >"$dir/out" 2>"$dir/err" </dev/null
        echo $? >"$dir/rc"
    } &
}
refuse 2 "unknown option '--stepz'" --stepz 3
refuse 2 "option --steps needs a value" --steps
refuse 2 "option --steps cannot be '0'" --steps 0
refuse 2 "option --lr cannot be 'fast'" --lr fast
refuse 2 "option --batch cannot be '1.5'" --batch 1.5
refuse 2 "has no sample for some of 2 ranks" --batch 1
refuse 2 "stop-at needs checkpoints" --stop-at 5 --no-ckpt
refuse 2 "option --device cannot be 'tpu'" --device tpu
refuse 4 "--device gpu: $tmp/none.so: cannot open" --device gpu --gpu-code "$tmp/none.so"
: >"$tmp/empty"
echo "too short" >"$tmp/short"
refuse 1 "cannot open '$tmp/none': No such file" --data "$tmp/none"
refuse 1 "'$tmp/empty' is empty" --data "$tmp/empty"
refuse 1 "'$tmp' is not a regular file" --data "$tmp"
refuse 1 "the text has 10 bytes" --data "$tmp/short"
refuse 1 "cannot open '$tmp/none/times'" --no-ckpt --step-time-file "$tmp/none/times"
wait
for ((i = 1; i <= cases; i++)); do
    cp "$tmp/refuse$i/out" "$tmp/refuse$i/err" "$tmp"
    { read -r code && read -r pattern && read -r args; } <"$tmp/refuse$i/want"
    [ "$(cat "$tmp/refuse$i/rc")" = "$code" ] && [ "$(grep -c '^train_lm: ' "$tmp/err")" -eq 1 ] &&
        grep -q -- "^train_lm: .*$pattern" "$tmp/err"
    ok $? "refused: ${args//$tmp/TMP}"
done
run 2 --help && [ "$(grep -c -- '--gradcheck' "$tmp/out")" -eq 1 ]
ok $? "--help prints the options once"

echo "1..$n"
exit $failed
