#include "muster_mpi.h"

#include <sched.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/rank/session.h"

/* Given up on, the request and the communicator stay with MPI: hence memory of their own, reached from here. */
static struct dup {
    struct dup *next;
    MPI_Comm comm;
    MPI_Request req;
} * given_up;

static int duplicate(muster_comm *comm, MPI_Comm *out, struct mu_err *err)
{
    struct mu_engine *e = comm->engine;
    uint64_t deadline = mu_now() + e->timeout;
    struct dup *d = malloc(sizeof *d);
    int done = 0;

    if (!d)
        return mu_err_set(err, MUSTER_ENOMEM, "muster_comm_mpi: no memory");
    if (MPI_Comm_idup(MPI_COMM_WORLD, &d->comm, &d->req) != MPI_SUCCESS) {
        free(d);
        return mu_err_set(err, MUSTER_EPEER, "muster_comm_mpi: MPI_Comm_idup failed");
    }
    while (!done) {
        int rc = MPI_Test(&d->req, &done, MPI_STATUS_IGNORE);

        if (done)
            break;
        mu_coll_progress(e);
        mu_coll_watch(e);
        mu_coll_settle(e);
        if (rc != MPI_SUCCESS || e->dead || mu_now() > deadline) {
            d->next = given_up;
            given_up = d;
            if (e->dead)
                return mu_comm_check(comm, err);
            return mu_err_set(err, rc == MPI_SUCCESS ? MUSTER_ETIMEOUT : MUSTER_EPEER,
                              "muster_comm_mpi: not all ranks took part");
        }
        sched_yield();
    }
    *out = d->comm;
    free(d);
    return 0;
}

int muster_comm_mpi(muster_comm *comm, MPI_Comm *out)
{
    int rc = mu_rank_enter(comm, false, "comm_mpi");
    struct mu_err err;

    if (rc < 0)
        return rc;
    if (!out)
        rc = mu_err_set(&err, MUSTER_EARG, "muster_comm_mpi: out is NULL");
    else if (comm != comm->engine->world)
        rc = mu_err_set(&err, MUSTER_ENOSYS, "muster_comm_mpi: only the world has a bridge to MPI");
    else
        rc = mu_comm_check(comm, &err);
    if (rc == 0)
        rc = duplicate(comm, out, &err);
    return mu_rank_leave(rc, &err);
}
