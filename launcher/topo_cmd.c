/* muster topo: what a node is made of, and where ranks would go on it; topo_fabric.c has what is between nodes. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/dev_json.h"
#include "launcher/rankfile.h"
#include "launcher/table.h"
#include "launcher/topo_fabric.h"
#include "runtime/base/clean.h"
#include "runtime/base/hosts.h"
#include "runtime/base/opt.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "topo/draw.h"

enum { EXIT_USAGE = 2 };

struct opts {
    const char *node_file, *synthetic, *cpus, *occupied, *bind, *map, *rankfile, *svg;
    int ranks;
    bool smt, json;
};

static void clean_topo(struct mu_topo **t)
{
    mu_topo_free(*t);
}
#define auto_topo __attribute__((cleanup(clean_topo)))

/* The first row is show's own. */
static const struct mu_opt rows[] = {
    {"svg", 0, MU_OPT_STRING, offsetof(struct opts, svg), "FILE", .help = "draw it into this file"},
    {"ranks", 'n', MU_OPT_INT, offsetof(struct opts, ranks), "N", .help = "ranks on the node", .aliases = "np",
     .min = 1, .max = 1 << 20},
    {"bind", 0, MU_OPT_STRING, offsetof(struct opts, bind), "core|numa|gpu|none",
     .help =
         "what a rank gets: a core (default), a part of a NUMA node, a GPU and cores near it, or all that is allowed",
     .aliases = "bind-to"},
    {"map", 0, MU_OPT_STRING, offsetof(struct opts, map), "slot|node|numa|gpu",
     .help = "where the next rank goes; default: what --bind names", .aliases = "map-by"},
    {"rankfile", 0, MU_OPT_STRING, offsetof(struct opts, rankfile), "FILE",
     .help = "CPUs of each rank instead: 'rank N=HOST slot=LIST' a line"},
    {"smt", 0, MU_OPT_FLAG, offsetof(struct opts, smt), .help = "all hardware threads of a core, not its first"},
    {"occupied", 0, MU_OPT_STRING, offsetof(struct opts, occupied), "LIST", .help = "CPUs that other jobs hold"},

    {"node-file", 0, MU_OPT_STRING, offsetof(struct opts, node_file), "FILE",
     .help = "the node of this XML file, hwloc's or NCCL's, instead of this machine"},
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
    {"show", "muster topo show [-n N [--bind B] [--map M]] [--node-file FILE] [--svg FILE] [--json]",
     "packages, NUMA nodes, caches, cores, GPUs and network adapters of a node", rows, MU_COUNT(rows), show},
    {"pin", "muster topo pin -n N [--bind core|numa|gpu|none] [--map M] [--node-file FILE] [--json]",
     "the CPUs, NUMA nodes, GPU and network adapter that each rank of a job would get", rows + 1, MU_COUNT(rows) - 1,
     pin},
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
    return rc && !ferror(stdout) ? mu_err_set(err, rc, "the result cannot be printed")
                                 : 0; /* main says of the stream */
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

static json_t *json_devs(const struct mu_topo *t, bool gpu)
{
    int n = gpu ? mu_topo_ngpus(t) : mu_topo_nnics(t);
    json_t *a = json_array();

    for (int i = 0; i < n; i++) {
        const struct mu_topo_dev *d = gpu ? mu_topo_gpu(t, i) : mu_topo_nic(t, i);
        json_t *j = gpu ? mu_json_gpu(t, i) : mu_json_nic(t, i);
        json_object_set_new(j, "name", mu_json_or_null(d->name));
        json_object_set_new(j, "model", mu_json_or_null(d->model));
        json_object_set_new(j, "cpuset", json_list(&d->cpus));
        json_object_set_new(j, "nodeset", json_list(&d->nodes));
        json_object_set_new(j, "usable", json_boolean(gpu ? !d->hidden : !d->down));
        if (!gpu)
            json_object_set_new(j, "fabric", json_boolean(d->fabric));
        json_array_append_new(a, j);
    }
    return whole(a, n);
}

/* --- pinning ---------------------------------------------------------------------------------------------------- */

static bool is_host(const char *name)
{
    uint64_t index;

    if (name[0] == '+')
        return name[1] == 'n' && !mu_str_u64(name + 2, 0, MU_HOSTS_MAX - 1, &index);
    return name[0] == '[' || mu_hosts_is_node(mu_host_name(name));
}

/* The slots of a rank file's ranks; all on one node. */
static int slots_of(const struct opts *o, const struct mu_topo *t, char ***slots, int *n, struct mu_err *err)
{
    struct mu_rankfile f = {0};
    char shown[80];
    int rc = mu_rankfile_read(o->rankfile, &f, err);

    if (rc)
        return rc == MUSTER_ENOMEM ? rc : MUSTER_EARG;
    if (o->ranks && (uint32_t)o->ranks != f.n)
        rc = mu_err_set(err, MUSTER_EARG, "%d ranks asked for, %s has %u: leave -n out", o->ranks, o->rankfile, f.n);
    for (uint32_t i = 0; !rc && i < f.n; i++) {
        struct mu_cpuset cpus;
        if (!is_host(f.v[i].host))
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u: '%s' is no host, and none of a list, +n0 to +n%d", o->rankfile,
                            f.v[i].line, mu_str_show(shown, sizeof shown, f.v[i].host), MU_HOSTS_MAX - 1);
        else if (*f.v[i].slots && (rc = mu_pin_slots(t, f.v[i].slots, o->smt, &cpus, err)))
            mu_err_prefix(err, "%s:%u", o->rankfile, f.v[i].line);
        else if (strcmp(f.v[i].host, f.v[0].host))
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u: another host than in line %u; this looks at one node",
                            o->rankfile, f.v[i].line, f.v[0].line);
        else if (mu_strv_append(slots, f.v[i].slots))
            rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    *n = (int)f.n;
    mu_rankfile_free(&f);
    return rc;
}

