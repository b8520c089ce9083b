#include "topo/pin.h"

#include <dirent.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

#define FIXTURE "tests/data/node-2n3c2t.xml"

static struct mu_topo *load(const char *where)
{
    struct mu_topo *t;
    struct mu_err err;
    bool xml = strstr(where, ".xml");

    if (mu_topo_load(xml ? MU_TOPO_XML : MU_TOPO_SYNTHETIC, where, 0, &t, &err)) {
        printf("# %s\n", err.text);
        exit(1);
    }
    return t;
}

/* "cpuset@nodeset cpuset@nodeset ..." of all ranks, or of the shared set followed by the number of ranks. */
static char *spell(const struct mu_pin *p)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    for (int i = 0; i < (p->policy == MU_PIN_NONE ? 1 : p->nranks); i++) {
        mu_auto_free char *c = mu_cpuset_str(&mu_pin_rank(p, i)->cpus), *n = mu_cpuset_str(&mu_pin_rank(p, i)->nodes);
        fprintf(f, "%s%s@%s", i ? " " : "", c, n);
    }
    if (p->policy == MU_PIN_NONE)
        fprintf(f, " x%d", p->nranks);
    fclose(f);
    return text;
}

static const struct {
    const char *machine, *mask, *occupied;
    int nranks;
    enum mu_pin_policy policy;
    bool smt;
    const char *plan, *note;
} rows[] = {
    {"pu:1", NULL, NULL, 1, MU_PIN_CORE, false, "0@0", ""},
    {"pack:2 core:2 pu:2", NULL, NULL, 2, MU_PIN_CORE, false, "0@0 2@0", ""},
    {"pack:2 core:2 pu:2", NULL, NULL, 4, MU_PIN_CORE, false, "0@0 2@0 4@0 6@0", ""},
    {"pack:2 core:2 pu:2", NULL, NULL, 4, MU_PIN_CORE, true, "0-1@0 2-3@0 4-5@0 6-7@0", ""},
    {"pack:2 core:2 pu:2", NULL, NULL, 5, MU_PIN_CORE, false, "0-7@0 x5", "not bound: 5 ranks, 4 of 4 cores free"},
    {"pack:2 core:2 pu:2", NULL, NULL, 3, MU_PIN_NONE, false, "0-7@0 x3", ""},
    {"pack:2 core:2 pu:2", NULL, "3", 3, MU_PIN_CORE, false, "0@0 4@0 6@0", ""},
    {"pack:2 core:2 pu:2", NULL, "2,4", 3, MU_PIN_CORE, false, "0-7@0 x3", "not bound: 3 ranks, 2 of 4 cores free"},
    {"pack:2 core:2 pu:2", NULL, "2,4", 3, MU_PIN_NONE, false, "0-7@0 x3", ""},
    {"core:2 pu:1", NULL, "0-1", 1, MU_PIN_CORE, false, "0-1@0 x1", "not bound: 1 rank, 0 of 2 cores free"},
    {"pack:2 core:2 pu:2", NULL, "99", 1, MU_PIN_CORE, false, "0@0", ""},
    {"pack:2 core:2 pu:2", "1,3,5-6", NULL, 4, MU_PIN_CORE, false, "1@0 3@0 5@0 6@0", ""},
    {"pack:2 numa:1 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)", NULL, NULL, 4, MU_PIN_CORE, false, "0@0 1@0 2@1 3@1", ""},
    {"pack:2 numa:1 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)", NULL, NULL, 3, MU_PIN_CORE, true, "0,4@0 1,5@0 2,6@1", ""},
    {"pack:2 numa:1 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)", "2-3", NULL, 2, MU_PIN_CORE, false, "2@1 3@1", ""},
    {FIXTURE, NULL, NULL, 5, MU_PIN_CORE, false, "1@0 2@0 3@8 4@8 5@8", ""},
    {FIXTURE, NULL, NULL, 5, MU_PIN_CORE, true, "1@0 2,8@0 3,9@8 4,10@8 5,11@8", ""},
    {FIXTURE, NULL, NULL, 6, MU_PIN_CORE, false, "1-5,8-11@0,8 x6", "not bound: 6 ranks, 5 of 5 cores free"},
    {FIXTURE, "8,10", NULL, 2, MU_PIN_CORE, false, "8@0 10@8", ""},
    /* PU 7 is not ours to use, but it is another job's, and so is core 1. */
    {FIXTURE, NULL, "7", 1, MU_PIN_CORE, false, "2@0", ""},
    {FIXTURE, NULL, NULL, 40, MU_PIN_NONE, false, "1-5,8-11@0,8 x40", ""},
};

