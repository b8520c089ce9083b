#include "runtime/base/nvml.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/nvlib.h"

int mu_nvml_load(struct mu_nvml *n, struct mu_err *err)
{
    const struct {
        void *fn;
        const char *name, * or ;
        bool must;
    } symbols[] = {
        {&n->init, "nvmlInit_v2", NULL, true},
        {&n->shutdown, "nvmlShutdown", NULL, true},
        {&n->count, "nvmlDeviceGetCount_v2", NULL, true},
        {&n->handle, "nvmlDeviceGetHandleByIndex_v2", NULL, true},
        {&n->error, "nvmlErrorString", NULL, true},
        {&n->driver, "nvmlSystemGetDriverVersion", NULL, false},
        {&n->uuid, "nvmlDeviceGetUUID", NULL, false},
        {&n->name, "nvmlDeviceGetName", NULL, false},
        {&n->rates, "nvmlDeviceGetUtilizationRates", NULL, false},
        {&n->memory, "nvmlDeviceGetMemoryInfo", NULL, false},
        {&n->celsius, "nvmlDeviceGetTemperature", NULL, false},
        {&n->power, "nvmlDeviceGetPowerUsage", NULL, false},
        {&n->clocks, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", false},
        {&n->ecc, "nvmlDeviceGetTotalEccErrors", NULL, false},
        {&n->rows, "nvmlDeviceGetRemappedRows", NULL, false},
        {&n->pages, "nvmlDeviceGetRetiredPagesPendingStatus", NULL, false},
        {&n->gen, "nvmlDeviceGetCurrPcieLinkGeneration", NULL, false},
        {&n->gen_most, "nvmlDeviceGetMaxPcieLinkGeneration", NULL, false},
        {&n->width, "nvmlDeviceGetCurrPcieLinkWidth", NULL, false},
        {&n->width_most, "nvmlDeviceGetMaxPcieLinkWidth", NULL, false},
        {&n->replays, "nvmlDeviceGetPcieReplayCounter", NULL, false},
        {&n->link, "nvmlDeviceGetNvLinkState", NULL, false},
        {&n->link_errors, "nvmlDeviceGetNvLinkErrorCounter", NULL, false},
        {&n->set_new, "nvmlEventSetCreate", NULL, false},
        {&n->watch, "nvmlDeviceRegisterEvents", NULL, false},
        {&n->wait, "nvmlEventSetWait_v2", NULL, false},
    };
    void *h, *fn;

    memset(n, 0, sizeof *n);
    int rc = mu_nvlib_open(MU_NVLIB_NVML, &h, err);

    for (size_t i = 0; i < MU_COUNT(symbols) && !rc; i++) {
        rc = mu_nvlib_symbol(MU_NVLIB_NVML, h, symbols[i].name, &fn, err);
        if (rc && symbols[i].or)
            rc = mu_nvlib_symbol(MU_NVLIB_NVML, h, symbols[i].or, &fn, err);
        if (!rc)
            memcpy(symbols[i].fn, &fn, sizeof fn);
        rc = symbols[i].must ? rc : 0;
    }
    return rc;
}
