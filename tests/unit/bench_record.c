/* Measurements as lines of JSON, read again. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "bench/record.h"
#include "tests/unit/tap.h"

static json_t *line(const struct mu_record *m)
{
    mu_auto_buf struct mu_buf b = {0};

    if (mu_record_put(&b, m, NULL) || b.data[b.len - 1] != '\n' || strchr(b.data, '\n') != b.data + b.len - 1)
        exit(99);
    return json_loads(mu_buf_str(&b), 0, NULL);
}

static double num(json_t *j, const char *key)
{
    json_t *v = json_object_get(j, key);

    return json_is_number(v) ? json_number_value(v) : NAN;
}
static bool is(json_t *j, const char *key, const char *want)
{
    const char *s = json_string_value(json_object_get(j, key));

    return s ? !strcmp(s, want) : !want;
}

int main(void)
{
    double v[200];
    struct mu_record m = {.name = "pair.bw",
                          .unit = "GB/s",
                          .more_is_better = true,
                          .scope = MU_RECORD_PAIR,
                          .from = 2,
                          .to = 5,
                          .from_host = "a\"b\\\n\x80",
                          .to_host = "n5",
                          .direction = "one",
                          .transport = "mpi",
                          .size = 1 << 20,
                          .values = v,
                          .n = 8,
                          .late = -1,
                          .wrong = MU_RECORD_UNCHECKED,
                          .trial = 1,
                          .launch = 3,
                          .order = 7,
                          .t = 1234.5,
                          .flags = MU_RECORD_NOISY | MU_RECORD_CACHED};

    for (int i = 0; i < 200; i++)
        v[i] = 8 - i % 8;
    json_t *j = line(&m);
    TAP_OK(j && is(j, "kind", "measurement") && is(j, "name", "pair.bw") && is(j, "unit", "GB/s") &&
               is(j, "better", "more"),
           "what it is");
    TAP_OK(num(j, "from") == 2 && num(j, "to") == 5 && is(j, "to_host", "n5") && is(j, "direction", "one"),
           "between whom");
    TAP_OK(is(j, "from_host", "a\"b\\\n\xc2\x80"), "whatever is in a name");
    TAP_OK(num(j, "n") == 8 && num(j, "min") == 1 && num(j, "p50") == 4.5 && num(j, "p90") == 8 && num(j, "max") == 8,
           "statistics");
    TAP_OK(json_is_null(json_object_get(j, "p99")), "no 99th percentile of eight");
    TAP_OK(json_array_size(json_object_get(j, "ci95")) == 2, "but an interval");
    TAP_OK(json_number_value(json_array_get(json_object_get(j, "values"), 0)) == 8 &&
               json_array_size(json_object_get(j, "values")) == 8,
           "samples in their order");
    TAP_OK(json_is_null(json_object_get(j, "wrong")) && !json_object_get(j, "late") && !json_object_get(j, "op"),
           "what was not looked at is null, what does not apply is not there");
    TAP_OK(num(j, "trial") == 1 && num(j, "launch") == 3 && num(j, "order") == 7 && num(j, "t") == 1234.5, "when");
    json_t *flags = json_object_get(j, "flags");
    TAP_OK(json_array_size(flags) == 2 && !strcmp(json_string_value(json_array_get(flags, 1)), "cached"), "flags");
    json_decref(j);

    m.n = 200;
    m.wrong = 3;
    m.late = 0.25;
    m.scope = MU_RECORD_NODE;
    m.flags = 0;
    j = line(&m);
    TAP_OK(num(j, "p99") == 8 && num(j, "wrong") == 3 && num(j, "late") == 0.25 && num(j, "rank") == 2 &&
               !json_array_size(json_object_get(j, "flags")) && !json_object_get(j, "gpu"),
           "of a node, with many samples");
    json_decref(j);

    m.uuid = "GPU-1";
    m.gpu = 3;
    j = line(&m);
    TAP_OK(num(j, "gpu") == 3 && is(j, "uuid", "GPU-1"), "of one of its GPUs");
    json_decref(j);

    double came[] = {0, 1.5}, took[] = {9, NAN};
    m = (struct mu_record){.name = "coll.reduce",
                           .unit = "us",
                           .scope = MU_RECORD_GROUP,
                           .to = -1,
                           .op = "reduce",
                           .arrive_us = came,
                           .time_us = took,
                           .nranks = 2,
                           .late = -1};
    j = line(&m);
    json_t *per = json_object_get(j, "per_rank");
    TAP_OK(json_array_size(per) == 2 && num(json_array_get(per, 1), "rank") == 1 &&
               num(json_array_get(per, 1), "arrive_us") == 1.5 && num(json_array_get(per, 0), "time_us") == 9 &&
               json_is_null(json_object_get(json_array_get(per, 1), "time_us")),
           "of each rank; no number is null");
    TAP_OK(json_is_null(json_object_get(j, "p50")) && json_is_null(json_object_get(j, "ci95")) &&
               !strcmp(json_string_value(json_array_get(json_object_get(j, "flags"), 0)), "few"),
           "without samples nothing is known");
    json_decref(j);
    return tap_done();
}
