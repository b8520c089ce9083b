/* What pairs of ranks send their messages over: MPI's own messages, or UCX's (bench/rank/ucx_wire.h). */
#ifndef MU_BENCH_LINK_H
#define MU_BENCH_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "bench/rank/mpi_wire.h"
#include "runtime/base/clock.h"

/* As mpi_wire.h says of its functions of these names. */
struct mu_link {
    const char *name; /* as measurements have it */
    int (*send)(const void *, size_t, int to, struct mu_err *);
    int (*recv)(void *, size_t, int from, struct mu_err *);
    int (*recv_lazily)(void *, size_t, int from, struct mu_err *);
    int (*post_sends)(const void *, size_t n, int count, const int *peers, int npeers, struct mu_err *);
    int (*post_recvs)(void *, size_t n, int count, const int *peers, int npeers, struct mu_err *);
    int (*finish)(struct mu_err *);
    int (*settle)(struct mu_err *); /* until all has left that was sent; NULL: it does so by itself */
};
extern const struct mu_link mu_mpi_link, mu_ucx_link;

/* One wait; all 0 at first. */
struct mu_patience {
    uint64_t deadline;
    long nap;
    unsigned looks;
};

enum { MU_LOOKS = 1024, MU_LOOKS_SHARED = 4 };
#define MU_NAP_NS 100000
#define MU_NAP_SHORT_NS 20000
#define MU_NAP_MOST_NS 1000000

/* After a look in vain. lazily: sleeps; yield: ranks share CPUs. False: MU_WIRE_NS have passed. */
static inline bool mu_wait_more(struct mu_patience *p, bool lazily, bool yield)
{
    if (lazily) { /* the longer it lasts the less a little more matters, and each look takes others' time */
        p->nap = p->nap ? p->nap : MU_NAP_NS;
        nanosleep(&(struct timespec){.tv_nsec = p->nap}, NULL);
        p->nap += p->nap < MU_NAP_MOST_NS ? p->nap / 16 : 0;
    } else if (++p->looks % (yield ? MU_LOOKS_SHARED : MU_LOOKS)) {
        return true;
    }
    uint64_t now = mu_now();
    if (!p->deadline)
        p->deadline = now + MU_WIRE_NS;
    /* Who yields is behind all that compute, who wakes up goes first. A hundredth of what has passed is little. */
    if (!lazily && yield) {
        uint64_t rest = (now + MU_WIRE_NS - p->deadline) / 100;
        rest = rest < MU_NAP_SHORT_NS ? MU_NAP_SHORT_NS : rest > MU_NAP_NS ? MU_NAP_NS : rest;
        nanosleep(&(struct timespec){.tv_nsec = (long)rest}, NULL);
    }
    return now < p->deadline;
}

/* The error that a wait for a rank (below 0: for all) has come to. */
int mu_wait_over(int rank, int peer, struct mu_err *);

#endif
