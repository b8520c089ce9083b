#include "bench/rank/blas.h"

#include "runtime/base/clean.h"

#define BLAS_ROW(result, name, args, since) {#name, offsetof(struct mu_blas, name), since},
static const struct mu_nvlib_row symbols[] = {MU_BLAS_SYMBOLS(BLAS_ROW)};

int mu_blas_load(const struct mu_blas **out, struct mu_err *err)
{
    static struct mu_blas api;
    static struct mu_err failed;
    static void *handle;
    int rc = failed.code;

    if (!handle && !rc)
        rc = mu_nvlib_open(MU_NVLIB_CUBLAS, &handle, &failed);
    if (!rc && !api.cublasGemmEx)
        rc = mu_nvlib_symbols(MU_NVLIB_CUBLAS, handle, symbols, MU_COUNT(symbols), 0, &api, &failed);
    if (rc == MUSTER_ENOSYS)
        return mu_err_set(err, rc, "no cuBLAS: libcublas.so.13, .12 or .11 is needed, or MUSTER_CUBLAS_LIB names one");
    if (rc && err)
        *err = failed;
    *out = &api;
    return rc;
}

int mu_blas_version(const struct mu_blas *b, mu_blas_handle h, struct mu_err *err)
{
    int v = 0;

    if (b->cublasGetVersion_v2(h, &v))
        return mu_err_set(err, MUSTER_ENOSYS, "cuBLAS does not tell its version");
    v /= v >= 100000 ? 10000 : 1000; /* 130000 is 13.0, 11301 is 11.3 */
    if (v < MU_BLAS_OLDEST || v > MU_BLAS_NEWEST)
        return mu_err_set(err, MUSTER_ENOSYS, "cuBLAS %d is not known, %d to %d are", v, MU_BLAS_OLDEST,
                          MU_BLAS_NEWEST);
    return 0;
}
