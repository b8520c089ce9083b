/* Test double of libnccl.so.2: see double.h. An operation is a function on a stream of the double of CUDA, and moves
 * its data through a memfd of the process that made the unique id. Built as several versions: DOUBLE_VERSION, and
 * without what is newer than the oldest: DOUBLE_PLAIN. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collectives/ops.h"
#include "tests/doubles/double.h"

#ifndef DOUBLE_VERSION
#define DOUBLE_VERSION 22809
#endif

enum { OK, CUDA_ERROR, SYSTEM_ERROR, INTERNAL_ERROR, INVALID_ARGUMENT, INVALID_USAGE, REMOTE_ERROR, IN_PROGRESS };
enum { RANKS = 8, CHUNK = 65536, MESSAGE = 16384, GROUP = 256 };
enum kind { ALLREDUCE, REDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST, ALLTOALL, SEND, RECV };

struct pair {
    atomic_ulong put, got;
    char data[MESSAGE];
};
struct segment {
    atomic_int attached;
    struct {
        _Alignas(64) atomic_ulong in, out;
    } rank[RANKS];
    struct pair pair[RANKS][RANKS];
    char data[RANKS][CHUNK];
};
struct id {
    char path[64];
    char rest[64];
};
struct config {
    size_t size;
    unsigned magic, version;
    int blocking;
};
struct ncclComm {
    struct segment *seg;
    int rank, size;
    bool blocking, hung, failed;
    atomic_bool abort;
    atomic_int async, pending;
    atomic_long busy_until; /* ms: enqueueing takes so long */
    unsigned long turns;
    long ops;
};
struct op {
    struct ncclComm *comm;
    enum kind kind;
    const char *send;
    char *recv;
    size_t count, elem, at;
    int dtype, op, root;
    long number;
    void *stream;
};
struct job {
    struct ncclComm *comm;
    unsigned n;
    struct op op[];
};

int cuLaunchHostFunc(void *stream, void (*fn)(void *), void *arg);
int cuCtxGetCurrent(void **ctx);
void double_stream_fails(void);

static _Thread_local unsigned depth, queued;
static _Thread_local struct op queue[GROUP];
static atomic_int ids;

static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- on the stream ------------------------------------------------------------------------------------------------ */

static bool nap(struct ncclComm *c, unsigned *turns)
{
    if (++*turns < 100)
        sched_yield();
    else
        nanosleep(&(struct timespec){0, 20000}, NULL);
    return !atomic_load(&c->abort);
}

static bool all_have(struct ncclComm *c, bool in, unsigned long n)
{
    unsigned turns = 0;

    for (int r = 0; r < c->size; r++)
        while (atomic_load(in ? &c->seg->rank[r].in : &c->seg->rank[r].out) < n)
            if (!nap(c, &turns))
                return false;
    return true;
}

static const muster_dtype dtypes[] = {MUSTER_INT8,    MUSTER_UINT8,    MUSTER_INT32,       MUSTER_UINT32,
                                      MUSTER_INT64,   MUSTER_UINT64,   MUSTER_FLOAT16,     MUSTER_FLOAT32,
                                      MUSTER_FLOAT64, MUSTER_BFLOAT16, MUSTER_FLOAT8_E4M3, MUSTER_FLOAT8_E5M2};
static const muster_op ops[] = {MUSTER_SUM, MUSTER_PROD, MUSTER_MAX, MUSTER_MIN, MUSTER_AVG};

