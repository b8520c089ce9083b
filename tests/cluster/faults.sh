#!/usr/bin/env bash
# shellcheck disable=SC2034
# For programs in Python that break things on the test cluster: cluster_serve N PROGRAM ARGS... boots N hosts, runs the
# program on the head and does for it what it asks (tests/cluster/faults.py). Its exit status is ours.
. "${BASH_SOURCE[0]%/*}/cluster.sh"

cluster_serve() {
    local n=$1 words out
    tap_planned=none tap_allow_left=yes # the program judges
    cluster_up "$n" || exit
    exec 9>&1
    coproc PROGRAM { exec python3 "${@:2}" 8>&1 >&9 9>&-; }
    program=$PROGRAM_PID
    trap 'kill "$program" 2>/dev/null; exit 130' INT TERM HUP
    # A line of words comes, a line of the status and the output in base64 goes. No fork but the verb's own.
    while read -r -u "${PROGRAM[0]}" -a words; do
        case ${words[0]} in
        orphans | kill_host | crash_host | start_host | cut | heal | stop | cont | exec | mpirun | ps)
            out=$("cluster_${words[0]}" "${words[@]:1}" 2>&1 </dev/null)
            rc=$?
            ;;
        *) rc=2 out="no verb '${words[0]}'" ;;
        esac
        printf '%s %s\n' $rc "$(base64 -w0 <<<"$out")" >&"${PROGRAM[1]}" || break
    done
    wait "$program"
    exit
}
