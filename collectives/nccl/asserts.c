/* The own prototypes against the real headers, where there are any. Nothing of this is in the binary. */
#include "collectives/nccl/api.h"
#include "config.h"

/* Types that are the same bits under another name are compared once; then the prototypes are compared with the real
 * names in them. */
#if defined(HAVE_NCCL_H) || defined(HAVE_CUDA_H)
#define SAME_SIZE(mine, theirs) _Static_assert(sizeof(mine) == sizeof(theirs), #mine " is " #theirs)
#define SAME_VALUE(mine, theirs) _Static_assert((int)(mine) == (int)(theirs), #mine " is " #theirs)
#define SAME_PLACE(mine, theirs)                                                                                       \
    _Static_assert(offsetof(mu_nccl_config, mine) == offsetof(ncclConfig_t, theirs), #mine " is " #theirs)
#define SAME_PROTOTYPE(result, name, args, since)                                                                      \
    _Static_assert(__builtin_types_compatible_p(__typeof__(name), result args), "prototype of " #name);
#endif

#ifdef HAVE_CUDA_H
#include <cuda.h>

SAME_SIZE(mu_cu_result, CUresult);
SAME_SIZE(mu_cu_attribute, CUpointer_attribute);
SAME_SIZE(mu_cu_device_attribute, CUdevice_attribute);
SAME_SIZE(mu_cu_capture, CUstreamCaptureStatus);
SAME_SIZE(mu_cu_ptr, CUdeviceptr);
SAME_SIZE(int, CUdevice);
SAME_SIZE(mu_cu_uuid, CUuuid);
SAME_VALUE(MU_CU_OK, CUDA_SUCCESS);
SAME_VALUE(MU_CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME_VALUE(MU_CU_NO_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME_VALUE(MU_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME_VALUE(MU_CU_NOT_READY, CUDA_ERROR_NOT_READY);
SAME_VALUE(MU_CU_POINTER_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
SAME_VALUE(MU_CU_POINTER_IS_MANAGED, CU_POINTER_ATTRIBUTE_IS_MANAGED);
SAME_VALUE(MU_CU_POINTER_DEVICE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
SAME_VALUE(MU_CU_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME_VALUE(MU_CU_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME_VALUE(MU_CU_NOT_CAPTURING, CU_STREAM_CAPTURE_STATUS_NONE);
SAME_VALUE(MU_CU_MEMORY_DEVICE, CU_MEMORYTYPE_DEVICE);
SAME_VALUE(MU_CU_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING);
SAME_VALUE(MU_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME_VALUE(MU_CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
#define mu_cu_result CUresult
#define mu_cu_attribute CUpointer_attribute
#define mu_cu_device_attribute CUdevice_attribute
#define mu_cu_capture CUstreamCaptureStatus
#define mu_cu_uuid CUuuid
MU_CUDA_SYMBOLS(SAME_PROTOTYPE)
#endif

#ifdef HAVE_NCCL_H
#include <nccl.h>

SAME_SIZE(mu_nccl_result, ncclResult_t);
SAME_SIZE(mu_nccl_dtype, ncclDataType_t);
SAME_SIZE(mu_nccl_op, ncclRedOp_t);
SAME_SIZE(mu_nccl_id, ncclUniqueId);
SAME_VALUE(MU_NCCL_OK, ncclSuccess);
SAME_VALUE(MU_NCCL_CUDA_ERROR, ncclUnhandledCudaError);
SAME_VALUE(MU_NCCL_SYSTEM_ERROR, ncclSystemError);
SAME_VALUE(MU_NCCL_INTERNAL_ERROR, ncclInternalError);
SAME_VALUE(MU_NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
SAME_VALUE(MU_NCCL_INVALID_USAGE, ncclInvalidUsage);
SAME_VALUE(MU_NCCL_REMOTE_ERROR, ncclRemoteError);
SAME_VALUE(MU_NCCL_IN_PROGRESS, ncclInProgress);
SAME_VALUE(MU_NCCL_INT8, ncclInt8);
SAME_VALUE(MU_NCCL_UINT8, ncclUint8);
SAME_VALUE(MU_NCCL_INT32, ncclInt32);
SAME_VALUE(MU_NCCL_UINT32, ncclUint32);
SAME_VALUE(MU_NCCL_INT64, ncclInt64);
SAME_VALUE(MU_NCCL_UINT64, ncclUint64);
SAME_VALUE(MU_NCCL_FLOAT16, ncclFloat16);
SAME_VALUE(MU_NCCL_FLOAT32, ncclFloat32);
SAME_VALUE(MU_NCCL_FLOAT64, ncclFloat64);
SAME_VALUE(MU_NCCL_BFLOAT16, ncclBfloat16);
#if NCCL_VERSION_CODE >= MU_NCCL_FLOAT8
SAME_VALUE(MU_NCCL_FLOAT8E4M3, ncclFloat8e4m3);
SAME_VALUE(MU_NCCL_FLOAT8E5M2, ncclFloat8e5m2);
#endif
SAME_VALUE(MU_NCCL_SUM, ncclSum);
SAME_VALUE(MU_NCCL_PROD, ncclProd);
SAME_VALUE(MU_NCCL_MAX, ncclMax);
SAME_VALUE(MU_NCCL_MIN, ncclMin);
SAME_VALUE(MU_NCCL_AVG, ncclAvg);
SAME_VALUE(MU_NCCL_UNDEF, NCCL_CONFIG_UNDEF_INT);
SAME_PLACE(size, size);
SAME_PLACE(magic, magic);
SAME_PLACE(version, version);
SAME_PLACE(blocking, blocking);
SAME_PLACE(cga_cluster_size, cgaClusterSize);
SAME_PLACE(min_ctas, minCTAs);
SAME_PLACE(max_ctas, maxCTAs);
SAME_PLACE(net_name, netName);
SAME_PLACE(split_share, splitShare);
#define mu_nccl_result ncclResult_t
#define mu_nccl_dtype ncclDataType_t
#define mu_nccl_op ncclRedOp_t
#define mu_nccl_id ncclUniqueId
#define mu_nccl_config ncclConfig_t
#define ROW_IN_HEADER(result, name, args, since) SAME_PROTOTYPE(result, name, args, since)
#if NCCL_VERSION_CODE >= 22803 /* all of the rows are in it */
MU_NCCL_SYMBOLS(ROW_IN_HEADER)
#endif
#endif