static void plans(void)
{
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_topo *t = load(rows[i].machine);
        struct mu_cpuset mask, occupied;
        struct mu_err err = {0};
        struct mu_pin pin;
        if (rows[i].mask && (mu_cpuset_parse(rows[i].mask, &mask, NULL) || mu_topo_restrict(t, &mask, NULL)))
            exit(1);
        if (rows[i].occupied && mu_cpuset_parse(rows[i].occupied, &occupied, NULL))
            exit(1);
        struct mu_pin_request r = {rows[i].nranks, rows[i].policy, rows[i].smt, rows[i].occupied ? &occupied : NULL};
        if (mu_pin_compute(t, &r, &pin, &err)) {
            TAP_OK(0, "%s: %s", rows[i].machine, err.text);
        } else {
            mu_auto_free char *plan = spell(&pin);
            TAP_OK(!strcmp(plan, rows[i].plan) && !strcmp(pin.note, rows[i].note), "%d on %s: %s%s%s", rows[i].nranks,
                   rows[i].machine, plan, pin.note[0] ? "; " : "", pin.note);
            mu_pin_free(&pin);
        }
        mu_topo_free(t);
    }
}

/* What must hold of any plan, whatever the machine. Returns what does not. */
static const char *violated(const struct mu_topo *t, const struct mu_pin *p, const struct mu_cpuset *occupied)
{
    struct mu_cpuset seen = {{0}};

    for (int i = 0; i < p->nranks; i++) {
        const struct mu_pin_rank *r = mu_pin_rank(p, i);
        if (mu_cpuset_empty(&r->cpus) || !mu_cpuset_inside(&r->cpus, mu_topo_allowed(t)))
            return "cpuset is not inside the allowed set";
        if (mu_cpuset_empty(&r->nodes) || !mu_cpuset_inside(&r->nodes, mu_topo_allowed_nodes(t)))
            return "nodeset is not inside the allowed set";
        if (p->policy == MU_PIN_NONE)
            continue;
        if (mu_cpuset_intersects(&r->cpus, &seen))
            return "two ranks share a CPU";
        if (occupied && mu_cpuset_intersects(&r->cpus, occupied))
            return "another job's CPU was taken";
        for (int n = 0; n < mu_topo_nnodes(t); n++) {
            const struct mu_topo_node *node = mu_topo_node(t, n);
            if (mu_cpuset_isset(&r->nodes, node->os) && !mu_cpuset_intersects(&node->cpus, &r->cpus) &&
                !mu_cpuset_equal(&r->nodes, mu_topo_allowed_nodes(t)))
                return "a NUMA node is not local";
        }
        mu_cpuset_or(&seen, &r->cpus);
    }
    return NULL;
}

static unsigned seed;
static unsigned draw(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % n;
}

/* Every number of ranks, and seeded random masks and occupied sets. */
static void invariants(const char *name, struct mu_topo *t)
{
    int slots = mu_topo_slots(t), plans_made = 0;
    const char *bad = NULL;

    for (int n = 1; n <= slots + 1 && !bad; n += slots > 32 ? slots / 16 : 1) {
        for (int smt = 0; smt < 2 && !bad; smt++) {
            struct mu_pin pin;
            if (mu_pin_compute(t, &(struct mu_pin_request){n, MU_PIN_CORE, smt, NULL}, &pin, NULL))
                bad = "no plan";
            else if ((pin.policy == MU_PIN_CORE) != (n <= slots))
                bad = "bound when it must not be, or the other way round";
            else
                bad = violated(t, &pin, NULL);
            mu_pin_free(&pin);
            plans_made++;
        }
    }
    seed = 7;
    for (int round = 0; round < 40 && !bad; round++) {
        struct mu_cpuset mask = {{0}}, occupied = {{0}};
        struct mu_pin pin;
        for (int c = -1; (c = mu_cpuset_next(mu_topo_allowed(t), c)) >= 0;) {
            if (draw(16))
                mu_cpuset_set(&mask, c);
            if (draw(4) == 0)
                mu_cpuset_set(&occupied, c);
        }
        mu_topo_restrict(t, &mask, NULL);
        struct mu_pin_request r = {1 + (int)draw((unsigned)slots), MU_PIN_CORE, draw(2), &occupied};
        if (mu_pin_compute(t, &r, &pin, NULL))
            bad = "no plan";
        else
            bad = violated(t, &pin, &occupied);
        mu_pin_free(&pin);
        plans_made++;
    }
    TAP_OK(!bad, "%s: %d plans, disjoint, allowed and local%s%s", name, plans_made, bad ? ": " : "", bad ? bad : "");
}

