#include "bench/rank/mpi_coll.h"

#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/rank/mpi_wire.h"
#include "muster_mpi.h"
#include "runtime/base/clock.h"
#include "runtime/base/dtype.h"

enum { TAG = 8, LOOKS = MU_WIRE_NS / MU_SEC };

struct mu_mpi_coll {
    MPI_Comm comm;
    MPI_Datatype type;
    int rank, size;
    size_t width;
    /* The watch: odd while a call goes on. */
    atomic_uint calls;
    pthread_t watch;
    pthread_mutex_t lock;
    pthread_cond_t end;
    bool ends, watched;
};

static MPI_Datatype type_of(muster_dtype dtype)
{
    switch (dtype) {
    case MUSTER_INT8:
        return MPI_INT8_T;
    case MUSTER_UINT8:
        return MPI_UINT8_T;
    case MUSTER_INT32:
        return MPI_INT32_T;
    case MUSTER_UINT32:
        return MPI_UINT32_T;
    case MUSTER_INT64:
        return MPI_INT64_T;
    case MUSTER_UINT64:
        return MPI_UINT64_T;
    case MUSTER_FLOAT32:
        return MPI_FLOAT;
    case MUSTER_FLOAT64:
        return MPI_DOUBLE;
    default:
        return MPI_DATATYPE_NULL;
    }
}

static void *watch(void *arg)
{
    struct mu_mpi_coll *m = arg;
    unsigned was = 0;
    int looks = 0;

    pthread_mutex_lock(&m->lock);
    while (!m->ends) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec++;
        pthread_cond_timedwait(&m->end, &m->lock, &t);
        unsigned now = atomic_load_explicit(&m->calls, memory_order_relaxed);
        looks = now % 2 && now == was ? looks + 1 : 0;
        was = now;
        if (looks < LOOKS)
            continue;
        fprintf(stderr, "bench coll: rank %d has waited in MPI for the others for %d s\n", m->rank, looks);
        _exit(1);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

int mu_mpi_coll_open(muster_comm *comm, muster_dtype dtype, struct mu_mpi_coll **out, struct mu_err *err)
{
    struct mu_mpi_coll *m = calloc(1, sizeof *m);
    pthread_condattr_t a;
    int rc;

    if (!m)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for MPI's collectives");
    m->type = type_of(dtype);
    m->width = mu_dtype_size(dtype);
    m->rank = muster_rank(comm);
    m->size = muster_size(comm);
    if (m->type == MPI_DATATYPE_NULL)
        rc = mu_err_set(err, MUSTER_EARG, "--transport mpi: MPI has no floats of 8 or 16 bits; give another --dtype");
    else if ((rc = muster_comm_mpi(comm, &m->comm)))
        mu_err_set(err, rc, "%s", muster_last_error());
    if (rc) {
        free(m);
        return rc;
    }
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->end, &a);
    pthread_condattr_destroy(&a);
    m->watched = !pthread_create(&m->watch, NULL, watch, m);
    *out = m;
    if (m->watched)
        return 0;
    return mu_err_set(err, MUSTER_ENOMEM, "no thread can be had to watch over MPI's calls");
}

void mu_mpi_coll_close(struct mu_mpi_coll *m)
{
    if (!m)
        return;
    if (m->watched) {
        pthread_mutex_lock(&m->lock);
        m->ends = true;
        pthread_cond_signal(&m->end);
        pthread_mutex_unlock(&m->lock);
        pthread_join(m->watch, NULL);
    }
    pthread_cond_destroy(&m->end);
    pthread_mutex_destroy(&m->lock);
    MPI_Comm_free(&m->comm);
    free(m);
}

static void step(struct mu_mpi_coll *m)
{
    atomic_store_explicit(&m->calls, atomic_load_explicit(&m->calls, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* One call of MPI's, watched over. */
#define CALL(m, f)                                                                                                     \
    __extension__({                                                                                                    \
        step(m);                                                                                                       \
        int rc_ = (f);                                                                                                 \
        step(m);                                                                                                       \
        rc_ == MPI_SUCCESS ? 0 : MUSTER_EPEER;                                                                         \
    })

static const void *or_in_place(const void *send, const void *recv)
{
    return send == recv ? MPI_IN_PLACE : send;
}

int mu_mpi_allreduce(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    return CALL(m, MPI_Allreduce(or_in_place(send, recv), recv, (int)count, m->type, MPI_SUM, m->comm));
}

int mu_mpi_reduce(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    return CALL(m,
                MPI_Reduce(m->rank ? send : or_in_place(send, recv), recv, (int)count, m->type, MPI_SUM, 0, m->comm));
}

int mu_mpi_reduce_scatter(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    return CALL(m, MPI_Reduce_scatter_block(send, recv, (int)count, m->type, MPI_SUM, m->comm));
}

int mu_mpi_allgather(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    const char *block = (const char *)recv + (size_t)m->rank * count * m->width;

    return CALL(m, MPI_Allgather(or_in_place(send, block), (int)count, m->type, recv, (int)count, m->type, m->comm));
}

int mu_mpi_broadcast(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    (void)send;
    return CALL(m, MPI_Bcast(recv, (int)count, m->type, 0, m->comm));
}

int mu_mpi_alltoall(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    return CALL(m, MPI_Alltoall(or_in_place(send, recv), (int)count, m->type, recv, (int)count, m->type, m->comm));
}

int mu_mpi_sendrecv(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    int next = (m->rank + 1) % m->size, last = (m->rank + m->size - 1) % m->size;

    if (m->size == 1)
        return 0;
    return CALL(m, MPI_Sendrecv(send, (int)count, m->type, next, TAG, recv, (int)count, m->type, last, TAG, m->comm,
                                MPI_STATUS_IGNORE));
}

int mu_mpi_barrier(struct mu_mpi_coll *m, const void *send, void *recv, size_t count)
{
    (void)send;
    (void)recv;
    (void)count;
    return CALL(m, MPI_Barrier(m->comm));
}
