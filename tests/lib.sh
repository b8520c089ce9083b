# shellcheck shell=bash disable=SC2034
# For tests in bash: TAP, a pool of their own, and a look at what they leave. Use:
#     . "$(dirname "$0")/../lib.sh"
#     run_cmd "$muster" jobs; is "$rc" 0 "jobs works"; like "$out" 'NAME' "it prints a table"
#     done_testing
# Gives: $root (the checkout, also the working directory), $B (absolute), $muster, $tmp (removed at the end),
# MUSTER_HOME and MUSTER_RUN_ROOT below it.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2
cd "$root" || exit 2
B=${B:-build/default}
case $B in /*) ;; *) B=$root/$B ;; esac
muster=$B/bin/muster
tmp=$(mktemp -d "${TMPDIR:-/tmp}/t.XXXXXX") && mkfifo "$tmp/.never" || exit 2
export B MUSTER_HOME=$tmp/home MUSTER_RUN_ROOT=$tmp/run MUSTER_IDLE=${MUSTER_IDLE:-2}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
tap_n=0 tap_bad=0 tap_planned='' tap_allow_left=''

note() { printf '%s\n' "$@" | sed 's/^/# /'; }
plan() {
    tap_planned=$1
    echo "1..$1"
}
# ok STATUS NAME: STATUS is 0 or the test fails. Write the condition before it: [ ... ]; ok $? "..."
ok() {
    tap_n=$((tap_n + 1))
    if [ "$1" = 0 ]; then
        echo "ok $tap_n - $2"
        return 0
    fi
    echo "not ok $tap_n - $2"
    note "at ${BASH_SOURCE[${3:-1}]##*/}:${BASH_LINENO[$((${3:-1} - 1))]}"
    tap_bad=$((tap_bad + 1))
    return 1
}
is() { # GOT WANT NAME
    [ "$1" = "$2" ]
    ok $? "$3" 2 || { note "got:  $1" "want: $2"; return 1; }
}
isnt() { # GOT OTHER NAME
    [ "$1" != "$2" ]
    ok $? "$3" 2 || { note "got:  $1"; return 1; }
}
like() { # GOT ERE NAME
    [[ $1 =~ $2 ]]
    ok $? "$3" 2 || { note "got:  $1" "like: $2"; return 1; }
}
unlike() { # GOT ERE NAME
    ! [[ $1 =~ $2 ]]
    ok $? "$3" 2 || { note "got:  $1" "unlike: $2"; return 1; }
}
skip() { # REASON [COUNT]: the reason must be in tests/skips
    local i
    for ((i = 0; i < ${2:-1}; i++)); do
        tap_n=$((tap_n + 1))
        echo "ok $tap_n # skip $1"
    done
}
skip_all() { # REASON
    echo "1..0 # SKIP $1"
    tap_planned=0
    exit 0
}
done_testing() {
    [ -n "$tap_planned" ] || plan "$tap_n"
    [ "$tap_planned" = "$tap_n" ] && [ $tap_bad = 0 ]
    exit
}

# Runs a command: sets rc, out and err.
run_cmd() {
    "$@" >"$tmp/.out" 2>"$tmp/.err" </dev/null
    rc=$?
    # shellcheck disable=SC2034
    out=$(tr -d '\0' <"$tmp/.out") err=$(tr -d '\0' <"$tmp/.err")
    return 0
}
# wait_for SECONDS COMMAND...: until the command succeeds; 1 if it never did. What is to come gets 30 s or more: a machine
# that is busy may take them, and one that is not loses nothing by it. Less is for what is not to come.
wait_for() {
    local most took pause began=${EPOCHREALTIME/./}
    printf -v most %.0f "${1}e6"
    shift
    until "$@"; do
        took=$((${EPOCHREALTIME/./} - began))
        [ $took -lt "$most" ] || return 1
        # Every 20 ms at first; later, when it matters less, every 100.
        pause=$((took / 20))
        printf -v pause 0.%06d $((pause < 20000 ? 20000 : pause > 100000 ? 100000 : pause))
        read -rt "$pause" <>"$tmp/.never" # sleeps without another process
    done
    return 0
}

