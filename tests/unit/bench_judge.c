/* The judge: bisection, blame on few hosts, measurements read from text. Blame by the thousand: tests/judge. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/bisect.h"
#include "bench/judge/blame.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

/* --- bisection: what fails is every set with all of `culprits` in it, for `boundary` one of each half --------------
 */

struct planted {
    uint32_t v[2];
    unsigned n;
    bool boundary, flaky;
    unsigned asked;
};

static int try(void *arg, const uint32_t *hosts, uint32_t n)
{
    struct planted *p = arg;
    unsigned there = 0, low = 0, high = 0;

    p->asked++;
    for (uint32_t i = 0; i < n; i++) {
        for (unsigned k = 0; k < p->n; k++)
            there += hosts[i] == p->v[k];
        low += hosts[i] % 8 < 2;  /* leaf of 2 */
        high += hosts[i] % 8 > 5; /* leaf of 2 */
    }
    if (p->flaky && p->asked % 5 == 0)
        return 1;
    return p->boundary ? low && high : there == p->n;
}

static void bisects(unsigned n, struct planted p, const char *want)
{
    struct mu_bisect b = {.need = 2, .of = 3};
    uint32_t hosts[300];
    char got[100] = "";
    size_t len = 0;

    for (unsigned i = 0; i < n; i++)
        hosts[i] = i;
    int rc = mu_bisect_run(&b, hosts, n, try, &p);
    for (unsigned i = 0; !rc && i < b.na + b.nb && len < sizeof got; i++)
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%u",
                                i == b.na ? " with "
                                : i       ? ","
                                          : "",
                                i < b.na ? b.a[i] : b.b[i - b.na]);
    if (rc)
        snprintf(got, sizeof got, "%d", rc);
    TAP_OK(!strcmp(got, want) && b.asked < 120, "%u hosts: %s after %u questions", n, got, b.asked);
    mu_bisect_free(&b);
}

static void bisections(void)
{
    char none[16];

    snprintf(none, sizeof none, "%d", MUSTER_ENOSYS);
    bisects(8, (struct planted){.v = {3}, .n = 1}, "3");
    bisects(2, (struct planted){.v = {1}, .n = 1}, "0 with 1"); /* nobody else to try it with */
    for (uint32_t i = 0; i < 3; i++)
        bisects(3, (struct planted){.v = {i}, .n = 1}, (const char *[]){"0", "1", "2"}[i]);
    bisects(256, (struct planted){.v = {200}, .n = 1}, "200");
    bisects(257, (struct planted){.v = {0}, .n = 1}, "0");
    bisects(8, (struct planted){.v = {1, 6}, .n = 2}, "1 with 6");
    bisects(256, (struct planted){.v = {17, 18}, .n = 2}, "17 with 18");
    bisects(256, (struct planted){.v = {17, 250}, .n = 2}, "17 with 250");
    bisects(8, (struct planted){.v = {200}, .n = 1}, none);
    bisects(64, (struct planted){.v = {9}, .n = 1, .flaky = true}, "9");
}

/* --- blame ---------------------------------------------------------------------------------------------------------
 */

static const char few[] =
    "{\"kind\":\"run\",\"schema\":\"muster.samples/1\",\"hosts\":[\"a\",\"b\",\"c\"],\"host_of\":[0,1,2]}\n";
static const char head[] =
    "{\"kind\":\"run\",\"schema\":\"muster.samples/1\",\"hosts\":[\"a\",\"b\",\"c\",\"d\",\"e\"],"
    "\"host_of\":[0,1,2,3,4]}\n";

static int read_text(struct mu_data *d, const char *text, uint32_t round, struct mu_err *err)
{
    return mu_data_read(d, "f", text, strlen(text), round, err);
}

