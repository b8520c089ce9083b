#include "collectives/mpi_p2p.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

/* Receives posted ahead, from anybody. Frames of one sender match them in order, and they are looked at in order: that
 * keeps a sender's frames in order although a short one may arrive before a long one that was sent earlier. */
#define RING 16
#define SPENT_MOST (RING / 2)
#define SHORT 4096
#define TAG 0

struct mpi_p2p {
    struct mu_transport base;
    MPI_Comm comm;
    struct mu_frame *ring[RING];
    MPI_Request ring_req[RING];
    unsigned head, spent; /* so many before head are not posted; after a short frame its operation goes on first */

    /* Parallel arrays, because MPI wants its requests side by side. */
    struct mu_frame **out;
    MPI_Request *out_req;
    int *out_done;
    unsigned nout, out_cap;
};

static int mpi_error(struct mu_err *err, int rc, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n = 0;

    MPI_Error_string(rc, text, &n);
    return mu_err_set(err, MUSTER_EPEER, "%s: %s", what, text);
}

static struct mpi_p2p *of(struct mu_transport *t)
{
    return (struct mpi_p2p *)t;
}

static int post(struct mpi_p2p *t, unsigned i, struct mu_err *err)
{
    struct mu_frame *f = t->ring[i] = mu_frame_new(t->base.pool, MU_CHUNK);
    int rc;

    if (!f)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to receive into");
    rc = MPI_Irecv(&f->head, (int)(sizeof f->head + MU_CHUNK), MPI_BYTE, MPI_ANY_SOURCE, TAG, t->comm, &t->ring_req[i]);
    if (rc == MPI_SUCCESS)
        return 0;
    t->ring[i] = NULL;
    mu_frame_free(t->base.pool, f);
    return mpi_error(err, rc, "MPI_Irecv");
}

static int refill(struct mpi_p2p *t, struct mu_err *err)
{
    int rc = 0;

    for (; t->spent && rc == 0; t->spent -= rc == 0)
        rc = post(t, (t->head - t->spent) % RING, err);
    return rc;
}

static int grow(struct mpi_p2p *t, struct mu_err *err)
{
    unsigned cap = t->out_cap ? t->out_cap * 2 : 64;
    struct mu_frame **out = realloc(t->out, cap * sizeof *out);
    MPI_Request *req = NULL;
    int *done = NULL;

    if (out) {
        t->out = out;
        req = realloc(t->out_req, cap * sizeof *req);
    }
    if (req) {
        t->out_req = req;
        done = realloc(t->out_done, cap * sizeof *done);
    }
    if (!done)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %u sends", cap);
    t->out_done = done;
    t->out_cap = cap;
    return 0;
}

static int p2p_send(struct mu_transport *base, int peer, struct mu_frame *f, struct mu_err *err)
{
    struct mpi_p2p *t = of(base);
    MPI_Request req = MPI_REQUEST_NULL;
    int done = 0, rc;

    if (t->nout == t->out_cap && (rc = grow(t, err)) < 0)
        return rc;
    rc = MPI_Isend(&f->head, (int)(sizeof f->head + f->head.bytes), MPI_BYTE, peer, TAG, t->comm, &req);
    if (rc == MPI_SUCCESS)
        rc = MPI_Test(&req, &done, MPI_STATUS_IGNORE);
    if (rc != MPI_SUCCESS && req == MPI_REQUEST_NULL) /* else MPI may still read it */
        return mpi_error(err, rc, "MPI_Isend");
    if (rc == MPI_SUCCESS && done)
        return MU_SEND_DONE;
    t->out[t->nout] = f;
    t->out_req[t->nout++] = req;
    return MU_SEND_PENDING;
}

