#!/usr/bin/env bash
# What a compiler does not see. Each check prints what it found and why; the exit status says whether any did.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
bad=0

tracked() { git ls-files -- "$@" 2>/dev/null | grep . || find . -path ./build -prune -o -path ./.git -prune -o -type f -print | sed 's|^\./||' | filter "$@"; }
# For a tree without git: files that match one of the patterns, which here are only "*.x" and "*".
filter() {
    local f p
    while read -r f; do
        for p in "$@"; do
            # shellcheck disable=SC2053
            if [[ $f == $p ]]; then
                echo "$f"
                break
            fi
        done
    done
}
check() { # NAME OUTPUT: fails when there is output
    if [ -n "$2" ]; then
        printf '%s:\n%s\n' "$1" "    ${2//$'\n'/$'\n'    }"
        bad=1
    else
        echo "$1: ok"
    fi
}

mapfile -t code < <(tracked '*.c' '*.h' '*.cu')
mapfile -t scripts < <(tracked '*' | grep -vE '^tests/data/' | while read -r f; do
    case $f in *.sh) echo "$f" ;; *.t | .ci/* | runtime/tools/*)
        head -n 1 "$f" | grep -qE '^#!.*\b(ba)?sh$' && echo "$f" ;;
    esac
done)

if command -v shellcheck >/dev/null; then
    # Info and style are matters of taste; warnings are not. SC2154: variables that tests/lib.sh sets.
    check "shellcheck (${#scripts[@]} scripts)" "$(shellcheck -S warning -e SC2154 -f gcc "${scripts[@]}" 2>&1)"
else
    echo "shellcheck: skipped, it is not installed"
fi

if command -v clang-format >/dev/null; then
    # Versions differ in details: a finding is a hint unless it is the version that the code was formatted with.
    version=$(clang-format --version | grep -oE '[0-9]+' | head -n 1)
    found=$(clang-format --dry-run "${code[@]}" 2>&1 | grep -oE '^[^ :]+:[0-9]+' | sort -u | head -n 40)
    if [ "$version" = 14 ]; then
        check "clang-format" "$found"
    else
        echo "clang-format $version (14 counts): $(grep -c . <<<"$found") places differ"
    fi
else
    echo "clang-format: skipped, it is not installed"
fi

# The brackets keep this line from finding itself.
check "unfinished work" "$(tracked '*' | grep -vE '^(tests/data/|LICENSE$)' | tr '\n' '\0' |
    xargs -0 grep -InE '\b(TOD[O]|FIXM[E]|XX[X]|HAC[K]|WI[P])\b' | cut -c1-150)"
check "conflict markers" "$(tracked '*' | tr '\n' '\0' | xargs -0 grep -InE '^(<<<<<<<|>>>>>>>) ')"
check "blanks at the end of a line, tabs in C" "$(grep -nE '[ 	]+$|	' "${code[@]}" | cut -c1-120)"
check "C files of more than 800 lines" "$(wc -l "${code[@]}" | awk '$2 != "total" && $1 > 800 { print $2 ": " $1 }')"
check "headers without a guard" "$(for f in "${code[@]}"; do
    case $f in *.h) grep -qE '^#ifndef [A-Z_0-9]+_H$' "$f" || echo "$f" ;; esac
done)"
check "printing, exiting or aborting in library rooms" "$(for f in "${code[@]}"; do
    case $f in runtime/base/opt.c) ;; # prints help into a stream that it is given
    runtime/base/*.c | runtime/rank/*.c | collectives/*.c | runtime/ckpt/*.c | topo/*.c)
        grep -HnE '\b(printf|puts|perror|exit|abort|assert) ?\(|\b(fprintf|fputs)\(.*\b(stdout|stderr)\b' "$f" ;;
    esac
done | cut -c1-120)"

if [ -e docs/man/muster.3 ]; then
    headers=(runtime/include/*.h)
    undescribed() { while read -r name; do grep -qE "\b$name\b" docs/man/muster.3 || echo "$name"; done; }
    check "public functions that docs/man/muster.3 does not describe" "$(
        sed -n 's/^MUSTER_API .*[ *]\(muster_[a-z_]*\)(.*/\1/p' "${headers[@]}" | sort -u | undescribed)"
    check "error codes that docs/man/muster.3 does not describe" "$(
        sed -n 's/^ *X(\(E[A-Z]*\),.*/MUSTER_\1/p' "${headers[@]}" | undescribed)"
    check "public types and constants that docs/man/muster.3 does not describe" "$(
        { sed -nE 's/^(typedef .*|\}) (muster_[a-z]+);.*/\2/p' "${headers[@]}"
          grep -hoE '(^ +|[{,] |^#define )MUSTER_[A-Z0-9_]+' "${headers[@]}" | grep -oE 'MUSTER_.*' |
              grep -vE '^MUSTER_(H|MPI_H|API|ERRORS.*)$'; } | sort -u | undescribed)"
else
    echo "docs/man/muster.3: skipped, it does not exist"
fi
if [ -e docs/formats.md ]; then
    check "JSON schemas that docs/formats.md does not describe" "$(
        printf '%s\n' "${code[@]}" | grep -v '^tests/' | tr '\n' '\0' | xargs -0 grep -hoE '\bmuster\.[a-z-]+/[0-9]+' | sort -u |
            while read -r schema; do grep -qF "\`$schema\`" docs/formats.md || echo "$schema"; done)"
fi
if command -v mandoc >/dev/null && ls docs/man/*.[1-9] >/dev/null 2>&1; then
    check "mandoc" "$(mandoc -T lint -W warning docs/man/*.[1-9] 2>&1 | head -n 40)"
fi
exit $bad
