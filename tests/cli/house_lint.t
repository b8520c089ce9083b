#!/usr/bin/env bash
# tests/lint.sh sees what it is there for: each fault is planted in a small tree of its own.
. "$(dirname "$0")/../lib.sh"

tree=$tmp/tree
mkdir -p "$tree"/{tests,runtime/base,runtime/include,docs/man}
cp tests/lint.sh "$tree/tests/"
cp .clang-format "$tree/"
cp runtime/base/buf.[ch] "$tree/runtime/base/"
cp runtime/include/muster.h "$tree/runtime/include/"
{
    printf '.Dd January 1, 2026\n.Dt MUSTER 3\n.Os\n.Sh NAME\n.Nm muster\n.Nd list\n.Sh LIBRARY\n.Bd -literal\n'
    sed -n 's/^MUSTER_API .*[ *]\(muster_[a-z_]*\)(.*/\1/p' runtime/include/muster.h
    sed -n 's/^ *X(\(E[A-Z]*\),.*/MUSTER_\1/p' runtime/include/muster.h
    echo .Ed
} >"$tree/docs/man/muster.3"

run_cmd "$tree/tests/lint.sh"
is "$rc" 0 "a clean tree passes" || note "$out" "$err"

planted() { # WHAT FILE TEXT: the text behind the file makes lint fail, with WHAT in its output
    local was=$tmp/was
    rm -f "$was"
    [ ! -e "$tree/$2" ] || cp "$tree/$2" "$was"
    printf '%b' "$3" >>"$tree/$2"
    run_cmd "$tree/tests/lint.sh"
    [ "$rc" = 1 ] && [[ $out == *"$1:"$'\n'"    $2"* ]]
    ok $? "found: $1" || note "$out"
    if [ -e "$was" ]; then mv "$was" "$tree/$2"; else rm "$tree/$2"; fi
}
planted "unfinished work" runtime/base/buf.c '/* TO''DO */\n'
planted "unfinished work" README.md 'FIX''ME\n'
planted "conflict markers" README.md '<<<<<''<< HEAD\n'
planted "blanks at the end of a line, tabs in C" runtime/base/buf.c 'int x; \n'
planted "C files of more than 800 lines" runtime/base/planted.c "$(printf 'int a;%.0s\\n' {1..801})"
planted "headers without a guard" runtime/base/planted.h 'int a;\n'
planted "printing, exiting or aborting in library rooms" runtime/base/planted.c \
    'void f(void)\n{\n    fprintf(stderr, "x");\n}\n'
planted "printing, exiting or aborting in library rooms" runtime/base/planted.c 'void f(void)\n{\n    exit(1);\n}\n'
sed -i '/^muster_step$/d;/^MUSTER_ENODE$/d' "$tree/docs/man/muster.3"
run_cmd "$tree/tests/lint.sh"
like "$rc:$out" '^1:.*does not describe:.    muster_step' "found: a function without its manual"
like "$out" 'does not describe:.    MUSTER_ENODE' "found: an error code without its manual"
done_testing
