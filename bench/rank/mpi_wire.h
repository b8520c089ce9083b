/* Messages between benchmark ranks over MPI itself, with nothing of the library in between. Every wait has a deadline
 * (MU_WIRE_NS: MUSTER_ETIMEOUT names who did not answer); after an error the wire is of no more use. Who has nothing to
 * do meanwhile waits lazily: it sleeps, so that those who measure have their CPUs. One thread. */
#ifndef MU_BENCH_MPI_WIRE_H
#define MU_BENCH_MPI_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "muster.h"
#include "runtime/base/buf.h"
#include "runtime/base/err.h"

#define MU_WIRE_NS (120ull * 1000000000u)

/* yield: ranks share CPUs, so that waiting ones must let others run. */
int mu_wire_open(muster_comm *world, bool yield, struct mu_err *);
void mu_wire_share(void); /* from now on yield */
void mu_wire_close(void);

int mu_wire_send(const void *, size_t, int to, struct mu_err *);
int mu_wire_recv(void *, size_t, int from, struct mu_err *);
int mu_wire_recv_lazily(void *, size_t, int from, struct mu_err *);

/* Posts `count` messages of n bytes to (from) each of the peers, from (into) the same memory; finish waits for all that
 * was posted. */
int mu_wire_post_sends(const void *, size_t n, int count, const int *peers, int npeers, struct mu_err *);
int mu_wire_post_recvs(void *, size_t n, int count, const int *peers, int npeers, struct mu_err *);
int mu_wire_finish(struct mu_err *);

/* Collective, lazily. */
int mu_wire_rest(struct mu_err *); /* until all are here */
int mu_wire_tell(void *, size_t, int root, struct mu_err *);
/* Element by element, at every rank. */
int mu_wire_max(double *v, int n, struct mu_err *);
int mu_wire_sum(double *v, int n, struct mu_err *);
/* Doubles of each rank, one rank after the other, at every rank. */
int mu_wire_all(const double *mine, int n, double *all, struct mu_err *);
/* Texts of all, in the order of the ranks, appended to out at rank 0; empties mine. */
int mu_wire_gather(struct mu_buf *mine, struct mu_buf *out, struct mu_err *);

#endif