# job_state JOB; job_is JOB STATE: with no interpreter to start, as tests ask over and over while they wait.
job_state() {
    [[ $("$muster" status "$1" --json 2>/dev/null) =~ \"state\":\"([a-z]+)\" ]] && echo "${BASH_REMATCH[1]}"
}
job_is() { [ "$(job_state "$1")" = "$2" ]; }
# node_state NODE: "none" for one that is not in the pool; node_is NODE STATE.
node_state() {
    local list
    list=$("$muster" nodes --json 2>/dev/null) || return
    [[ $list =~ \"name\":\"$1\",\"state\":\"([a-z]+)\" ]] && echo "${BASH_REMATCH[1]}" || echo none
}
node_is() { [ "$(node_state "$1")" = "$2" ]; }

# past_step FILE N: whether the example job's step times have come to step N. Soon, even if many others want the machine:
# it starts no process.
past_step() {
    local lines
    mapfile -t lines <"$1" && [ ${#lines[@]} -gt 0 ] && [ "${lines[-1]#* }" -ge "$2" ]
} 2>/dev/null

# A port that nobody listens at, below those that the kernel gives to connections: none of these is there when it is used.
free_port() {
    local port
    while port=$((10000 + RANDOM % 20000)); do
        grep -qi "^[^:]*: [0-9a-f]*:$(printf %04x $port) " /proc/net/tcp /proc/net/tcp6 2>/dev/null || break
    done
    echo $port
}

# Live processes that have this test's MUSTER_HOME: "PID COMMAND" a line. Not this shell: it has it only in its later
# environment, which /proc does not show.
pool_processes() {
    local f
    # grep finds itself too, but is gone when we look.
    f=$(grep -lszxF "MUSTER_HOME=$MUSTER_HOME" /proc/[0-9]*/environ)
    while IFS=/ read -r _ _ f _; do
        if [ -n "$f" ] && [ -d "/proc/$f" ]; then echo "$f $(tr '\0' ' ' 2>/dev/null <"/proc/$f/cmdline")"; fi
    done <<<"$f"
}
# leftovers: prints processes, sockets and segments of this test's pool that are there now.
leftovers() {
    local list
    list=$(pool_processes)
    [ -z "$list" ] || printf 'process %s\n' "${list//$'\n'/$'\n'process }"
    [ ! -d "$MUSTER_RUN_ROOT" ] || find "$MUSTER_RUN_ROOT" -mindepth 1 ! -type d -printf 'file %p\n'
}
no_leftovers() {
    local f
    # Asked over and over while a pool ends: what costs nothing comes first.
    for f in "$MUSTER_RUN_ROOT"/*/*/*; do
        [ ! -e "$f" ] || [ -d "$f" ] || return 1
    done
    [ -z "$(leftovers)" ]
}
signal_pool() { # SIGNAL
    local line list
    list=$(pool_processes)
    while read -r line _; do
        [ -z "$line" ] || kill -s "$1" "$line" 2>/dev/null
    done <<<"$list"
}
# Ends what still runs of this test's pool, politely first.
stop_pool() {
    signal_pool TERM
    wait_for 30 no_leftovers || signal_pool KILL
}

# A test ends with nothing left: an idle controller gets the time to go by itself.
tap_exit() {
    local status=$? left
    trap - EXIT
    if [ -z "$tap_planned" ]; then
        echo "# ended before done_testing"
        status=1
    fi
    if ! wait_for $((MUSTER_IDLE + 30)) no_leftovers; then
        left=$(leftovers)
        stop_pool
        if [ -z "$tap_allow_left" ]; then
            echo "not ok $((tap_n + 1)) - nothing is left at the end"
            note "$left"
            status=1
        fi
    fi
    rm -rf "$tmp"
    exit $status
}
trap tap_exit EXIT
trap 'exit 129' HUP INT TERM
