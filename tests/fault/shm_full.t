#!/usr/bin/env bash
# A full /dev/shm: who needs it is named with what to do, and the doctor knows how much is free.
# A small tmpfs in a mount namespace of our own takes its place.
if [ -z "${SHM_TEST-}" ]; then
    export SHM_TEST=1
    for flags in -m -rm; do
        unshare $flags true 2>/dev/null && exec unshare $flags "$0"
    done
fi
. "$(dirname "$0")/../lib.sh"
mount -t tmpfs -o size=16k none /dev/shm 2>/dev/null || skip_all "no mount namespaces here"
trap 'rc=$?; umount -l /dev/shm; (exit $rc); tap_exit' EXIT
host=$(uname -n)
doctor() { run_cmd "$muster" doctor; out=$(grep -A1 '^shm' <<<"$out"); }

run_cmd timeout -k 5 60 "$muster" run -n 2 --oversubscribe --restarts 0 "$B/tests/mpi/hello"
isnt "$rc" 0 "MPI has no room for its segments"
like "$err" "muster: /dev/shm on $host is full \([0-9.]+ ([KM]i)?B free\), and MPI takes 4 MiB there for each rank: make room or enlarge it, .muster doctor. says how" \
    "a line names the host and what to do" || note "$err"
is "$(grep -c "^muster: /dev/shm.*is full (" <<<"$err")" 1 "once"
run_cmd "$muster" status 1
like "$out" "muster: /dev/shm on $host is full" "the job's record has it"
run_cmd timeout -k 5 60 "$muster" run -n 1 --restarts 0 true
is "$rc $err" "0 " "a job that does not need it is not bothered"
doctor
like "$out" "^shm +FAIL +/dev/shm: [0-9.]+ ([KM]i)?B free of 16 KiB \(too little\).*fix: " "the doctor fails it" || note "$out"
mount -o remount,size=40m /dev/shm
doctor
like "$out" "^shm +ok +/dev/shm: 40 MiB free of 40 MiB \(little; [0-9]+.* is better, for a rank on each core\).*fix: " \
    "and warns of one that is small" || note "$out"
mount -o remount,size=64g /dev/shm
doctor
like "$out" "^shm +ok +/dev/shm: 64 GiB free of 64 GiB"$'(\n|$)' "one that is large is fine" || note "$out"
unlike "$out" "fix" "without advice"
run_cmd timeout -k 5 60 "$muster" run -n 2 --oversubscribe --restarts 0 "$B/tests/mpi/hello"
is "$rc" 0 "with room it runs" || note "$err"
done_testing
