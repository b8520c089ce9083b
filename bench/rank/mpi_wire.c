#include "bench/rank/mpi_wire.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "bench/rank/link.h"
#include "muster_mpi.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

/* So short a message is on its way when MPI_Send returns, as long as few are: MPI copies it. */
enum { TAG = 7, SHORT = 256 };

static struct {
    MPI_Comm comm;
    int rank, size;
    bool yield, open;
    MPI_Request *posted;
    int nposted, cap;
} wire;

int mu_wire_open(muster_comm *world, bool yield, struct mu_err *err)
{
    int rc = muster_comm_mpi(world, &wire.comm);

    if (rc)
        return mu_err_set(err, rc, "%s", muster_last_error());
    MPI_Comm_set_errhandler(wire.comm, MPI_ERRORS_RETURN);
    wire.rank = muster_rank(world);
    wire.size = muster_size(world);
    if (yield)
        mu_wire_share();
    wire.open = true;
    return 0;
}

void mu_wire_share(void)
{
    wire.yield = true;
    prctl(PR_SET_TIMERSLACK, 1000);
}

void mu_wire_close(void)
{
    if (wire.open)
        MPI_Comm_free(&wire.comm);
    free(wire.posted);
    wire.posted = NULL;
    wire.cap = 0;
    wire.open = false;
}

int mu_wait_over(int rank, int peer, struct mu_err *err)
{
    int most = (int)(MU_WIRE_NS / MU_SEC);

    if (peer >= 0)
        return mu_err_set(err, MUSTER_ETIMEOUT, "rank %d has waited for rank %d for %d s", rank, peer, most);
    return mu_err_set(err, MUSTER_ETIMEOUT, "rank %d has waited for the others for %d s", rank, most);
}

/* peer below 0: all */
static int wait_for(MPI_Request *v, int n, int peer, bool lazily, struct mu_err *err)
{
    struct mu_patience p = {0};
    int done = 0;

    for (;;) {
        if ((n == 1 ? MPI_Test(v, &done, MPI_STATUS_IGNORE) : MPI_Testall(n, v, &done, MPI_STATUSES_IGNORE)) !=
            MPI_SUCCESS)
            return mu_err_set(err, MUSTER_EPEER, "rank %d: MPI has failed in a message with rank %d", wire.rank, peer);
        if (done)
            return 0;
        if (!mu_wait_more(&p, lazily, wire.yield))
            return mu_wait_over(wire.rank, peer, err);
    }
}

static int begin(int rc, int peer, struct mu_err *err)
{
    return rc == MPI_SUCCESS
               ? 0
               : mu_err_set(err, MUSTER_EPEER, "rank %d: MPI takes no message for rank %d", wire.rank, peer);
}

int mu_wire_send(const void *p, size_t n, int to, struct mu_err *err)
{
    MPI_Request r;
    int rc;

    if (n <= SHORT)
        return begin(MPI_Send(p, (int)n, MPI_BYTE, to, TAG, wire.comm), to, err);
    rc = begin(MPI_Isend(p, (int)n, MPI_BYTE, to, TAG, wire.comm, &r), to, err);
    return rc ? rc : wait_for(&r, 1, to, false, err);
}

static int recv_as(void *p, size_t n, int from, bool lazily, struct mu_err *err)
{
    MPI_Request r;
    int rc = begin(MPI_Irecv(p, (int)n, MPI_BYTE, from, TAG, wire.comm, &r), from, err);

    return rc ? rc : wait_for(&r, 1, from, lazily, err);
}

int mu_wire_recv(void *p, size_t n, int from, struct mu_err *err)
{
    return recv_as(p, n, from, false, err);
}

int mu_wire_recv_lazily(void *p, size_t n, int from, struct mu_err *err)
{
    return recv_as(p, n, from, true, err);
}

static int room_for(int count, int npeers, struct mu_err *err)
{
    long need = wire.nposted + (long)count * npeers;

    if (need <= wire.cap)
        return 0;
    MPI_Request *v = need > INT_MAX ? NULL : realloc(wire.posted, (size_t)need * sizeof *v);
    if (!v)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %ld messages at a time", need);
    wire.posted = v;
    wire.cap = (int)need;
    return 0;
}

