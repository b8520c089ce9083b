/* muster topo: what a node is made of, and where ranks would go on it; topo_fabric.c has what is between nodes. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/topo_fabric.h"
#include "runtime/base/clean.h"
#include "runtime/base/opt.h"
#include "runtime/base/str.h"
#include "topo/pin.h"

enum { EXIT_USAGE = 2 };

struct opts {
    const char *node_file, *synthetic, *cpus, *occupied, *bind;
    int ranks;
    bool smt, json;
};

static void clean_topo(struct mu_topo **t)
{
    mu_topo_free(*t);
}
#define auto_topo __attribute__((cleanup(clean_topo)))

/* The first PIN_ONLY rows are pin's own; the rest say which node, for every subcommand. */
enum { PIN_ONLY = 4 };
static const struct mu_opt rows[] = {
    {"ranks", 'n', MU_OPT_INT, offsetof(struct opts, ranks), "N", .help = "ranks on the node", .aliases = "np",
     .min = 1, .max = 1 << 20},
    {"bind", 0, MU_OPT_STRING, offsetof(struct opts, bind), "core|none",
     .help = "a core a rank (default), or all that is allowed", .aliases = "bind-to"},
    {"smt", 0, MU_OPT_FLAG, offsetof(struct opts, smt), .help = "all hardware threads of a core, not its first"},
    {"occupied", 0, MU_OPT_STRING, offsetof(struct opts, occupied), "LIST", .help = "CPUs that other jobs hold"},

    {"node-file", 0, MU_OPT_STRING, offsetof(struct opts, node_file), "FILE",
     .help = "the node of this hwloc XML file instead of this machine"},
    {"synthetic", 0, MU_OPT_STRING, offsetof(struct opts, synthetic), "TEXT",
     .help = "a node in hwloc's words, such as 'pack:2 core:4 pu:2'"},
    {"cpus", 0, MU_OPT_STRING, offsetof(struct opts, cpus), "LIST", .help = "use only these CPUs, such as 0-3,8"},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), .help = "print JSON"},
};

static int show(const struct opts *, struct mu_topo *, struct mu_err *);
static int pin(const struct opts *, struct mu_topo *, struct mu_err *);

/* A new subcommand is a row here. run prints to stdout and returns 0 or an error. */
static const struct sub {
    const char *name, *usage, *what;
    const struct mu_opt *rows;
    size_t nrows;
    int (*run)(const struct opts *, struct mu_topo *, struct mu_err *);
} subs[] = {
    {"show", "muster topo show [--node-file FILE] [--json]", "packages, NUMA nodes, caches, cores and CPUs of a node",
     rows + PIN_ONLY, MU_COUNT(rows) - PIN_ONLY, show},
    {"pin", "muster topo pin -n N [--bind core|none] [--node-file FILE] [--json]",
     "the CPUs and NUMA nodes that each rank of a job would get", rows, MU_COUNT(rows), pin},
};

/* --- output ----------------------------------------------------------------------------------------------------- */

static json_t *json_list(const struct mu_cpuset *s)
{
    mu_auto_free char *text = mu_cpuset_str(s);

    return text ? json_string(text) : NULL;
}

static int put_json(json_t *j, struct mu_err *err)
{
    int rc = j && !json_dumpf(j, stdout, JSON_COMPACT) && putchar('\n') != EOF ? 0 : MUSTER_EIO;

    json_decref(j);
    return rc ? mu_err_set(err, rc, "the result cannot be printed") : 0;
}

/* The array, or NULL when memory ran out while it grew. */
static json_t *whole(json_t *array, int n)
{
    if (json_array_size(array) == (size_t)n)
        return array;
    json_decref(array);
    return NULL;
}

static json_t *json_nodes(const struct mu_topo *t)
{
    json_t *a = json_array();

    for (int i = 0; i < mu_topo_nnodes(t); i++) {
        const struct mu_topo_node *n = mu_topo_node(t, i);
        json_array_append_new(a, json_pack("{s:i,s:o,s:I}", "node", n->os, "cpuset", json_list(&n->cpus), "memory",
                                           (json_int_t)n->memory));
    }
    return whole(a, mu_topo_nnodes(t));
}