/* Pairs of n hosts; from host `slow`, and into it when both, a fifth less. */
static void pairs(struct mu_data *d, unsigned n, unsigned slow, bool both, uint32_t round)
{
    static char text[20000];
    size_t len = (size_t)snprintf(text, sizeof text, "%s", n < 4 ? few : head);
    struct mu_err err = {0};

    for (unsigned t = 0; t < 3; t++)
        for (unsigned i = 0; i < n; i++)
            for (unsigned k = 0; k < n; k++)
                if (i != k)
                    len += (size_t)snprintf(
                        text + len, sizeof text - len,
                        "{\"kind\":\"measurement\",\"name\":\"pair.bw\",\"unit\":\"GB/s\",\"better\":\"more\","
                        "\"scope\":\"pair\",\"from_host\":\"%c\",\"to_host\":\"%c\",\"size\":65536,"
                        "\"p50\":%g,\"wrong\":0}\n",
                        'a' + i, 'a' + k, i == slow || (both && k == slow) ? 8. : 10.);
    TAP_OK(!read_text(d, text, round, &err), "measurements are read: %s", err.text);
}

static void blames(unsigned n, bool both, bool again, const char *want)
{
    struct mu_blame_config c = {.effect = 0.05, .need = 2, .of = 3};
    struct mu_data d = {0};
    struct mu_blame b = {0};
    char got[200] = "", id[100];

    pairs(&d, n, 1, both, 0);
    int rc = mu_blame_find(&b, &d, &c);
    for (uint32_t r = 1; r <= 3; r++)
        pairs(&d, n, again ? 1 : 99, both, r);
    rc = rc ? rc : mu_blame_settle(&b, &d, &c);
    for (unsigned i = 0; i < b.n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s %s %s", i ? "; " : "",
                 b.v[i].state == MU_CONFIRMED ? "confirmed" : "cleared", mu_suspect_id(&b.v[i], &d, id, sizeof id),
                 mu_direction_name(b.v[i].dir));
    if (b.too_few)
        snprintf(got, sizeof got, "too few");
    TAP_OK(!rc && !strcmp(got, want), "%u hosts: %s", n, got);
    mu_blame_free(&b);
    mu_data_free(&d);
}

/* Nine trials of a figure of hosts a to e; b's last third, and what confirms it, is a fifth less. trial 9: a round. */
static size_t figures(char *text, size_t cap, const char *name, unsigned trial, double part)
{
    size_t len = 0;

    for (unsigned h = 0; h < 5; h++)
        len += (size_t)snprintf(text + len, cap - len,
                                "{\"kind\":\"measurement\",\"name\":\"%s\",\"unit\":\"GB/s\",\"better\":\"more\","
                                "\"scope\":\"node\",\"host\":\"%c\",\"rank\":%u,\"size\":0,\"p50\":%g,\"wrong\":0}\n",
                                name, 'a' + h, h, h == 1 && trial >= 6 ? 10 * part : 10.);
    return len;
}

static void trends(void)
{
    static char text[40000];
    static const struct {
        double part;
        const char *want;
    } rows[] = {{0.8, "confirmed b, node.mem.triad.trend"}, {0.995, ""}};
    struct mu_blame_config c = {.effect = 0.05, .need = 2, .of = 3};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mu_data d = {0};
        struct mu_blame b = {0};
        struct mu_err err = {0};
        char got[200] = "", id[100];
        size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
        for (unsigned t = 0; t < 9; t++)
            len += figures(text + len, sizeof text - len, "node.mem.triad", t, rows[i].part);
        int rc = read_text(&d, text, 0, &err);
        for (uint32_t r = 1; r <= 3; r++) {
            len = (size_t)snprintf(text, sizeof text, "%s", head);
            figures(text + len, sizeof text - len, "node.mem.triad", 9, rows[i].part);
            rc = rc ? rc : read_text(&d, text, r, &err);
        }
        rc = rc ? rc : mu_data_trends(&d);
        rc = rc ? rc : mu_blame_find(&b, &d, &c);
        struct mu_ask *asks = NULL;
        unsigned n = 0;
        rc = rc ? rc : mu_blame_ask(&b, &d, 1, &asks, &n);
        TAP_OK(!rc && !n == !rows[i].want[0] && (!n || !strcmp(d.tests[asks[0].test].name, "node.mem.triad")),
               "what is measured again is the figure, not its trend");
        free(asks);
        rc = rc ? rc : mu_blame_settle(&b, &d, &c);
        for (unsigned k = 0; k < b.n; k++)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s %s, %s",
                     b.v[k].state == MU_CONFIRMED ? "confirmed" : "not", mu_suspect_id(&b.v[k], &d, id, sizeof id),
                     d.tests[b.v[k].test].name);
        TAP_OK(!rc && !strcmp(got, rows[i].want), "a host that gets slower: '%s'", got);
        mu_blame_free(&b);
        mu_data_free(&d);
    }
}

