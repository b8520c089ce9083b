/* Gradient buckets, on top of the public collectives. Tensors that lie side by side in memory are reduced where they
 * are; others are copied into a bucket of their own, and back; in GPU memory they make a group of NCCL's, or are the
 * pieces of what goes between ranks as 16 bits. Buckets start
 * in the order of their tensors on every rank, as collectives must, however the tensors become ready. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/nccl/backend.h"
#include "runtime/rank/session.h"

#define DEFAULT_BYTES ((size_t)4 << 20)
enum { NOWHERE, HOST, DEVICE };

struct tensor {
    char *data;
    size_t bytes, bucket;
    size_t offset; /* in the bucket's memory, when it has some */
    bool ready;
};

struct bucket {
    size_t first, end;   /* tensors */
    size_t bytes, waits; /* waits: tensors that are not ready */
    char *low, *memory;  /* where they lie: low, if they tile it (else NULL); else memory, but on a GPU */
    muster_request *req;
    struct mu_gpu_wire *gpu; /* where it goes as 16 bits */
    bool started;
};

struct muster_bucket {
    muster_comm *comm;
    muster_dtype dtype;
    muster_op op;
    size_t most, elem;
    muster_dtype wire; /* what goes between ranks, of wire_elem bytes, and what makes one of the other */
    size_t wire_elem;
    struct mu_reducer narrow;
    int where; /* the tensors lie */
    struct tensor *tensors;
    struct bucket *buckets;
    size_t ntensors, nbuckets, started, bytes;
    bool closed; /* the layout is made */
};

/* The first failure counts, with its text, whatever else fails while things are taken back. */
static void keep(struct mu_err *first, int rc)
{
    if (rc == 0 || first->code)
        return;
    first->code = rc;
    snprintf(first->text, sizeof first->text, "%s", muster_last_error());
}

static int told(const struct mu_err *first)
{
    return first->code ? mu_rank_fail_err(first) : 0;
}

/* A communicator is not freed while it has some. */
static int count(muster_comm *comm, int more)
{
    int rc = mu_rank_enter(comm, false, "bucket_open");

    if (rc < 0)
        return rc;
    comm->buckets += (unsigned)more;
    return mu_rank_leave(0, NULL);
}

int muster_bucket_open(muster_comm *comm, muster_dtype dtype, muster_op op, size_t bytes, muster_bucket **out)
{
    muster_bucket *b;
    int rc;

    if (!mu_dtype_size(dtype) || !mu_op_valid(op) || !out)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_open: %s",
                            !out              ? "out is NULL"
                            : mu_op_valid(op) ? "not a muster_dtype"
                                              : "not a muster_op");
    b = calloc(1, sizeof *b);
    if (!b)
        return mu_rank_fail(MUSTER_ENOMEM, "muster_bucket_open: no memory");
    rc = count(comm, 1);
    if (rc < 0) {
        free(b);
        return rc;
    }
    b->comm = comm;
    b->dtype = dtype;
    b->op = op;
    b->most = bytes ? bytes : DEFAULT_BYTES;
    b->elem = mu_dtype_size(dtype);
    b->wire = dtype;
    b->wire_elem = b->elem;
    *out = b;
    return 0;
}

int muster_bucket_wire(muster_bucket *b, muster_dtype wire)
{
    if (!b || b->ntensors)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_wire: %s",
                            b ? "it comes before the first tensor" : "no buckets");
    if (b->dtype != MUSTER_FLOAT32 || (wire != MUSTER_BFLOAT16 && wire != MUSTER_FLOAT16))
        return mu_rank_fail(MUSTER_EARG,
                            "muster_bucket_wire: %s between ranks for %s: there is only float32 as bfloat16 "
                            "or float16",
                            mu_dtype_name((int)wire), mu_dtype_name((int)b->dtype));
    b->wire = wire;
    b->wire_elem = mu_dtype_size(wire);
    b->narrow = mu_ops_reducer(wire, MUSTER_SUM);
    return 0;
}

int muster_bucket_add(muster_bucket *b, void *data, size_t count)
{
    int where = count && data && mu_gpu_owns(data) ? DEVICE : HOST;
    struct tensor *t;
    struct mu_err err;
    int rc;

    if (!b || b->closed || (!data && count) || (b && count > ((size_t)PTRDIFF_MAX - b->bytes) / b->elem))
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_add: %s",
                            !b          ? "no buckets"
                            : b->closed ? "tensors are added before the first one is ready"
                                        : "no such data");
    if (count && b->where != NOWHERE && where != b->where)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_add: the tensor is %s GPU memory, unlike those before it",
                            where == DEVICE ? "in" : "not in");
    if (where == DEVICE && b->where == NOWHERE && b->wire != b->dtype && (rc = mu_gpu_wire_able(data, &err)) < 0) {
        mu_err_prefix(&err, "muster_bucket_add: %s as %s in GPU memory", mu_dtype_name((int)b->dtype),
                      mu_dtype_name((int)b->wire));
        return mu_rank_fail_err(&err);
    }
    if (b->wire != b->dtype && (uintptr_t)data % b->elem)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_add: the tensor is not aligned to its elements");
    t = realloc(b->tensors, (b->ntensors + 1) * sizeof *t);
    if (!t)
        return mu_rank_fail(MUSTER_ENOMEM, "muster_bucket_add: no memory");
    b->tensors = t;
    b->where = count ? where : b->where;
    t[b->ntensors++] = (struct tensor){.data = data, .bytes = count * b->elem};
    b->bytes += count * b->elem;
    return 0;
}

