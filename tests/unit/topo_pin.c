#include "topo/pin.h"

#include <dirent.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

#define FIXTURE "tests/data/node-2n3c2t.xml"
#define GPUS "tests/data/node-4gpu.xml"

static struct mu_topo *load(const char *where)
{
    struct mu_topo *t;
    struct mu_err err;
    bool xml = strstr(where, ".xml");

    if (mu_topo_load(xml ? MU_TOPO_XML : MU_TOPO_SYNTHETIC, where, MU_TOPO_IO, &t, &err)) {
        printf("# %s\n", err.text);
        exit(1);
    }
    return t;
}

static void devices_to(FILE *f, const struct mu_pin_rank *r)
{
    if (r->gpu >= 0)
        fprintf(f, "/%d/%d", r->gpu, r->nic);
}

/* "cpuset@nodeset cpuset@nodeset ..." of all ranks, or of the shared set followed by the number of ranks. */
static char *spell(const struct mu_pin *p)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    for (int i = 0; i < p->nrows; i++) {
        mu_auto_free char *c = mu_cpuset_str(&mu_pin_rank(p, i)->cpus), *n = mu_cpuset_str(&mu_pin_rank(p, i)->nodes);
        fprintf(f, "%s%s@%s", i ? " " : "", c, n);
        devices_to(f, mu_pin_rank(p, i));
    }
    if (p->policy == MU_PIN_NONE && p->nrows == 1)
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
        struct mu_pin_request r = {.nranks = rows[i].nranks,
                                   .policy = rows[i].policy,
                                   .smt = rows[i].smt,
                                   .occupied = rows[i].occupied ? &occupied : NULL};
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

