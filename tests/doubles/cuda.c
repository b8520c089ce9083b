/* Test double of libcuda.so.1: see double.h. A stream is a thread that works through a queue. */
#include <pthread.h>

#include "tests/doubles/double.h"

enum {
    OK,
    INVALID = 1,
    NO_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    NO_CONTEXT = 201,
    NOT_READY = 600,
    LAUNCH_FAILED = 719
};
enum { DEVICES = 8 };

struct CUctx_st {
    int device;
};
struct CUstream_st {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct work *first, **last;
    bool busy, stop;
    int failed;
    struct CUstream_st *next;
};
struct CUevent_st {
    atomic_ulong recorded, reached; /* how often */
    atomic_int failed;
};
struct work {
    struct work *next;
    void (*fn)(void *);
    void *arg;
    struct CUevent_st *event, *wait;
    unsigned long number;
};
struct block {
    struct block *next;
    char *at;
    size_t size;
    int device;
};

static struct CUctx_st contexts[DEVICES];
static struct CUstream_st legacy = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks;
static bool initialised, legacy_runs;
static _Thread_local struct CUctx_st *current;
static _Thread_local struct CUstream_st *running;

static int devices(void)
{
    const char *s = getenv("MUSTER_DOUBLE_GPUS");

    return s ? atoi(s) : DEVICES;
}

static void *run_stream(void *arg)
{
    struct CUstream_st *s = arg;

    running = s;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct work *w = s->first;

        if (!w) {
            if (s->stop)
                break;
            s->busy = false;
            pthread_cond_broadcast(&s->wake);
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->busy = true;
        s->first = w->next;
        if (!s->first)
            s->last = &s->first;
        pthread_mutex_unlock(&s->lock);
        if (w->wait)
            while (atomic_load(&w->wait->reached) < w->number)
                double_sleep(1);
        if (w->fn && !s->failed)
            w->fn(w->arg);
        if (w->event) {
            atomic_store(&w->event->failed, s->failed);
            atomic_store(&w->event->reached, w->number);
        }
        free(w);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static struct CUstream_st *stream_of(struct CUstream_st *s)
{
    if (s)
        return s;
    pthread_mutex_lock(&lock);
    if (!legacy_runs) {
        legacy.last = &legacy.first;
        legacy_runs = !pthread_create(&legacy.thread, NULL, run_stream, &legacy);
    }
    pthread_mutex_unlock(&lock);
    return &legacy;
}

static void put(struct CUstream_st *s, struct work w)
{
    struct work *copy = malloc(sizeof *copy);

    *copy = w;
    pthread_mutex_lock(&s->lock);
    *s->last = copy;
    s->last = &copy->next;
    s->busy = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

DOUBLE_API int cuInit(unsigned flags)
{
    (void)flags;
    if (devices() <= 0)
        return NO_DEVICE;
    initialised = true;
    return OK;
}
DOUBLE_API int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return OK;
}
DOUBLE_API int cuGetErrorName(int error, const char **name)
{
    *name = error == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED"
            : error == NO_DEVICE   ? "CUDA_ERROR_NO_DEVICE"
                                   : "CUDA_ERROR_OF_THE_DOUBLE";
    return OK;
}
DOUBLE_API int cuDeviceGetCount(int *n)
{
    *n = devices();
    return initialised ? OK : NOT_INITIALIZED;
}
DOUBLE_API int cuDeviceGetUuid(char uuid[16], int device)
{
    memset(uuid, 0, 16);
    uuid[0] = (char)0xd0; /* as the double of NVML has it in letters */
    uuid[15] = (char)device;
    return OK;
}
DOUBLE_API int cuDeviceGetPCIBusId(char *text, int size, int device)
{
    snprintf(text, (size_t)size, "FFFF:%02X:00.0", (unsigned)device);
    return OK;
}
DOUBLE_API int cuDeviceGetAttribute(int *out, int attribute, int device)
{
    if (!initialised)
        return NOT_INITIALIZED;
    if (device < 0 || device >= DEVICES || attribute < 75 || attribute > 76)
        return INVALID;
    *out = attribute == 75 ? double_capability() / 10 : double_capability() % 10;
    return OK;
}
DOUBLE_API int cuDevicePrimaryCtxRetain(struct CUctx_st **ctx, int device)
{
    if (!initialised)
        return NOT_INITIALIZED;
    if (device < 0 || device >= DEVICES)
        return INVALID;
    contexts[device].device = device;
    *ctx = &contexts[device];
    return OK;
}
DOUBLE_API int cuDevicePrimaryCtxRelease_v2(int device)
{
    return device < 0;
}
DOUBLE_API int cuCtxGetCurrent(struct CUctx_st **ctx)
{
    *ctx = current;
    return initialised ? OK : NOT_INITIALIZED;
}
DOUBLE_API int cuCtxSetCurrent(struct CUctx_st *ctx)
{
    current = ctx;
    return initialised ? OK : NOT_INITIALIZED;
}

DOUBLE_API int cuMemAlloc_v2(unsigned long long *at, size_t size)
{
    struct block *b = calloc(1, sizeof *b);

    if (!initialised)
        return NOT_INITIALIZED;
    b->size = size ? size : 1;
    b->device = current ? current->device : 0;
    b->at = calloc(1, b->size);
    if (!b->at)
        return NO_MEMORY;
    pthread_mutex_lock(&lock);
    b->next = blocks;
    blocks = b;
    pthread_mutex_unlock(&lock);
    *at = (unsigned long long)(uintptr_t)b->at;
    return OK;
}
DOUBLE_API int cuMemFree_v2(unsigned long long at)
{
    int rc = INVALID;

    pthread_mutex_lock(&lock);
    for (struct block **p = &blocks; *p; p = &(*p)->next)
        if ((unsigned long long)(uintptr_t)(*p)->at == at) {
            struct block *b = *p;

            *p = b->next;
            free(b->at);
            free(b);
            rc = OK;
            break;
        }
    pthread_mutex_unlock(&lock);
    return rc;
}
DOUBLE_API int cuPointerGetAttribute(void *out, int attribute, unsigned long long at)
{
    int rc = INVALID;

    if (!initialised)
        return NOT_INITIALIZED;
    pthread_mutex_lock(&lock);
    for (const struct block *b = blocks; b; b = b->next)
        if (at >= (uintptr_t)b->at && at < (uintptr_t)b->at + b->size) {
            if (attribute == 8)
                *(char *)out = 0;
            else
                *(int *)out = attribute == 2 ? 2 : b->device;
            rc = OK;
        }
    pthread_mutex_unlock(&lock);
    return rc;
}
DOUBLE_API int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t n)
{
    memcpy((void *)(uintptr_t)to, from, n);
    return OK;
}
DOUBLE_API int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t n)
{
    memcpy(to, (void *)(uintptr_t)from, n);
    return OK;
}

