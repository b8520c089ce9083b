/* A rank whose tensors are in GPU memory, and one that is not: gpu_ckpt MODE, 2 ranks.
 *   save     saves what a stream is still about to write, writes over it at once, restores it; the same while a thread
 *            copies
 *   restore  what another job has saved
 *   error    saves, and says what came of it
 *   apart    adds tensors of two GPUs
 * Prints a line. */
#include <muster.h>

#include <string.h>
#include <time.h>

#include "tests/gpu/cuda.h"

enum { SMALL = 1000, BIG = (18 << 20) + 3, TENSORS = 4 };

static struct piece {
    const char *name;
    muster_dtype dtype;
    size_t elem, n; /* of this rank */
    int device;
    unsigned flags;
    unsigned char *data;
} pieces[TENSORS] = {
    {"weights", MUSTER_FLOAT32, 4, SMALL, 1, 0, NULL},
    {"big", MUSTER_UINT8, 1, BIG, 1, 0, NULL},
    {"on the host", MUSTER_FLOAT64, 8, SMALL, 0, 0, NULL},
    {"same everywhere", MUSTER_INT32, 4, 7 * SMALL, 1, MUSTER_REPLICATED, NULL},
};
static int (*launch)(void *stream, void (*fn)(void *), void *arg);
static unsigned char *room;
static int rank, size;

static unsigned char value(const struct piece *p, size_t i, unsigned step)
{
    unsigned who = p->flags ? 0 : (unsigned)rank;

    return (unsigned char)(i * 7 + (i >> 12) + step * 31 + who * 101 + (unsigned)p->elem);
}

static void fill(unsigned step, int device)
{
    for (struct piece *p = pieces; p < pieces + TENSORS; p++) {
        if (p->device != device)
            continue;
        for (size_t i = 0; i < p->n * p->elem; i++)
            room[i] = value(p, i, step);
        if (p->device)
            cuda_put(p->data, room, p->n * p->elem);
        else
            memcpy(p->data, room, p->n * p->elem);
    }
}

static int is(unsigned step)
{
    for (struct piece *p = pieces; p < pieces + TENSORS; p++) {
        if (p->device)
            cuda_get(room, p->data, p->n * p->elem);
        else
            memcpy(room, p->data, p->n * p->elem);
        for (size_t i = 0; i < p->n * p->elem; i++)
            if (room[i] != value(p, i, step)) {
                printf("%s differs at %zu\n", p->name, i);
                return 0;
            }
    }
    return 1;
}

/* What the program computes on the GPU, not done yet when the save is called. */
static void compute(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    fill(2, 1);
    (void)arg;
}

/* The next pass, which only reads. */
static void nothing(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    (void)arg;
}

static int add(muster_ckpt *c, struct piece *p)
{
    size_t all = p->flags ? p->n : p->n * (size_t)size;
    muster_tensor t = {.name = p->name, .dtype = p->dtype, .ndim = 1, .data = p->data, .flags = p->flags};

    t.global[0] = all;
    t.offset[0] = p->flags ? 0 : p->n * (size_t)rank;
    t.local[0] = p->n;
    return muster_ckpt_add(c, &t);
}

static int open_all(muster_ckpt **c)
{
    int rc = muster_ckpt_open(muster_world(), NULL, c);

    for (struct piece *p = pieces; p < pieces + TENSORS && !rc; p++) {
        p->data = p->device ? cuda_alloc(p->n * p->elem) : malloc(p->n * p->elem);
        rc = p->data ? add(*c, p) : -1;
    }
    return rc;
}

static int save(muster_ckpt *c)
{
    void *stream = NULL;
    uint64_t step = 0;

    fill(1, 1);
    fill(2, 0);
    if (cuda.cuStreamCreate(&stream, 1) || muster_comm_set_stream(muster_world(), stream) ||
        launch(stream, compute, NULL) || muster_ckpt_save(c, 2))
        return 1;
    fill(3, 0);
    fill(3, 1);
    if (muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1) || muster_ckpt_restore(c, &step) || step != 2 || !is(2))
        return 2;
    fill(5, 1);
    fill(2, 0);
    if (launch(stream, compute, NULL) || muster_ckpt_isave(c, 5) ||
        muster_ckpt_wait(c, MUSTER_LEVEL_RAM, 0) != MUSTER_ETIMEOUT || launch(stream, nothing, NULL) ||
        muster_ckpt_wait(c, MUSTER_LEVEL_RAM, -1))
        return 3;
    fill(3, 0);
    fill(3, 1);
    if (muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1) || muster_ckpt_restore(c, &step) || step != 5 || !is(2))
        return 4;
    fill(4, 0);
    fill(4, 1);
    if (muster_ckpt_save(c, 6) || muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1))
        return 5;
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "", *why;
    muster_ckpt *c = NULL;
    uint64_t step = 0;
    void *ctx = NULL;
    int rc = muster_init(&argc, &argv);

    rank = muster_rank(muster_world());
    size = muster_size(muster_world());
    room = malloc(BIG);
    if (rc || !room || (why = cuda_up(rank)) || open_all(&c)) {
        fprintf(stderr, "gpu_ckpt: %s\n", muster_last_error());
        return 3;
    }
    *(void **)&launch = dlsym(dlopen(getenv("MUSTER_CUDA_LIB"), RTLD_NOW), "cuLaunchHostFunc");
    if (!strcmp(mode, "save")) {
        rc = save(c);
        printf("rank %d saved %d %s\n", rank, rc, rc ? muster_last_error() : "");
    } else if (!strcmp(mode, "restore")) {
        rc = muster_ckpt_restore(c, &step);
        printf("rank %d restored %d %d %s\n", rank, (int)step, !rc && is(4), rc ? muster_last_error() : "");
    } else if (!strcmp(mode, "error")) {
        rc = muster_ckpt_save(c, 1);
        printf("rank %d error %d %s\n", rank, rc, rc ? muster_last_error() : "");
        fflush(stdout);
        muster_barrier(muster_world()); /* the end of one is the end of all */
        _Exit(0);
    } else {
        struct piece other = {"elsewhere", MUSTER_FLOAT32, 4, SMALL, 1, 0, NULL};

        cuda.cuDevicePrimaryCtxRetain(&ctx, 5);
        cuda.cuCtxSetCurrent(ctx);
        other.data = cuda_alloc(4 * SMALL);
        rc = add(c, &other);
        printf("rank %d apart %d %s\n", rank, rc, muster_last_error());
        rc = 0;
    }
    return muster_ckpt_close(c) || muster_finalize() || rc;
}
