#include <pthread.h>

#include "collectives/nccl/api.h"
#include "runtime/base/clean.h"
#include "runtime/base/nvlib.h"

#define NCCL_ROW(result, name, args, since) {#name, offsetof(struct mu_nccl_api, name), since},
static const struct mu_nvlib_row nccl_symbols[] = {MU_NCCL_SYMBOLS(NCCL_ROW)};

static struct {
    pthread_mutex_t lock;
    bool tried;
    struct mu_nccl_api nccl;
    struct mu_err err; /* code 0: loaded */
} libs = {.lock = PTHREAD_MUTEX_INITIALIZER};

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
    return rc < 0 ? rc : mu_nvlib_symbols(MU_NVLIB_NCCL, h, nccl_symbols, MU_COUNT(nccl_symbols), v, a, err);
}

int mu_nccl_load(const struct mu_nccl_api **api, struct mu_err *err)
{
    int rc;

    pthread_mutex_lock(&libs.lock);
    if (!libs.tried)
        load_nccl(&libs.nccl, &libs.err);
    libs.tried = true;
    rc = libs.err.code;
    if (rc == 0)
        *api = &libs.nccl;
    else if (err)
        *err = libs.err;
    pthread_mutex_unlock(&libs.lock);
    return rc;
}
