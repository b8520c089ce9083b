/* What a job's keepers say of its object store. It decides nothing: a store that fails costs no job. */
#include "launcher/core/ctl_priv.h"
#include "runtime/base/crc32c.h"

#include <string.h>

void mu_ctl_stored(struct mu_ctl *c, struct job *j, struct part *p, const struct mu_m_report *m)
{
    const char *text = m->store_trouble ? m->store_trouble : "", *node = c->pool.v[p->share.node].name;
    uint32_t trouble = *text ? mu_crc32c(0, text, strlen(text)) | 1 : 0;

    if (m->store_bytes > p->store_bytes)
        j->store_bytes += m->store_bytes - p->store_bytes;
    if (m->store_retries > p->store_retries)
        j->store_retries += m->store_retries - p->store_retries;
    p->store_bytes = m->store_bytes;
    p->store_retries = m->store_retries;
    if (m->stored_plus1 > j->row.stored_plus1) {
        j->row.stored_plus1 = m->stored_plus1;
        mu_ctl_event(c, j, "stored", -1, node, "step %llu is in the object store",
                     (unsigned long long)m->stored_plus1 - 1);
        mu_ctl_put(c, j, false);
    }
    if (trouble && trouble != p->store_trouble)
        mu_ctl_event(c, j, "store-trouble", -1, node, "%.300s; it is tried again, the job goes on", text);
    p->store_trouble = trouble;
}
