#!/usr/bin/env bash
# tests/run.sh fails when it has to: in a small tree of its own, one fault at a time.
. "$(dirname "$0")/../lib.sh"

tree=$tmp/tree
mkdir -p "$tree/tests/cli"
cp tests/run.sh tests/lib.sh "$tree/tests/"
printf 'always\tan allowed reason\twhy\nno-bash\tanother reason\twhy\n' >"$tree/tests/skips"
export MUSTER_TEST_GRACE=1

runs() { # TEXT OF A TEST [ARGS...]: runs it as the only one of its suite
    printf '#!/usr/bin/env bash\n%s\n' "$1" >"$tree/tests/cli/one.t"
    run_cmd "$tree/tests/run.sh" "${@:2}"
    last=${out##*$'\n'}
}
runs 'echo 1..2; echo ok 1; echo ok 2'
is "$rc:$last" "0:2 passed, 0 failed, 0 skipped" "all is well" || note "$out" "$err"
runs 'echo 1..2; echo ok 1; echo not ok 2 - because; echo "a word on stderr" >&2; exit 1'
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "a failure"
like "$err" 'not ok 2 - because' "its line is shown"
like "$err" 'a word on stderr' "and what it said on stderr"
runs 'echo 1..2; echo ok 1'
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "a plan that does not hold"
runs 'echo 1..1; echo ok 1; exit 3'
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "all well, but a bad exit status"
runs 'kill -9 $$'
is "$rc:$last" "1:0 passed, 1 failed, 0 skipped" "a test that dies"
runs 'echo 1..1; echo not ok 1 - later "# TO''DO"'
is "$rc:$last" "1:0 passed, 1 failed, 0 skipped" "a to-do is a failure"
runs 'echo 1..2; echo "ok 1 # skip an allowed reason"; echo ok 2'
is "$rc:$last" "0:1 passed, 0 failed, 1 skipped" "an allowed skip"
runs 'echo "1..0 # SKIP an allowed reason"'
is "$rc:$last" "0:0 passed, 0 failed, 1 skipped" "an allowed skip of a whole test"
runs 'echo 1..2; echo "ok 1 # skip another reason"; echo ok 2'
is "$rc:$last" "1:1 passed, 1 failed, 1 skipped" "a skip that is allowed on other machines only"
like "$err" 'another reason' "is named"
runs 'echo "1..0 # SKIP an allowed reason, but more"'
is "$rc:$last" "1:0 passed, 1 failed, 1 skipped" "a reason must match as a whole"
runs 'echo 1..1; echo ok 1; setsid sleep 77 >/dev/null 2>&1 &'
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "a process that is left"
like "$err" 'process [0-9]+: sleep 77' "is named"
runs 'echo 1..1; echo ok 1; mkdir "$TMPDIR/muster-left"'
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "a file that is left"
MUSTER_TEST_ALONE=1 runs "echo 1..1; echo ok 1; echo >/dev/shm/muster-house-$$"
rm -f "/dev/shm/muster-house-$$"
[ "$rc" = 1 ] && [[ $err == *"file /dev/shm/muster-house-$$"* ]]
ok $? "a segment that is left" || note "$out" "$err"
MUSTER_TEST_LIMIT=1 runs 'sleep 30; echo 1..1; echo ok 1'
is "$rc:$last" "1:0 passed, 1 failed, 0 skipped" "a test that hangs"
like "$err" 'the limit for one test' "and why"
runs 'echo 1..1; echo ok 1' mpi
is "$rc:$last" "1:0 passed, 0 failed, 0 skipped" "no test at all"
runs 'echo 1..1; echo ok 1' nosuite
is "$rc" 2 "a suite that does not exist"
like "$err" "no suite 'nosuite'; there are: unit cli" "is named"
mkdir -p "$tree/tests/unit"
: >"$tree/tests/unit/gone.c"
run_cmd "$tree/tests/run.sh" unit
is "$rc:${out##*$'\n'}" "1:0 passed, 1 failed, 0 skipped" "a unit test that was not built"

# tests/lib.sh
rm -r "$tree/tests/unit"
lib=". \"\$(dirname \"\$0\")/../lib.sh\"; MUSTER_IDLE=0"
runs "$lib; is a a same; like abc 'b' like; wait_for 0.1 true; ok \$? wait; done_testing"
is "$rc:$last" "0:3 passed, 0 failed, 0 skipped" "a test with lib.sh"
runs "$lib; is a b differs; done_testing"
is "$rc:$last" "1:0 passed, 1 failed, 0 skipped" "its failure"
runs "$lib; is a a same; exit 0"
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "one that ends early"
runs "$lib; plan 3; is a a same; done_testing"
is "$rc:$last" "1:1 passed, 1 failed, 0 skipped" "one with fewer tests than planned"
runs "$lib; wait_for 0.2 false; is \$? 1 bounded; done_testing"
is "$rc:$last" "0:1 passed, 0 failed, 0 skipped" "wait_for gives up"
done_testing
