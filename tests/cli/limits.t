#!/usr/bin/env bash
# Open files: daemons take what they may have, ranks get the user's limit, and too low a hard limit is told at once.
# Longer than a busy machine takes from one command to the next: what is looked at are daemons of the same pool.
export MUSTER_IDLE=60
. "$(dirname "$0")/../lib.sh"

hard=$(ulimit -Hn)
[ "$hard" != unlimited ] && [ "$hard" -lt 1000 ] && skip_all "hard limit of open files below 1000"

# limited HOW N COMMAND...: with a limit, in a pool of its own
limited() {
    local how=$1 n=$2
    shift 2
    (ulimit "$how" "$n" && exec "$@")
}
run_cmd limited -Sn 50 "$muster" run -n 40 --oversubscribe sh -c 'ulimit -Sn'
is "$rc $(sort <<<"$out" | uniq -c | tr -s ' ')" "0  40 50" "40 ranks under a soft limit of 50 files run, and have it" || note "$err"
for d in ctl agent; do
    pid=$(cat "$MUSTER_RUN_ROOT"/*/*/$d.lock)
    read -r _ _ _ soft top _ < <(grep 'Max open files' "/proc/$pid/limits")
    [ "$soft" = "$top" ] || [ "$soft" = 1048576 ]
    ok $? "$d has raised its own" || note "$soft $top"
done
run_cmd limited -Sn 700 "$muster" run -n 1 sh -c 'ulimit -Sn'
is "$rc $out" "0 700" "another shell's limit is another one"
stop_pool
for l in "-f 1" "-t 1" "-s 64" "-v 200000"; do # of the shell that happens to start the pool
    case $B$l in */san-*-v*)
        skip "a sanitizer build needs more address space"
        continue
        ;;
    esac
    MUSTER_HOME=$tmp/home${l// /}
    # shellcheck disable=SC2086
    run_cmd limited "-S${l:1:1}" "${l#* }" bash -c 'timeout 60 "$0" run -n 2 --oversubscribe seq 9999 | tail -n 1' "$muster"
    is "$rc $out" "0 9999" "a pool that is started under ulimit $l" || note "$err"
    stop_pool
done

export MUSTER_HOME=$tmp/home1
run_cmd limited -s 64 "$muster" run -n 1 true
is "$rc $err" "2 muster: the limit of the stack is 64 KiB, 512 are needed: raise the hard limit (ulimit -Hs)" "no stack"
run_cmd limited -s 512 "$muster" run -n 2 --oversubscribe "$B/tests/mpi/hello"
is "$rc $(grep -c 'of 2' <<<"$out")" "0 2" "as much stack as that line names does" || note "$err"
stop_pool
run_cmd bash -c '(ulimit -f 0 && exec "$0" run -n 1 true) 2>&1 | cat; exit "${PIPESTATUS[0]}"' "$muster"
like "$rc $out" "^2 muster run: .*start.lock: File too large" "not a byte may be written"
run_cmd timeout 60 "$muster" run -n 1 echo well
is "$rc $out" "0 well" "what that leaves is in nobody's way" || note "$err"
stop_pool

export MUSTER_HOME=$tmp/home2
run_cmd limited -n 60 "$muster" run -n 1 true
like "$rc $err" "^2 .*1 ranks on .* need 70 open files, the limit is 60: raise the hard limit" "not even one rank fits 60 files" || note "$err"
stop_pool
start=$SECONDS
run_cmd limited -n 200 "$muster" run -n 100 --oversubscribe --restarts 3 true
is "$rc" 2 "100 ranks under a hard limit of 200 files are refused"
like "$err" "100 ranks on .* need 664 open files, the limit is 200: ask for at most 22 with -n, or raise the hard limit \(ulimit -Hn" \
    "with what is needed"
unlike "$err" 'attempt 2' "and not tried again"
[ $((SECONDS - start)) -lt 60 ]
ok $? "at once"
run_cmd limited -n 200 "$muster" run -n 20 --oversubscribe "$B/tests/mpi/hello"
is "$rc $(grep -c 'of 20' <<<"$out")" "0 20" "20 MPI ranks do run there" || note "$err"
stop_pool
done_testing
