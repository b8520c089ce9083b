#include "launcher/rankfile.h"

#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static const struct {
    const char *text, *is; /* "host slots;..." or, after '!', what the error says */
} rows[] = {
    {"rank 0=a slot=0-3\n", "a 0-3;"},
    {"# two\nrank 1=b slot=1:0-2\n\nrank 0=a slot=p0,2 # first\n", "a p0,2;b 1:0-2;"},
    {"rank\t0 = a   slots = *\r\nrank 1=+n1 slot=0:0;1:1\r\n", "a *;+n1 0:0;1:1;"},
    {"rank 0=a", "a ;"},
    {"", "!f: no rank is in it"},
    {"# nothing\n", "!f: no rank is in it"},
    {"rank 0=a slot=0\nrank 2=a slot=1\n", "!f: rank 1 is missing, 2 ranks are there"},
    {"rank 0=a slot=0\nrank 0=b slot=1\n", "!f:2: rank 0 is in line 1, too"},
    {"rank 0=a slot=0\nslot 1=b\n", "!f:2: 'slot 1=b': expected 'rank N=HOST slot=LIST'"},
    {"rank x=a slot=0\n", "!f:1:"},
    {"rank -1=a slot=0\n", "!f:1:"},
    {"rank 0 a slot=0\n", "!f:1:"},
    {"rank 0=\n", "!f:1:"},
    {"rank 0=slot=0\n", "!f:1: 'rank 0=slot=0': the host is missing"},
    {"rank 0=a,b slot=0\n", "!the host is missing, or is more than one"},
    {"rank 0=a slot=\n", "!behind slot= belong cores"},
    {"rank 0=a slot=x\n", "!behind slot= belong cores"},
    {"rank 0=a slot=0 slot=1\n", "!something follows the slots"},
    {"rank 0=a cores=1\n", "!expected 'rank N=HOST slot=LIST'"},
    {"rank 0=a\nrank 999999=a\n", "!f:2: rank 999999, but the file has not so many"},
    {"rank 1000000=a slot=0\n", "!more than a million ranks"},
    {"rank 0=a slot=0\nrank 99999999999999999999=a slot=0\n", "!more than a million ranks"},
};

int main(void)
{
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_rankfile f = {0};
        struct mu_err err = {0};
        mu_auto_buf struct mu_buf b = {0};
        int rc = mu_rankfile_parse(rows[i].text, strlen(rows[i].text), "f", &f, &err);
        for (uint32_t k = 0; k < f.n; k++)
            mu_buf_appendf(&b, "%s %s;", f.v[k].host, f.v[k].slots);
        if (rows[i].is[0] == '!')
            TAP_OK(rc == MUSTER_EARG && strstr(err.text, rows[i].is + 1) && !strchr(err.text, '\n'), "refused: %s",
                   err.text);
        else
            TAP_OK(!rc && !strcmp(mu_buf_str(&b), rows[i].is), "%s", rc ? err.text : mu_buf_str(&b));
        mu_rankfile_free(&f);
    }
    struct mu_rankfile f;
    struct mu_err err;
    TAP_OK(mu_rankfile_read("/nonexistent/file", &f, &err) && strstr(err.text, "rank file"), "%s", err.text);
    return tap_done();
}