static const struct {
    const char *machine, *mask, *occupied;
    int nranks;
    enum mu_pin_policy policy;
    enum mu_pin_map map;
    const char *busy, *plan, *note; /* plan: cpuset@nodeset/gpu/nic */
} mapped[] = {
    {"numa:2 core:4 pu:1", NULL, NULL, 2, MU_PIN_NUMA, MU_MAP_DEFAULT, NULL, "0-3@0 4-7@1", ""},
    {"numa:2 core:4 pu:1", NULL, NULL, 3, MU_PIN_NUMA, MU_MAP_DEFAULT, NULL, "0-1@0 4-7@1 2-3@0", ""},
    {"numa:2 core:4 pu:1", NULL, NULL, 3, MU_PIN_NUMA, MU_MAP_SLOT, NULL, "0@0 1@0 2-3@0", ""},
    {"numa:2 core:4 pu:1", NULL, NULL, 5, MU_PIN_NUMA, MU_MAP_SLOT, NULL, "0@0 1@0 2@0 3@0 4-7@1", ""},
    {"numa:2 core:4 pu:1", NULL, NULL, 4, MU_PIN_CORE, MU_MAP_NUMA, NULL, "0@0 4@1 1@0 5@1", ""},
    {"numa:2 core:4 pu:1", "0-5", NULL, 6, MU_PIN_CORE, MU_MAP_NUMA, NULL, "0@0 4@1 1@0 5@1 2@0 3@0", ""},
    {"numa:2 core:4 pu:1", NULL, "0-3", 2, MU_PIN_NUMA, MU_MAP_DEFAULT, NULL, "4-5@1 6-7@1", ""},
    {"numa:2 core:4 pu:1", NULL, NULL, 9, MU_PIN_NUMA, MU_MAP_DEFAULT, NULL, "0-7@0-1 x9",
     "not bound: 9 ranks, 8 of 8 cores free"},
    {"numa:2 core:4 pu:1", NULL, NULL, 1, MU_PIN_GPU, MU_MAP_DEFAULT, NULL, "0@0",
     "bound to cores: the node has no GPU"},
    {"numa:2 core:4 pu:1", NULL, NULL, 2, MU_PIN_NONE, MU_MAP_GPU, NULL, "0-7@0-1 x2",
     "not bound: the node has no GPU"},
    {GPUS, NULL, NULL, 4, MU_PIN_GPU, MU_MAP_DEFAULT, NULL, "0-2@0/0/0 3-5@0/1/0 12-14@4/2/3 15-17@4/3/3", ""},
    {GPUS, NULL, NULL, 2, MU_PIN_GPU, MU_MAP_DEFAULT, NULL, "0-2@0/0/0 3-5@0/1/0", ""},
    {GPUS, NULL, NULL, 2, MU_PIN_GPU, MU_MAP_NUMA, NULL, "0-2@0/0/0 12-14@4/2/3", ""},
    {GPUS, NULL, NULL, 6, MU_PIN_GPU, MU_MAP_DEFAULT, NULL,
     "0@0/0/0 3@0/1/0 12-14@4/2/3 15-17@4/3/3 1-2@0/0/0 4-5@0/1/0", ""},
    {GPUS, NULL, NULL, 5, MU_PIN_GPU, MU_MAP_SLOT, NULL, "0@0/0/0 1-2@0/0/0 3-5@0/1/0 12-14@4/2/3 15-17@4/3/3", ""},
    {GPUS, NULL, NULL, 2, MU_PIN_CORE, MU_MAP_GPU, NULL, "0@0/0/0 3@0/1/0", ""},
    {GPUS, NULL, NULL, 2, MU_PIN_NONE, MU_MAP_GPU, NULL, "0-23@0,4/0/0 0-23@0,4/1/0", ""},
    /* What job 1 has does not move what job 2 gets. */
    {GPUS, NULL, "0-2", 2, MU_PIN_GPU, MU_MAP_DEFAULT, "0000:03:00.0", "3-5@0/1/0 12-14@4/2/3", ""},
    {GPUS, NULL, "0-2", 2, MU_PIN_GPU, MU_MAP_DEFAULT, "GPU-00000000-1111-2222-3333-444444444444",
     "3-5@0/1/0 12-14@4/2/3", ""},
    /* Another job's ranks without GPUs are in the way: the cores that are left are shared anew. */
    {GPUS, NULL, "3-5,15-17", 4, MU_PIN_GPU, MU_MAP_DEFAULT, NULL, "0-1@0/0/0 2@0/1/0 12-13@4/2/3 14@4/3/3", ""},
    {GPUS, "12-23", NULL, 3, MU_PIN_GPU, MU_MAP_DEFAULT, NULL, "12@4/2/3 15-17@4/3/3 13-14@4/2/3", ""},
    {GPUS, NULL, NULL, 13, MU_PIN_GPU, MU_MAP_DEFAULT, NULL, "0-23@0,4 x13",
     "not bound: 13 ranks, 12 free cores near 4 GPUs"},
    {GPUS, NULL, "0-5", 1, MU_PIN_GPU, MU_MAP_DEFAULT, "0000:81:00.0 0000:a1:00.0", "12@4",
     "bound to cores: no core near a GPU is free"},
    {GPUS, NULL, NULL, 1, MU_PIN_GPU, MU_MAP_DEFAULT, "0000:81:00.0 0000:a1:00.0 0000:03:00.0 0000:05:00.0", "0@0",
     "bound to cores: other jobs have the GPUs"},
};

static void in_turn(void)
{
    for (size_t i = 0; i < MU_COUNT(mapped); i++) {
        struct mu_topo *t = load(mapped[i].machine);
        struct mu_cpuset mask, occupied;
        struct mu_err err = {0};
        struct mu_pin pin;
        char **busy = NULL;
        if (mapped[i].mask && (mu_cpuset_parse(mapped[i].mask, &mask, NULL) || mu_topo_restrict(t, &mask, NULL)))
            exit(1);
        if (mapped[i].occupied && mu_cpuset_parse(mapped[i].occupied, &occupied, NULL))
            exit(1);
        if (mapped[i].busy && mu_str_words(mapped[i].busy, &busy, NULL))
            exit(1);
        struct mu_pin_request r = {.nranks = mapped[i].nranks,
                                   .policy = mapped[i].policy,
                                   .map = mapped[i].map,
                                   .busy = busy,
                                   .occupied = mapped[i].occupied ? &occupied : NULL};
        if (mu_pin_compute(t, &r, &pin, &err)) {
            TAP_OK(0, "%s: %s", mapped[i].machine, err.text);
        } else {
            mu_auto_free char *plan = spell(&pin);
            TAP_OK(!strcmp(plan, mapped[i].plan) && !strcmp(pin.note, mapped[i].note), "%d on %s, %s by %s: %s%s%s",
                   r.nranks, mapped[i].machine, mu_pin_policy_name(r.policy), mu_pin_map_name(r.map), plan,
                   pin.note[0] ? "; " : "", pin.note);
            mu_pin_free(&pin);
        }
        mu_strv_free(busy);
        mu_topo_free(t);
    }
}