/* A host that is slow itself, and into which data comes slowly for that. */
static void slow_and_slow_in(void)
{
    static char text[40000];
    struct mu_blame_config c = {.effect = 0.05, .need = 2, .of = 3};
    struct mu_data d = {0};
    struct mu_blame b = {0};
    struct mu_err err = {0};
    int rc = 0;

    for (uint32_t r = 0; r <= 3; r++) {
        size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
        len += figures(text + len, sizeof text - len, "node.cpu.gemm", 9, 0.5);
        for (unsigned i = 0; i < 5; i++)
            for (unsigned k = 0; k < 5 && !r; k++)
                if (i != k)
                    len += (size_t)snprintf(
                        text + len, sizeof text - len,
                        "{\"kind\":\"measurement\",\"name\":\"pair.bw\",\"unit\":\"GB/s\",\"better\":"
                        "\"more\",\"scope\":\"pair\",\"from_host\":\"%c\",\"to_host\":\"%c\",\"size\":8,"
                        "\"p50\":%g,\"wrong\":0}\n",
                        'a' + i, 'a' + k, k == 1 ? 8. : 10.);
        rc = rc ? rc : read_text(&d, text, r, &err);
    }
    rc = rc ? rc : mu_blame_find(&b, &d, &c);
    rc = rc ? rc : mu_blame_settle(&b, &d, &c);
    TAP_OK(!rc && b.n == 1 && b.v[0].state == MU_CONFIRMED && b.v[0].a == 1,
           "whom one test shows as slow and another as receiving slowly is confirmed by the one that shows it best: %s",
           b.n ? b.v[0].why : "nobody");
    mu_blame_free(&b);
    mu_data_free(&d);
}

/* Where all is noise the middle trial is low in every other round: no reason to accuse. */
static void noise(void)
{
    static const double rounds[][3] = {{0.8, 0.8, 0.8}, {0.2, 0.8, 1.2}, {0.79, 0.8, 0.81}};
    static char text[40000];
    struct mu_blame_config c = {.effect = 0.05, .need = 2, .of = 3};

    for (unsigned noisy = 0; noisy < 2; noisy++) {
        struct mu_data d = {0};
        struct mu_blame b = {0};
        struct mu_err err = {0};
        int rc = 0;
        for (uint32_t r = 0; r <= 3; r++) {
            size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
            for (unsigned t = 0; t < 3; t++)
                len += figures(text + len, sizeof text - len, "node.cpu.gemm", 9, rounds[!r ? 0 : noisy ? 1 : 2][t]);
            rc = rc ? rc : read_text(&d, text, r, &err);
        }
        rc = rc ? rc : mu_blame_find(&b, &d, &c);
        rc = rc ? rc : mu_blame_settle(&b, &d, &c);
        TAP_OK(!rc && b.n == 1 && b.v[0].state == (noisy ? MU_CLEARED : MU_CONFIRMED), "trials that %s: %s",
               noisy ? "are low only in the middle" : "are all low", b.n ? b.v[0].why : "nobody");
        mu_blame_free(&b);
        mu_data_free(&d);
    }
}

/* Two of three trials of each host are disturbed, each as it comes: what is left of them says nothing, their best does.
 */
