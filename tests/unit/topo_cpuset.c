#include "topo/cpuset.h"

#include <string.h>

#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static const struct {
    const char *in, *out; /* out NULL: refused */
    int weight;
} rows[] = {
    {"", "", 0},
    {"0", "0", 1},
    {"0-3,8", "0-3,8", 5},
    {"8,3,2,1,0", "0-3,8", 5},
    {"1,1-2,2", "1-2", 2},
    {"63,64", "63-64", 2},
    {"0-127", "0-127", 128},
    {"7-7", "7", 1},
    {"0000016", "16", 1},
    {"0-16383", "0-16383", 16384},
    {"16384", NULL, 0},
    {"0-16384", NULL, 0},
    {"99999999999999999999", NULL, 0},
    {"3-1", NULL, 0},
    {"4-", NULL, 0},
    {"-4", NULL, 0},
    {",", NULL, 0},
    {"1,", NULL, 0},
    {",1", NULL, 0},
    {"1,,2", NULL, 0},
    {"1-2-3", NULL, 0},
    {"1 2", NULL, 0},
    {" 1", NULL, 0},
    {"0x3", NULL, 0},
    {"all", NULL, 0},
};

static struct mu_cpuset set(const char *list)
{
    struct mu_cpuset s = {{0}};

    if (mu_cpuset_parse(list, &s, NULL))
        abort();
    return s;
}

static void parse_and_format(void)
{
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_cpuset s = set("5,77");
        struct mu_err err = {0};
        int rc = mu_cpuset_parse(rows[i].in, &s, &err);
        mu_auto_free char *out = mu_cpuset_str(&s);
        if (rows[i].out)
            TAP_OK(rc == 0 && !strcmp(out, rows[i].out) && mu_cpuset_weight(&s) == rows[i].weight, "'%s' is '%s'",
                   rows[i].in, out);
        else
            TAP_OK(rc == MUSTER_EARG && strstr(err.text, "0-3,8") && !strcmp(out, "5,77"), "'%s' is refused: %s",
                   rows[i].in, err.text);
    }
}

static void format_is_bounded(void)
{
    struct mu_cpuset s = set("0-3,8,10-11"), odd = {{0}};
    char buf[8];

    memset(buf, 'x', sizeof buf);
    TAP_OK(mu_cpuset_format(&s, buf, sizeof buf) == 11 && !strcmp(buf, "0-3,8,1"), "what fits is written: '%s'", buf);
    buf[0] = 'x';
    TAP_OK(mu_cpuset_format(&s, buf, 1) == 11 && buf[0] == '\0', "one byte holds the end");
    TAP_OK(mu_cpuset_format(&s, NULL, 0) == 11, "the length without a buffer");

    for (int i = 1; i < MU_CPUSET_MAX; i += 2)
        mu_cpuset_set(&odd, i);
    mu_auto_free char *text = mu_cpuset_str(&odd);
    struct mu_cpuset back = set(text);
    TAP_OK(mu_cpuset_equal(&odd, &back) && mu_cpuset_weight(&back) == MU_CPUSET_MAX / 2,
           "the longest list there is (%zu bytes) comes back equal", strlen(text));
}

static void members(void)
{
    struct mu_cpuset s = {{0}};

    mu_cpuset_set(&s, -1);
    mu_cpuset_set(&s, MU_CPUSET_MAX);
    TAP_OK(mu_cpuset_empty(&s), "indexes outside are never members");
    TAP_OK(!mu_cpuset_isset(&s, -1) && !mu_cpuset_isset(&s, MU_CPUSET_MAX), "nor read");
    mu_cpuset_set(&s, 63);
    mu_cpuset_set(&s, 64);
    mu_cpuset_set(&s, MU_CPUSET_MAX - 1);
    TAP_OK(mu_cpuset_next(&s, -1) == 63 && mu_cpuset_next(&s, 63) == 64 &&
               mu_cpuset_next(&s, 64) == MU_CPUSET_MAX - 1 && mu_cpuset_next(&s, MU_CPUSET_MAX - 1) == -1,
           "walk over word borders to the last index");
    TAP_OK(mu_cpuset_last(&s) == MU_CPUSET_MAX - 1 && mu_cpuset_last(&(struct mu_cpuset){{2}}) == 1 &&
               mu_cpuset_last(&(struct mu_cpuset){{0}}) == -1,
           "the last member");
    TAP_OK(mu_cpuset_next(&s, -7) == 63, "a start below -1 is -1");
    mu_cpuset_clear(&s, 64);
    TAP_OK(!mu_cpuset_isset(&s, 64) && mu_cpuset_weight(&s) == 2, "clear");
}

static void algebra(void)
{
    struct mu_cpuset a = set("0-7,100"), b = set("4-11"), x;

    TAP_OK(mu_cpuset_intersects(&a, &b) && !mu_cpuset_inside(&b, &a), "overlapping sets");
    x = a, mu_cpuset_and(&x, &b);
    mu_auto_free char *and = mu_cpuset_str(&x);
    TAP_OK(!strcmp(and, "4-7") && mu_cpuset_inside(&x, &a) && mu_cpuset_inside(&x, &b), "and: %s", and);
    x = a, mu_cpuset_or(&x, &b);
    mu_auto_free char * or = mu_cpuset_str(&x);
    TAP_OK(!strcmp(or, "0-11,100"), "or: %s", or);
    x = a, mu_cpuset_andnot(&x, &b);
    mu_auto_free char *not = mu_cpuset_str(&x);
    TAP_OK(!strcmp(not, "0-3,100") && !mu_cpuset_intersects(&x, &b), "and not: %s", not );
    TAP_OK(!mu_cpuset_equal(&x, &a) && mu_cpuset_equal(&a, &a), "equality");
}

int main(void)
{
    parse_and_format();
    format_is_bounded();
    members();
    algebra();
    return tap_done();
}
