/* Messages between benchmark ranks over UCX itself (ucp, by tags), with nothing of MPI or the library in between:
 * mu_ucx_link of bench/rank/link.h. The library is loaded when it is asked for; UCX_TLS and UCX_NET_DEVICES say what it
 * uses, as for any program. Errors and deadlines as in mpi_wire.h. */
#ifndef MU_BENCH_UCX_WIRE_H
#define MU_BENCH_UCX_WIRE_H

#include <stdbool.h>

#include "bench/rank/rank.h"

/* Collective. EARG names the first rank that has no UCX. */
int mu_ucx_wire_open(struct mu_room *, struct mu_err *);
/* Collective where all is well; not: after an error, without a word to the others. Nothing where none is open. */
void mu_ucx_wire_close(bool well);

#endif
