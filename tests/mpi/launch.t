#!/usr/bin/env bash
# What `muster run` does with plain MPI programs: the right size, and clear words where MPI was not what it seems.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
hello=$B/tests/mpi/hello

run_cmd timeout 60 "$muster" run -n 2 "$hello"
is "$rc" 0 "two ranks of MPI end with 0"
is "$(sort <<<"$out")" $'hello from 0 of 2\nhello from 1 of 2' "and know each other"
run_cmd timeout 120 "$muster" run -n 8 --oversubscribe "$hello"
is "$(grep -c 'of 8$' <<<"$out")" 8 "eight on fewer cores"
is "$(grep -c singleton <<<"$err")" 0 "none of them is taken for a singleton"
run_cmd timeout 60 "$muster" run --oversubscribe -n 1 "$hello" : -n 2 "$hello"
is "$(grep -c 'of 3$' <<<"$out")" 3 "programs joined by : are one job"
if mpirun --version 2>/dev/null | grep -q 'Open MPI) 4'; then
    run_cmd timeout 60 "$muster" run -n 2 env -u OMPI_MCA_schizo "$hello"
    like "$err" 'rank [01] came up as an MPI singleton: its MPI library .*libmpi.* PMIX_' "singletons are caught and explained"
else
    skip "Open MPI 5 does not come up as singletons when a variable is missing"
fi
run_cmd timeout 60 "$muster" run -n 2 --oversubscribe "$B/tests/mpi/ends" exit
is "$rc" 1 "a rank that ends with 0 without MPI_Finalize fails the job"
like "$err" 'had not called MPI_Finalize' "and is told"
run_cmd timeout 60 "$muster" run -n 2 "$B/tests/mpi/ends" abort
is "$rc" 7 "MPI_Abort's code is the job's"
like "$err" 'rank 1 on [^ ]+:? called MPI_Abort with code 7' "and the report says who called it"
run_cmd "$muster" events --json "$("$muster" jobs --all --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][-1]["id"])')"
like "$out" '"rank-exit"[^}]*"rank":1[^}]*"called MPI_Abort with code 7"' "as the events do" || note "$out"
run_cmd timeout 60 "$muster" run -n 2 "$B/tests/mpi/ends" abort 0
is "$rc" 1 "MPI_Abort with 0 is a failure, too"
like "$err" 'rank 1 on [^ ]+:? called MPI_Abort with code 0' "and is told"
run_cmd timeout 60 "$muster" run -n 2 "$B/tests/mpi/ends" abort 300
is "$rc" 44 "of MPI_Abort's code the lowest byte is the job's"
like "$err" 'called MPI_Abort with code 300' "but the report has all of it"
"$muster" controller --stop
done_testing
