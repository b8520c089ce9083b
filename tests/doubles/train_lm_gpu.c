/* Test double of the example job's train_lm_gpu.so: its kernels are loops in the streams of the double of CUDA, over
 * the memory that this one has given out. */
#include "docs/examples/train_lm/kernels.h"
#include "tests/doubles/double.h"
#include "tests/doubles/loops.h"

typedef struct CUstream_st *stream_t;
typedef struct CUevent_st *event_t;
int cuInit(unsigned), cuDeviceGetCount(int *), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *),
    cuGetErrorName(int, const char **), cuMemAlloc_v2(unsigned long long *, size_t), cuMemFree_v2(unsigned long long),
    cuMemcpyHtoDAsync_v2(unsigned long long, const void *, size_t, stream_t),
    cuMemcpyDtoHAsync_v2(void *, unsigned long long, size_t, stream_t), cuStreamCreate(stream_t *, unsigned),
    cuStreamSynchronize(stream_t), cuStreamWaitEvent(stream_t, event_t, unsigned),
    cuLaunchHostFunc(stream_t, void (*)(void *), void *), cuEventCreate(event_t *, unsigned),
    cuEventRecord(event_t, stream_t);

enum { NO_MEMORY = 2, NO_DEVICE = 100 };

static stream_t streams[GPU_STREAMS];
static event_t events[GPU_STREAMS];

static const char *explain(int error)
{
    const char *name = NULL;

    cuGetErrorName(error, &name);
    return name;
}

static int launch(void *stream, void (*loop)(void *), void *work)
{
    int rc = work ? cuLaunchHostFunc(stream, loop, work) : NO_MEMORY;

    if (rc)
        free(work);
    return rc;
}

KERNELS(LOOP)

static int open_device(int local_rank, void *out[GPU_STREAMS])
{
    int count = 0, rc = cuInit(0);
    void *ctx = NULL;

    if (!rc)
        rc = cuDeviceGetCount(&count);
    if (!rc)
        rc = count > 0 ? cuDevicePrimaryCtxRetain(&ctx, local_rank % count) : NO_DEVICE;
    if (!rc)
        rc = cuCtxSetCurrent(ctx);
    for (int i = 0; i < GPU_STREAMS && !rc; i++) {
        rc = cuStreamCreate(&streams[i], 1);
        if (!rc)
            rc = cuEventCreate(&events[i], 2);
        out[i] = streams[i];
    }
    return rc;
}

static int alloc(void **out, size_t bytes)
{
    unsigned long long at = 0;
    int rc = cuMemAlloc_v2(&at, bytes); /* which zeroes */

    *out = (void *)(uintptr_t)at;
    return rc;
}

static int release(void *p)
{
    return cuMemFree_v2((uintptr_t)p);
}

static int put(void *stream, void *to, const void *host, size_t bytes)
{
    int rc = cuMemcpyHtoDAsync_v2((uintptr_t)to, host, bytes, stream);

    return rc ? rc : cuStreamSynchronize(stream);
}

static int get(void *stream, void *host, const void *from, size_t bytes)
{
    int rc = cuMemcpyDtoHAsync_v2(host, (uintptr_t)from, bytes, stream);

    return rc ? rc : cuStreamSynchronize(stream);
}

static int follow(int later, int earlier)
{
    int rc = cuEventRecord(events[earlier], streams[earlier]);

    return rc ? rc : cuStreamWaitEvent(streams[later], events[earlier], 0);
}

#define IN_TABLE(name) .name = run_##name,
DOUBLE_API const struct gpu *GPU_ENTRY(void)
{
    static const struct gpu table = {.size = sizeof table,
                                     .explain = explain,
                                     .open = open_device,
                                     .alloc = alloc,
                                     .release = release,
                                     .put = put,
                                     .get = get,
                                     .follow = follow,
                                     KERNELS(IN_TABLE)};

    return &table;
}
