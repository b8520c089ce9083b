# shellcheck shell=bash
# For the tests of what runs seeded schedules, PROGRAM, and of PROGRAM-mutants, which has mutations planted in it.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

holds() { # PROGRAM ARGUMENT...: nothing is violated
    run_cmd "$@"
    ok "$rc" "nothing is violated: $out"
    [ -z "$err" ] || note "$err"
}
each_caught() { # PROGRAM SEEDS: each mutation is, by so many schedules at most
    local name text
    while IFS=$'\t' read -r name text; do
        run_cmd timeout "${MUSTER_TEST_LIMIT:-300}" "$1-mutants" --seeds "$2" --mutant "$name"
        ok "$rc" "caught: $text (${out##*$'\n'})"
    done < <("$1" --list)
}
