#!/usr/bin/env bash
# What is installed: the library's symbols and needs, the files, pkg-config, a program built against it, and that
# uninstall takes all away.
. "$(dirname "$0")/../lib.sh"
cc=${CC:-gcc}
san='' sanflags=''
case $B in */san-*) san=${B##*/san-} san=${san//-/,} sanflags=-fsanitize=$san ;; esac

lib=$B/lib/libmuster.so
[ -e "$lib" ]
ok $? "the library is built" || { done_testing; }
foreign() { # LIBRARY: what it exports besides muster_*
    nm -D --defined-only "$1" | awk '$2 ~ /^[A-Z]$/ && $2 != "A" { print $3 }' | sed 's/@.*//' | grep -v '^muster_'
}
is "$(foreign "$lib")" "" "it exports nothing but muster_*"
isnt "$(foreign "$($cc -print-file-name=libm.so.6)")" "" "else it would be seen"
# Jobs live on while the library is replaced: what it shares with keepers is the same for all of one SOVERSION.
# Whoever has to change that raises SOVERSION, which leaves the older library where it is, and this line.
number() { sed -nE "s/^#define $1 ([0-9]+)u\$/\1/p" "$2"; }
is "$(sed -n 's/^SOVERSION := //p' Makefile) slots $(number MU_SLOT_VERSION runtime/base/slot.h) arena $(number MU_ARENA_VERSION runtime/ckpt/arena.h)" \
    "1 slots 3 arena 3" "what keepers share with this SOVERSION of the library is what it was"
declared=$(sed -n 's/^MUSTER_API .*[ *]\(muster_[a-z_]*\)(.*/\1/p' runtime/include/muster.h | sort -u)
[ "$(wc -l <<<"$declared")" -ge 30 ]
ok $? "muster.h declares functions"
exported=$(nm -D --defined-only "$lib" | awk '{ print $3 }' | sed 's/@.*//' | sort -u)
is "$(comm -23 <(printf '%s\n' "$declared") <(printf '%s\n' "$exported"))" "" "all that muster.h declares is there"
needed=$(readelf -d "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
is "$(grep -vE '^(libc|libm|libmpi|libpthread)\.so\.[0-9]+$|^ld-linux.*' <<<"$needed" |
    { if [ -n "$san" ]; then grep -vE '^lib([atlu]san|ubsan|gcc_s)\.so'; else cat; fi; })" "" \
    "it needs libc, libm and libmpi only"
like "$needed" 'libmpi\.so' "and libmpi it does need"

# PREFIX is where it will live, DESTDIR where it is put meanwhile.
dest=$tmp/dest prefix=/opt/muster-test
put() { env -u MAKEFLAGS make -s "$@" B="${B#"$root/"}" SAN="$san" CC="$cc" MUSTER_NO_DEPS=1 PREFIX=$prefix DESTDIR="$dest"; }
run_cmd put install
is "$rc" 0 "make install" || note "$out" "$err"
at=$dest$prefix
for f in bin/muster lib/libmuster.so include/muster.h lib/pkgconfig/muster.pc share/doc/muster/examples/train_lm.c; do
    [ -e "$at/$f" ]
    ok $? "installs $f"
done
is "$([ -e "$at/lib/libmuster_cuda.so" ] && echo yes)" "$([ -e "$B/lib/libmuster_cuda.so" ] && echo yes)" \
    "and the kernels for GPUs where they are built"
is "$(find "$dest" -type f ! -path "$at/*")" "" "and nothing outside of PREFIX"
missing=
for page in docs/man/*.[1-9]; do
    [ ! -e "$page" ] || [ -s "$at/share/man/man${page##*.}/${page##*/}" ] || missing+=" $page"
done
is "$missing" "" "installs the manual pages"
like "$(readelf -d "$at/lib/libmuster.so")" 'SONAME.*\[libmuster\.so\.[0-9]+\]' "the library has a versioned name"
run_cmd "$at/bin/muster" --version
is "$rc" 0 "the installed command starts"
for h in "$at"/include/*.h; do
    case $h in */muster_mpi.h) continue ;; esac # needs mpi.h by nature
    printf '#include "%s"\nint main(void) { return 0; }\n' "$h" >"$tmp/h.c"
    run_cmd "$cc" -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "$tmp/h.c"
    is "$rc:$err" "0:" "${h##*/} compiles alone as C99"
    if command -v g++ >/dev/null; then
        run_cmd g++ -Wall -Wextra -Werror -fsyntax-only -x c++ "$tmp/h.c"
        is "$rc:$err" "0:" "${h##*/} compiles alone as C++"
    else
        skip "g++ is not installed"
    fi
done

cat >"$tmp/prog.c" <<'C'
#include <muster.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    if (muster_init(&argc, &argv) < 0) {
        fprintf(stderr, "%s\n", muster_last_error());
        return 1;
    }
    int one = 1, sum = 0;
    int rc = muster_allreduce(&one, &sum, 1, MUSTER_INT32, MUSTER_SUM, muster_world());
    printf("rank %d of %d: %d %d\n", muster_rank(muster_world()), muster_size(muster_world()), rc, sum);
    return muster_finalize() < 0;
}
C
export PKG_CONFIG_PATH=$at/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest
run_cmd pkg-config --cflags --libs muster
is "$rc" 0 "pkg-config knows muster" || note "$err"
# shellcheck disable=SC2086
run_cmd "$cc" $sanflags -o "$tmp/prog" "$tmp/prog.c" $out
is "$rc:$err" "0:" "a program builds with what it says"
run_cmd env LD_LIBRARY_PATH="$at/lib" ASAN_OPTIONS=detect_leaks=0 timeout 60 mpirun -np 1 "$tmp/prog"
is "$rc:$out" "0:rank 0 of 1: 0 1" "and runs under mpirun" || note "$err"
is "$(pkg-config --modversion muster)" "$(sed -n 's/^VERSION := //p' Makefile)" "pkg-config has the version"

run_cmd put uninstall
is "$rc:$(find "$dest" ! -type d)" "0:" "uninstall leaves nothing"
done_testing
