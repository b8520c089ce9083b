# shellcheck shell=bash
# For tests that compare runs of the example job; $out is what one has printed.

hash_of() { sed -n 's/^weights sha256 \([0-9a-f]\{64\}\)$/\1/p' <<<"$out"; }
# Every loss: those of the steps, and the two at the end.
curve() {
    sed -nE 's/^(step [0-9]+) loss ([0-9.]+) .*/\1 \2/p; s/^(final) loss ([0-9.]+) (validation) ([0-9.]+) .*/\1 0 \2\n\3 0 \4/p' <<<"$out"
}
# Losses of float32 models in another order of sums: each sum is off by some 1e-6 of itself, which tens of steps do not
# make a hundred times as much. They are printed in steps of 1e-4. Prints the largest difference.
curves_apart() { # FILE FILE LINES
    [ "$(wc -l <"$1")" = "$3" ] && [ "$(cut -d' ' -f1,2 "$1")" = "$(cut -d' ' -f1,2 "$2")" ] &&
        paste -d' ' "$1" "$2" | awk '{ d = $3 - $6; d = d < 0 ? -d : d; if (d > most) most = d }
            END { printf "at most %.4f apart", most; exit !(NR && most < 0.0005) }'
}