static void disturbed(void)
{
    static char text[40000];
    struct mu_blame_config c = {.effect = 0.08, .need = 2, .of = 3};

    for (unsigned slow = 0; slow < 2; slow++) {
        struct mu_data d = {0};
        struct mu_blame b = {0};
        struct mu_err err = {0};
        char got[100] = "", id[100];
        unsigned luck = 7;
        int rc = 0;
        for (uint32_t r = 0; r <= mu_blame_rounds(&c); r++) {
            size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
            for (unsigned t = 0; t < 3; t++)
                for (unsigned h = 0; h < 8; h++) {
                    luck = luck * 1103515245 + 12345;
                    double part = (h + t + r) % 3 ? 0.55 + 0.3 * ((luck >> 16) % 100) / 100 : 1;
                    len += (size_t)snprintf(
                        text + len, sizeof text - len,
                        "{\"kind\":\"measurement\",\"name\":\"node.cpu.fma\",\"unit\":\"GFLOP/s\",\"better\":"
                        "\"more\",\"scope\":\"node\",\"host\":\"%c\",\"rank\":%u,\"size\":0,\"p50\":%g}\n",
                        'a' + h, h, (100 + h % 3) * part * (slow && h == 1 ? 0.8 : 1));
                }
            rc = rc ? rc : read_text(&d, text, r, &err);
        }
        rc = rc ? rc : mu_blame_find(&b, &d, &c);
        rc = rc ? rc : mu_blame_settle(&b, &d, &c);
        for (unsigned i = 0; i < b.n; i++)
            if (b.v[i].state == MU_CONFIRMED)
                snprintf(got + strlen(got), sizeof got - strlen(got), "%s ", mu_suspect_id(&b.v[i], &d, id, sizeof id));
        TAP_OK(!rc && !strcmp(got, slow ? "b " : ""), "hosts of which two of three trials are disturbed%s: '%s'",
               slow ? ", one slow" : "", got);
        mu_blame_free(&b);
        mu_data_free(&d);
    }
}

/* A fifth less is no reason to accuse where others lose as much in most rounds without a cause, where the host's
 * processors were used by somebody else, or where its first trials were not all low. */
static void unsure(void)
{
    static const struct {
        double other, waited, first; /* other: of one of the others, in turn, in so many rounds */
        double others_waited;
        uint32_t rounds;
        enum mu_suspect_state state;
        const char *why;
    } rows[] = {{10, 0, 8, 0, 7, MU_CONFIRMED, "rounds agree, 20.0 %"},
                {7, 0, 8, 0, 7, MU_UNSURE, "noisy: somebody who is well looks like that"},
                {7, 0, 8, 0, 3, MU_CONFIRMED, "rounds agree, 20.0 %"},
                {10, 0.15, 8, 0, 7, MU_UNSURE, "others used 15 % of its processors' time"},
                {10, 0.01, 8, 0, 7, MU_CONFIRMED, "rounds agree, 20.0 %"},
                {10, 0.06, 8, 0, 7, MU_CONFIRMED, "rounds agree, 20.0 %"},
                {10, 0.61, 8, 0.55, 7, MU_UNSURE, "others used 6 % of its processors' time"}, /* of less than a half */
                {10, 0, 10, 0, 7, MU_UNSURE, "not in all of its first trials"}};
    static char text[40000];
    struct mu_blame_config c = {.effect = 0.05, .need = 2, .of = 3};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mu_data d = {0};
        struct mu_blame b = {0};
        struct mu_err err = {0};
        int rc = 0;
        for (uint32_t r = 0; r <= 7; r++) {
            size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
            for (unsigned t = 0; t < 3; t++)
                for (unsigned h = 0; h < 5; h++)
                    len += (size_t)snprintf(
                        text + len, sizeof text - len,
                        "{\"kind\":\"measurement\",\"name\":\"node.cpu.gemm\",\"unit\":\"GFLOP/s\",\"better\":\"more\","
                        "\"scope\":\"node\",\"host\":\"%c\",\"rank\":%u,\"size\":0,\"p50\":%g,\"waited\":%g}\n",
                        'a' + h, h,
                        h == 1                                       ? !r && t == 2 ? rows[i].first : 8.
                        : h == 2 + r % 3 && r && r <= rows[i].rounds ? rows[i].other
                                                                     : 10.,
                        h == 1 ? rows[i].waited : rows[i].others_waited);
            rc = rc ? rc : read_text(&d, text, r, &err);
        }
        rc = rc ? rc : mu_blame_find(&b, &d, &c);
        rc = rc ? rc : mu_blame_settle(&b, &d, &c);
        bool good = !rc && b.n == 1 && b.v[0].state == rows[i].state && strstr(b.v[0].why, rows[i].why);
        TAP_OK(good, "a fifth less: %s", b.n ? b.v[0].why : err.text);
        mu_blame_free(&b);
        mu_data_free(&d);
    }
}

/* The last of five to come, each time: it is late, or where all wait for their processors, the one whose turn is last.
 */
