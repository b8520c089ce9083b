#include "config.h"

#ifdef HAVE_UCX
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/ucx.h"

#define LIBRARY "libucp.so.0"

int mu_ucx_load(struct mu_ucx_api *api, struct mu_err *err)
{
    static const struct {
        const char *name;
        size_t at;
    } rows[] = {
#define ROW(name) {#name, offsetof(struct mu_ucx_api, name)},
        MU_UCX_SYMBOLS(ROW)};
    void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

    if (!lib)
        return mu_err_set(err, MUSTER_ENOSYS, "UCX: %s", dlerror());
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        void *p = dlsym(lib, rows[i].name);

        if (!p)
            return mu_err_set(err, MUSTER_ENOSYS, "UCX: %s has no %s; version 1.13 or newer is needed", LIBRARY,
                              rows[i].name);
        memcpy((char *)api + rows[i].at, &p, sizeof p);
    }
    return 0;
}
#endif
