/* muster_mpi.h - from muster's communicators to MPI's, for programs that use both. */
#ifndef MUSTER_MPI_H
#define MUSTER_MPI_H

#include <mpi.h>

#include "muster.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over the world, the only communicator that it takes (others: MUSTER_ENOSYS). A new MPI communicator with
 * the same ranks, in the same order, that the library itself does not use. It is the caller's: MPI_Comm_free it before
 * muster_finalize. MPI is used with MPI_THREAD_SERIALIZED where muster initialised it: calls of MPI and of muster must
 * not overlap. */
MUSTER_API int muster_comm_mpi(muster_comm *comm, MPI_Comm *out);

#ifdef __cplusplus
}
#endif
#endif