static void late(void)
{
    static const struct {
        double waited;
        enum mu_suspect_state state;
    } rows[] = {{0, MU_CONFIRMED}, {0.01, MU_CONFIRMED}, {0.45, MU_UNSURE}};
    static char text[8000];
    struct mu_blame_config c = {.effect = 0.2, .need = 2, .of = 3};

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_data d = {0};
        struct mu_blame b = {0};
        struct mu_err err = {0};
        int rc = 0;
        for (uint32_t r = 0; r <= 7 && !rc; r++) {
            size_t len = (size_t)snprintf(text, sizeof text, "%s", head);
            for (unsigned t = 0; t < 3; t++) {
                len += (size_t)snprintf(text + len, sizeof text - len,
                                        "{\"kind\":\"measurement\",\"name\":\"coll.allreduce\",\"unit\":\"us\","
                                        "\"better\":\"less\",\"scope\":\"group\",\"group\":null,\"size\":1000,"
                                        "\"n\":9,\"p50\":100,\"per_rank\":[");
                for (unsigned h = 0; h < 5; h++)
                    len += (size_t)snprintf(text + len, sizeof text - len, "%s{\"arrive_us\":%d,\"waited\":%g}",
                                            h ? "," : "", h == 4 ? 40 : 10, rows[i].waited);
                len += (size_t)snprintf(text + len, sizeof text - len, "]}\n");
            }
            rc = read_text(&d, text, r, &err);
        }
        rc = rc ? rc : mu_blame_find(&b, &d, &c);
        rc = rc ? rc : mu_blame_settle(&b, &d, &c);
        TAP_OK(!rc && b.n == 1 && b.v[0].state == rows[i].state, "the last, where all wait for %.0f %% of the time: %s",
               100 * rows[i].waited, b.n ? b.v[0].why : err.text);
        mu_blame_free(&b);
        mu_data_free(&d);
    }
}

/* Links that work differ by a factor of two, as where hosts share processors; what is slow is so a hundred times. */
static void far_below(void)
{
    static const double rates[4][4] = {
        {0, 2.42, 1.32, 2.1}, {0.0096, 0, 0.0096, 0.0096}, {1.38, 1.03, 0, 2.36}, {2.3, 2.59, 1.36, 0}};
    static char text[8000];
    struct mu_blame_config c = {.effect = 0.5, .need = 2, .of = 3};
    struct mu_data d = {0};
    struct mu_blame b = {0};
    struct mu_err err = {0};
    char id[100];
    size_t len = (size_t)snprintf(text, sizeof text,
                                  "{\"kind\":\"run\",\"schema\":\"muster.samples/1\",\"hosts\":[\"a\",\"b\",\"c\","
                                  "\"d\"],\"host_of\":[0,1,2,3]}\n");

    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 4; k++)
            if (i != k)
                len += (size_t)snprintf(text + len, sizeof text - len,
                                        "{\"kind\":\"measurement\",\"name\":\"pair.bw\",\"unit\":\"GB/s\",\"better\":"
                                        "\"more\",\"scope\":\"pair\",\"from_host\":\"%c\",\"to_host\":\"%c\","
                                        "\"size\":8,\"p50\":%g,\"wrong\":0}\n",
                                        'a' + i, 'a' + k, rates[i][k]);
    int rc = read_text(&d, text, 0, &err);
    rc = rc ? rc : mu_blame_find(&b, &d, &c);
    TAP_OK(!rc && b.n && b.v[0].kind == MU_SUSPECT_NODE && b.v[0].a == 1 && b.v[0].dir == MU_DIR_OUT,
           "a host far below uneven ones is suspected: %s", b.n ? mu_suspect_id(&b.v[0], &d, id, sizeof id) : "nobody");
    mu_blame_free(&b);
    mu_data_free(&d);
}

/* The same of hosts by themselves. */
static void far_below_alone(void)
{
    static const double rates[] = {25, 0.1, 10, 22, 11};
    static char text[4000];
    struct mu_blame_config c = {.effect = 0.5, .need = 2, .of = 3};
    struct mu_data d = {0};
    struct mu_blame b = {0};
    struct mu_err err = {0};
    size_t len = (size_t)snprintf(text, sizeof text, "%s", head);

    for (unsigned h = 0; h < 5; h++)
        len += (size_t)snprintf(
            text + len, sizeof text - len,
            "{\"kind\":\"measurement\",\"name\":\"node.cpu.gemm\",\"unit\":\"GB/s\",\"better\":"
            "\"more\",\"scope\":\"node\",\"host\":\"%c\",\"rank\":%u,\"size\":0,\"p50\":%g,\"wrong\":0}\n",
            'a' + h, h, rates[h]);
    int rc = read_text(&d, text, 0, &err);
    rc = rc ? rc : mu_blame_find(&b, &d, &c);
    TAP_OK(!rc && b.n == 1 && b.v[0].kind == MU_SUSPECT_NODE && b.v[0].a == 1, "so is one by itself: %u", b.n);
    mu_blame_free(&b);
    mu_data_free(&d);
}