DOUBLE_API int cuStreamCreate(struct CUstream_st **out, unsigned flags)
{
    struct CUstream_st *s = calloc(1, sizeof *s);

    (void)flags;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    s->last = &s->first;
    if (pthread_create(&s->thread, NULL, run_stream, s))
        return NO_MEMORY;
    *out = s;
    return OK;
}
DOUBLE_API int cuStreamQuery(struct CUstream_st *s)
{
    int rc;

    s = stream_of(s);
    pthread_mutex_lock(&s->lock);
    rc = s->busy || s->first ? NOT_READY : s->failed;
    pthread_mutex_unlock(&s->lock);
    return rc;
}
DOUBLE_API int cuStreamSynchronize(struct CUstream_st *s)
{
    int rc;

    s = stream_of(s);
    pthread_mutex_lock(&s->lock);
    while (s->busy || s->first)
        pthread_cond_wait(&s->wake, &s->lock);
    rc = s->failed;
    pthread_mutex_unlock(&s->lock);
    return rc;
}
DOUBLE_API int cuStreamDestroy_v2(struct CUstream_st *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    free(s);
    return OK;
}
DOUBLE_API int cuStreamIsCapturing(struct CUstream_st *s, int *status)
{
    const char *rank = getenv("RANK");

    (void)s;
    *status = fault("capturing", rank ? atoi(rank) : -1, 1) != NULL;
    return OK;
}
DOUBLE_API int cuStreamWaitEvent(struct CUstream_st *s, struct CUevent_st *e, unsigned flags)
{
    (void)flags;
    if (!s && !current) /* the default stream is of the current context */
        return NO_CONTEXT;
    put(stream_of(s), (struct work){.wait = e, .number = atomic_load(&e->recorded)});
    return OK;
}
DOUBLE_API int cuLaunchHostFunc(struct CUstream_st *s, void (*fn)(void *), void *arg)
{
    put(stream_of(s), (struct work){.fn = fn, .arg = arg});
    return OK;
}

