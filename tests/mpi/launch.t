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
done_testing
