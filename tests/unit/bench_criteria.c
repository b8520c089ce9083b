/* Criteria: what is refused, where, and what measurements come to. */
#include <stdio.h>
#include <string.h>

#include "bench/judge/criteria.h"
#include "tests/unit/tap.h"

static void refused(void)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", "f:1:1: no check in it"},
        {"# nothing\n\n", "f:2:1: no check in it"},
        {"chek pair.bw >= 1", "f:1:1: 'chek' begins no line; there are ref, check and require"},
        {"check pair.bw", "f:1:14: a check with nothing to compare with"},
        {"check >= 1", "f:1:7: check: the name of a figure is missing, such as pair.bw"},
        {"check a >= 1\n\n check b each >=", "f:3:17: a comparison with nothing behind it"},
        {"check a >= 0.9*medain",
         "f:1:12: 'medain' is no number, not median, peers or baseline, and no reference above has that name"},
        {"check a >= x*median", "f:1:12: 'x*median' does not begin with a number above 0"},
        {"check a >= -1*median", "f:1:12: '-1*median' does not begin with a number above 0"},
        {"check a size>=1Q >= 1", "f:1:9: 'size>=1Q' is not a condition on the size, such as size>=1M or size==64K"},
        {"check a size>=2M size<=1M >= 1", "f:1:18: no size is like that"},
        {"check a >= 1 confirm=3/2", "f:1:14: 'confirm=3/2' is not confirm=A/B, A of B rounds, 8 at most"},
        {"check a >= 1 spread<=2", "f:1:14: 'spread<=2' is not spread<=P%"},
        {"check a >= 1 >= 1 >= 1 >= 1 >= 1", "f:1:29: more than 4 comparisons in a check"},
        {"check a >= 1 GB/s fast",
         "f:1:19: 'fast' is not known here; a check has size>=N, each, delta, comparisons, spread<=P%, confirm=A/B and "
         "optional"},
        {"ref x 3", "f:1:8: '' is no unit; there are GB/s, Gb/s, TFLOP/s, s, ms, us and their like"},
        {"ref x 3 parsec", "f:1:9: 'parsec' is no unit; there are GB/s, Gb/s, TFLOP/s, s, ms, us and their like"},
        {"ref 3 3 GB/s", "f:1:5: '3' is not a name for a reference: letters, digits, '.', '_' and '-', at most 63"},
        {"ref peers 3 GB/s", "f:1:5: 'peers' has a meaning of its own; take another name"},
        {"ref x 3 GB/s\nref x 4 GB/s", "f:2:5: there is a reference 'x' already"},
        {"ref x 3 GB/s src=\"open", "f:1:14: a quote is not closed"},
        {"require samples>=0", "f:1:9: 'samples>=0' is not samples>=N"},
        {"require ci<=1", "f:1:9: 'ci<=1' is not ci<=P%"},
        {"require ci<=1% else maybe", "f:1:21: behind else stands inconclusive or fail, not 'maybe'"},
        {"require ci<=1% else", "f:1:20: behind else stands inconclusive or fail, not ''"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mu_criteria c = {0};
        struct mu_err err = {0};
        int rc = mu_criteria_parse("f", rows[i].text, strlen(rows[i].text), &c, &err);
        TAP_OK(rc == MUSTER_EARG && !strcmp(err.text, rows[i].error) && !c.checks, "%s", err.text);
        mu_criteria_free(&c);
    }
}

/* --- judging -------------------------------------------------------------------------------------------------------
 */

static void put(struct mu_data *d, const char *name, const char *unit, int from, int to, enum mu_scope scope,
                uint64_t size, double v)
{
    int t = mu_data_test(d, name, unit, !strcmp(unit, "us"));
    struct mu_trials_key k = {.test = (uint32_t)t, .from = from, .to = to, .rank = -1, .size = size};
    struct mu_trials *s = mu_data_trials(d, &k, scope);

    mu_data_add(s, v);
    s->samples += 10;
}

