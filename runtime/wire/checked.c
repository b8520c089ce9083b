#include "runtime/wire/checked.h"

#include <stdlib.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

bool mu_checked_add(struct mu_m_checked *r, const char *name, uint32_t level, const char *reason, uint32_t ms)
{
    uint32_t n = r->levels.n;
    uint32_t *levels = realloc(r->levels.v, (n + 1u) * sizeof *levels);

    if (levels)
        r->levels.v = levels;
    uint32_t *took = realloc(r->took_ms.v, (n + 1u) * sizeof *took);
    if (took)
        r->took_ms.v = took;
    if (!levels || !took || mu_strv_append(&r->names, name))
        return false;
    if (mu_strv_append(&r->reasons, reason)) { /* rows stay whole */
        size_t last = mu_strv_len(r->names) - 1;
        free(MU_STEAL(r->names[last], NULL));
        return false;
    }
    levels[n] = level;
    took[n] = ms;
    r->levels.n = r->took_ms.n = n + 1;
    return true;
}