/* GPUs are compared with those of the same index; where most of a host's are low it is the host. slow, more: index of
 * host b's that are. */
static void gpus(int slow, int more, const char *want)
{
    static char text[20000];
    struct mu_blame_config c = {.effect = 0.05};
    struct mu_data d = {0};
    struct mu_blame b = {0};
    struct mu_err err = {0};
    char said[400] = "", id[100];
    size_t len = (size_t)snprintf(text, sizeof text, "%s", head);

    for (unsigned h = 0; h < 5; h++)
        for (int g = 0; g < 4; g++)
            len += (size_t)snprintf(
                text + len, sizeof text - len,
                "{\"kind\":\"measurement\",\"name\":\"node.gpu.h2d\",\"unit\":\"GB/s\",\"better\":"
                "\"more\",\"scope\":\"node\",\"host\":\"%c\",\"rank\":%u,\"gpu\":%d,\"uuid\":\"GPU-%u%d\",\"size\":8,"
                "\"p50\":%g,\"wrong\":%d}\n",
                'a' + h, h, g, h, g, (g < 2 ? 55 : 40) * (h == 1 && (g == slow || (more > 0 && g != 3)) ? 0.8 : 1),
                more < 0 && h == 1 && g == slow);
    int rc = read_text(&d, text, 0, &err);
    rc = rc ? rc : mu_blame_find(&b, &d, &c);
    rc = rc ? rc : mu_blame_settle(&b, &d, &c);
    for (unsigned i = 0; i < b.n && !rc; i++)
        snprintf(said + strlen(said), sizeof said - strlen(said), "%s%s %s%s", i ? ", " : "",
                 mu_suspect_kind_name(b.v[i].kind), mu_suspect_id(&b.v[i], &d, id, sizeof id),
                 b.v[i].corrupt ? " corrupt" : "");
    TAP_OK(!rc && !strcmp(said, want), "%s, not %s", want, rc ? err.text : said);
    TAP_OK(!strcmp(mu_data_gpu(&d, 1, 3, id, sizeof id), "GPU 2 (GPU-12)"), "its UUID is known: %s", id);
    mu_blame_free(&b);
    mu_data_free(&d);
}

static void culprits(void)
{
    static const struct {
        const char *line, *want;
    } rows[] = {
        {"\"wrong\":true,\"drop\":1,\"asked\":7,\"hosts\":[\"c\"],\"with\":[]", "rank 2 corrupt"},
        {"\"wrong\":false,\"drop\":0.3,\"asked\":7,\"hosts\":[\"c\"],\"with\":[]", "node c"},
        {"\"wrong\":true,\"drop\":1,\"asked\":9,\"hosts\":[\"a\"],\"with\":[\"d\"]", "link a>d corrupt"},
        {"\"wrong\":false,\"drop\":1,\"asked\":9,\"hosts\":[\"a\",\"b\"],\"with\":[\"d\",\"e\"]", "boundary s|t"},
        {"\"wrong\":false,\"drop\":1,\"asked\":9,\"hosts\":[\"a\",\"d\"],\"with\":[\"b\",\"e\"]", ""},
        {"\"wrong\":true,\"drop\":0,\"asked\":2,\"hosts\":[],\"with\":[]", ""},
    };
    struct mu_blame_config c = {.effect = 0.05, .need = 2, .of = 3};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mu_data d = {0};
        struct mu_blame b = {0};
        struct mu_err err = {0};
        char text[1000], got[200] = "", id[100];
        snprintf(text, sizeof text, "%s{\"kind\":\"culprits\",\"name\":\"coll.allreduce\",\"size\":4096,%s}\n", head,
                 rows[i].line);
        int rc = read_text(&d, text, 0, &err);
        for (uint32_t h = 0; h < 5 && !rc; h++)
            rc = mu_data_group(&d, h, h < 3 ? "s" : "t");
        rc = rc ? rc : mu_blame_find(&b, &d, &c);
        rc = rc ? rc : mu_blame_settle(&b, &d, &c);
        for (unsigned k = 0; k < b.n; k++)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s %s%s",
                     b.v[k].state == MU_CONFIRMED ? "" : "not ", mu_suspect_kind_name(b.v[k].kind),
                     mu_suspect_id(&b.v[k], &d, id, sizeof id), b.v[k].corrupt ? " corrupt" : "");
        TAP_OK(!rc && !strcmp(got, rows[i].want), "what bisection has found: '%s' %s", got, err.text);
        mu_blame_free(&b);
        mu_data_free(&d);
    }
}