static void fill(struct mu_data *d, unsigned hosts, double first)
{
    char name[2] = "a";

    for (unsigned h = 0; h < hosts; h++, name[0]++)
        mu_data_host(d, name);
    for (unsigned h = 0; h < hosts; h++) {
        put(d, "node.mem.triad", "GB/s", (int)h, -1, MU_SCOPE_NODE, 0, h ? 100 : first);
        put(d, "ecc.uncorrected", "errors", (int)h, -1, MU_SCOPE_NODE, 0, 7);
        put(d, "ecc.uncorrected", "errors", (int)h, -1, MU_SCOPE_NODE, 0, h == 2 ? 8 : 7);
    }
    put(d, "coll.allreduce.busbw", "GB/s", 32, -1, MU_SCOPE_GROUP, 1 << 20, 50);
    put(d, "coll.allreduce.busbw", "GB/s", 32, -1, MU_SCOPE_GROUP, 1 << 30, 450);
    put(d, "coll.allreduce", "us", 32, -1, MU_SCOPE_GROUP, 1 << 30, 4000);
    for (unsigned h = 0; h < hosts; h++)
        put(d, "node.gpu.h2d", "GB/s", (int)h, -1, MU_SCOPE_NODE, 1 << 28, h == 2 ? 51 : 55);
}

static void judged(const char *text, unsigned hosts, double first, enum mu_outcome outcome, const char *why)
{
    struct mu_criteria c = {0};
    struct mu_data d = {0}, before = {0};
    struct mu_blame b = {0};
    struct mu_result r[8];
    struct mu_err err = {0};

    fill(&d, hosts, first);
    fill(&before, hosts, 100);
    int rc = mu_criteria_parse("f", text, strlen(text), &c, &err);
    if (!rc)
        mu_criteria_judge(&c, &d, &before, &b, r);
    else
        snprintf(r[0].why, sizeof r[0].why, "%.290s", err.text);
    TAP_OK(!rc && r[0].outcome == outcome && strstr(r[0].why, why), "%s: %s (%s: %s)", text,
           mu_outcome_name(r[0].outcome), r[0].where, r[0].why);
    mu_criteria_free(&c);
    mu_data_free(&d);
    mu_data_free(&before);
}

static void effects(void)
{
    struct mu_criteria c = {0};
    struct mu_data d = {0};
    struct mu_err err = {0};
    const char *text =
        "check node.mem.* each >= 0.9*median confirm=2/3\ncheck node.mem.triad each >= 0.96*peers confirm=2/3\n"
        "check coll.* each <= 5 us\n";
    unsigned need, of;

    fill(&d, 5, 100);
    TAP_OK(!mu_criteria_parse("f", text, strlen(text), &c, &err), "%s", "several checks of one test");
    double *v = mu_criteria_effects(&c, &d);
    TAP_OK(v && v[0] > 0.0399 && v[0] < 0.0401 && v[1] == 0 && v[2] == 0, "the strictest one says what to look for");
    mu_criteria_confirm(&c, &need, &of);
    TAP_OK(need == 2 && of == 3, "and how often it must be confirmed");
    free(v);
    mu_criteria_free(&c);
    mu_data_free(&d);
}