static int reap(struct mpi_p2p *t, struct mu_frames *sent, struct mu_err *err)
{
    int n = 0, rc = MPI_Testsome((int)t->nout, t->out_req, &n, t->out_done, MPI_STATUSES_IGNORE);
    unsigned kept = 0;

    if (rc == MPI_SUCCESS && (n == MPI_UNDEFINED || n == 0))
        return 0;
    for (unsigned i = 0; i < t->nout; i++) {
        if (t->out_req[i] == MPI_REQUEST_NULL) {
            mu_frames_push(sent, t->out[i]);
        } else {
            t->out[kept] = t->out[i];
            t->out_req[kept++] = t->out_req[i];
        }
    }
    t->nout = kept;
    return rc == MPI_SUCCESS ? 0 : mpi_error(err, rc, "MPI_Testsome");
}

static int p2p_poll(struct mu_transport *base, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    struct mpi_p2p *t = of(base);
    struct mu_frame *f;
    MPI_Status st;
    int done = 0, n = 0, rc;

    *in = NULL;
    if (t->spent == SPENT_MOST && (rc = refill(t, err)) < 0)
        return rc;
    rc = MPI_Test(&t->ring_req[t->head], &done, &st);
    if (rc != MPI_SUCCESS)
        return mpi_error(err, rc, "MPI_Test");
    if (!done) {
        rc = refill(t, err);
        return rc == 0 && t->nout ? reap(t, sent, err) : rc;
    }
    f = t->ring[t->head];
    t->ring[t->head] = NULL;
    t->head = (t->head + 1) % RING;
    t->spent++;
    MPI_Get_count(&st, MPI_BYTE, &n);
    if (n > SHORT)
        rc = refill(t, err);
    if (rc == 0 && ((size_t)n < sizeof f->head || f->head.magic != MU_FRAME_MAGIC || f->head.bytes > MU_CHUNK ||
                    (size_t)n != sizeof f->head + f->head.bytes))
        rc = mu_err_set(err, MUSTER_EVERSION, "rank %d sent something else than a frame of this version of muster",
                        st.MPI_SOURCE);
    if (rc < 0) {
        mu_frame_free(base->pool, f);
        return rc;
    }
    *in = f;
    return 0;
}

static unsigned p2p_pending(struct mu_transport *base)
{
    return of(base)->nout;
}

static void p2p_orphan(struct mu_transport *base, const struct muster_request *owner)
{
    struct mpi_p2p *t = of(base);

    for (unsigned i = 0; i < t->nout; i++)
        if (t->out[i]->owner == owner)
            t->out[i]->owner = NULL;
}

static int p2p_close(struct mu_transport *base, uint64_t deadline, struct mu_err *err)
{
    struct mpi_p2p *t = of(base);
    struct mu_frames sent = {0};
    int rc = 0;

    while (t->nout && rc == 0 && mu_now() < deadline)
        rc = reap(t, &sent, err);
    mu_frames_clear(&sent, base->pool);
    for (unsigned i = 0; i < RING && rc == 0; i++) {
        int done = t->ring_req[i] == MPI_REQUEST_NULL;

        if (!done)
            MPI_Cancel(&t->ring_req[i]);
        while (!done && rc == 0) {
            int e = MPI_Test(&t->ring_req[i], &done, MPI_STATUS_IGNORE);

            if (e != MPI_SUCCESS)
                rc = mpi_error(err, e, "MPI_Test");
            else if (!done && mu_now() > deadline)
                rc = mu_err_set(err, MUSTER_ETIMEOUT, "a receive could not be cancelled");
        }
    }
    if (rc == 0 && t->nout)
        rc = mu_err_set(err, MUSTER_ETIMEOUT, "%u messages could not be delivered", t->nout);
    if (rc < 0)
        return rc; /* MPI may still use the frames: they stay */
    for (unsigned i = 0; i < RING; i++)
        mu_frame_free(base->pool, t->ring[i]);
    /* The communicator is left to MPI_Finalize: a late probe must not reach one that takes its place. */
    free(t->out);
    free(t->out_req);
    free(t->out_done);
    free(t);
    return 0;
}