static void reading(void)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", ""},
        {"{\"kind\":\"new\"}\n", ""},
        {"{\"kind\":\"run\",\"schema\":\"muster.samples/1\"}\n{\"kind\":\"meas", ""}, /* cut off at the end */
        {"{\"kind\":\"meas\n", "f:1: not a JSON object"},
        {"[]\n", "f:1: not a JSON object"},
        {"{\"kind\":\"run\",\"schema\":\"x/1\"}\n", "f:1: not muster.samples/1"},
        {"{\"kind\":\"measurement\",\"name\":\"x\",\"unit\":\"us\"}\n", "f:1: a measurement before the line 'run'"},
        {"{\"kind\":\"run\",\"schema\":\"muster.samples/1\",\"hosts\":[\"a\"],\"host_of\":[1]}\n",
         "f:1: 'host_of' must be indexes into 'hosts'"},
        {"{\"kind\":\"run\",\"schema\":\"muster.samples/"
         "1\"}\n\n{\"kind\":\"measurement\",\"name\":\"x\",\"unit\":\"us\",\"p50\":1}\n",
         "f:3: 'scope' is not node, pair or group"},
        {"{\"kind\":\"culprits\",\"name\":\"coll.x\"}\n",
         "f:1: what bisection has found, without 'name' or before the line 'run'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mu_data d = {0};
        struct mu_err err = {0};
        int rc = read_text(&d, rows[i].text, 0, &err);
        TAP_OK(!strcmp(err.text, rows[i].error) && !rc == !rows[i].error[0], "%s", err.text[0] ? err.text : "taken");
        mu_data_free(&d);
    }
    struct mu_data d = {0};
    struct mu_err err = {0};
    char text[1000];
    snprintf(
        text, sizeof text, "%s%s", head,
        "{\"kind\":\"clock\",\"residual_us\":0.7}\n"
        "{\"kind\":\"measurement\",\"name\":\"coll.allreduce\",\"op\":\"allreduce\",\"unit\":\"us\",\"better\":"
        "\"less\",\"dtype\":\"float32\",\"memory\":\"private\",\"place\":\"in\",\"transport\":\"muster\","
        "\"scope\":\"group\",\"group\":null,\"size\":1000,\"n\":9,\"p50\":10,\"ci95\":[9,11],\"wrong\":0,\"per_rank\":"
        "[{\"arrive_us\":0},{\"arrive_us\":5},{\"arrive_us\":0},{\"arrive_us\":0},{\"arrive_us\":1}]}\n");
    TAP_OK(!read_text(&d, text, 0, &err) && d.ntests == 4 && d.residual_us == 0.7, "a collective: %s", err.text);
    TAP_OK(!strcmp(d.tests[0].name, "coll.allreduce") && !strcmp(d.tests[1].name, "coll.allreduce.busbw"),
           "in place, as it is usually made, it has its name alone");
    struct mu_trials_key k = {.test = 1, .from = 5, .to = -1, .rank = -1, .size = 1000};
    const struct mu_trials *s = mu_data_find(&d, &k);
    TAP_OK(s && s->v[0] > 0.1599 && s->v[0] < 0.1601, "its bandwidth is that of nccl-tests");
    k.test = 0;
    TAP_OK((s = mu_data_find(&d, &k)) && s->ci > 0.099 && s->ci < 0.101 && s->samples == 9, "its interval is known");
    k = (struct mu_trials_key){.test = 3, .from = 1, .to = -1, .rank = 1, .size = 1000};
    TAP_OK((s = mu_data_find(&d, &k)) && s->v[0] == 0.5, "how late each rank came is a share of what it took");
    mu_data_free(&d);

    static const struct {
        const char *name, *transport, *known_as;
    } over[] = {{"coll.allreduce", "mpi", "coll.allreduce/mpi"},
                {"pair.lat", "mpi", "pair.lat"},
                {"pair.lat", "ucx", "pair.lat/ucx"}};
    for (size_t i = 0; i < MU_COUNT(over); i++) {
        snprintf(text, sizeof text,
                 "%s{\"kind\":\"measurement\",\"name\":\"%s\",\"unit\":\"us\",\"better\":\"less\",\"transport\":\"%s\","
                 "\"scope\":\"group\",\"group\":null,\"size\":1000,\"n\":9,\"p50\":10,\"ci95\":[9,11]}\n",
                 head, over[i].name, over[i].transport);
        TAP_OK(!read_text(&d, text, 0, &err) && d.ntests && !strcmp(d.tests[0].name, over[i].known_as),
               "%s over %s is %s", over[i].name, over[i].transport, d.ntests ? d.tests[0].name : err.text);
        mu_data_free(&d);
    }

    snprintf(text, sizeof text, "%s%s", head,
             "{\"kind\":\"measurement\",\"name\":\"node.cpu.gemm\",\"unit\":\"GFLOP/s\",\"better\":\"more\",\"scope\":"
             "\"node\",\"host\":\"a\",\"rank\":0,\"n\":4,\"p50\":10,\"wrong\":0,\"values\":[10,10,10,5]}\n");
    TAP_OK(!read_text(&d, text, 0, &err) && d.ntests == 2 && !strcmp(d.tests[1].name, "node.cpu.gemm.mean") &&
               d.series[1].v[0] > 7.999 && d.series[1].v[0] < 8.001,
           "what a processor gives over all of its time: %s", err.text);
    mu_data_free(&d);

    snprintf(text, sizeof text, "%s%s", head,
             "{\"kind\":\"measurement\",\"name\":\"coll.allreduce\",\"op\":\"allreduce\",\"unit\":\"us\",\"better\":"
             "\"less\",\"scope\":\"group\",\"group\":null,\"size\":1000,\"n\":0,\"p50\":null,\"wrong\":3}\n");
    TAP_OK(!read_text(&d, text, 0, &err) && d.n == 1 && d.series[0].wrong == 3 && !d.series[0].n,
           "what is wrong counts, even if no sample could be timed: %s", err.text);
    mu_data_free(&d);
}