static int by_address(const void *x, const void *y)
{
    const struct tensor *const *a = x, *const *b = y;

    return ((*a)->data > (*b)->data) - ((*a)->data < (*b)->data);
}

/* In the order of the tensors, which is that of all ranks; what lies one after the other is one piece. */
static int place_gpu(muster_bucket *b, struct bucket *k)
{
    struct mu_gpu_piece *pieces = malloc((k->end - k->first) * sizeof *pieces);
    struct mu_err err;
    size_t n = 0;
    int rc;

    if (!pieces)
        return mu_rank_fail(MUSTER_ENOMEM, "muster_bucket_ready: no memory");
    for (size_t i = k->first; i < k->end; i++) {
        const struct tensor *t = &b->tensors[i];
        float *at = (float *)(void *)t->data;
        size_t count = t->bytes / b->elem;

        if (n && pieces[n - 1].at + pieces[n - 1].count == at)
            pieces[n - 1].count += count;
        else if (count)
            pieces[n++] = (struct mu_gpu_piece){at, count};
    }
    rc = mu_gpu_wire_open(b->comm, b->wire, b->op, pieces, n, &k->gpu, &err);
    free(pieces);
    if (rc < 0)
        mu_err_prefix(&err, "muster_bucket_ready");
    return rc < 0 ? mu_rank_fail_err(&err) : 0;
}

/* Do the tensors of the bucket lie side by side, in any order? */
static int place(muster_bucket *b, struct bucket *k)
{
    size_t n = k->end - k->first, at = 0;
    struct tensor **sorted = malloc(n * sizeof(struct tensor *));
    bool tiles = true;

    if (!sorted)
        return mu_rank_fail(MUSTER_ENOMEM, "muster_bucket_ready: no memory");
    for (size_t i = 0; i < n; i++)
        sorted[i] = &b->tensors[k->first + i];
    qsort(sorted, n, sizeof *sorted, by_address);
    k->low = sorted[0]->data;
    for (size_t i = 0; i + 1 < n; i++)
        tiles &= sorted[i]->data + sorted[i]->bytes == sorted[i + 1]->data;
    free(sorted);
    if ((tiles && b->wire == b->dtype) || !k->bytes)
        return 0;
    k->low = NULL;
    if (b->where == DEVICE)
        return b->wire == b->dtype ? 0 : place_gpu(b, k);
    k->memory = muster_mem_alloc(k->bytes / b->elem * b->wire_elem);
    if (!k->memory)
        return MUSTER_ENOMEM;
    for (size_t i = k->first; i < k->end; i++) {
        b->tensors[i].offset = at;
        at += b->tensors[i].bytes / b->elem * b->wire_elem;
    }
    return 0;
}

static void drop(muster_bucket *b, struct mu_err *first)
{
    for (size_t i = 0; i < b->nbuckets; i++) {
        struct bucket *k = &b->buckets[i];
        struct mu_err err;
        int rc = k->gpu ? mu_rank_enter(b->comm, false, "bucket_close") : 0;

        if (k->gpu && rc == 0)
            rc = mu_rank_leave(mu_gpu_wire_close(k->gpu, &err), &err);
        keep(first, rc);
        muster_mem_free(k->memory);
    }
    free(b->buckets);
    b->buckets = NULL;
    b->nbuckets = 0;
}

static int lay_out(muster_bucket *b)
{
    struct mu_err first = {0};
    struct bucket *k = NULL;
    int rc = 0;

    b->buckets = calloc(b->ntensors ? b->ntensors : 1, sizeof *b->buckets);
    if (!b->buckets)
        return mu_rank_fail(MUSTER_ENOMEM, "muster_bucket_ready: no memory");
    for (size_t i = 0; i < b->ntensors; i++) {
        if (!k || k->bytes + b->tensors[i].bytes > b->most) {
            k = &b->buckets[b->nbuckets++];
            k->first = i;
        }
        k->end = i + 1;
        k->bytes += b->tensors[i].bytes;
        k->waits++;
        b->tensors[i].bucket = b->nbuckets - 1;
    }
    for (size_t i = 0; i < b->nbuckets && rc == 0; i++)
        rc = place(b, &b->buckets[i]);
    b->closed = rc == 0;
    keep(&first, rc);
    if (rc < 0)
        drop(b, &first);
    return told(&first);
}

