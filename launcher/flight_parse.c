#include <string.h>

#include "launcher/flight.h"
#include "runtime/base/clean.h"

int mu_flight_parse(const char *text, size_t len, json_t *list, struct mu_err *err)
{
    static const char *const needs[] = {"rank", "seq", "size", "count"};
    unsigned line = 1;

    for (const char *p = text, *end = text + len, *nl; p < end; p = nl + 1, line++) {
        json_error_t why;

        nl = memchr(p, '\n', (size_t)(end - p));
        nl = nl ? nl : end;
        json_t *o = json_loadb(p, (size_t)(nl - p), JSON_REJECT_DUPLICATES, &why);
        bool good = json_is_object(o) && json_is_string(json_object_get(o, "comm")) &&
                    json_is_string(json_object_get(o, "op")) && json_is_string(json_object_get(o, "state"));

        for (size_t i = 0; good && i < MU_COUNT(needs); i++)
            good = json_is_integer(json_object_get(o, needs[i]));
        if (!good || json_array_append_new(list, o)) {
            json_decref(good ? NULL : o);
            return mu_err_set(err, MUSTER_EARG, "line %u is no flight record", line);
        }
    }
    return 0;
}