/* What a round of confirmation makes: a test for each figure that is asked for, and no other that only begins so. */
static void asked_tests(void)
{
    static const char *const names[] = {"node.cpu.gemm.mean", "pair.bw",          "node.cpu.gemm",
                                        "node.cpu.ge",        "node.cpu.ge.mean", "node.mem.copy"};
    enum { N = sizeof names / sizeof *names };
    struct mu_ask asks[N];
    struct mu_data d = {0};
    mu_auto_buf struct mu_buf b = {0};

    for (unsigned i = 0; i < N; i++)
        asks[i] = (struct mu_ask){.test = (uint32_t)mu_data_test(&d, names[i], "GFLOP/s", false), .to = -1};
    mu_ask_tests(&d, asks, N, &b);
    TAP_OK(!strcmp(mu_buf_str(&b), "node.cpu.gemm,node.cpu.ge,node.mem.copy"),
           "tests that are made again are told by their whole names: %s", mu_buf_str(&b));
    mu_data_free(&d);
}

int main(void)
{
    bisections();
    blames(5, false, true, "confirmed b out");
    blames(5, true, true, "confirmed b both");
    blames(5, false, false, "cleared b out"); /* not so when it is measured again */
    blames(3, false, true, "too few");
    trends();
    slow_and_slow_in();
    noise();
    disturbed();
    unsure();
    late();
    far_below();
    far_below_alone();
    gpus(2, 0, "gpu b:gpu2");
    gpus(0, 1, "node b");
    gpus(1, -1, "gpu b:gpu1 corrupt, gpu b:gpu1");
    culprits();
    asked_tests();
    reading();
    return tap_done();
}