static const struct {
    const char *machine, *slots;
    bool smt;
    const char *cpus, *why;
} files[] = {
    {"pack:2 core:3 pu:2", "0-1", false, "0,2", NULL},
    {"pack:2 core:3 pu:2", "0-1", true, "0-3", NULL},
    {"pack:2 core:3 pu:2", "0,5", false, "0,10", NULL},
    {"pack:2 core:3 pu:2", "1:0-1", false, "6,8", NULL},
    {"pack:2 core:3 pu:2", "1:*", true, "6-11", NULL},
    {"pack:2 core:3 pu:2", "0:0;1:2", false, "0,10", NULL},
    {"pack:2 core:3 pu:2", "0:0,2", false, "0,4", NULL},
    {"pack:2 core:3 pu:2", "p1,3", false, "1,3", NULL},
    {"pack:2 core:3 pu:2", "*", false, "0,2,4,6,8,10", NULL},
    {FIXTURE, "p8", false, "8", NULL},
    {FIXTURE, "1:p0", false, NULL, "this node has no package 1 with core 0"},
    {"pack:2 core:3 pu:2", "6", false, NULL, "has no core 6"},
    {"pack:2 core:3 pu:2", "4-6", false, NULL, "does not have cores 4-6"},
    {"pack:2 core:3 pu:2", "2:0", false, NULL, "has no package 2 with core 0"},
    {"pack:2 core:3 pu:2", "p12", false, NULL, "has no CPU 12"},
    {"pack:2 core:3 pu:2", "1-", false, NULL, "expected cores"},
    {"pack:2 core:3 pu:2", "3-1", false, NULL, "expected cores"},
    {"pack:2 core:3 pu:2", "0-1:2", false, NULL, "expected cores"},
    {"pack:2 core:3 pu:2", "0:1:2", false, NULL, "expected cores"},
    {"pack:2(indexes=4,8) core:2 pu:1", "p8:2", false, "2", NULL},
    {"pack:2(indexes=4,8) core:2 pu:1", "1:0", false, "2", NULL},
    {"pack:2(indexes=4,8) core:2 pu:1", "p1:0", false, NULL, "no package 1 with core 0"},
    {"pack:2 core:3 pu:2", "", false, NULL, "expected cores"},
    {"pack:2 core:3 pu:2", "0,", false, NULL, "expected cores"},
    {"pack:2 core:3 pu:2", "x", false, NULL, "expected cores"},
    {"pack:2 core:3 pu:2", "99999999999999999999", false, NULL, "expected cores"},
    {FIXTURE, "p6", false, NULL, "may be used here"},
};

static void slots(void)
{
    for (size_t i = 0; i < MU_COUNT(files); i++) {
        struct mu_topo *t = load(files[i].machine);
        struct mu_cpuset s;
        struct mu_err err = {0};
        int rc = mu_pin_slots(t, files[i].slots, files[i].smt, &s, &err);
        mu_auto_free char *got = rc ? NULL : mu_cpuset_str(&s);
        TAP_OK(files[i].cpus ? got && !strcmp(got, files[i].cpus) : rc == MUSTER_EARG && strstr(err.text, files[i].why),
               "slot=%s on %s: %s", files[i].slots, files[i].machine, got ? got : err.text);
        mu_topo_free(t);
    }
    struct mu_topo *t = load("numa:2 core:2 pu:1");
    char *both[] = {(char *)(uintptr_t) "0-1", (char *)(uintptr_t) "", (char *)(uintptr_t) "1", NULL};
    struct mu_pin pin;
    TAP_OK(!mu_pin_compute(t, &(struct mu_pin_request){.nranks = 3, .slots = both}, &pin, NULL) &&
               pin.policy == MU_PIN_FILE && !strcmp(pin.note, "the rank file gives CPU 1 to more than one rank"),
           "a rank file may let ranks share a CPU, which is told");
    struct mu_err err = {0};
    enum { MANY = 70000 };
    char **many = calloc(MANY + 1, sizeof *many);
    for (int i = 0; many && i < MANY; i++)
        many[i] = both[0];
    struct mu_pin none = {0};
    TAP_OK(many &&
               mu_pin_compute(t, &(struct mu_pin_request){.nranks = MANY, .slots = many}, &none, &err) == MUSTER_EARG &&
               strstr(err.text, "at most 65536"),
           "%s", err.text);
    free(many);
    mu_auto_free char *plan = spell(&pin);
    TAP_OK(!strcmp(plan, "0-1@0 0-3@0-1 1@0"), "a rank without slots is not bound: %s", plan);
    mu_pin_free(&pin);
    mu_topo_free(t);
}

