/* Test double of libnvidia-ml.so.1: see double.h. */
#include "tests/doubles/double.h"

DOUBLE_API int nvmlInit_v2(void)
{
    return 0;
}
DOUBLE_API int nvmlDeviceGetCount_v2(unsigned *n)
{
    const char *s = getenv("MUSTER_DOUBLE_GPUS");

    *n = s ? (unsigned)atoi(s) : 8;
    return 0;
}
DOUBLE_API int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device)
{
    *device = (void *)(uintptr_t)(i + 1);
    return 0;
}
DOUBLE_API int nvmlDeviceGetName(void *device, char *name, unsigned size)
{
    (void)device;
    snprintf(name, size, "Test double of a GPU");
    return 0;
}
DOUBLE_API int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
    snprintf(text, size, "580.00");
    return 0;
}
DOUBLE_API const char *nvmlErrorString(int error)
{
    return error ? "error of the double" : "no error";
}
