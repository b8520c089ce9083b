#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (default 10), with libFuzzer where clang has it, otherwise with random bytes
# and random changes of its seeds. Prints TAP; what crashes is kept under $B/fuzz.
set -u
cd "$(dirname "$0")/../.." || exit 99
out=${B:-build/fuzz}/fuzz seconds=${FUZZ_SECONDS:-10}
mkdir -p "$out"
n=0 bad=0
# shellcheck disable=SC2054
flags=(-std=c11 -D_GNU_SOURCE -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -I. -Iruntime/include)
for target in tests/fuzz/*.c; do
    name=$(basename "$target" .c)
    [ "$name" = driver ] && continue
    n=$((n + 1))
    # shellcheck disable=SC2046
    read -ra sources <<<"$(sed -n 's|^ \* sources: ||p' "$target" | sed 's| \*/$||' | tr '\n' ' ')"
    corpus=$out/$name.corpus
    mkdir -p "$corpus"
    if clang "${flags[@]}" -fsanitize=fuzzer -o "$out/$name" "$target" "${sources[@]}" 2>"$out/$name.log"; then
        run=("$out/$name" -max_total_time="$seconds" -max_len=4096 -artifact_prefix="$out/$name." "$corpus")
    elif "${CC:-gcc}" "${flags[@]}" -o "$out/$name" "$target" tests/fuzz/driver.c "${sources[@]}" 2>"$out/$name.log"; then
        run=("$out/$name" "$seconds" "$out/$name.crash")
    else
        echo "not ok $n - $name builds"
        sed 's/^/# /' "$out/$name.log"
        bad=$((bad + 1))
        continue
    fi
    if timeout $((seconds + 60)) "${run[@]}" >"$out/$name.log" 2>&1; then
        echo "ok $n - $name: $seconds s"
    else
        echo "not ok $n - $name"
        tail -n 20 "$out/$name.log" | sed 's/^/# /'
        bad=$((bad + 1))
    fi
done
echo "1..$n"
[ "$bad" = 0 ]
