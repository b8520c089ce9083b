/* NVIDIA's libraries, and our own kernels for GPUs, which lie beside our library, come by dlopen, so that one binary
 * serves machines with and without GPUs. Loaded libraries stay loaded. The environment may name another file
 * (MUSTER_NCCL_LIB, MUSTER_CUDA_LIB, MUSTER_NVML_LIB, MUSTER_CUBLAS_LIB, MUSTER_KERNELS_LIB). */
#ifndef MU_BASE_NVLIB_H
#define MU_BASE_NVLIB_H

#include <stddef.h>

#include "runtime/base/err.h"

enum mu_nvlib { MU_NVLIB_NCCL, MU_NVLIB_CUDA, MU_NVLIB_NVML, MU_NVLIB_CUBLAS, MU_NVLIB_KERNELS };

#define MU_NCCL_OLDEST 21800 /* as ncclGetVersion says it: 2.18.0 */
/* The function of the GPU kernels that gives them; whoever changes what it gives (wire_kernels.h) changes the number.
 */
#define MU_KERNELS_ENTRY muster_wire_kernels_1
#define MU_KERNELS_TEXT(x) #x
#define MU_KERNELS_NAME(x) MU_KERNELS_TEXT(x)
#define MU_KERNELS_SYMBOL MU_KERNELS_NAME(MU_KERNELS_ENTRY)

/* ENOSYS: there is no such file; ENODE: there is one that cannot be loaded, or one that was asked for is missing. The
 * text is one line that begins with the library's name. */
int mu_nvlib_open(enum mu_nvlib which, void **handle, struct mu_err *err);
/* ENODE with one line when the library lacks it. */
int mu_nvlib_symbol(enum mu_nvlib which, void *handle, const char *symbol, void **out, struct mu_err *err);
/* A table of pointers to functions, one a row. since: which version of the library has it; 0: it must be there. */
struct mu_nvlib_row {
    const char *name;
    size_t at; /* of the pointer in the table */
    int since;
};
#define MU_NVLIB_POINTER(result, name, args, since) result(*name) args;
/* Fills the table; what came later than `version` is not looked for and stays NULL. ENODE as above. */
int mu_nvlib_symbols(enum mu_nvlib which, void *handle, const struct mu_nvlib_row *rows, size_t n, int version,
                     void *table, struct mu_err *err);
/* The file an address was loaded from, links followed; "?" when that is unknown. */
void mu_nvlib_path(const void *address, char *out, size_t size);
/* "2.28.9" of 22809; ENODE with one line when it is older than MU_NCCL_OLDEST. path: of the library. */
int mu_nvlib_nccl_version(int version, const char *path, char *out, size_t size, struct mu_err *err);

#endif