static const struct mu_transport_ops mpi_p2p_ops = {
    .name = "mpi",
    .send = p2p_send,
    .poll = p2p_poll,
    .pending = p2p_pending,
    .orphan = p2p_orphan,
    .close = p2p_close,
};

/* Open MPI can be told to; it is when ranks share CPUs. */
static bool yields_when_idle(void)
{
    int i, verbosity, bind, scope, level, count = 0, name_n = 0, text_n = 0;
    union {
        char bytes[64];
        uint64_t any[8];
    } value = {{0}};
    MPI_T_cvar_handle handle;
    MPI_Datatype type;
    MPI_T_enum names;

    if (MPI_T_init_thread(MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return false;
    if (MPI_T_cvar_get_index("mpi_yield_when_idle", &i) == MPI_SUCCESS &&
        MPI_T_cvar_get_info(i, NULL, &name_n, &verbosity, &type, &names, NULL, &text_n, &bind, &scope) == MPI_SUCCESS &&
        (type == MPI_INT || type == MPI_C_BOOL) && MPI_T_cvar_handle_alloc(i, NULL, &handle, &count) == MPI_SUCCESS) {
        if (count == 1)
            MPI_T_cvar_read(handle, &value);
        MPI_T_cvar_handle_free(&handle);
    }
    MPI_T_finalize();
    return value.any[0] != 0;
}

int mu_mpi_transport(struct mu_pool *pool, int (*stop)(void *arg, struct mu_err *), void *arg,
                     struct mu_transport **out, struct mu_err *err)
{
    struct mpi_p2p *t = calloc(1, sizeof *t);
    MPI_Request req;
    int done = 0, rc;

    if (!t)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the transport");
    t->base = (struct mu_transport){.ops = &mpi_p2p_ops, .pool = pool};
    MPI_Comm_rank(MPI_COMM_WORLD, &t->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &t->base.size);

    /* t is left to MPI when this is given up: the new communicator may still be written to it. */
    rc = MPI_Comm_idup(MPI_COMM_WORLD, &t->comm, &req);
    while (rc == MPI_SUCCESS && !done) {
        rc = MPI_Test(&req, &done, MPI_STATUS_IGNORE);
        if (!done) {
            int why = stop(arg, err);

            if (why < 0)
                return why;
            sched_yield();
        }
    }
    if (rc != MPI_SUCCESS)
        return mpi_error(err, rc, "MPI_Comm_idup");
    MPI_Comm_set_errhandler(t->comm, MPI_ERRORS_RETURN);
    for (unsigned i = 0; i < RING; i++) {
        rc = post(t, i, err);
        if (rc < 0)
            return rc;
    }
    t->base.yields = yields_when_idle();
    *out = &t->base;
    return 0;
}

int mu_mpi_start(int *argc, char ***argv, struct mu_mpi_state *state, struct mu_err *err)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int init = 0, fini = 0, level = 0, n = 0;

    MPI_Finalized(&fini);
    if (fini)
        return mu_err_set(err, MUSTER_EJOB, "MPI has been finalised and cannot start again in this process");
    MPI_Initialized(&init);
    if (!init && MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return mu_err_set(err, MUSTER_EJOB, "MPI_Init failed");
    state->ours = !init;
    MPI_Comm_rank(MPI_COMM_WORLD, &state->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &state->size);
    MPI_Get_library_version(version, &n);
    version[strcspn(version, ",\n")] = 0;
    memcpy(state->library, version, strnlen(version, sizeof state->library - 1));
    return 0;
}

bool mu_mpi_running(void)
{
    int init = 0, fini = 0;

    MPI_Initialized(&init);
    MPI_Finalized(&fini);
    return init && !fini;
}

int mu_mpi_stop(const struct mu_mpi_state *state, struct mu_err *err)
{
    if (!state->ours || !mu_mpi_running())
        return 0;
    return MPI_Finalize() == MPI_SUCCESS ? 0 : mu_err_set(err, MUSTER_EJOB, "MPI_Finalize failed");
}
