#!/usr/bin/env bash
# The rooms: who may include whom, which headers of other projects are seen where, what lies at the top of the tree.
. "$(dirname "$0")/../lib.sh"

# room <tab> what it may include, as prefixes of rooted paths; itself and muster.h always. "-prefix" takes out again.
# The checkpoint room has two halves: its rank half, and runtime/ckpt/daemon for the keeper. Examples are compiled where
# users have put them: they name headers of their own from where they lie.
may_include=$(
    cat <<'ROWS'
runtime/include	
runtime/base	
runtime/wire	runtime/base
topo	runtime/base
collectives	runtime/base topo
runtime/ckpt	runtime/base
runtime/rank	runtime/base collectives topo runtime/ckpt -runtime/ckpt/daemon
runtime/keeper	runtime/base runtime/wire runtime/ckpt/daemon topo
runtime/agent	runtime/base runtime/wire topo
launcher	runtime/base runtime/wire topo runtime/agent runtime/keeper runtime/ckpt bench/judge
bench	runtime/base
docs/examples	
tests	runtime topo collectives launcher bench docs/examples
ROWS
)

# header (regular expression) <tab> the only files that may include it (regular expression), besides tests
only_in=$(
    cat <<'ROWS'
mpi\.h	(bench/rank/mpi_[a-z_]*\.c|runtime/include/muster_mpi\.h|runtime/rank/mpi_[a-z_]*\.c|collectives/mpi_[a-z0-9_]*\.[ch])
muster_mpi\.h	(runtime/rank|bench/rank)/mpi_[a-z_]*\.c
pmix.*\.h	runtime/keeper/.*
hwloc.*	topo/.*
sqlite3\.h	launcher/.*
jansson\.h	(launcher|bench)/.*
event2/.*	(runtime/wire|runtime/keeper|runtime/agent|launcher)/.*
openssl/.*	(runtime/wire/.*|runtime/ckpt/daemon/.*|launcher/.*|docs/examples/.*)
microhttpd\.h	launcher/.*
curl/.*	runtime/ckpt/daemon/.*
isa-l.*\.h	runtime/ckpt/daemon/.*
(nccl|cuda)\.h	collectives/nccl/asserts\.c
cublas_v2\.h	bench/rank/blas_asserts\.c
ucp/.*	runtime/base/ucx\.h
(cuda_runtime.*|nvml|infiniband/.*)(\.h)?	nowhere
ROWS
)

sources() { # DIR: its .c and .h files, those of git where it is a checkout
    (cd "$1" && { git ls-files -- '*.c' '*.h' 2>/dev/null | grep . || find . -name build -prune -o -name '*.[ch]' -print |
        sed 's|^\./||'; }) | grep -vE '^tests/data/'
}