/* Every rank shows bytes of its own; what it wants of them it takes. block: of whom this is the turn. */
static bool turn(struct op *o, const char *mine, size_t at, size_t bytes, int block)
{
    struct ncclComm *c = o->comm;
    size_t whole = o->count * o->elem;

    c->turns++;
    if (mine)
        memcpy(c->seg->data[c->rank], mine + at, bytes);
    atomic_store(&c->seg->rank[c->rank].in, c->turns);
    if (!all_have(c, true, c->turns))
        return false;
    if (o->kind == ALLGATHER) {
        for (int r = 0; r < c->size; r++)
            memcpy(o->recv + (size_t)r * whole + at, c->seg->data[r], bytes);
    } else if (o->kind == BROADCAST) {
        memcpy(o->recv + at, c->seg->data[o->root], bytes);
    } else if (o->kind == ALLTOALL) {
        for (int r = 0; r < c->size && block == c->rank; r++)
            memcpy(o->recv + (size_t)r * whole + at, c->seg->data[r], bytes);
    } else if (o->kind == ALLREDUCE || block == c->rank) {
        struct mu_reducer red = mu_ops_reducer(dtypes[o->dtype], ops[o->op]);
        const void *src[RANKS];
        void *dst[1] = {o->recv + at};

        for (int r = 0; r < c->size; r++)
            src[r] = c->seg->data[r];
        mu_ops_reduce(&red, dst, 1, src, (unsigned)c->size, bytes / o->elem, false);
    }
    atomic_store(&c->seg->rank[c->rank].out, c->turns);
    return all_have(c, false, c->turns);
}

static bool collective(struct op *o)
{
    bool blocks = o->kind == REDUCE_SCATTER || o->kind == ALLTOALL;
    size_t whole = o->count * o->elem;

    for (int b = 0; b < (blocks ? o->comm->size : 1); b++)
        for (size_t at = 0; at < whole; at += CHUNK) {
            size_t bytes = whole - at < CHUNK ? whole - at : CHUNK;

            if (!turn(o, o->send ? o->send + (size_t)b * whole : NULL, at, bytes, blocks ? b : o->root))
                return false;
        }
    return true;
}

/* One step of a message; true when anything moved. */
static bool message(struct op *o)
{
    struct ncclComm *c = o->comm;
    bool sends = o->kind == SEND;
    struct pair *p = sends ? &c->seg->pair[c->rank][o->root] : &c->seg->pair[o->root][c->rank];
    unsigned long put = atomic_load(&p->put), got = atomic_load(&p->got);
    size_t left = o->count * o->elem - o->at, n = left < MESSAGE ? left : MESSAGE;

    if (sends ? put != got : put == got)
        return false;
    if (sends)
        memcpy(p->data, o->send + o->at, n);
    else
        memcpy(o->recv + o->at, p->data, n);
    atomic_fetch_add(sends ? &p->put : &p->got, 1);
    o->at += n;
    return true;
}

static bool earlier(const struct job *j, unsigned i) /* one of the same pair that has not ended */
{
    for (unsigned k = 0; k < i; k++)
        if (j->op[k].kind == j->op[i].kind && j->op[k].root == j->op[i].root &&
            j->op[k].at < j->op[k].count * j->op[k].elem)
            return true;
    return false;
}

static bool messages(struct job *j)
{
    unsigned turns = 0;

    for (bool left = true; left;) {
        bool moved = false;

        left = false;
        for (unsigned i = 0; i < j->n; i++) {
            struct op *o = &j->op[i];

            if (o->kind < SEND || o->at >= o->count * o->elem)
                continue;
            left = true;
            if (!earlier(j, i))
                moved |= message(o);
        }
        if (left && !moved && !nap(j->comm, &turns))
            return false;
    }
    return true;
}

static void until_abort(struct ncclComm *c)
{
    while (!atomic_load(&c->abort))
        double_sleep(1);
}