static json_t *json_cores(const struct mu_topo *t)
{
    json_t *a = json_array();

    for (int i = 0; i < mu_topo_ncores(t); i++) {
        const struct mu_topo_core *c = mu_topo_core(t, i);
        json_t *pus = json_array();
        for (int p = 0; p < c->npus; p++)
            json_array_append_new(pus, json_integer(c->pus[p]));
        json_array_append_new(a, json_pack("{s:i,s:i,s:o,s:o}", "core", i, "package", c->package, "pus",
                                           whole(pus, c->npus), "nodeset", json_list(c->nodes)));
    }
    return whole(a, mu_topo_ncores(t));
}

static int show(const struct opts *o, struct mu_topo *t, struct mu_err *err)
{
    struct mu_topo_counts n;
    char memory[32], source[256];

    mu_topo_count(t, &n);
    if (o->json)
        return put_json(json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:I,s:o,s:o,s:i,s:o,s:o}", "schema", "muster.topo/1",
                                  "source", mu_str_show(source, sizeof source, mu_topo_source(t)), "packages",
                                  n.packages, "numa_nodes", n.nodes, "cores", n.cores, "pus", n.pus, "memory",
                                  (json_int_t)n.memory, "cpuset", json_list(mu_topo_allowed(t)), "nodeset",
                                  json_list(mu_topo_allowed_nodes(t)), "slots", mu_topo_slots(t), "core_list",
                                  json_cores(t), "node_list", json_nodes(t)),
                        err);

    printf("%s: %d package%s, %d NUMA node%s, %d core%s, %d PU%s, %s (what is allowed: *)\n",
           mu_str_show(source, sizeof source, mu_topo_source(t)), n.packages, n.packages == 1 ? "" : "s", n.nodes,
           n.nodes == 1 ? "" : "s", n.cores, n.cores == 1 ? "" : "s", n.pus, n.pus == 1 ? "" : "s",
           mu_str_fmt_size(memory, sizeof memory, n.memory));
    return mu_topo_draw(t, stdout);
}

static int pin_json(const struct mu_topo *t, const struct mu_pin *p, struct mu_err *err)
{
    json_t *ranks = json_array();

    for (int i = 0; i < p->nranks; i++) {
        const struct mu_pin_rank *r = mu_pin_rank(p, i);
        json_array_append_new(ranks, json_pack("{s:i,s:o,s:o,s:n,s:n}", "rank", i, "cpuset", json_list(&r->cpus),
                                               "nodeset", json_list(&r->nodes), "gpu", "nic"));
    }
    char source[256];
    return put_json(json_pack("{s:s,s:s,s:s,s:s,s:o}", "schema", "muster.pin/1", "source",
                              mu_str_show(source, sizeof source, mu_topo_source(t)), "bind",
                              mu_pin_policy_name(p->policy), "note", p->note, "ranks", whole(ranks, p->nranks)),
                    err);
}

static int pin_table(const struct mu_pin *p, struct mu_err *err)
{
    size_t width = strlen("CPUS");

    for (int i = 0; i < p->nranks; i++) {
        size_t w = mu_cpuset_format(&mu_pin_rank(p, i)->cpus, NULL, 0);
        if (w > width)
            width = w;
    }
    printf("%6s  %-*s  %s\n", "RANK", (int)width, "CPUS", "NODES");
    for (int i = 0; i < p->nranks; i++) {
        const struct mu_pin_rank *r = mu_pin_rank(p, i);
        mu_auto_free char *cpus = mu_cpuset_str(&r->cpus), *nodes = mu_cpuset_str(&r->nodes);
        if (!cpus || !nodes)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        printf("%6d  %-*s  %s\n", i, (int)width, cpus, nodes);
    }
    return 0;
}

/* --- commands --------------------------------------------------------------------------------------------------- */

