#!/usr/bin/env bash
# Runs the tests: tests/run.sh [SUITE...], or --soak NAME. Suites are unit (programs in $B/tests/unit) and the folders
# of tests that hold .t files. prove judges; then it is counted what was skipped, and whether anything is left behind.
# The last line is "N passed, N failed, N skipped".
#   B=build/variant             what to test
#   MUSTER_TEST_LIMIT=SECONDS   per test program (suites have their own defaults)
#   MUSTER_TEST_JOBS=N          test programs at once (suites have their own defaults)
#   MUSTER_TEST_GRACE=SECONDS   for daemons to end by themselves after a suite (10)
#   MUSTER_TEST_ONLY=REGEX      only test programs whose name matches
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

# Under prove: run one test under its limit and keep its TAP for the count.
if [ "${1-}" = --one ]; then
    name=${2//\//_}
    if [ -r "$2" ] && [ "${2##*.}" = t ] && [ ! -x "$2" ]; then set -- "$1" bash "$2"; fi
    timeout -k 10 "$MUSTER_TEST_LIMIT" "${@:2}" >"$MUSTER_TEST_DIR/tap/$name" 2>"$MUSTER_TEST_DIR/err.$name" </dev/null
    rc=$?
    cat "$MUSTER_TEST_DIR/tap/$name"
    # What a failing test said on stderr belongs below its TAP.
    if [ $rc != 0 ] || grep -q '^not ok' "$MUSTER_TEST_DIR/tap/$name"; then
        { grep -A30 '^not ok' "$MUSTER_TEST_DIR/tap/$name"; tail -n 40 "$MUSTER_TEST_DIR/err.$name"; } | sed 's/^/    /' >&2
    fi
    # No line says that a program broke off or was not there: it is counted here.
    if [ $rc != 0 ] && ! grep -q '^not ok' "$MUSTER_TEST_DIR/tap/$name"; then echo "$2" >>"$MUSTER_TEST_DIR/broken"; fi
    if [ $rc = 124 ] || [ $rc = 137 ]; then
        echo "    ended after $MUSTER_TEST_LIMIT s, the limit for one test" | tee -a "$MUSTER_TEST_DIR/tap/$name" >&2
    fi
    exit $rc
fi

# suite, seconds that it should take at most (860 in all, on two cores of one's own, without GPUs), seconds for one test, how many at
# once: most tests wait most of the time, those of MPI and the simulator compute
suites() {
    cat <<'ROWS'
unit       45  120 3
cli        110 180 4
mpi        150 300 1
sim        90  400 2
fault      120 600 5
cluster    230 300 3
fuzz-smoke 50  120 1
scale      20  120 1
doubles    60  120 3
gpu        600 600 1
ROWS
}

indent() { printf '    %s\n' "${1//$'\n'/$'\n    '}"; }

tests_of() { # SUITE: lists its test programs
    case $1 in
    unit) ls -S tests/unit/*.c | sed "s|^|${B#"$PWD/"}/|; s|\.c\$||" ;;
    sim) ls -S tests/sim/*.t tests/model/*.t 2>/dev/null ;;
    fuzz-smoke) ls -S tests/fuzz/*.t 2>/dev/null ;;
    soak/*) ls tests/"$1"* 2>/dev/null ;;
    *) # those that take longest go first
        grep -l '^# slow$' tests/"$1"/*.t 2>/dev/null
        grep -L '^# slow$' tests/"$1"/*.t 2>/dev/null | xargs -r ls -S
        ;;
    esac | grep -E -- "${MUSTER_TEST_ONLY:-.}"
}

# --- what must not be left behind ---------------------------------------------------------------------------------

# Processes started from here have MUSTER_TEST_ID in their environment. A zombie has none, and is somebody else's.
strays() {
    local f
    # grep finds itself too, but is gone when we look.
    f=$(grep -lszxF "MUSTER_TEST_ID=$MUSTER_TEST_ID" /proc/[0-9]*/environ)
    while IFS=/ read -r _ _ f _; do
        if [ -n "$f" ] && [ -d "/proc/$f" ]; then echo "$f"; fi
    done <<<"$f"
}

# Whether other work of this account uses the same shared places: another pool, an mpirun, another test run. Then what
# appears there need not be ours. MUSTER_TEST_ALONE=1 says that there is none.
others() {
    local f
    [ -z "${MUSTER_TEST_ALONE-}" ] || return 1
    f=$(grep -lsxE 'muster|mpirun|orterun|prterun|prted|orted' /proc/[0-9]*/comm | sed 's/comm$/environ/'
        grep -lsz '^MUSTER_TEST_ID=' /proc/[0-9]*/environ)
    while read -r f; do
        # Read once: a process that has just ended has nothing to say.
        f=$(tr '\0' '\n' 2>/dev/null <"$f")
        [ -z "$f" ] || grep -qxF "MUSTER_TEST_ID=$MUSTER_TEST_ID" <<<"$f" || return 0
    done <<<"$f"
    return 1
}