static bool has_gpu(const struct mu_topo *t)
{
    for (int i = 0; i < mu_topo_ngpus(t); i++)
        if (!mu_topo_gpu(t, i)->hidden)
            return true;
    return false;
}

/* What other jobs hold of this node. Indexes that it has not are a mistake, or another node's; what ranks may not use
 * anyway changes nothing. */
static int read_occupied(const struct opts *o, const struct mu_topo *t, struct mu_cpuset *out, struct mu_err *err)
{
    char shown[80], source[200];
    struct mu_cpuset none, known = {{0}};
    int rc = mu_cpuset_parse(o->occupied, out, err);
    bool any = false;

    if (rc)
        return mu_err_prefix(err, "--occupied");
    if (o->bind && !strcmp(o->bind, "none") && !(o->map && !strcmp(o->map, "gpu") && has_gpu(t)))
        return mu_err_set(err, MUSTER_EARG, "--bind none leaves ranks all CPUs: leave --occupied out");
    for (int i = 0; i < mu_topo_ncores(t); i++) {
        const struct mu_topo_core *c = mu_topo_core(t, i);
        bool taken = false, usable = false;
        for (int k = 0; k < c->npus; k++) {
            mu_cpuset_set(&known, c->pus[k]);
            taken |= mu_cpuset_isset(out, c->pus[k]);
            usable |= mu_cpuset_isset(mu_topo_allowed(t), c->pus[k]);
        }
        any |= taken && usable;
    }
    mu_str_show(source, sizeof source, mu_topo_source(t));
    mu_str_show(shown, sizeof shown, o->occupied);
    none = *out;
    mu_cpuset_andnot(&none, &known);
    if (!mu_cpuset_intersects(out, &known))
        return mu_err_set(err, MUSTER_EARG, "--occupied: %s has none of the CPUs '%s'", source, shown);
    if (!mu_cpuset_empty(&none))
        return mu_err_set(err, MUSTER_EARG, "--occupied: %s has no CPU %d", source, mu_cpuset_next(&none, -1));
    return any ? 0
               : mu_err_set(err, MUSTER_EARG, "--occupied: ranks may use no core of the CPUs '%s' anyway: leave it out",
                            shown);
}