# shellcheck disable=SC2016
# Prints "FILE: INCLUDE: why" for each include that the tables forbid.
check_includes() { # DIR
    (cd "$1" && sources . | MAY=$may_include ONLY=$only_in xargs awk '
        function under(path, prefix) { return index(path, prefix "/") == 1 }
        function beside(inc,  dir, line) {
            dir = FILENAME
            sub(/[^\/]*$/, "", dir)
            return inc !~ /^\/|\.\./ && (getline line < (dir inc)) >= 0
        }
        function bad(inc, why) { print FILENAME ": " inc ": " why }
        BEGIN {
            n = split(ENVIRON["MAY"], rows, "\n")
            for (i = 1; i <= n; i++) {
                split(rows[i], cell, "\t")
                allowed[cell[1]] = cell[2]
            }
            nonly = split(ENVIRON["ONLY"], rows, "\n")
            for (i = 1; i <= nonly; i++) {
                split(rows[i], cell, "\t")
                header[i] = "^" cell[1] "$"
                place[i] = "^" cell[2] "$"
            }
        }
        FNR == 1 {
            room = ""
            for (r in allowed)
                if (under(FILENAME, r) && length(r) > length(room)) room = r
            if (room == "") print FILENAME ": is in no room"
        }
        /^[ \t]*#[ \t]*include/ {
            quoted = match($0, /"[^"]*"/)
            if (!quoted && !match($0, /<[^>]*>/)) { bad($0, "not a plain include"); next }
            inc = substr($0, RSTART + 1, RLENGTH - 2)
            if (!under(FILENAME, "tests"))
                for (i = 1; i <= nonly; i++)
                    if (inc ~ header[i] && FILENAME !~ place[i]) bad(inc, "only in " place[i])
            if (inc == "muster.h" || inc == "muster_mpi.h" || inc == "config.h") next
            if (!quoted) {
                if (inc ~ /^(runtime|topo|collectives|launcher|bench|tests)\//) bad(inc, "our own header in <>")
                next
            }
            if (room == "" || under(inc, room) || (room == "docs/examples" && beside(inc))) next
            good = 0
            k = split(allowed[room], prefix, " ")
            for (i = 1; i <= k; i++) {
                p = prefix[i]
                if (substr(p, 1, 1) == "-") { if (under(inc, substr(p, 2))) good = 0 }
                else if (under(inc, p)) good = 1
            }
            if (!good) bad(inc, inc ~ /\// ? room " may not include it" : "not rooted at the repository")
        }')
}

top_level() { # reads names of tracked files: prints what does not belong at the top
    cut -d/ -f1 | sort -u | grep -vxE 'Makefile|README\.md|LICENSE|runtime|launcher|collectives|bench|topo|tests|docs|\..+'
}

found=$(check_includes "$root")
is "$found" "" "every include is allowed"
rooms=$(sources "$root" | wc -l)
[ "$rooms" -gt 20 ]
ok $? "all sources were looked at ($rooms)"
if git -C "$root" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    is "$(git -C "$root" ls-files | top_level)" "" "nothing else is at the top"
else
    is "$(find "$root" -mindepth 1 -maxdepth 1 ! -name build -printf '%f\n' | top_level)" "" "nothing else is at the top"
fi
is "$(printf 'README.md\nsrc/a.c\n.gitignore\nfoo.txt\n' | top_level)" "$(printf 'foo.txt\nsrc')" "else it would be seen"

# The check must be able to fail: each of these is planted in a copy of the sources, and seen.
copy=$tmp/copy
mkdir -p "$copy"
sources "$root" | tar -C "$root" -cf - -T - | tar -C "$copy" -xf -
is "$(check_includes "$copy")" "" "a copy of the sources passes"
while IFS=$'\t' read -r file include; do
    mkdir -p "$copy/${file%/*}"
    was=
    [ -e "$copy/$file" ] && was=$(<"$copy/$file")
    printf '#include %s\n' "$include" >>"$copy/$file"
    found=$(check_includes "$copy")
    inc=${include//[<>\"]/}
    [[ $found == "$file: $inc: "* ]] && [ "$(wc -l <<<"$found")" = 1 ]
    ok $? "refused: $include in $file" || note "$found"
    if [ -n "$was" ]; then printf '%s\n' "$was" >"$copy/$file"; else rm "$copy/$file"; fi
done <<'ROWS'
runtime/base/buf.c	"topo/topo.h"
runtime/base/planted.h	"runtime/wire/wire.h"
runtime/include/muster.h	"runtime/base/err.h"
runtime/rank/planted.c	"runtime/wire/wire.h"
runtime/rank/planted.c	"runtime/ckpt/daemon/erasure.h"
runtime/keeper/planted.c	"collectives/engine.h"
runtime/ckpt/planted.c	"runtime/rank/session.h"
collectives/planted.c	"runtime/rank/session.h"
topo/planted.c	"launcher/commands.h"
bench/planted.c	"collectives/engine.h"
launcher/planted.c	"collectives/engine.h"
docs/examples/planted.c	"runtime/base/err.h"
docs/examples/planted.c	"model.h"
docs/examples/train_lm/planted.c	"../../../runtime/base/err.h"
runtime/agent/planted.c	"err.h"
runtime/agent/planted.c	<runtime/base/err.h>
launcher/planted.c	<mpi.h>
collectives/ops.c	<mpi.h>
runtime/rank/planted.c	<hwloc.h>
launcher/planted.c	<pmix_server.h>
runtime/agent/planted.c	<sqlite3.h>
runtime/rank/planted.c	<jansson.h>
collectives/planted.c	<cuda_runtime.h>
collectives/planted.c	<nccl.h>
ROWS
mkdir -p "$copy/attic"
echo 'int x;' >"$copy/attic/a.c"
is "$(check_includes "$copy")" "attic/a.c: is in no room" "refused: a source in no room"
done_testing