static void run_job(void *arg)
{
    struct job *j = arg;
    struct ncclComm *c = j->comm;
    const struct fault *f;
    long k = j->op[j->n - 1].number;
    bool go = !atomic_load(&c->abort);

    if (go && fault("die", c->rank, k))
        kill(getpid(), SIGKILL);
    if (go && fault("never-arrives", c->rank, k)) {
        until_abort(c);
        go = false;
    } else if (go && fault("async-error", c->rank, k)) {
        atomic_store(&c->async, REMOTE_ERROR);
        until_abort(c);
        go = false;
    } else if (go && fault("cuda-error", c->rank, k)) {
        double_stream_fails();
        go = false;
    } else if (go && (f = fault("slow", c->rank, k))) {
        double_sleep(f->ms);
    }
    for (unsigned i = 0; go && i < j->n; i++)
        go = j->op[i].kind >= SEND || collective(&j->op[i]);
    if (go)
        messages(j);
    atomic_fetch_sub(&c->pending, 1);
    free(j);
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

static int launch(const struct op *list, unsigned n)
{
    struct job *j = malloc(sizeof *j + n * sizeof *list);

    j->comm = list->comm;
    j->n = n;
    memcpy(j->op, list, n * sizeof *list);
    atomic_fetch_add(&j->comm->pending, 1);
    return cuLaunchHostFunc(list->stream, run_job, j) ? CUDA_ERROR : OK;
}

static int enqueue(struct op o)
{
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    struct ncclComm *c = o.comm;
    const struct fault *f;
    int rc;

    if (!c || o.dtype < 0 || o.dtype > (DOUBLE_VERSION < 22403 ? 9 : 11))
        return INVALID_ARGUMENT;
    if (o.dtype > 9 && o.kind < SEND && double_capability() < 90)
        return INVALID_ARGUMENT; /* as the real one before 2.28.9, for all collectives */
    if (atomic_load(&c->async) == IN_PROGRESS || atomic_load(&c->busy_until) > now_ms())
        return INVALID_USAGE; /* as the real one: the last call must have ended */
    o.elem = sizes[o.dtype];
    o.number = ++c->ops;
    if (fault("enqueue-error", c->rank, o.number))
        return INTERNAL_ERROR;
    if ((f = fault("enqueue-hang", c->rank, o.number)))
        double_sleep(f->ms);
    if (depth) {
        if (queued == GROUP)
            return INTERNAL_ERROR;
        queue[queued++] = o;
        return OK;
    }
    rc = launch(&o, 1);
    if (rc == OK && !c->blocking && (f = fault("in-progress", c->rank, o.number))) {
        atomic_store(&c->busy_until, now_ms() + f->ms);
        return IN_PROGRESS;
    }
    return rc;
}

DOUBLE_API int ncclGetVersion(int *version)
{
    *version = DOUBLE_VERSION;
    return OK;
}
DOUBLE_API const char *ncclGetErrorString(int rc)
{
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error",
                                       "NCCL operation in progress"};

    return rc >= 0 && rc <= IN_PROGRESS ? text[rc] : "unknown result code";
}
DOUBLE_API const char *ncclGetLastError(struct ncclComm *c)
{
    (void)c;
    return "a fault of the test double";
}
DOUBLE_API int ncclGetUniqueId(struct id *id)
{
    const struct fault *f = fault("id-hang", 0, 1);
    int fd = fault("id-error", 0, 1) ? -1 : memfd_create("muster-nccl-double", MFD_CLOEXEC);

    if (f)
        double_sleep(f->ms);
    if (fd < 0 || ftruncate(fd, sizeof(struct segment)))
        return SYSTEM_ERROR;
    memset(id, 0, sizeof *id);
    snprintf(id->path, sizeof id->path, "/proc/%d/fd/%d", (int)getpid(), fd); /* open until the process ends */
    atomic_fetch_add(&ids, 1);
    return OK;
}

static bool is_up(const struct ncclComm *c)
{
    return !c->hung && atomic_load(&c->seg->attached) >= c->size;
}