static int compute(const struct opts *o, const struct mu_topo *t, struct mu_pin *p, struct mu_err *err)
{
    struct mu_pin_request r = {.nranks = o->ranks, .policy = MU_PIN_CORE, .smt = o->smt};
    struct mu_cpuset occupied;
    char **slots = NULL;
    int rc;

    if (!o->ranks && !o->rankfile)
        return mu_err_set(err, MUSTER_EARG, "how many ranks? Give -n N");
    if (o->bind && (rc = mu_pin_policy_parse(o->bind, &r.policy, err)))
        return mu_err_prefix(err, "--bind");
    if (o->map && (rc = mu_pin_map_parse(o->map, &r.map, err)))
        return mu_err_prefix(err, "--map");
    if (o->rankfile && (o->bind || o->map))
        return mu_err_set(err, MUSTER_EARG, "--rankfile says where each rank goes: leave --bind and --map out");
    if (o->smt && o->bind && !strcmp(o->bind, "none"))
        return mu_err_set(err, MUSTER_EARG, "--bind none leaves ranks all hardware threads: leave --smt out");
    if (o->occupied) {
        if ((rc = read_occupied(o, t, &occupied, err)))
            return rc;
        r.occupied = &occupied;
    }
    rc = o->rankfile ? slots_of(o, t, &slots, &r.nranks, err) : 0;
    r.slots = slots;
    if (!rc)
        rc = mu_pin_compute(t, &r, p, err);
    mu_strv_free(slots);
    return rc;
}

static json_t *json_ranks(const struct mu_topo *t, const struct mu_pin *p)
{
    json_t *ranks = json_array();

    for (int i = 0; i < p->nranks; i++) {
        const struct mu_pin_rank *r = mu_pin_rank(p, i);
        char **env = NULL;
        json_t *vars = json_array();
        if (!mu_pin_env(t, r, &env))
            for (char **e = env; e && *e; e++)
                json_array_append_new(vars, mu_json_or_null(*e));
        mu_strv_free(env);
        json_array_append_new(ranks, json_pack("{s:i,s:o,s:o,s:o,s:o,s:o}", "rank", i, "cpuset", json_list(&r->cpus),
                                               "nodeset", json_list(&r->nodes), "gpu", mu_json_gpu(t, r->gpu), "nic",
                                               mu_json_nic(t, r->nic), "env", vars));
    }
    return whole(ranks, p->nranks);
}

static int draw_file(const struct mu_topo *t, const struct mu_pin *p, const char *path, struct mu_err *err)
{
    mu_auto_file FILE *f = NULL;
    int rc = mu_path_create(path, &f, err);

    if (rc)
        return mu_err_prefix(err, "--svg"), rc;
    if (mu_topo_draw_svg(t, p, f) || fclose(MU_STEAL(f, NULL)))
        return mu_err_errno(err, MUSTER_EIO, "--svg: cannot write %s", path);
    return 0;
}

/* --- commands --------------------------------------------------------------------------------------------------- */

static const char *s_of(int n)
{
    return n == 1 ? "" : "s";
}

static int show_json(const struct mu_topo *t, const struct mu_pin *p, struct mu_err *err)
{
    struct mu_topo_counts n;
    char source[256];

    mu_topo_count(t, &n);
    json_t *j = json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:I,s:o,s:o,s:i,s:o,s:o,s:o,s:o}", "schema", "muster.topo/1",
                          "source", mu_str_show(source, sizeof source, mu_topo_source(t)), "packages", n.packages,
                          "numa_nodes", n.nodes, "cores", n.cores, "pus", n.pus, "memory", (json_int_t)n.memory,
                          "cpuset", json_list(mu_topo_allowed(t)), "nodeset", json_list(mu_topo_allowed_nodes(t)),
                          "slots", mu_topo_slots(t), "core_list", json_cores(t), "node_list", json_nodes(t), "gpu_list",
                          json_devs(t, true), "nic_list", json_devs(t, false));
    if (j && p) {
        json_object_set_new(j, "bind", json_string(mu_pin_policy_name(p->policy)));
        json_object_set_new(j, "note", json_string(p->note));
        json_object_set_new(j, "ranks", json_ranks(t, p));
    }
    return put_json(j, err);
}

static int show_text(const struct mu_topo *t, const struct mu_pin *p)
{
    struct mu_topo_counts n;
    char memory[32], source[256];
    int gpus = mu_topo_ngpus(t), nics = mu_topo_nnics(t);

    mu_topo_count(t, &n);
    printf("%s: %d package%s, %d NUMA node%s, %d core%s, %d PU%s",
           mu_str_show(source, sizeof source, mu_topo_source(t)), n.packages, s_of(n.packages), n.nodes, s_of(n.nodes),
           n.cores, s_of(n.cores), n.pus, s_of(n.pus));
    if (n.memory)
        printf(", %s", mu_str_fmt_size(memory, sizeof memory, n.memory));
    if (gpus)
        printf(", %d GPU%s", gpus, s_of(gpus));
    if (nics)
        printf(", %d network adapter%s", nics, s_of(nics));
    printf(" (what is allowed: *)\n");
    mu_topo_draw(t, p, stdout);
    if (p && p->policy == MU_PIN_NONE)
        printf("ranks 0-%d are not bound\n", p->nranks - 1);
    return 0;
}

