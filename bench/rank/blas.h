/* What is used of cuBLAS, 11 to 13: own prototypes, found by dlsym; blas_asserts.c compares them with the real header
 * where there is one. */
#ifndef MU_BENCH_BLAS_H
#define MU_BENCH_BLAS_H

#include "runtime/base/cuda.h"

typedef struct cublasContext *mu_blas_handle;
typedef enum { MU_BLAS_OK } mu_blas_status;
typedef enum { MU_BLAS_AS_IT_IS } mu_blas_operation;
typedef enum { MU_BLAS_FLOAT32 = 0, MU_BLAS_BFLOAT16 = 14 } mu_blas_type;
typedef enum { MU_BLAS_COMPUTE_32F = 68 } mu_blas_compute;
typedef enum { MU_BLAS_DEFAULT = -1 } mu_blas_algorithm;

enum { MU_BLAS_OLDEST = 11, MU_BLAS_NEWEST = 13 }; /* major versions; another may have other values */

/* X(result, name, arguments, since), as runtime/base/cuda.h has them. */
#define MU_BLAS_SYMBOLS(X)                                                                                             \
    X(mu_blas_status, cublasCreate_v2, (mu_blas_handle *), 0)                                                          \
    X(mu_blas_status, cublasDestroy_v2, (mu_blas_handle), 0)                                                           \
    X(mu_blas_status, cublasGetVersion_v2, (mu_blas_handle, int *), 0)                                                 \
    X(mu_blas_status, cublasSetStream_v2, (mu_blas_handle, mu_cu_stream), 0)                                           \
    X(mu_blas_status, cublasGemmEx,                                                                                    \
      (mu_blas_handle, mu_blas_operation, mu_blas_operation, int, int, int, const void *, const void *, mu_blas_type,  \
       int, const void *, mu_blas_type, int, const void *, void *, mu_blas_type, int, mu_blas_compute,                 \
       mu_blas_algorithm),                                                                                             \
      0)

struct mu_blas {
    MU_BLAS_SYMBOLS(MU_NVLIB_POINTER)
};

/* Each GPU has a handle of its own. ENOSYS: there is no cuBLAS; ENODE: there is one that cannot be used; the text is
 * one line that begins with "cuBLAS". */
int mu_blas_load(const struct mu_blas **, struct mu_err *err);
/* Whether a library with that handle is one of those. */
int mu_blas_version(const struct mu_blas *, mu_blas_handle, struct mu_err *err);

#endif
