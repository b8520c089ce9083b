#include "bench/judge/json.h"

#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/str.h"

json_t *mu_json_string(const char *s)
{
    mu_auto_buf struct mu_buf safe = {0};
    json_t *o = json_string(s);

    if (o)
        return o;
    mu_str_printable(&safe, s, strlen(s));
    return json_string(mu_buf_str(&safe));
}