static int show(const struct opts *o, struct mu_topo *t, struct mu_err *err)
{
    struct mu_pin pin = {0}, *p = NULL;
    int rc = 0;

    if (o->json && o->svg)
        return mu_err_set(err, MUSTER_EARG, "--json and --svg are two outputs: give one of them");
    if (o->svg && o->node_file && mu_path_same_file(o->svg, o->node_file))
        return mu_err_set(err, MUSTER_EARG, "--svg: %s is the node's file: name another one", o->svg);
    if (o->svg && o->rankfile && mu_path_same_file(o->svg, o->rankfile))
        return mu_err_set(err, MUSTER_EARG, "--svg: %s is the rank file: name another one", o->svg);
    if (o->ranks || o->rankfile) {
        if ((rc = compute(o, t, &pin, err)))
            return rc;
        p = &pin;
    } else if (o->bind || o->map || o->occupied || o->smt) {
        return mu_err_set(err, MUSTER_EARG, "how many ranks are bound? Give -n N, or leave --%s out",
                          o->bind  ? "bind"
                          : o->map ? "map"
                          : o->smt ? "smt"
                                   : "occupied");
    }
    if (o->svg)
        rc = draw_file(t, p, o->svg, err);
    else
        rc = o->json ? show_json(t, p, err) : show_text(t, p);
    if (p && !o->json && p->note[0])
        fprintf(stderr, "muster topo show: %s\n", p->note);
    mu_pin_free(&pin);
    return rc;
}

static int pin_json(const struct mu_topo *t, const struct mu_pin *p, enum mu_pin_map map, struct mu_err *err)
{
    char source[256];

    return put_json(json_pack("{s:s,s:s,s:s,s:o,s:s,s:o}", "schema", "muster.pin/1", "source",
                              mu_str_show(source, sizeof source, mu_topo_source(t)), "bind",
                              mu_pin_policy_name(p->policy), "map", mu_json_or_null(mu_pin_map_name(map)), "note",
                              p->note, "ranks", json_ranks(t, p)),
                    err);
}

static void dev_cell(struct mu_table *t, const struct mu_topo_dev *d)
{
    mu_table_cellf(t, "%s%s%s", d->pci, *d->pci && *d->name ? " " : "", d->name);
}

static int pin_table(const struct mu_topo *topo, const struct mu_pin *p, struct mu_err *err)
{
    static const struct mu_column columns[] = {
        {"RANK", MU_RIGHT}, {"CPUS", 0}, {"NODES", 0}, {"GPU", 0}, {"ADAPTER", 0}};
    bool gpus = false;

    for (int i = 0; i < p->nranks; i++)
        gpus |= mu_pin_rank(p, i)->gpu >= 0;
    struct mu_table *t = mu_table_new(columns, gpus ? 5 : 3);
    for (int i = 0; t && i < p->nranks; i++) {
        const struct mu_pin_rank *r = mu_pin_rank(p, i);
        mu_auto_free char *cpus = mu_cpuset_str(&r->cpus), *nodes = mu_cpuset_str(&r->nodes);
        mu_table_cellf(t, "%d", i);
        mu_table_cell(t, cpus ? cpus : "?");
        mu_table_cell(t, nodes ? nodes : "?");
        if (gpus && r->gpu >= 0)
            dev_cell(t, mu_topo_gpu(topo, r->gpu));
        else if (gpus)
            mu_table_cell(t, "-");
        if (gpus && r->nic >= 0)
            dev_cell(t, mu_topo_nic(topo, r->nic));
        else if (gpus)
            mu_table_cell(t, "-");
    }
    if (!t)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_table_print(t, stdout);
    mu_table_free(t);
    return 0;
}

static int pin(const struct opts *o, struct mu_topo *t, struct mu_err *err)
{
    enum mu_pin_map map = MU_MAP_DEFAULT;
    struct mu_pin p;
    int rc = compute(o, t, &p, err);

    if (rc)
        return rc;
    if (o->map)
        mu_pin_map_parse(o->map, &map, NULL);
    rc = o->json ? pin_json(t, &p, map, err) : pin_table(t, &p, err);
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
    if ((rc = mu_topo_load(kind, o->node_file ? o->node_file : o->synthetic, MU_TOPO_IO, &t, err)))
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