static void environment(void)
{
    struct mu_topo *t = load(GPUS);
    struct mu_pin pin;
    mu_auto_buf struct mu_buf all = {0};

    if (mu_pin_compute(t, &(struct mu_pin_request){.nranks = 4, .policy = MU_PIN_GPU}, &pin, NULL))
        exit(1);
    for (int i = 0; i < 4; i++) {
        char **env = NULL;
        mu_pin_env(t, mu_pin_rank(&pin, i), &env);
        for (char **e = env; e && *e; e++)
            mu_buf_appendf(&all, "%d:%s ", i, *e);
        mu_strv_free(env);
    }
    TAP_OK(!strcmp(mu_buf_str(&all),
                   "0:CUDA_VISIBLE_DEVICES=GPU-00000000-1111-2222-3333-444444444444 0:UCX_NET_DEVICES=mlx5_0:1 "
                   "1:UCX_NET_DEVICES=mlx5_0:1 2:ROCR_VISIBLE_DEVICES=GPU-0f62596172e6212b "
                   "2:UCX_NET_DEVICES=mlx5_1:2 3:UCX_NET_DEVICES=mlx5_1:2 "),
           "GPUs by UUID, adapters by their active port: %s", mu_buf_str(&all));
    mu_pin_free(&pin);
    mu_topo_free(t);
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
    int slots_here = mu_topo_slots(t), plans_made = 0;
    const char *bad = NULL;

    for (int n = 1; n <= slots_here + 1 && !bad; n += slots_here > 32 ? slots_here / 16 : 1) {
        for (int smt = 0; smt < 2 && !bad; smt++) {
            struct mu_pin pin;
            if (mu_pin_compute(t, &(struct mu_pin_request){.nranks = n, .policy = MU_PIN_CORE, .smt = smt}, &pin, NULL))
                bad = "no plan";
            else if ((pin.policy == MU_PIN_CORE) != (n <= slots_here))
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
        struct mu_pin_request r = {.nranks = 1 + (int)draw((unsigned)slots_here),
                                   .policy = MU_PIN_CORE,
                                   .smt = draw(2),
                                   .occupied = &occupied};
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
                                           FIXTURE,
                                           GPUS};

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
        if (rc) {
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
    TAP_OK(mu_pin_compute(t, &(struct mu_pin_request){.nranks = 1, .policy = 9}, &pin, &err) == MUSTER_EARG,
           "no such policy");
    TAP_OK(mu_pin_policy_parse("socket", &p, &err) == MUSTER_EARG && p == MU_PIN_CORE &&
               strstr(err.text, "core, numa, gpu or none"),
           "%s", err.text);
    TAP_OK(!mu_pin_policy_parse("none", &p, NULL) && p == MU_PIN_NONE && !strcmp(mu_pin_policy_name(p), "none"),
           "none");
    TAP_OK(!mu_pin_policy_parse("core", &p, NULL) && p == MU_PIN_CORE && !strcmp(mu_pin_policy_name(p), "core"),
           "core");
    TAP_OK(!mu_pin_compute(t, &(struct mu_pin_request){.nranks = 2, .policy = MU_PIN_CORE}, &pin, NULL) &&
               !mu_pin_rank(&pin, 2) && !mu_pin_rank(&pin, -1) && mu_pin_rank(&pin, 1),
           "ranks outside the plan have none");
    mu_pin_free(&pin);
    mu_topo_free(t);
}

int main(void)
{
    plans();
    in_turn();
    slots();
    environment();
    many();
    real_machines();
    refused();
    return tap_done();
}