DOUBLE_API int ncclCommInitRankConfig(struct ncclComm **out, int size, struct id id, int rank, struct config *config)
{
    struct ncclComm *c = calloc(1, sizeof *c);
    void *ctx = NULL;
    int fd = open(id.path, O_RDWR | O_CLOEXEC);

    *out = NULL;
    if (cuCtxGetCurrent(&ctx) || !ctx || size > RANKS || !config || config->magic != 0xcafebeefu || fd < 0) {
        free(c);
        if (fd >= 0)
            close(fd);
        return fd < 0 ? SYSTEM_ERROR : !ctx ? CUDA_ERROR : INVALID_ARGUMENT;
    }
    c->seg = mmap(NULL, sizeof *c->seg, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    c->rank = rank;
    c->size = size;
    c->blocking = config->blocking != 0;
    c->hung = fault("init-hang", rank, 1) != NULL;
    c->failed = fault("init-error", rank, 1) != NULL;
    if (!c->hung && !c->failed)
        atomic_fetch_add(&c->seg->attached, 1);
    *out = c;
    if (!c->blocking)
        return IN_PROGRESS;
    while (!c->failed && !is_up(c) && !atomic_load(&c->abort))
        double_sleep(1);
    return c->failed ? SYSTEM_ERROR : OK;
}
DOUBLE_API int ncclCommGetAsyncError(struct ncclComm *c, int *error)
{
    const struct fault *f = c->ops ? fault("query-hang", c->rank, c->ops) : NULL;

    if (f)
        double_sleep(f->ms);
    if (c->failed)
        *error = SYSTEM_ERROR;
    else if (!is_up(c) || atomic_load(&c->busy_until) > now_ms())
        *error = IN_PROGRESS;
    else
        *error = atomic_load(&c->async);
    return OK;
}

static void detach(struct ncclComm *c)
{
    while (atomic_load(&c->pending))
        double_sleep(1);
    munmap(c->seg, sizeof *c->seg);
    free(c);
}
DOUBLE_API int ncclCommAbort(struct ncclComm *c)
{
    if (fault("abort-hang", c->rank, 1))
        for (;;)
            double_sleep(1000);
    atomic_store(&c->abort, true);
    detach(c);
    return OK;
}
DOUBLE_API int ncclCommFinalize(struct ncclComm *c)
{
    (void)c;
    return OK;
}
DOUBLE_API int ncclCommDestroy(struct ncclComm *c)
{
    detach(c);
    return OK;
}

DOUBLE_API int ncclGroupStart(void)
{
    depth++;
    return OK;
}
DOUBLE_API int ncclGroupEnd(void)
{
    int rc = OK;

    if (!depth)
        return INVALID_USAGE;
    if (--depth || !queued)
        return OK;
    for (unsigned i = 0, n; i < queued && rc == OK; i += n) {
        for (n = 1; i + n < queued && queue[i + n].comm == queue[i].comm;)
            n++;
        rc = launch(&queue[i], n);
    }
    queued = 0;
    return rc;
}

DOUBLE_API int ncclAllReduce(const void *s, void *r, size_t n, int t, int op, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, ALLREDUCE, s, r, n, 0, 0, t, op, 0, 0, stream});
}
DOUBLE_API int ncclReduce(const void *s, void *r, size_t n, int t, int op, int root, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, REDUCE, s, r, n, 0, 0, t, op, root, 0, stream});
}
DOUBLE_API int ncclReduceScatter(const void *s, void *r, size_t n, int t, int op, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, REDUCE_SCATTER, s, r, n, 0, 0, t, op, 0, 0, stream});
}
DOUBLE_API int ncclAllGather(const void *s, void *r, size_t n, int t, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, ALLGATHER, s, r, n, 0, 0, t, 0, 0, 0, stream});
}
DOUBLE_API int ncclBroadcast(const void *s, void *r, size_t n, int t, int root, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, BROADCAST, c->rank == root ? s : NULL, r, n, 0, 0, t, 0, root, 0, stream});
}
DOUBLE_API int ncclSend(const void *s, size_t n, int t, int peer, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, SEND, s, NULL, n, 0, 0, t, 0, peer, 0, stream});
}
DOUBLE_API int ncclRecv(void *r, size_t n, int t, int peer, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, RECV, NULL, r, n, 0, 0, t, 0, peer, 0, stream});
}
#if DOUBLE_VERSION >= 22803 && !defined DOUBLE_PLAIN
DOUBLE_API int ncclAlltoAll(const void *s, void *r, size_t n, int t, struct ncclComm *c, void *stream)
{
    return enqueue((struct op){c, ALLTOALL, s, r, n, 0, 0, t, 0, 0, 0, stream});
}
#endif
