#include <pthread.h>

#include "collectives/nccl/api.h"
#include "runtime/base/clean.h"
#include "runtime/base/nvlib.h"

struct symbol {
    const char *name;
    size_t at; /* of the pointer in the table */
    int since;
};

#define NCCL_ROW(result, name, args, since) {#name, offsetof(struct mu_nccl_api, name), since},
#define CUDA_ROW(result, name, args, since) {#name, offsetof(struct mu_cuda_api, name), since},
static const struct symbol nccl_symbols[] = {MU_NCCL_SYMBOLS(NCCL_ROW)}, cuda_symbols[] = {MU_CUDA_SYMBOLS(CUDA_ROW)};

static struct {
    pthread_mutex_t lock;
    bool nccl_tried, cuda_tried;
    struct mu_nccl_api nccl;
    struct mu_cuda_api cuda;
    struct mu_err nccl_err, cuda_err; /* code 0: loaded */
} libs = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* version: of the library; what came later than it is not looked for. */
static int find(enum mu_nvlib which, void *handle, const struct symbol *rows, size_t n, int version, void *table,
                struct mu_err *err)
{
    for (size_t i = 0; i < n; i++) {
        void **slot = (void **)(void *)((char *)table + rows[i].at);

        *slot = NULL;
        if (rows[i].since > version)
            continue;
        /* A build may leave out what is newer than the oldest version that is taken. */
        if (mu_nvlib_symbol(which, handle, rows[i].name, slot, rows[i].since ? NULL : err) < 0 && !rows[i].since)
            return err->code;
    }
    return 0;
}

static int load_nccl(struct mu_nccl_api *a, struct mu_err *err)
{
    void *h = NULL, *get = NULL;
    int rc = mu_nvlib_open(MU_NVLIB_NCCL, &h, err), v = 0;

    if (rc == 0)
        rc = mu_nvlib_symbol(MU_NVLIB_NCCL, h, "ncclGetVersion", &get, err);
    if (rc < 0)
        return rc;
    *(void **)&a->ncclGetVersion = get;
    mu_nvlib_path(get, a->path, sizeof a->path);
    if (a->ncclGetVersion(&v) != MU_NCCL_OK)
        return mu_err_set(err, MUSTER_ENODE, "NCCL: %s does not tell its version", a->path);
    a->version = v;
    rc = mu_nvlib_nccl_version(v, a->path, a->text, sizeof a->text, err);
    return rc < 0 ? rc : find(MU_NVLIB_NCCL, h, nccl_symbols, MU_COUNT(nccl_symbols), v, a, err);
}

static int load_cuda(struct mu_cuda_api *a, struct mu_err *err)
{
    void *h = NULL;
    int rc = mu_nvlib_open(MU_NVLIB_CUDA, &h, err);

    if (rc == 0)
        rc = find(MU_NVLIB_CUDA, h, cuda_symbols, MU_COUNT(cuda_symbols), 0, a, err);
    if (rc < 0)
        return rc;
    mu_nvlib_path(*(void **)&a->cuDriverGetVersion, a->path, sizeof a->path);
    if (a->cuDriverGetVersion(&a->version) != MU_CU_OK)
        return mu_err_set(err, MUSTER_ENODE, "CUDA driver: %s does not tell its version", a->path);
    return 0;
}

int mu_nccl_load(const struct mu_nccl_api **api, struct mu_err *err)
{
    int rc;

    pthread_mutex_lock(&libs.lock);
    if (!libs.nccl_tried)
        load_nccl(&libs.nccl, &libs.nccl_err);
    libs.nccl_tried = true;
    rc = libs.nccl_err.code;
    if (rc == 0)
        *api = &libs.nccl;
    else if (err)
        *err = libs.nccl_err;
    pthread_mutex_unlock(&libs.lock);
    return rc;
}

int mu_cuda_load(const struct mu_cuda_api **api, struct mu_err *err)
{
    int rc;

    pthread_mutex_lock(&libs.lock);
    if (!libs.cuda_tried)
        load_cuda(&libs.cuda, &libs.cuda_err);
    libs.cuda_tried = true;
    rc = libs.cuda_err.code;
    if (rc == 0)
        *api = &libs.cuda;
    else if (err)
        *err = libs.cuda_err;
    pthread_mutex_unlock(&libs.lock);
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
