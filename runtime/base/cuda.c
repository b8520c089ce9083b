#include "runtime/base/cuda.h"

#include <pthread.h>
#include <stdbool.h>

#include "runtime/base/clean.h"

#define CUDA_ROW(result, name, args, since) {#name, offsetof(struct mu_cuda_api, name), since},
static const struct mu_nvlib_row symbols[] = {MU_CUDA_SYMBOLS(CUDA_ROW)};

static struct {
    pthread_mutex_t lock;
    bool tried;
    struct mu_cuda_api api;
    struct mu_err err; /* code 0: loaded */
} lib = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int load(struct mu_cuda_api *a, struct mu_err *err)
{
    void *h = NULL;
    int rc = mu_nvlib_open(MU_NVLIB_CUDA, &h, err);

    if (rc == 0)
        rc = mu_nvlib_symbols(MU_NVLIB_CUDA, h, symbols, MU_COUNT(symbols), 0, a, err);
    if (rc < 0)
        return rc;
    mu_nvlib_path(*(void **)&a->cuDriverGetVersion, a->path, sizeof a->path);
    if (a->cuDriverGetVersion(&a->version) != MU_CU_OK)
        return mu_err_set(err, MUSTER_ENODE, "CUDA driver: %s does not tell its version", a->path);
    return 0;
}

int mu_cuda_load(const struct mu_cuda_api **api, struct mu_err *err)
{
    int rc;

    pthread_mutex_lock(&lib.lock);
    if (!lib.tried)
        load(&lib.api, &lib.err);
    lib.tried = true;
    rc = lib.err.code;
    if (rc == 0)
        *api = &lib.api;
    else if (err)
        *err = lib.err;
    pthread_mutex_unlock(&lib.lock);
    return rc;
}

mu_cu_ctx mu_cuda_enter(const struct mu_cuda_api *c, mu_cu_ctx ctx)
{
    mu_cu_ctx was = NULL;

    c->cuCtxGetCurrent(&was);
    if (was != ctx)
        c->cuCtxSetCurrent(ctx);
    return was;
}