static void copy(muster_bucket *b, const struct bucket *k, bool in)
{
    for (size_t i = k->first; i < k->end && k->memory; i++) {
        struct tensor *t = &b->tensors[i];
        char *there = k->memory + t->offset;

        if (!t->bytes)
            continue;
        if (b->wire == b->dtype)
            memcpy(in ? there : t->data, in ? t->data : there, t->bytes);
        else if (in)
            b->narrow.store(there, t->data, t->bytes / b->elem, 1);
        else
            b->narrow.load(t->data, there, t->bytes / b->elem);
    }
}

/* On a GPU the requests are the stream's. */
static int enqueue(muster_bucket *b, const struct bucket *k)
{
    struct mu_err err;
    int rc, end;

    if (k->gpu) {
        rc = mu_rank_enter(b->comm, false, "bucket_ready");
        return rc < 0 ? rc : mu_rank_leave(mu_gpu_wire_run(k->gpu, &err), &err);
    }
    if (k->low)
        return muster_allreduce(k->low, k->low, k->bytes / b->elem, b->dtype, b->op, b->comm);
    rc = muster_group_start(b->comm);
    if (rc < 0)
        return rc;
    for (size_t i = k->first; i < k->end && rc == 0; i++) {
        const struct tensor *t = &b->tensors[i];

        if (t->bytes)
            rc = muster_allreduce(t->data, t->data, t->bytes / b->elem, b->dtype, b->op, b->comm);
    }
    end = muster_group_end(b->comm);
    return rc < 0 ? rc : end;
}

/* One without any elements is so on all ranks; NCCL has nothing to do for it, and the CPU engine's order is another. */
static int start_next(muster_bucket *b)
{
    struct bucket *k = &b->buckets[b->started];
    char *p = k->memory ? k->memory : k->low;
    int rc;

    copy(b, k, true);
    if (b->where == DEVICE)
        rc = k->bytes ? enqueue(b, k) : 0;
    else
        rc = muster_iallreduce(p, p, k->bytes / b->elem, b->wire, b->op, b->comm, &k->req);
    if (rc == 0) {
        k->started = true;
        b->started++;
    }
    return rc;
}

/* A bucket did not start because those under way have failed: the first of these failures is the cause, and is told
 * before what follows from it. */
static int cause(muster_bucket *b, int rc)
{
    struct mu_err why = {0}, first = {0};
    int done = 0;

    keep(&why, rc);
    for (size_t i = 0; i < b->started && rc == MUSTER_EABORTED; i++) {
        struct bucket *k = &b->buckets[i];

        if (!k->req || muster_test(k->req, &done) < 0 || !done)
            continue;
        done = muster_wait(&k->req);
        keep(&first, done);
        k->started = done == 0;
    }
    return told(first.code ? &first : &why);
}

int muster_bucket_ready(muster_bucket *b, size_t tensor)
{
    int rc = 0, done;

    if (!b)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_ready: no buckets");
    if (!b->closed && (rc = lay_out(b)) < 0)
        return rc;
    if (tensor >= b->ntensors || b->tensors[tensor].ready)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_ready: tensor %zu %s", tensor,
                            tensor >= b->ntensors ? "was never added" : "is ready already");
    b->tensors[tensor].ready = true;
    b->buckets[b->tensors[tensor].bucket].waits--;
    while (rc == 0 && b->started < b->nbuckets && !b->buckets[b->started].waits)
        rc = start_next(b);
    /* Those that are under way get on. */
    for (size_t i = 0; rc == 0 && i < b->started; i++)
        if (b->buckets[i].req) {
            rc = muster_test(b->buckets[i].req, &done);
            break;
        }
    return rc < 0 ? cause(b, rc) : 0;
}

/* Takes every request back. */
static void finish(muster_bucket *b, struct mu_err *first)
{
    for (size_t i = 0; i < b->nbuckets; i++) {
        struct bucket *k = &b->buckets[i];
        int rc = k->req ? muster_wait(&k->req) : 0;

        if (rc == 0 && k->started)
            copy(b, k, false);
        keep(first, rc);
        k->started = false;
        k->waits = k->end - k->first;
    }
    for (size_t i = 0; i < b->ntensors; i++)
        b->tensors[i].ready = false;
    b->started = 0;
}

int muster_bucket_wait(muster_bucket *b)
{
    struct mu_err first = {0}, late = {0};

    if (!b)
        return mu_rank_fail(MUSTER_EARG, "muster_bucket_wait: no buckets");
    for (size_t i = 0; i < b->ntensors; i++)
        if (!b->tensors[i].ready)
            return mu_rank_fail(MUSTER_EARG, "muster_bucket_wait: tensor %zu is not ready", i);
    while (b->started < b->nbuckets && !late.code) /* an earlier failure left them */
        keep(&late, start_next(b));
    finish(b, &first);
    return told(first.code ? &first : &late);
}

int muster_bucket_close(muster_bucket *b)
{
    struct mu_err first = {0};

    if (!b)
        return 0;
    finish(b, &first);
    drop(b, &first);
    if (muster_world()) /* else it went with the session */
        count(b->comm, -1);
    free(b->tensors);
    free(b);
    return told(&first);
}
