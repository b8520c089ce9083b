#include "launcher/dev_json.h"

#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/str.h"

json_t *mu_json_or_null(const char *s)
{
    mu_auto_buf struct mu_buf b = {0};

    if (!*s)
        return json_null();
    mu_str_printable(&b, s, strlen(s));
    return json_string(mu_buf_str(&b));
}

json_t *mu_json_gpu(const struct mu_topo *t, int i)
{
    const struct mu_topo_dev *d = i < 0 ? NULL : mu_topo_gpu(t, i);

    return d ? json_pack("{s:o,s:o}", "pci", mu_json_or_null(d->pci), "uuid", mu_json_or_null(d->uuid)) : json_null();
}

json_t *mu_json_nic(const struct mu_topo *t, int i)
{
    const struct mu_topo_dev *d = i < 0 ? NULL : mu_topo_nic(t, i);

    return d ? json_pack("{s:o,s:o}", "pci", mu_json_or_null(d->pci), "name", mu_json_or_null(d->name)) : json_null();
}
