/* The operations of `muster bench coll` as MPI has them: its blocking calls, with nothing of the library in between.
 * Such a wait cannot be left: a call that lasts longer than MU_WIRE_NS ends the process, after a line that says so. */
#ifndef MU_BENCH_MPI_COLL_H
#define MU_BENCH_MPI_COLL_H

#include <stddef.h>

#include "muster.h"
#include "runtime/base/err.h"

struct mu_mpi_coll;

/* EARG: MPI has no such type. */
int mu_mpi_coll_open(muster_comm *, muster_dtype, struct mu_mpi_coll **, struct mu_err *);
void mu_mpi_coll_close(struct mu_mpi_coll *);

/* In place where send is recv (of an all-gather: the rank's block of it), but for the reduce-scatter, which has it
 * elsewhere than muster's. The sum; root 0; sendrecv: to the next rank, from the one before. EPEER: MPI has failed. */
typedef int mu_mpi_coll_fn(struct mu_mpi_coll *, const void *send, void *recv, size_t count);
mu_mpi_coll_fn mu_mpi_allreduce, mu_mpi_reduce, mu_mpi_reduce_scatter, mu_mpi_allgather, mu_mpi_broadcast,
    mu_mpi_alltoall, mu_mpi_sendrecv, mu_mpi_barrier;

#endif
