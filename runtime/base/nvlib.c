#include "runtime/base/nvlib.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"

static const struct row {
    const char *name, *file, *variable;
    bool beside;           /* it is ours and lies with our library */
    const char *others[2]; /* older ones, looked for where that is not there */
} rows[] = {
    [MU_NVLIB_NCCL] = {"NCCL", "libnccl.so.2", "MUSTER_NCCL_LIB"},
    [MU_NVLIB_CUDA] = {"CUDA driver", "libcuda.so.1", "MUSTER_CUDA_LIB"},
    [MU_NVLIB_NVML] = {"NVML", "libnvidia-ml.so.1", "MUSTER_NVML_LIB"},
    [MU_NVLIB_CUBLAS] =
        {"cuBLAS", "libcublas.so.13", "MUSTER_CUBLAS_LIB", false, {"libcublas.so.12", "libcublas.so.11"}},
    [MU_NVLIB_KERNELS] = {"GPU kernels", "libmuster_cuda.so", "MUSTER_KERNELS_LIB", true},
};

/* Where the library lies that has this code; a program's libraries are in lib, beside its directory. */
static void beside(const char *file, char *out, size_t size)
{
    char own[PATH_MAX], *slash;

    mu_nvlib_path((const void *)rows, own, sizeof own);
    slash = strrchr(own, '/');
    if (slash)
        *slash = '\0';
    snprintf(out, size, "%s/../lib/%s", slash ? own : ".", file);
    if (access(out, F_OK))
        snprintf(out, size, "%s/%s", slash ? own : ".", file);
}

/* What a variable may name by mistake and dlopen would wait for, as for who writes into a FIFO, or read as it is. */
static const char *no_file(const char *file)
{
    struct stat st;

    if (!strchr(file, '/') || stat(file, &st) || S_ISREG(st.st_mode))
        return NULL;
    return S_ISDIR(st.st_mode) ? "a directory" : S_ISFIFO(st.st_mode) ? "a FIFO" : "no regular file";
}

int mu_nvlib_open(enum mu_nvlib which, void **handle, struct mu_err *err)
{
    const struct row *r = &rows[which];
    const char *asked = getenv(r->variable), *file = asked && *asked ? asked : r->file, *why;
    char here[PATH_MAX + 64];
    size_t len;
    void *h;

    if (r->beside && file == r->file) {
        beside(r->file, here, sizeof here);
        file = here;
    }
    why = no_file(file);
    if (why)
        return mu_err_set(err, MUSTER_ENODE, "%s: %.300s is %s, and not a library%s%s", r->name, file, why,
                          file == asked ? ": see " : "", file == asked ? r->variable : "");
    len = strlen(file);
    h = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
    if (h) {
        *handle = h;
        return 0;
    }
    why = dlerror();
    mu_auto_free char *first = strdup(why ? why : "it cannot be loaded");
    why = first ? first : "out of memory";
    for (size_t i = 0; i < MU_COUNT(r->others) && r->others[i] && file == r->file; i++)
        if ((h = dlopen(r->others[i], RTLD_LAZY | RTLD_LOCAL))) {
            *handle = h;
            return 0;
        }
    if (file == asked)
        return mu_err_set(err, MUSTER_ENODE, "%s: cannot be loaded as %s says (%s)", r->name, r->variable, why);
    /* A file that is there and does not load, for want of another one, is broken. */
    if (!strncmp(why, file, len) && strstr(why + len, "No such file or directory"))
        return mu_err_set(err, MUSTER_ENOSYS, "%s: not found (%s)", r->name, why);
    return mu_err_set(err, MUSTER_ENODE, "%s: cannot be loaded (%s)", r->name, why);
}

int mu_nvlib_symbol(enum mu_nvlib which, void *handle, const char *symbol, void **out, struct mu_err *err)
{
    void *found = dlsym(handle, symbol);
    const char *asked = getenv(rows[which].variable);

    if (!found)
        return mu_err_set(err, MUSTER_ENODE, "%s: %s has no %s: another library bears this name, or it is too old",
                          rows[which].name, asked && *asked ? asked : rows[which].file, symbol);
    *out = found;
    return 0;
}

int mu_nvlib_symbols(enum mu_nvlib which, void *handle, const struct mu_nvlib_row *v, size_t n, int version,
                     void *table, struct mu_err *err)
{
    int rc;

    for (size_t i = 0; i < n; i++) {
        void **slot = (void **)(void *)((char *)table + v[i].at);

        *slot = NULL;
        if (v[i].since > version)
            continue;
        /* A build may leave out what is newer than the oldest version that is taken. */
        if ((rc = mu_nvlib_symbol(which, handle, v[i].name, slot, v[i].since ? NULL : err)) < 0 && !v[i].since)
            return rc;
    }
    return 0;
}

void mu_nvlib_path(const void *address, char *out, size_t size)
{
    Dl_info info;
    mu_auto_free char *real = NULL;

    if (!address || !dladdr(address, &info) || !info.dli_fname)
        snprintf(out, size, "?");
    else
        snprintf(out, size, "%s", (real = realpath(info.dli_fname, NULL)) ? real : info.dli_fname);
}

int mu_nvlib_nccl_version(int version, const char *path, char *out, size_t size, struct mu_err *err)
{
    /* 2.9 changed the encoding: 2804 is 2.8.4, 21805 is 2.18.5. */
    int unit = version >= 10000 ? 10000 : 1000;

    snprintf(out, size, "%d.%d.%d", version / unit, version % unit / 100, version % 100);
    if (version < MU_NCCL_OLDEST)
        return mu_err_set(err, MUSTER_ENODE, "NCCL: %s is too old, 2.18 or later is needed (%s)", out, path);
    return 0;
}
