#include "runtime/ckpt/shipped.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"

#define LINE "muster-shipped/1 %" PRIu64 " %" PRIu64 " %s"

int mu_ckpt_shipped_write(const struct mu_ckpt_place *p, const struct mu_ckpt_shipped *s, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/SHIPPED", p->dir), tmp = mu_ckpt_path("%s.new", path.s);
    char text[sizeof s->url + 100];
    int n = snprintf(text, sizeof text, LINE, s->generation, s->step, s->url);

    n += snprintf(text + n, sizeof text - (size_t)n, " %08x\n", mu_crc32c(0, text, (size_t)n));
    return mu_ckpt_put_file(p->io, tmp.s, path.s, text, (size_t)n, err);
}

int mu_ckpt_shipped_read(const char *dir, struct mu_ckpt_shipped *out)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/SHIPPED", dir);
    mu_auto_free unsigned char *buf = NULL;
    struct mu_ckpt_shipped s = {0};
    char again[sizeof s.url + 100];
    uint32_t crc;
    size_t n;

    if (mu_ckpt_get_file(path.s, sizeof again - 1, &buf, &n, NULL) ||
        sscanf((char *)buf, "muster-shipped/1 %" SCNu64 " %" SCNu64 " %599s %8" SCNx32, &s.generation, &s.step, s.url,
               &crc) != 4)
        return MUSTER_ENOCKPT;
    int len = snprintf(again, sizeof again, LINE, s.generation, s.step, s.url);
    if (crc != mu_crc32c(0, again, (size_t)len))
        return MUSTER_ENOCKPT;
    *out = s;
    return 0;
}

void mu_ckpt_shipped_forget(const struct mu_ckpt_place *p)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/SHIPPED", p->dir);

    p->io->unlink(p->io, path.s);
}