shared_entries() {
    find /dev/shm /tmp -maxdepth 1 -user "$(id -u)" \
        \( -path '/dev/shm/muster*' -o -path '/dev/shm/vader*' -o -path '/dev/shm/sm_segment*' -o -path '/tmp/ompi.*' \
        -o -path '/tmp/muster-*' -o -path '/tmp/pmix-*' \) 2>/dev/null | sort
}

# Prints what is left, one thing a line.
leftovers() {
    local p f busy=
    for p in $(strays); do
        echo "process $p: $(tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | cut -c1-150)"
    done
    find "$TMPDIR" "$MUSTER_RUN_ROOT" -mindepth 1 -maxdepth 2 2>/dev/null | sed "s|^$MUSTER_TEST_DIR/|file |"
    while read -r f; do
        [ -n "$f" ] || continue
        [ -n "$busy" ] || { others && busy=yes || busy=no; }
        if [ $busy = no ] && [ -e "$f" ]; then echo "file $f"; fi
    done < <(comm -13 <(printf '%s\n' "$shared_before") <(shared_entries))
}

check_leftovers() { # SUITE: reports and removes; 1 if there was something
    local left wait=0 p
    # An idle controller ends by itself (MUSTER_IDLE); give it the time.
    while left=$(leftovers) && [ -n "$left" ] && [ $wait -lt "${MUSTER_TEST_GRACE:-10}" ]; do
        sleep 1
        wait=$((wait + 1))
    done
    [ -z "$left" ] && return 0
    echo "suite $1 has left behind:" >&2
    indent "$left" >&2
    for p in $(strays); do kill -9 "$p" 2>/dev/null; done
    find "$TMPDIR" "$MUSTER_RUN_ROOT" -mindepth 1 -delete 2>/dev/null
    shared_before=$(shared_entries)
    return 1
}

# --- skips --------------------------------------------------------------------------------------------------------

machine_has() { # KIND: whether this machine is of that kind
    case $1 in
    always) true ;;
    root) [ "$(id -u)" = 0 ] ;;
    no-root) [ "$(id -u)" != 0 ] ;;
    no-gpu) [ ! -e /dev/nvidia0 ] ;;
    no-ib) ! ls /sys/class/infiniband/* >/dev/null 2>&1 ;;
    no-pidfd) ! grep -q pidfd /proc/kallsyms 2>/dev/null ;;
    no-mount) ! unshare -m true 2>/dev/null && ! unshare -rm true 2>/dev/null ;;
    no-data) [ ! -d ../shared/data ] ;;
    no-cluster) [ -n "$(bash tests/cluster/cluster.sh missing)" ] ;;
    no-cls-bpf) ! bash tests/cluster/cluster.sh can_lose ;;
    no-microhttpd) ! grep -q 'define HAVE_MICROHTTPD 1' "$B/config.h" ;;
    no-libcurl) ! grep -q 'define HAVE_CURL 1' "$B/config.h" ;;
    no-ucx) ! grep -q 'define HAVE_UCX 1' "$B/config.h" ;;
    no-netem) ! bash tests/cluster/cluster.sh can_delay ;;
    san) case $B in */san-*) true ;; *) false ;; esac ;;
    no-*) ! command -v "${1#no-}" >/dev/null ;;
    *) false ;;
    esac
}

allowed_patterns() {
    local kind pattern why
    while IFS=$'\t' read -r kind pattern why; do
        case $kind in '' | '#'*) continue ;; esac
        if [ -z "$why" ]; then
            echo "tests/skips: a row without a reason: $kind" >&2
        elif machine_has "$kind"; then
            printf '%s\n' "$pattern"
        fi
    done <tests/skips
}

bad_skips() { # FILES...: prints the skips that are not allowed here
    local reason
    sed -nE 's/^((not )?ok[^#]*|1\.\.0 *)# *[Ss][Kk][Ii][Pp][^ ]* *//p' "$@" | sort -u | while IFS= read -r reason; do
        grep -qxE -f "$MUSTER_TEST_DIR/allowed" <<<"$reason" || printf '%s\n' "$reason"
    done
}

failures_of() { # TAP FILES...: what failed, and the first that was said of it: of five a file, so that none hides others
    awk 'FNR == 1 { n = said = 0 } /^not ok/ { print FILENAME ": " $0; said = n++ < 5 ? 10 : 0; next } /^#/ && said-- > 0 { print "    " $0; next } { said = 0 }' "$@"
}

# --- one suite ----------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0 failures=

