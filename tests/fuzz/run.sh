#!/usr/bin/env bash
# tests/fuzz/run.sh [TARGET...]: builds each fuzz target and runs it for FUZZ_SECONDS (default 10), with libFuzzer where
# clang has it, otherwise with random bytes and random changes of its seeds: one on each CPU at a time (FUZZ_JOBS). Prints
# TAP; what crashes is kept under $B/fuzz.
set -u
cd "$(dirname "$0")/../.." || exit 99
out=${B:-build/fuzz}/fuzz seconds=${FUZZ_SECONDS:-10} jobs=${FUZZ_JOBS:-$(nproc)}
mkdir -p "$out"
# shellcheck disable=SC2054
flags=(-std=c11 -D_GNU_SOURCE -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -I. -Iruntime/include)

one() { # NAME: what it comes to is in $out/NAME.tap
    local name=$1 target=tests/fuzz/$1.c corpus=$out/$1.corpus sources libraries run
    # shellcheck disable=SC2046
    read -ra sources <<<"$(sed -n 's|^ \* sources: ||p' "$target" | sed 's| \*/$||' | tr '\n' ' ')"
    read -ra libraries <<<"$(sed -n 's|^ \* libraries: ||p' "$target" | sed 's| \*/$||')"
    mkdir -p "$corpus"
    if clang "${flags[@]}" -fsanitize=fuzzer -o "$out/$name" "$target" "${sources[@]}" "${libraries[@]}" 2>"$out/$name.log"; then
        run=("$out/$name" -max_total_time="$seconds" -max_len=4096 -artifact_prefix="$out/$name." "$corpus")
    elif "${CC:-gcc}" "${flags[@]}" -o "$out/$name" "$target" tests/fuzz/driver.c "${sources[@]}" "${libraries[@]}" 2>"$out/$name.log"; then
        run=("$out/$name" "$seconds" "$out/$name.crash")
    else
        echo "not ok - $name builds"
        sed 's/^/# /' "$out/$name.log"
        return
    fi
    if timeout $((seconds + 60)) "${run[@]}" >"$out/$name.log" 2>&1; then
        echo "ok - $name: $seconds s"
    else
        echo "not ok - $name"
        tail -n 20 "$out/$name.log" | sed 's/^/# /'
    fi
}

names=("$@") n=0 bad=0
for target in $([ $# != 0 ] || echo tests/fuzz/*.c); do
    name=$(basename "$target" .c)
    [ "$name" = driver ] || names+=("$name")
done
running=0
for name in "${names[@]}"; do
    if [ $running -ge "$jobs" ]; then
        wait -n
        running=$((running - 1))
    fi
    one "$name" >"$out/$name.tap" 2>&1 </dev/null &
    running=$((running + 1))
done
wait
for name in "${names[@]}"; do
    n=$((n + 1))
    if grep -q '^ok' "$out/$name.tap"; then
        sed "s/^ok/ok $n/" "$out/$name.tap"
    else
        sed "s/^not ok/not ok $n/" "$out/$name.tap"
        bad=$((bad + 1))
    fi
done
echo "1..$n"
[ "$bad" = 0 ]
