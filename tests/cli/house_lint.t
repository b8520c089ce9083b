#!/usr/bin/env bash
# tests/lint.sh sees what it is there for: each fault is planted in a small tree of its own.
. "$(dirname "$0")/../lib.sh"

tree=$tmp/tree
mkdir -p "$tree"/{tests,runtime/base,runtime/include,docs/man,docs/examples}
cp tests/lint.sh "$tree/tests/"
cp .clang-format "$tree/"
cp runtime/base/buf.[ch] "$tree/runtime/base/"
cp runtime/include/muster.h "$tree/runtime/include/"
{
    printf '.Dd January 1, 2026\n.Dt MUSTER 3\n.Os\n.Sh NAME\n.Nm muster\n.Nd list\n.Sh LIBRARY\n.Bd -literal\n'
    sed -n 's/^MUSTER_API .*[ *]\(muster_[a-z_]*\)(.*/\1/p' runtime/include/muster.h
    sed -n 's/^ *X(\(E[A-Z]*\),.*/MUSTER_\1/p' runtime/include/muster.h
    grep -oE '\b(muster_[a-z]+|MUSTER_[A-Z0-9_]+)\b' runtime/include/muster.h | sort -u
    echo .Ed
} >"$tree/docs/man/muster.3"

run_cmd "$tree/tests/lint.sh"
is "$rc" 0 "a clean tree passes" || note "$out" "$err"

cp -r "$tree" "$tmp/clean"
what=() where=()
plant() { # WHAT FILE TEXT: the text behind the file makes lint fail, with WHAT in its output
    what+=("$1") where+=("$2")
    printf '%b' "$3" >>"$tree/$2"
}
found() { # all that was planted, in a run; then the tree is clean again
    local i
    run_cmd "$tree/tests/lint.sh"
    for i in "${!what[@]}"; do
        [ "$rc" = 1 ] && [[ $out == *"${what[i]}:"$'\n'"    ${where[i]}"* ]]
        ok $? "found: ${what[i]}" || note "$out"
    done
    what=() where=()
    rm -r "$tree"
    cp -r "$tmp/clean" "$tree"
}
plant "unfinished work" runtime/base/buf.c '/* TO''DO */\n'
plant "conflict markers" README.md '<<<<<''<< HEAD\n'
plant "blanks at the end of a line, tabs in C" runtime/base/buf.h 'int x; \n'
plant "C files of more than 800 lines" runtime/base/planted.c "$(printf 'int a;%.0s\\n' {1..801})"
plant "headers without a guard" runtime/base/planted.h 'int a;\n'
plant "printing, exiting or aborting in library rooms" runtime/base/said.c 'void f(void)\n{\n    fprintf(stderr, "x");\n}\n'
found
plant "unfinished work" README.md 'FIX''ME\n'
plant "printing, exiting or aborting in library rooms" runtime/base/planted.c 'void f(void)\n{\n    exit(1);\n}\n'
plant "C files of more than 800 lines" docs/examples/train_lm.c "$(printf 'int a;%.0s\\n' {1..801})"
found
echo 'Schemas: `muster.jobs/1`' >"$tree/docs/formats.md"
printf '/* muster.jobs/1 muster.planted/2 */\n' >>"$tree/runtime/base/buf.c"
run_cmd "$tree/tests/lint.sh"
like "$rc:$out" $'^1:.*schemas that docs/formats.md does not describe:\n    muster.planted/2(\n|$)' "found: a schema that is not described"
sed -i '/^muster_step$/d;/^MUSTER_ENODE$/d;/^MUSTER_REPLICATED$/d;/^muster_tensor$/d' "$tree/docs/man/muster.3"
run_cmd "$tree/tests/lint.sh"
like "$rc:$out" '^1:.*does not describe:.    muster_step' "found: a function without its manual"
like "$out" 'does not describe:.    MUSTER_ENODE' "found: an error code without its manual"
like "$out" 'does not describe:.    MUSTER_REPLICATED.    muster_tensor' "found: a constant and a type without theirs"
done_testing