/* --- copies that streams make --- */

/* For the doubles alone: the GPU of this thread's context. */
DOUBLE_API int double_device(void)
{
    return current ? current->device : 0;
}

struct copy {
    void *to;
    const void *from;
    size_t n;
    long wait; /* ms */
    bool wrong;
};
static void make_copy(void *arg)
{
    struct copy *c = arg;

    memcpy(c->to, c->from, c->n);
    if (c->wrong && c->n)
        *(char *)c->to += 4; /* and so again on its way back */
    if (c->wait)
        double_sleep(c->wait);
    free(c);
}
static int copy_later(struct CUstream_st *s, void *to, const void *from, size_t n)
{
    static atomic_long copies;
    const char *rank = getenv("RANK");
    struct copy *c = malloc(sizeof *c);
    long number = atomic_fetch_add(&copies, 1) + 1;
    int own = rank ? atoi(rank) : -1;

    if (!c)
        return NO_MEMORY;
    if (fault_of("copy-error", own, double_device(), number)) {
        free(c);
        return LAUNCH_FAILED;
    }
    const struct fault *slow = fault_of("copy-slow", own, double_device(), number);
    *c = (struct copy){.to = to, .from = from, .n = n, .wait = slow ? slow->ms : 0};
    c->wrong = fault_of("copy-wrong", own, double_device(), number) != NULL;
    put(stream_of(s), (struct work){.fn = make_copy, .arg = c});
    return OK;
}
DOUBLE_API int cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t n, struct CUstream_st *s)
{
    return copy_later(s, to, (void *)(uintptr_t)from, n);
}
DOUBLE_API int cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t n, struct CUstream_st *s)
{
    return copy_later(s, (void *)(uintptr_t)to, from, n);
}
DOUBLE_API int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t n, struct CUstream_st *s)
{
    return copy_later(s, (void *)(uintptr_t)to, (void *)(uintptr_t)from, n);
}
DOUBLE_API int cuMemGetInfo_v2(size_t *room, size_t *all)
{
    *room = *all = (size_t)1 << 30;
    return current ? OK : NO_CONTEXT;
}
DOUBLE_API int cuMemHostAlloc(void **out, size_t n, unsigned flags)
{
    (void)flags;
    return (*out = malloc(n)) ? OK : NO_MEMORY;
}
DOUBLE_API int cuMemFreeHost(void *p)
{
    free(p);
    return OK;
}
DOUBLE_API int cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return OK;
}
DOUBLE_API int cuStreamCreateWithPriority(struct CUstream_st **out, unsigned flags, int priority)
{
    return priority > 0 || priority < -5 ? INVALID : cuStreamCreate(out, flags);
}

DOUBLE_API int cuEventCreate(struct CUevent_st **out, unsigned flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    return *out ? OK : NO_MEMORY;
}
DOUBLE_API int cuEventDestroy_v2(struct CUevent_st *e)
{
    /* The real one waits for nobody either, but its memory lives as long as it is used. */
    if (atomic_load(&e->reached) == atomic_load(&e->recorded))
        free(e);
    return OK;
}
DOUBLE_API int cuEventRecord(struct CUevent_st *e, struct CUstream_st *s)
{
    if (!s && !current)
        return NO_CONTEXT;
    put(stream_of(s), (struct work){.event = e, .number = atomic_fetch_add(&e->recorded, 1) + 1});
    return OK;
}
DOUBLE_API int cuEventQuery(struct CUevent_st *e)
{
    if (atomic_load(&e->reached) < atomic_load(&e->recorded))
        return NOT_READY;
    return atomic_load(&e->failed);
}

/* For the double of NCCL alone: what runs on this thread's stream has failed on the GPU. */
DOUBLE_API void double_stream_fails(void)
{
    running->failed = LAUNCH_FAILED;
}