static int pin(const struct opts *o, struct mu_topo *t, struct mu_err *err)
{
    struct mu_pin_request r = {.nranks = o->ranks, .policy = MU_PIN_CORE, .smt = o->smt};
    struct mu_cpuset occupied;
    struct mu_pin p;
    int rc;

    if (!o->ranks)
        return mu_err_set(err, MUSTER_EARG, "how many ranks? Give -n N");
    if (o->bind && (rc = mu_pin_policy_parse(o->bind, &r.policy, err)))
        return mu_err_prefix(err, "--bind");
    if (o->occupied) {
        if ((rc = mu_cpuset_parse(o->occupied, &occupied, err)))
            return mu_err_prefix(err, "--occupied");
        r.occupied = &occupied;
    }
    if ((rc = mu_pin_compute(t, &r, &p, err)))
        return rc;
    rc = o->json ? pin_json(t, &p, err) : pin_table(&p, err);
    if (!rc && !o->json && p.note[0])
        fprintf(stderr, "muster topo pin: %s\n", p.note);
    mu_pin_free(&p);
    return rc;
}

static int load(const struct opts *o, struct mu_topo **out, struct mu_err *err)
{
    auto_topo struct mu_topo *t = NULL;
    enum mu_topo_kind kind = o->node_file ? MU_TOPO_XML : o->synthetic ? MU_TOPO_SYNTHETIC : MU_TOPO_LIVE;
    struct mu_cpuset mask;
    int rc;

    if (o->node_file && o->synthetic)
        return mu_err_set(err, MUSTER_EARG, "--node-file and --synthetic are two nodes: give one of them");
    if (o->cpus && (rc = mu_cpuset_parse(o->cpus, &mask, err)))
        return mu_err_prefix(err, "--cpus");
    if ((rc = mu_topo_load(kind, o->node_file ? o->node_file : o->synthetic, 0, &t, err)))
        return rc;
    if (o->cpus && (rc = mu_topo_restrict(t, &mask, err)))
        return mu_err_prefix(err, "--cpus");
    *out = MU_STEAL(t, NULL);
    return 0;
}

static int help(FILE *f)
{
    fprintf(f, "usage: muster topo COMMAND [OPTION]...\n\n");
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        fprintf(f, "  %-6s  %s\n", subs[i].name, subs[i].what);
    mu_topo_fabric_help(f);
    return f == stdout ? 0 : EXIT_USAGE;
}

static int complain(const struct sub *s, const struct mu_err *err, int code)
{
    char text[sizeof err->text * 2];

    fprintf(stderr, "muster topo %s: %s\n", s->name, mu_str_show(text, sizeof text, err->text));
    return code;
}

static int run_sub(const struct sub *s, int argc, char **argv)
{
    struct opts o = {0};
    auto_topo struct mu_topo *t = NULL;
    struct mu_err err = {0};
    int first, rc = mu_opt_parse(s->rows, s->nrows, argc, argv, MU_OPT_PERMUTE, &o, &first, &err);

    if (rc == 1) {
        mu_opt_help(stdout, s->usage, s->rows, s->nrows);
        return 0;
    }
    if (!rc && first < argc)
        rc = mu_err_set(&err, MUSTER_EARG, "'%.80s' is one word too many: %s", argv[first], s->usage);
    if (!rc)
        rc = load(&o, &t, &err);
    if (rc)
        return complain(s, &err, rc == MUSTER_ENOMEM ? EXIT_FAILURE : EXIT_USAGE);
    if ((rc = s->run(&o, t, &err)))
        return complain(s, &err, rc == MUSTER_EARG ? EXIT_USAGE : EXIT_FAILURE);
    if (fflush(stdout)) {
        mu_err_errno(&err, 0, "standard output");
        return complain(s, &err, EXIT_FAILURE);
    }
    return 0;
}

int mu_cmd_topo(int argc, char **argv)
{
    if (argc < 2)
        return help(stderr);
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        if (!strcmp(argv[1], subs[i].name))
            return run_sub(&subs[i], argc - 1, argv + 1);
    int code = mu_topo_fabric_cmd(argc - 1, argv + 1);
    if (code >= 0)
        return code;
    if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))
        return help(stdout);
    char word[80];
    fprintf(stderr, "muster topo: there is no '%s' here: show, pin, fabric, place, audit or export\n",
            mu_str_show(word, sizeof word, argv[1]));
    return EXIT_USAGE;
}