int mu_wire_post_sends(const void *p, size_t n, int count, const int *peers, int npeers, struct mu_err *err)
{
    int rc = room_for(count, npeers, err);

    for (int k = 0; k < count && !rc; k++)
        for (int i = 0; i < npeers && !rc; i++)
            rc = begin(MPI_Isend(p, (int)n, MPI_BYTE, peers[i], TAG, wire.comm, &wire.posted[wire.nposted++]), peers[i],
                       err);
    return rc;
}

int mu_wire_post_recvs(void *p, size_t n, int count, const int *peers, int npeers, struct mu_err *err)
{
    int rc = room_for(count, npeers, err);

    for (int k = 0; k < count && !rc; k++)
        for (int i = 0; i < npeers && !rc; i++)
            rc = begin(MPI_Irecv(p, (int)n, MPI_BYTE, peers[i], TAG, wire.comm, &wire.posted[wire.nposted++]), peers[i],
                       err);
    return rc;
}

int mu_wire_finish(struct mu_err *err)
{
    int n = wire.nposted;

    wire.nposted = 0;
    return wait_for(wire.posted, n, -1, false, err);
}

const struct mu_link mu_mpi_link = {
    .name = "mpi",
    .send = mu_wire_send,
    .recv = mu_wire_recv,
    .recv_lazily = mu_wire_recv_lazily,
    .post_sends = mu_wire_post_sends,
    .post_recvs = mu_wire_post_recvs,
    .finish = mu_wire_finish,
};

int mu_wire_rest(struct mu_err *err)
{
    MPI_Request r;
    int rc = begin(MPI_Ibarrier(wire.comm, &r), -1, err);

    return rc ? rc : wait_for(&r, 1, -1, true, err);
}

int mu_wire_tell(void *p, size_t n, int root, struct mu_err *err)
{
    MPI_Request r;
    int rc = begin(MPI_Ibcast(p, (int)n, MPI_BYTE, root, wire.comm, &r), root, err);

    return rc ? rc : wait_for(&r, 1, root, true, err);
}

static int reduce(double *v, int n, MPI_Op op, struct mu_err *err)
{
    MPI_Request r;
    int rc = begin(MPI_Iallreduce(MPI_IN_PLACE, v, n, MPI_DOUBLE, op, wire.comm, &r), -1, err);

    return rc ? rc : wait_for(&r, 1, -1, true, err);
}

int mu_wire_max(double *v, int n, struct mu_err *err)
{
    return reduce(v, n, MPI_MAX, err);
}

int mu_wire_sum(double *v, int n, struct mu_err *err)
{
    return reduce(v, n, MPI_SUM, err);
}

int mu_wire_all(const double *mine, int n, double *all, struct mu_err *err)
{
    MPI_Request r;
    int rc = begin(MPI_Iallgather(mine, n, MPI_DOUBLE, all, n, MPI_DOUBLE, wire.comm, &r), -1, err);

    return rc ? rc : wait_for(&r, 1, -1, true, err);
}

int mu_wire_gather(struct mu_buf *mine, struct mu_buf *out, struct mu_err *err)
{
    mu_auto_free int *lens = calloc((size_t)wire.size, sizeof *lens),
                     *starts = calloc((size_t)wire.size, sizeof *starts);
    MPI_Request r;
    int n = (int)mine->len, rc;
    long total = 0;

    if (!lens || !starts || mine->failed || mine->len > INT_MAX)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for what was measured");
    if ((rc = begin(MPI_Igather(&n, 1, MPI_INT, lens, 1, MPI_INT, 0, wire.comm, &r), 0, err)) ||
        (rc = wait_for(&r, 1, -1, true, err)))
        return rc;
    if (wire.rank == 0) {
        for (int i = 0; i < wire.size; i++) {
            starts[i] = (int)total;
            total += lens[i];
        }
        if (total > INT_MAX || mu_buf_reserve(out, (size_t)total + 1))
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for what all ranks have measured");
    }
    if ((rc = begin(MPI_Igatherv(mu_buf_str(mine), n, MPI_BYTE, wire.rank == 0 ? out->data + out->len : NULL, lens,
                                 starts, MPI_BYTE, 0, wire.comm, &r),
                    0, err)) ||
        (rc = wait_for(&r, 1, -1, true, err)))
        return rc;
    if (wire.rank == 0) {
        out->len += (size_t)total;
        out->data[out->len] = 0;
    }
    mu_buf_clear(mine);
    return 0;
}