run_suite() { # NAME BUDGET LIMIT JOBS
    local tests start took rc p=0 f=0 s=0 bad over
    mapfile -t tests < <(tests_of "$1")
    if [ ${#tests[@]} = 0 ]; then
        echo "suite $1: no tests"
        return
    fi
    rm -rf "$MUSTER_TEST_DIR/tap" "$MUSTER_TEST_DIR/broken"
    mkdir -p "$MUSTER_TEST_DIR/tap" "$MUSTER_HOME" "$MUSTER_RUN_ROOT" "$TMPDIR"
    start=$SECONDS show=()
    case $1 in soak/*) show=(--comments) ;; esac # what was measured
    # Open MPI's own leaks would hide ours: leaks are looked for where it is not, in the units and the simulator.
    case $1 in unit | sim | fuzz-smoke) unset ASAN_OPTIONS ;; *) export ASAN_OPTIONS=detect_leaks=0 ;; esac
    MUSTER_TEST_LIMIT=${MUSTER_TEST_LIMIT:-$3} prove --timer "${show[@]}" -j "${MUSTER_TEST_JOBS:-$4}" --exec 'bash tests/run.sh --one' "${tests[@]}"
    rc=$?
    took=$((SECONDS - start))
    # "todo" counts as what it says: a test that fails.
    read -r p f s < <(awk '/^ok/ { if (tolower($0) ~ /# *skip/) s++; else p++ } /^not ok/ { f++ }
        /^1\.\.0.*# *[Ss][Kk][Ii][Pp]/ { s++ } END { print p + 0, f + 0, s + 0 }' "$MUSTER_TEST_DIR"/tap/*)
    failures+=$(cd "$MUSTER_TEST_DIR/tap" && failures_of * | sed "s/^${B//\//_}_//")$'\n'
    if [ -e "$MUSTER_TEST_DIR/broken" ]; then
        f=$((f + $(wc -l <"$MUSTER_TEST_DIR/broken")))
        failures+=$(sed 's/$/: broke off/' "$MUSTER_TEST_DIR/broken")$'\n'
    fi
    # prove knows more: a plan that does not hold.
    if [ $rc != 0 ] && [ "$f" = 0 ]; then f=1; fi
    bad=$(bad_skips "$MUSTER_TEST_DIR"/tap/*)
    if [ -n "$bad" ]; then
        echo "suite $1: skipped, but not allowed by tests/skips on this machine:" >&2
        indent "$bad" >&2
        f=$((f + $(wc -l <<<"$bad")))
        failures+="suite $1: skipped, but not allowed: ${bad//$'\n'/; }"$'\n'
    fi
    check_leftovers "$1" || { f=$((f + 1)) && failures+="suite $1: something was left behind"$'\n'; }
    over=
    [ $took -gt "$2" ] && over=" - OVER ITS BUDGET"
    report+="$(printf '%-11s %4d s of %3d s   %5d passed %3d failed %3d skipped%s' "$1" $took "$2" "$p" "$f" "$s" \
        "$over")"$'\n'
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

B=${B:-build/default}
case $B in /*) ;; *) B=$PWD/$B ;; esac
if ! command -v prove >/dev/null; then
    echo "tests/run.sh: prove is missing; install perl (or run 'make deps')" >&2
    exit 2
fi
MUSTER_TEST_DIR=$(mktemp -d /tmp/mt.XXXXXX) || exit 2
chmod 711 "$MUSTER_TEST_DIR" # tests of other users have files of their own there
MUSTER_TEST_ID=${MUSTER_TEST_DIR##*/}
MUSTER_HOME=$MUSTER_TEST_DIR/home MUSTER_RUN_ROOT=$MUSTER_TEST_DIR/run TMPDIR=$MUSTER_TEST_DIR/tmp
MUSTER_IDLE=${MUSTER_IDLE:-2} OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LC_ALL=C.UTF-8
# The runtime's own settings of the caller are not part of the tests, nor is a make that runs us.
# MPI tests run under our own launcher; LAUNCH='mpirun --oversubscribe' shows that they are plain MPI programs too.
export LAUNCH=${LAUNCH:-$B/bin/muster run --oversubscribe}
unset MUSTER_POOL MUSTER_LOG MUSTER_LOG_FORMAT XDG_STATE_HOME MAKEFLAGS MFLAGS MAKELEVEL
export B MUSTER_TEST_DIR MUSTER_TEST_ID MUSTER_HOME MUSTER_RUN_ROOT TMPDIR MUSTER_IDLE LC_ALL \
    OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
cleanup() {
    local p
    for p in $(strays); do kill -9 "$p" 2>/dev/null; done
    rm -rf "$MUSTER_TEST_DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
shared_before=$(shared_entries)
report=
allowed_patterns >"$MUSTER_TEST_DIR/allowed"

if [ "${1-}" = --soak ]; then
    [ -n "${2-}" ] || { echo "usage: tests/run.sh --soak NAME" >&2; exit 2; }
    run_suite "soak/$2" 86400 86400 1
else
    for name in "$@"; do
        if ! suites | grep -q "^$name "; then
            echo "tests/run.sh: no suite '$name'; there are: $(suites | cut -d' ' -f1 | tr '\n' ' ')" >&2
            exit 2
        fi
    done
    while read -r name budget limit jobs; do
        if [ $# = 0 ] || [[ " $* " == *" $name "* ]]; then run_suite "$name" "$budget" "$limit" "$jobs"; fi
    done < <(suites)
fi

echo
printf '%s' "$report"
# Once more at the end, where somebody who has only the last lines looks.
[ $failed = 0 ] || grep . <<<"$failures" | cut -c1-150 | head -n 80
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $((passed + skipped)) -gt 0 ]
