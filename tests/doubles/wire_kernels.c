/* Test double of libmuster_cuda.so: its kernels are loops in the streams of the double of CUDA. */
#include "collectives/nccl/wire_kernels.h"
#include "tests/doubles/double.h"
#include "tests/doubles/loops.h"

int cuLaunchHostFunc(void *stream, void (*fn)(void *), void *arg);
int cuCtxGetCurrent(void **ctx);

enum { NO_MEMORY = 2, NO_CONTEXT = 201, NO_IMAGE = 209, LAUNCH_FAILED = 719 };

static const char *explain(int error)
{
    return error == NO_IMAGE ? "no kernel image is available for execution on the device" : "an error of the double";
}

static int usable(void)
{
    void *ctx = NULL;

    return cuCtxGetCurrent(&ctx) || !ctx ? NO_CONTEXT : fault("no-image", -1, 1) ? NO_IMAGE : 0;
}

static int launch(void *stream, void (*loop)(void *), void *work)
{
    static atomic_long launches;
    const char *rank = getenv("RANK");
    void *ctx = NULL;
    int rc = !work                           ? NO_MEMORY
             : cuCtxGetCurrent(&ctx) || !ctx ? NO_CONTEXT
             : fault("kernel-error", rank ? atoi(rank) : -1, atomic_fetch_add(&launches, 1) + 1)
                 ? LAUNCH_FAILED
                 : cuLaunchHostFunc(stream, loop, work);

    if (rc)
        free(work);
    return rc;
}

MU_WIRE_KERNELS(LOOP)

#define IN_TABLE(name) .name = run_##name,
DOUBLE_API const struct mu_wire_kernels *MU_KERNELS_ENTRY(void)
{
    static const struct mu_wire_kernels table = {.explain = explain, .usable = usable, MU_WIRE_KERNELS(IN_TABLE)};

    return fault("no-kernels", -1, 1) ? NULL : &table;
}
