#include "runtime/wire/gpus.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* As NVIDIA lists them; those that are no fault of the GPU's are told and lead to nothing. To add one: a row. */
static const struct {
    uint32_t xid;
    bool fault;
    const char *text;
} xids[] = {
    {13, false, "of a program's own making: exception in a kernel"},
    {31, false, "of a program's own making: memory that it does not have"},
    {43, false, "of a program's own making: it was stopped"},
    {45, false, "of a program's end"},
    {46, true, "it has stopped working"},
    {48, true, "a memory error that could not be corrected"},
    {61, true, "its microcontroller has failed"},
    {62, true, "its microcontroller has halted"},
    {63, true, "rows of its memory are remapped with the next reset"},
    {64, true, "rows of its memory could not be remapped"},
    {74, true, "an error of NVLink"},
    {79, true, "it has fallen off the bus"},
    {92, true, "very many memory errors are corrected"},
    {94, true, "a memory error that one program was hit by"},
    {95, true, "a memory error that may have hit all programs"},
    {109, true, "it did not change from one program to the next"},
    {110, true, "a fault of its security"},
    {119, true, "its system processor does not answer"},
    {120, true, "its system processor has failed"},
    {140, true, "memory errors that are not recovered from"},
    {143, true, "it could not be started"},
};

bool mu_xid_is_fault(uint32_t xid)
{
    for (size_t i = 0; i < MU_COUNT(xids); i++)
        if (xids[i].xid == xid)
            return xids[i].fault;
    return false;
}

const char *mu_xid_text(uint32_t xid)
{
    for (size_t i = 0; i < MU_COUNT(xids); i++)
        if (xids[i].xid == xid)
            return xids[i].text;
    return "an error that the driver tells";
}

unsigned mu_gpus_count(const struct mu_m_gpus *m)
{
    return (unsigned)mu_strv_len(m->uuids);
}

/* As it is when it is made printable. */
static bool good(const char *text, size_t size)
{
    mu_auto_buf struct mu_buf b = {0};
    size_t n = text ? strlen(text) : 0;

    if (n >= size)
        return false;
    mu_str_printable(&b, text ? text : "", n);
    return !b.failed && !strcmp(mu_buf_str(&b), text ? text : "");
}

bool mu_gpus_valid(const struct mu_m_gpus *m)
{
    size_t n = mu_strv_len(m->uuids);
    uint32_t last = 0;

    if (n > MU_GPUS_MOST || mu_strv_len(m->names) != n || !good(m->driver, MU_GPUS_TEXT) ||
        !good(m->trouble, MU_GPUS_TROUBLE))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!good(m->uuids[i], MU_GPUS_TEXT) || !good(m->names[i], MU_GPUS_TEXT))
            return false;
    if (n ? m->values.n % n || m->values.n / n > MU_GPUS_COLUMNS : m->values.n)
        return false;
    if (m->xids.n % 3 || m->xids.n > 3 * MU_GPUS_XIDS)
        return false;
    for (uint32_t i = 0; i < m->xids.n; i += 3) {
        if (m->xids.v[i] <= last || (m->xids.v[i + 1] >= n && m->xids.v[i + 1] != MU_GPU_UNKNOWN))
            return false;
        last = m->xids.v[i];
    }
    return true;
}

void mu_gpus_row(const struct mu_m_gpus *m, unsigned i, struct mu_gpu *out)
{
    unsigned n = mu_gpus_count(m), width = n ? m->values.n / n : 0;
    uint32_t v[MU_GPU_NVALUES];

    for (unsigned k = 0; k < MU_GPU_NVALUES; k++)
        v[k] = k < width && i < n ? m->values.v[i * width + k] : MU_GPU_UNKNOWN;
    memcpy(out, v, sizeof *out);
}

void mu_gpus_tell_xid(const struct mu_m_gpus *m, unsigned n, char *out, size_t size)
{
    uint32_t gpu = m->xids.v[3 * n + 1], xid = m->xids.v[3 * n + 2];

    if (gpu == MU_GPU_UNKNOWN)
        snprintf(out, size, "a GPU: Xid %u, %s", xid, mu_xid_text(xid));
    else
        snprintf(out, size, "GPU %u (%s): Xid %u, %s", gpu, m->uuids[gpu], xid, mu_xid_text(xid));
}

static bool is(uint32_t value)
{
    return value && value != MU_GPU_UNKNOWN;
}

void mu_gpus_fault(const struct mu_m_gpus *m, char *out, size_t size)
{
    struct mu_gpu g;

    out[0] = 0;
    for (unsigned i = 0; i < mu_gpus_count(m) && !*out; i++) {
        mu_gpus_row(m, i, &g);
        if (is(g.lost))
            snprintf(out, size, "GPU %u (%s) is lost: it needs a reset", i, m->uuids[i]);
        else if (is(g.rows_failed))
            snprintf(out, size, "GPU %u (%s): rows of its memory cannot be remapped", i, m->uuids[i]);
    }
}

void mu_gpus_trouble(const struct mu_m_gpus *m, char *out, size_t size)
{
    struct mu_gpu g;

    mu_gpus_fault(m, out, size);
    if (!*out && m->trouble && *m->trouble)
        snprintf(out, size, "%s", m->trouble);
    for (unsigned i = 0; i < mu_gpus_count(m) && !*out; i++) {
        mu_gpus_row(m, i, &g);
        const char *why = is(g.uncorrected)                       ? "memory errors could not be corrected"
                          : is(g.rows_pending)                    ? "rows of its memory wait for a reset to be remapped"
                          : g.clocks == MU_GPU_UNKNOWN            ? NULL
                          : g.clocks & MU_GPU_POWER_BRAKE         ? "it is slowed down: power is short"
                          : g.clocks & (MU_GPU_HOT | MU_GPU_WARM) ? "it is slowed down: it is too hot"
                          : g.clocks & MU_GPU_SLOWDOWN            ? "it is slowed down by its hardware"
                          : is(g.links) && g.links_up < g.links   ? "an NVLink is down"
                                                                  : NULL;
        if (why)
            snprintf(out, size, "GPU %u (%s): %s", i, m->uuids[i], why);
    }
}