static void many(void)
{
    static const char *const machines[] = {"pu:1",
                                           "core:64 pu:1",
                                           "pack:2 core:4 pu:2",
                                           "pack:2 numa:4 l3:2 core:4 pu:2",
                                           "pack:4 [numa] [numa] core:6 pu:4",
                                           "pack:2 numa:2 pu:8",
                                           FIXTURE};

    for (size_t i = 0; i < MU_COUNT(machines); i++) {
        struct mu_topo *t = load(machines[i]);
        invariants(machines[i], t);
        mu_topo_free(t);
    }
}

/* Exports of real machines, where they are at hand. */
static void real_machines(void)
{
    const char *where = getenv("MUSTER_TEST_TOPOLOGIES");
    int seen = 0;

    if (!where)
        where = "../shared/data/topo";
    mu_auto_dir DIR *d = opendir(where);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        struct mu_topo *t;
        struct mu_err err = {0};
        if (!strstr(e->d_name, ".xml"))
            continue;
        seen++;
        snprintf(path, sizeof path, "%s/%s", where, e->d_name);
        int rc = mu_topo_load(MU_TOPO_XML, path, 0, &t, &err);
        if (strstr(e->d_name, "nccl")) {
            TAP_OK(rc == MUSTER_EARG && strstr(err.text, "<system>"), "%s is NCCL's: refused", e->d_name);
        } else if (rc) {
            TAP_OK(0, "%s", err.text);
        } else {
            invariants(e->d_name, t);
            mu_topo_free(t);
        }
    }
    if (!seen)
        TAP_SKIP("no exports of real machines in %s", where);
}

static void refused(void)
{
    struct mu_topo *t = load("core:2 pu:1");
    struct mu_pin pin = {.nranks = -5};
    struct mu_err err = {0};
    enum mu_pin_policy p = MU_PIN_CORE;

    TAP_OK(mu_pin_compute(t, &(struct mu_pin_request){.nranks = 0}, &pin, &err) == MUSTER_EARG && pin.nranks == -5,
           "no ranks: %s", err.text);
    TAP_OK(mu_pin_compute(t, &(struct mu_pin_request){1, 9, false, NULL}, &pin, &err) == MUSTER_EARG, "no such policy");
    TAP_OK(mu_pin_policy_parse("socket", &p, &err) == MUSTER_EARG && p == MU_PIN_CORE &&
               strstr(err.text, "core or none"),
           "%s", err.text);
    TAP_OK(!mu_pin_policy_parse("none", &p, NULL) && p == MU_PIN_NONE && !strcmp(mu_pin_policy_name(p), "none"),
           "none");
    TAP_OK(!mu_pin_policy_parse("core", &p, NULL) && p == MU_PIN_CORE && !strcmp(mu_pin_policy_name(p), "core"),
           "core");
    TAP_OK(!mu_pin_compute(t, &(struct mu_pin_request){2, MU_PIN_CORE, false, NULL}, &pin, NULL) &&
               !mu_pin_rank(&pin, 2) && !mu_pin_rank(&pin, -1) && mu_pin_rank(&pin, 1),
           "ranks outside the plan have none");
    mu_pin_free(&pin);
    mu_topo_free(t);
}

int main(void)
{
    plans();
    many();
    real_machines();
    refused();
    return tap_done();
}
