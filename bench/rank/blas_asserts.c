/* The own prototypes of cuBLAS against the real header, where there is one. Nothing of this is in the binary. */
#include "bench/rank/blas.h"
#include "config.h"

#ifdef HAVE_CUBLAS_H
#include <cublas_v2.h>

#define SAME_SIZE(mine, theirs) _Static_assert(sizeof(mine) == sizeof(theirs), #mine " is " #theirs)
#define SAME_VALUE(mine, theirs) _Static_assert((int)(mine) == (int)(theirs), #mine " is " #theirs)
#define SAME_PROTOTYPE(result, name, args, since)                                                                      \
    _Static_assert(__builtin_types_compatible_p(__typeof__(name), result args), "prototype of " #name);

SAME_SIZE(mu_blas_status, cublasStatus_t);
SAME_SIZE(mu_blas_operation, cublasOperation_t);
SAME_SIZE(mu_blas_type, cudaDataType);
SAME_SIZE(mu_blas_compute, cublasComputeType_t);
SAME_SIZE(mu_blas_algorithm, cublasGemmAlgo_t);
SAME_VALUE(MU_BLAS_OK, CUBLAS_STATUS_SUCCESS);
SAME_VALUE(MU_BLAS_AS_IT_IS, CUBLAS_OP_N);
SAME_VALUE(MU_BLAS_FLOAT32, CUDA_R_32F);
SAME_VALUE(MU_BLAS_BFLOAT16, CUDA_R_16BF);
SAME_VALUE(MU_BLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME_VALUE(MU_BLAS_DEFAULT, CUBLAS_GEMM_DEFAULT);
#define mu_blas_handle cublasHandle_t
#define mu_blas_status cublasStatus_t
#define mu_blas_operation cublasOperation_t
#define mu_blas_type cudaDataType
#define mu_blas_compute cublasComputeType_t
#define mu_blas_algorithm cublasGemmAlgo_t
#define mu_cu_stream cudaStream_t
MU_BLAS_SYMBOLS(SAME_PROTOTYPE)
#endif
