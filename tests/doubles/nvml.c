/* Test double of libnvidia-ml.so.1: see double.h. What its GPUs say is in the file that MUSTER_NVML_DOUBLE names, which
 * is read anew with each call: words "KEY=N" or "GPU.KEY=N" of the keys below, and "hang=1": no call returns any more.
 * xid=N is an event that comes once, and again when it is another N; xid-after=N: not in the first N waits of a
 * process. uncorrected-grows=N: by so many each time that a process asks. Compiled with DOUBLE_OLD it has no more than
 * it must. */
#include "tests/doubles/double.h"

#include <unistd.h>

/* The number that the file has for it, of that GPU before that of all. */
static long say(void *device, const char *key, long otherwise)
{
    const char *path = getenv("MUSTER_NVML_DOUBLE");
    FILE *f = path ? fopen(path, "re") : NULL;
    char word[100], own[100];
    long v = otherwise, all = otherwise;
    int have = 0;

    snprintf(own, sizeof own, "%ld.%s=%%ld", (long)(uintptr_t)device - 1, key);
    while (f && fscanf(f, "%99s", word) == 1) {
        long n;
        char name[60];
        if (device && sscanf(word, own, &n) == 1)
            v = n, have = 1;
        else if (sscanf(word, "%59[a-z-]=%ld", name, &n) == 2 && !strcmp(name, key))
            all = n;
        if (!strcmp(word, "hang=1"))
            for (;;)
                pause();
    }
    if (f)
        fclose(f);
    return have ? v : all;
}

DOUBLE_API int nvmlInit_v2(void)
{
    return (int)say(NULL, "init", 0);
}
DOUBLE_API int nvmlDeviceGetCount_v2(unsigned *n)
{
    const char *s = getenv("MUSTER_DOUBLE_GPUS");

    *n = (unsigned)say(NULL, "gpus", s ? atoi(s) : 8);
    return 0;
}
DOUBLE_API int nvmlShutdown(void)
{
    return 0;
}
DOUBLE_API int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device)
{
    *device = (void *)(uintptr_t)(i + 1);
    return say(*device, "lost", 0) ? 15 : 0;
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

#ifndef DOUBLE_OLD
DOUBLE_API int nvmlDeviceGetUUID(void *device, char *text, unsigned size)
{
    snprintf(text, size, "GPU-d0000000-0000-0000-0000-0000000000%02x", (unsigned)(uintptr_t)device - 1);
    return 0;
}
DOUBLE_API int nvmlSystemGetNVMLVersion(char *text, unsigned size)
{
    snprintf(text, size, "13.580.00");
    return 0;
}
DOUBLE_API int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates)
{
    rates[0] = (unsigned)say(device, "percent", 0);
    rates[1] = 0;
    return 0;
}
DOUBLE_API int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *bytes)
{
    bytes[0] = 80ull << 30;
    bytes[2] = (unsigned long long)say(device, "used-mib", 1024) << 20;
    bytes[1] = bytes[0] - bytes[2];
    return 0;
}
DOUBLE_API int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
    *celsius = (unsigned)say(device, "celsius", 40);
    return sensor ? 2 : 0;
}
DOUBLE_API int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *n)
{
    static atomic_long asked[64];

    *n = (unsigned long long)say(device, type ? "uncorrected" : "corrected", 0);
    if (type)
        *n += (unsigned long long)(say(device, "uncorrected-grows", 0) *
                                   atomic_fetch_add(&asked[(uintptr_t)device % 64], 1));
    return counter ? 3 : 0;
}
DOUBLE_API int nvmlDeviceGetRemappedRows(void *device, unsigned *good, unsigned *bad, unsigned *waits, unsigned *failed)
{
    *good = (unsigned)say(device, "rows-corrected", 0);
    *bad = (unsigned)say(device, "rows-uncorrected", 0);
    *waits = (unsigned)say(device, "rows-pending", 0);
    *failed = (unsigned)say(device, "rows-failed", 0);
    return 0;
}
DOUBLE_API int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *bits)
{
    *bits = (unsigned long long)say(device, "clocks", 0);
    return 0;
}
#define NUMBER(function, key, otherwise)                                                                               \
    DOUBLE_API int function(void *device, unsigned *out)                                                               \
    {                                                                                                                  \
        *out = (unsigned)say(device, key, otherwise);                                                                  \
        return 0;                                                                                                      \
    }
NUMBER(nvmlDeviceGetPowerUsage, "milliwatts", 70000)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie-gen", 5)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie-gen-most", 5)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie-width", 16)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie-width-most", 16)
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie-replays", 0)
DOUBLE_API int nvmlDeviceGetNvLinkState(void *device, unsigned link, int *on)
{
    *on = link >= (unsigned)say(device, "links-down", 0);
    return link < 4 ? 0 : 2;
}
DOUBLE_API int nvmlDeviceGetNvLinkErrorCounter(void *device, unsigned link, int counter, unsigned long long *n)
{
    *n = link || counter ? 0 : (unsigned long long)say(device, "link-errors", 0);
    return 0;
}
DOUBLE_API int nvmlEventSetCreate(void **set)
{
    *set = calloc(64, sizeof(long)); /* the newest of each GPU that was told */
    return 0;
}
DOUBLE_API int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set)
{
    ((long *)set)[(uintptr_t)device % 64] = -1;
    return types == 8 ? 0 : 2;
}
struct event {
    void *device;
    unsigned long long type, data;
    unsigned instances[2];
};
DOUBLE_API int nvmlEventSetWait_v2(void *set, struct event *e, unsigned ms)
{
    static atomic_long waits;
    bool later = atomic_fetch_add(&waits, 1) < say(NULL, "xid-after", 0);

    for (unsigned waited = 0; waited < ms; waited += 10) {
        for (uintptr_t i = 1; i < 64; i++) {
            long xid = ((long *)set)[i] ? say((void *)i, "xid", -1) : -1;
            if (later || xid < 0 || xid == ((long *)set)[i])
                continue;
            ((long *)set)[i] = xid;
            *e = (struct event){.device = (void *)i, .type = 8, .data = (unsigned long long)xid};
            return 0;
        }
        double_sleep(10);
    }
    return 10;
}
#endif