int main(void)
{
    refused();
    for (const char *const *p = (const char *const[]){"quick", "standard", "soak", NULL}; *p; p++) {
        struct mu_criteria c = {0};
        struct mu_err err = {0};
        const char *text = mu_criteria_builtin(*p);
        TAP_OK(!mu_criteria_parse(*p, text, strlen(text), &c, &err), "built-in criteria of %s %s", *p, err.text);
        for (unsigned i = 0; i < c.nrefs; i++)
            if (!c.refs[i].source[0])
                TAP_OK(0, "%s has a source", c.refs[i].name);
        mu_criteria_free(&c);
    }
    judged("check node.mem.triad each >= 0.9*median", 5, 100, MU_PASS, "");
    judged("check node.mem.triad each >= 0.9*median", 5, 80, MU_FAIL, "80 GB/s, must be >= 0.9*median (90)");
    judged("check node.mem.triad each >= 0.9*median confirm=2/3", 5, 80, MU_INCONCLUSIVE,
           "too much for it to stand out");
    judged("check node.mem.triad each >= 90 GB/s confirm=2/3", 5, 80, MU_FAIL, "nobody stands out");
    judged("check node.mem.triad each >= 0.9*baseline confirm=2/3", 5, 80, MU_FAIL, "must be >= 0.9*baseline (90)");
    judged("check node.mem.triad each >= 90 GB/s confirm=2/3", 1, 80, MU_FAIL, "must be >= 90 GB/s");
    judged("check node.mem.triad each >= 0.9*peers >= 70 GB/s confirm=2/3", 5, 80, MU_INCONCLUSIVE, "0.9*peers (90)");
    judged("check node.mem.triad >= 0.9*median", 5, 80, MU_PASS, ""); /* all together */
    judged("check node.mem.triad each >= 0.9*peers", 3, 80, MU_INCONCLUSIVE, "fewer than 4 hosts");
    judged("check node.mem.triad each >= 90 GB/s", 1, 80, MU_FAIL, "must be >= 90 GB/s");
    judged("check node.mem.triad each >= 0.9*baseline", 1, 80, MU_FAIL, "must be >= 0.9*baseline (90)");
    judged("check node.mem.triad each >= 640 Gb/s", 1, 80, MU_PASS, "");
    judged("check node.gpu.h2d each >= 52 GB/s", 5, 80, MU_FAIL, "51 GB/s, must be >= 52 GB/s");
    judged("check node.h2d each >= 52 GB/s", 2, 80, MU_PASS, "");
    judged("check node.h2d each >= 52 GB/s", 5, 80, MU_FAIL, "51 GB/s");
    judged("check node.mem.triad each >= 5 us", 1, 80, MU_INCONCLUSIVE, "the units do not fit");
    judged("check node.x2y each >= 52 GB/s", 5, 100, MU_FAIL, "it was not measured");
    judged("check pair.bw each >= 0.9*median", 2, 100, MU_INCONCLUSIVE, "it was not measured");
    judged("check node.x2y each >= 52 GB/s optional", 5, 100, MU_SKIPPED, "not measured");
    judged("check ecc.uncorrected delta == 0", 5, 100, MU_FAIL, "1 errors, must be == 0");
    judged("check ecc.uncorrected delta == 0", 2, 100, MU_PASS, "");
    judged("check coll.allreduce.busbw size>=1G >= 0.92*h200.nvls8", 5, 100, MU_PASS, "");
    judged("check coll.allreduce.busbw >= 0.92*h200.nvls8", 5, 100, MU_FAIL, "50 GB/s, must be >= 0.92*h200.nvls8");
    judged("check coll.allreduce.busbw size>=1G >= 0.95*peers", 5, 100, MU_INCONCLUSIVE, "no other groups");
    judged("check coll.allreduce size==1G <= 4.1 ms", 5, 100, MU_PASS, "");
    judged("check ecc.* spread<=2%", 5, 100, MU_FAIL, "its trials differ by 13 %");
    judged("check node.mem.triad each >= 1\nrequire samples>=11 else inconclusive", 5, 100, MU_INCONCLUSIVE,
           "10 samples, 11 are required");
    judged("check node.mem.triad each >= 1\nrequire samples>=11 else fail", 5, 100, MU_FAIL, "10 samples");
    effects();
    TAP_OK(mu_criteria_matches("coll.*.lag", "coll.allreduce.lag") &&
               !mu_criteria_matches("coll.*.lag", "coll.allreduce") && mu_criteria_matches("*", "x") &&
               !mu_criteria_matches("", "x"),
           "stars stand for anything");
    return tap_done();
}
