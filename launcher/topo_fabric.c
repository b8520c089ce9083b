#include "launcher/topo_fabric.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/hosts.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "topo/audit.h"
#include "topo/export.h"
#include "topo/fabric_svg.h"

enum { OCCUPIED_MAX_BYTES = 64 << 20, OCCUPIED_MAX_NAMES = 4 << 20 };
enum { AS_HOSTFILE, AS_TOPOLOGY };

struct opts {
    char **files;
    const char *guids, *device, *occupied, *svg;
    uint64_t timeout;
    int nodes, group, as;
    bool json;
};

static void clean_fabric(struct mu_fabric **f)
{
    mu_fabric_free(*f);
}
static void clean_place(struct mu_place **p)
{
    mu_place_free(*p);
}
static void clean_table(struct mu_table **t)
{
    mu_table_free(*t);
}
#define auto_fabric __attribute__((cleanup(clean_fabric)))
#define auto_place __attribute__((cleanup(clean_place)))
#define auto_result __attribute__((cleanup(mu_place_result_free)))
#define auto_audit __attribute__((cleanup(mu_audit_free)))
#define auto_units __attribute__((cleanup(mu_units_free)))
#define auto_table __attribute__((cleanup(clean_table)))

/* The first EXPORT_ONLY rows are export's, the first PLACE_ONLY export's and place's; the rest say which fabric. */
enum { EXPORT_ONLY = 1, PLACE_ONLY = 4 };
/* The last rows that not all have: json, not export's, and svg, fabric's alone. */
enum { NO_SVG = 1, NO_JSON = 2 };
static const struct mu_opt rows[] = {
    {"as", 0, MU_OPT_CHOICE, offsetof(struct opts, as), "hostfile|topology.conf",
     .help = "what to write; default hostfile"},
    {"nodes", 'N', MU_OPT_INT, offsetof(struct opts, nodes), "N", .help = "nodes to choose", .min = 1, .max = 1 << 20},
    {"group-size", 0, MU_OPT_INT, offsetof(struct opts, group), "G",
     .help = "nodes of a group that talks most; it is kept on one leaf where that costs nothing", .min = 1,
     .max = 1 << 20},
    {"occupied", 0, MU_OPT_STRING, offsetof(struct opts, occupied), "FILE",
     .help = "nodes that cannot be had: a name, or n[0-7], a line"},

    {"fabric-file", 0, MU_OPT_STRV, offsetof(struct opts, files), "FILE",
     .help = "what ibnetdiscover printed, once for each subnet, or a topology.conf; else the running fabric"},
    {"guids", 0, MU_OPT_STRING, offsetof(struct opts, guids), "FILE",
     .help = "which host an adapter is in: GUID HOST a line"},
    {"device", 0, MU_OPT_STRING, offsetof(struct opts, device), "NAME",
     .help = "adapter that the fabric is discovered through"},
    {"timeout", 0, MU_OPT_DURATION, offsetof(struct opts, timeout), "TIME",
     .help = "give up the discovery after that; default 30s"},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), .help = "print JSON"},
    {"svg", 0, MU_OPT_STRING, offsetof(struct opts, svg), "FILE", .help = "draw it into this file"},
};

static int fabric(const struct opts *, const struct mu_fabric *, struct mu_err *);
static int place(const struct opts *, const struct mu_fabric *, struct mu_err *);
static int audit(const struct opts *, const struct mu_fabric *, struct mu_err *);
static int export(const struct opts *, const struct mu_fabric *, struct mu_err *);

/* A new subcommand is a row here. run prints to stdout and returns 0 or an error. */
static const struct sub {
    const char *name, *usage, *what;
    size_t first_row, nrows;
    int (*run)(const struct opts *, const struct mu_fabric *, struct mu_err *);
} subs[] = {
    {"fabric", "muster topo fabric [--fabric-file FILE]... [--svg FILE] [--json]",
     "hosts, switches, subnets and units of a fabric", PLACE_ONLY, MU_COUNT(rows) - PLACE_ONLY, fabric},
    {"place", "muster topo place -N NODES [--group-size G] [--occupied FILE] [--fabric-file FILE]... [--json]",
     "the nodes that a job would get, in the order of its ranks", EXPORT_ONLY, MU_COUNT(rows) - EXPORT_ONLY - NO_SVG,
     place},
    {"audit", "muster topo audit [--fabric-file FILE]... [--json]", "missing rails, dead and swapped cables",
     PLACE_ONLY, MU_COUNT(rows) - PLACE_ONLY - NO_SVG, audit},
    {"export", "muster topo export [--as hostfile|topology.conf] [-N NODES] [--fabric-file FILE]...",
     "a hostfile in the order of placement, or a topology.conf", 0, MU_COUNT(rows) - NO_JSON, export},
};

/* --- output ----------------------------------------------------------------------------------------------------- */

static int put_json(json_t *j, struct mu_err *err)
{
    int rc = j && !json_dumpf(j, stdout, JSON_COMPACT) && putchar('\n') != EOF ? 0 : MUSTER_EIO;

    json_decref(j);
    return rc && !ferror(stdout) ? mu_err_set(err, rc, "the result cannot be printed")
                                 : 0; /* main says of the stream */
}

/* Valid UTF-8, whatever a description is made of. */
static json_t *json_text(const char *s)
{
    mu_auto_buf struct mu_buf b = {0};

    if (!s)
        return json_null();
    mu_str_printable(&b, s, strlen(s));
    return json_string(mu_buf_str(&b));
}

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

static json_t *json_units(const struct mu_fabric *f, const struct mu_units *u)
{
    json_t *a = json_array();

    for (int i = 0; a && i < u->n; i++)
        json_array_append_new(a, json_pack("{s:o,s:i}", "hosts", json_array(), "rails", u->rails[i]));
    for (int h = 0; a && h < mu_fabric_nhosts(f); h++)
        if (u->of_host[h] >= 0)
            json_array_append_new(json_object_get(json_array_get(a, (size_t)u->of_host[h]), "hosts"),
                                  json_text(mu_fabric_host(f, h)->name));
    return a;
}

static const char *leaf_name(const struct mu_fabric *f, int host)
{
    const struct mu_fabric_node *leaf = mu_fabric_leaf(f, host);

    return leaf ? leaf->name : "-";
}

static int draw_file(const struct mu_fabric *f, const struct mu_units *u, const char *path, struct mu_err *err)
{
    mu_auto_file FILE *out = NULL;
    int rc = mu_path_create(path, &out, err);

    if (rc)
        return mu_err_prefix(err, "--svg"), rc;
    if (mu_fabric_draw_svg(f, u, out) || fclose(MU_STEAL(out, NULL)))
        return mu_err_errno(err, MUSTER_EIO, "--svg: cannot write %s", path);
    return 0;
}

/* --- fabric ----------------------------------------------------------------------------------------------------- */

static int fabric(const struct opts *o, const struct mu_fabric *f, struct mu_err *err)
{
    auto_place struct mu_place *p = NULL;
    auto_units struct mu_units u = {0};
    int rank[33] = {0}, top = 0, switches = 0, adapters = 0, others = 0, cables = 0, rc;
    char source[256];

    if ((rc = mu_units_build(f, &u, err)) || ((rc = mu_place_new(f, &p, err)) && rc != MUSTER_ENOSYS))
        return rc;
    for (int i = 0; i < mu_fabric_nnodes(f); i++) {
        const struct mu_fabric_node *n = mu_fabric_node(f, i);
        cables += n->nout;
        switches += n->kind == MU_FABRIC_SWITCH;
        adapters += n->kind == MU_FABRIC_ADAPTER;
        others += n->kind == MU_FABRIC_OTHER;
        if (n->kind == MU_FABRIC_SWITCH && n->rank && n->rank < 33) {
            rank[n->rank]++;
            top = n->rank > top ? n->rank : top;
        }
    }
    if (o->svg)
        return draw_file(f, &u, o->svg, err);
    mu_str_show(source, sizeof source, mu_fabric_source(f));
    if (o->json) {
        json_t *levels = json_array();
        for (int i = 1; i <= top; i++)
            json_array_append_new(levels, json_integer(rank[i]));
        return put_json(json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:b,s:o,s:o}", "schema", "muster.fabric/1", "source",
                                  source, "hosts", mu_fabric_nhosts(f), "adapters", adapters, "switches", switches,
                                  "cables", cables / 2, "subnets", mu_fabric_nsubnets(f), "tree",
                                  p && mu_place_is_tree(p), "levels", levels, "units", json_units(f, &u)),
                        err);
    }
    printf("%s: %d hosts, %d adapters, %d switches, %d cables, %d subnet%s%s\n", source, mu_fabric_nhosts(f), adapters,
           switches, cables / 2, mu_fabric_nsubnets(f), mu_fabric_nsubnets(f) == 1 ? "" : "s",
           p && mu_place_is_tree(p) ? "; places as a tree" : "; no tree: placements come with a bound");
    if (others)
        printf("%d router%s or aggregation node%s\n", others, others == 1 ? "" : "s", others == 1 ? "" : "s");
    static const struct mu_column columns[] = {{"LEVEL", MU_RIGHT}, {"SWITCHES", MU_RIGHT}};
    static const struct mu_column unit_columns[] = {
        {"UNIT", MU_RIGHT}, {"HOSTS", MU_RIGHT}, {"RAILS", MU_RIGHT}, {"FIRST", 0}, {"LEAF", 0}};
    auto_table struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    auto_table struct mu_table *units = mu_table_new(unit_columns, MU_COUNT(unit_columns));
    mu_auto_free int *first = calloc((size_t)u.n + 1, sizeof *first);
    if (!t || !units || !first)
        return no_memory(err);
    for (int i = 1; i <= top; i++) {
        mu_table_cellf(t, "%d", i);
        mu_table_cellf(t, "%d", rank[i]);
    }
    for (int h = mu_fabric_nhosts(f) - 1; h >= 0; h--)
        if (u.of_host[h] >= 0)
            first[u.of_host[h]] = h + 1;
    for (int i = 0; i < u.n; i++) {
        mu_table_cellf(units, "%d", i);
        mu_table_cellf(units, "%d", u.hosts[i]);
        mu_table_cellf(units, "%d", u.rails[i]);
        mu_table_cell(units, first[i] ? mu_fabric_host(f, first[i] - 1)->name : "-");
        mu_table_cell(units, first[i] ? leaf_name(f, first[i] - 1) : "-");
    }
    mu_table_print(t, stdout);
    mu_table_print(units, stdout);
    return 0;
}

/* --- place ------------------------------------------------------------------------------------------------------ */

/* A file that cannot be read is the caller's mistake, as one with nonsense in it. */
static int unusable(int rc)
{
    return rc && rc != MUSTER_ENOMEM ? MUSTER_EARG : rc;
}

/* Names that the file has and the fabric has not are counted: a node that is down is in neither. */
static int read_occupied(const char *path, const struct mu_fabric *f, int *size, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read_text(path, OCCUPIED_MAX_BYTES, &text, err), line = 0, unknown = 0;
    char first[80] = "";
    size_t all = 0;

    if (rc)
        return mu_err_prefix(err, "--occupied"), unusable(rc);
    for (const char *p = mu_buf_str(&text); *p;) {
        size_t n = strcspn(p, "\n"), at = strspn(p, " \t\r");
        const char *word = p + at;
        size_t len = at < n ? strcspn(word, " \t\r\n#") : 0;
        char **names = NULL;
        size_t count = 0;
        line++;
        if (len)
            rc = mu_fabric_expand(word, len, &names, &count, err);
        for (size_t i = 0; i < count; i++) {
            int h = mu_fabric_find_host(f, names[i]);
            if (h >= 0)
                size[h] = 0;
            else if (!unknown++)
                mu_str_show(first, sizeof first, names[i]);
            free(names[i]);
        }
        free(names);
        if (!rc && (all += count) > OCCUPIED_MAX_NAMES) /* lists of a few bytes are long to go through */
            rc = mu_err_set(err, MUSTER_EARG, "more than %d names in all", OCCUPIED_MAX_NAMES);
        if (rc)
            return mu_err_prefix(err, "%s:%d", path, line), rc;
        p += n + (p[n] == '\n');
    }
    if (unknown)
        fprintf(stderr, "muster topo: %s: %d name%s not in the fabric (%s%s)\n", path, unknown,
                unknown == 1 ? " is" : "s are", first, unknown > 1 ? ", ..." : "");
    return 0;
}

static int choose(const struct opts *o, const struct mu_fabric *f, int nodes, const struct mu_place *p,
                  struct mu_place_result *r, struct mu_err *err)
{
    mu_auto_free int *size = calloc((size_t)mu_fabric_nhosts(f) + 1, sizeof *size);
    int rc;

    if (!size)
        return no_memory(err);
    for (int h = 0; h < mu_fabric_nhosts(f); h++)
        size[h] = 1;
    if (o->occupied && (rc = read_occupied(o->occupied, f, size, err)))
        return rc;
    return mu_place_choose(p, &(struct mu_place_request){nodes, size, o->group}, r, err);
}

static int place(const struct opts *o, const struct mu_fabric *f, struct mu_err *err)
{
    auto_place struct mu_place *p = NULL;
    auto_result struct mu_place_result r = {0};
    char source[256];
    int rc;

    if (!o->nodes)
        return mu_err_set(err, MUSTER_EARG, "how many nodes? Give -N NODES");
    if ((rc = mu_place_new(f, &p, err)) || (rc = choose(o, f, o->nodes, p, &r, err)))
        return rc;
    if (o->json) {
        json_t *nodes = json_array();
        for (int i = 0; i < r.n; i++)
            json_array_append_new(nodes, json_text(mu_fabric_host(f, r.hosts[i])->name));
        return put_json(json_pack("{s:s,s:s,s:o,s:I,s:I,s:b,s:i,s:i}", "schema", "muster.place/1", "source",
                                  mu_str_show(source, sizeof source, mu_fabric_source(f)), "nodes", nodes, "cost",
                                  (json_int_t)r.cost, "bound", (json_int_t)r.bound, "optimal", r.optimal,
                                  "groups_split", r.groups_split, "left", r.left),
                        err);
    }
    static const struct mu_column columns[] = {{"RANK", MU_RIGHT}, {"NODE", 0}, {"LEAF", 0}, {"HOPS", MU_RIGHT}};
    auto_table struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    if (!t)
        return no_memory(err);
    printf("%d node%s, cost %ld, %s %ld", r.n, r.n == 1 ? "" : "s", r.cost, r.optimal ? "optimal: bound" : "bound",
           r.bound);
    if (o->group > 1)
        printf(", %d of %d groups on more than one leaf", r.groups_split, (r.n + o->group - 1) / o->group);
    putchar('\n');
    for (int i = 0; i < r.n; i++) { /* hops to the next one of the ring */
        mu_table_cellf(t, "%d", i);
        mu_table_cell(t, mu_fabric_host(f, r.hosts[i])->name);
        mu_table_cell(t, leaf_name(f, r.hosts[i]));
        mu_table_cellf(t, "%d", mu_place_distance(p, r.hosts[i], r.hosts[(i + 1) % r.n]));
    }
    mu_table_print(t, stdout);
    return 0;
}

/* --- export ----------------------------------------------------------------------------------------------------- */

/* Fabrics call hosts as they like: what would not be read as the same one host is not written. */
static int put_host(const char *name, struct mu_buf *out, struct mu_err *err)
{
    struct mu_hosts h = {0};
    char shown[200];
    bool same = mu_hosts_is_node(name) && !mu_hosts_parse_file(name, strlen(name), "", &h, NULL) && h.n == 1 &&
                !h.v[0].slots && !strcmp(h.v[0].name, name);

    mu_hosts_free(&h);
    if (!same)
        return mu_err_set(err, MUSTER_EARG, "host '%s' cannot stand in a hostfile; --guids names it otherwise",
                          mu_str_show(shown, sizeof shown, name));
    mu_buf_appendf(out, "%s\n", name);
    return 0;
}

static int export(const struct opts *o, const struct mu_fabric *f, struct mu_err *err)
{
    auto_place struct mu_place *p = NULL;
    auto_result struct mu_place_result r = {0};
    mu_auto_buf struct mu_buf out = {0};
    int rc = mu_place_new(f, &p, err);

    if (rc)
        return rc;
    if (o->as == AS_TOPOLOGY) {
        if ((rc = mu_export_slurm(p, &out, err)))
            return rc;
    } else {
        if (!o->nodes)
            return mu_err_set(err, MUSTER_EARG, "how many nodes? Give -N NODES");
        if ((rc = choose(o, f, o->nodes, p, &r, err)))
            return rc;
        for (int i = 0; i < r.n; i++)
            if ((rc = put_host(mu_fabric_host(f, r.hosts[i])->name, &out, err)))
                return rc;
    }
    if (out.failed)
        return no_memory(err);
    fwrite(out.data, 1, out.len, stdout);
    return 0;
}

/* --- audit ------------------------------------------------------------------------------------------------------ */

static int audit(const struct opts *o, const struct mu_fabric *f, struct mu_err *err)
{
    auto_audit struct mu_audit a = {0};
    int rc = mu_audit_run(f, &a, err);
    char source[256];

    if (rc)
        return rc;
    mu_str_show(source, sizeof source, mu_fabric_source(f));
    if (o->json) {
        json_t *findings = json_array();
        for (size_t i = 0; i < a.n; i++) {
            const struct mu_finding *v = &a.v[i];
            json_array_append_new(
                findings, json_pack("{s:s,s:o,s:o,s:o,s:o}", "kind", mu_finding_name(v->kind), "host",
                                    json_text(v->host), "port", v->port ? json_integer(v->port) : json_null(), "unit",
                                    v->unit < 0 ? json_null() : json_integer(v->unit), "detail", json_text(v->detail)));
        }
        return put_json(json_pack("{s:s,s:s,s:o,s:o}", "schema", "muster.audit/1", "source", source, "units",
                                  json_units(f, &a.units), "findings", findings),
                        err);
    }
    static const struct mu_column columns[] = {{"KIND", 0}, {"HOST", 0}, {"PORT", MU_RIGHT}, {"WHAT", 0}};
    auto_table struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    if (!t)
        return no_memory(err);
    printf("%s: %d hosts in %d units, %zu finding%s\n", source, mu_fabric_nhosts(f), a.units.n, a.n,
           a.n == 1 ? "" : "s");
    for (size_t i = 0; i < a.n; i++) {
        mu_table_cell(t, mu_finding_name(a.v[i].kind));
        mu_table_cell(t, a.v[i].host ? a.v[i].host : "-");
        if (a.v[i].port)
            mu_table_cellf(t, "%d", a.v[i].port);
        else
            mu_table_cell(t, "-");
        mu_table_cell(t, a.v[i].detail);
    }
    if (a.n)
        mu_table_print(t, stdout);
    return 0;
}

/* --- commands --------------------------------------------------------------------------------------------------- */

#define TIMEOUT_UNSAID UINT64_MAX
#define TIMEOUT_NS (30 * MU_SEC)

/* Whoever gives an option means something by it: one that would change nothing is refused. */
static int idle_options(const struct opts *o, struct mu_err *err)
{
    if (o->json && o->svg)
        return mu_err_set(err, MUSTER_EARG, "--json and --svg are two outputs: give one of them");
    for (char **file = o->files; o->svg && file && *file; file++)
        if (mu_path_same_file(o->svg, *file))
            return mu_err_set(err, MUSTER_EARG, "--svg: %s is the fabric's file: name another one", o->svg);
    if (o->svg && o->guids && mu_path_same_file(o->svg, o->guids))
        return mu_err_set(err, MUSTER_EARG, "--svg: %s is the file of --guids: name another one", o->svg);
    if (o->files && o->device)
        return mu_err_set(err, MUSTER_EARG, "--device is for the running fabric, --fabric-file is another one");
    if (o->files && o->timeout != TIMEOUT_UNSAID)
        return mu_err_set(err, MUSTER_EARG, "--timeout is for the running fabric, --fabric-file is another one");
    if (o->timeout != TIMEOUT_UNSAID && (o->timeout < MU_MS || o->timeout > 86400 * MU_SEC))
        return mu_err_set(err, MUSTER_EARG, "--timeout must be from 1ms to 1d");
    if (o->as == AS_TOPOLOGY && (o->nodes || o->occupied || o->group))
        return mu_err_set(err, MUSTER_EARG,
                          "a topology.conf has all nodes: -N, --occupied and --group-size are for a hostfile");
    return 0;
}

/* So is a list of GUIDs that says nothing of this fabric. */
static int idle_guids(const struct opts *o, const struct mu_fabric *f, struct mu_err *err)
{
    char source[200];
    bool any = false;

    if (!o->guids || mu_fabric_listed(f))
        return 0;
    for (int i = 0; i < mu_fabric_nnodes(f); i++)
        any |= mu_fabric_node(f, i)->guid != 0;
    mu_str_show(source, sizeof source, mu_fabric_source(f));
    return any ? mu_err_set(err, MUSTER_EARG, "--guids: %s names no adapter of %s", o->guids, source)
               : mu_err_set(err, MUSTER_EARG, "--guids: nothing in %s has a GUID", source);
}

static int load(const struct opts *o, struct mu_fabric **out, struct mu_err *err)
{
    if (!o->files) {
        int rc = mu_fabric_discover(o->device, (int)((o->timeout == TIMEOUT_UNSAID ? TIMEOUT_NS : o->timeout) / MU_MS),
                                    o->guids, out, err);
        struct mu_err why = *err;
        return rc == MUSTER_ENODE || rc == MUSTER_ENOSYS
                   ? mu_err_set(err, rc, "%.400s; or give --fabric-file", why.text)
                   : rc;
    }
    return unusable(mu_fabric_load(o->files, o->guids, out, err));
}

static int complain(const struct sub *s, const struct mu_err *err, int code)
{
    char text[sizeof err->text * 2];

    fprintf(stderr, "muster topo %s: %s\n", s->name, mu_str_show(text, sizeof text, err->text));
    return code;
}

/* What is printed has their ids for hosts' names: nobody should find out by ssh. */
static void say_unnamed(const struct sub *s, const struct mu_fabric *f)
{
    const char *first = NULL;
    char shown[80];
    int n = 0;

    for (int h = 0; h < mu_fabric_nhosts(f); h++)
        if (mu_fabric_host(f, h)->unnamed && !n++)
            first = mu_fabric_host(f, h)->name;
    if (n == 1)
        fprintf(stderr, "muster topo %s: adapter %s has no host name and counts as a host; --guids names its host\n",
                s->name, mu_str_show(shown, sizeof shown, first));
    else if (n)
        fprintf(stderr,
                "muster topo %s: %d adapters have no host name (%s, ...) and each counts as a host; --guids names "
                "their hosts\n",
                s->name, n, mu_str_show(shown, sizeof shown, first));
}

static int run_sub(const struct sub *s, struct opts *o, int argc, char **argv)
{
    auto_fabric struct mu_fabric *f = NULL;
    struct mu_err err = {0};
    int first, rc = mu_opt_parse(rows + s->first_row, s->nrows, argc, argv, MU_OPT_PERMUTE, o, &first, &err);

    if (rc == 1) {
        mu_opt_help(stdout, s->usage, rows + s->first_row, s->nrows);
        return 0;
    }
    if (!rc && first < argc)
        rc = mu_err_set(&err, MUSTER_EARG, "'%.80s' is one word too many: %s", argv[first], s->usage);
    if (!rc && !(rc = idle_options(o, &err)) && !(rc = load(o, &f, &err)))
        rc = idle_guids(o, f, &err);
    if (!rc)
        rc = s->run(o, f, &err);
    if (rc)
        return complain(s, &err, rc == MUSTER_EARG ? MU_EXIT_USAGE : MU_EXIT_FAILED);
    say_unnamed(s, f);
    return 0;
}

int mu_topo_fabric_cmd(int argc, char **argv)
{
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        if (!strcmp(argv[0], subs[i].name)) {
            struct opts o = {.timeout = TIMEOUT_UNSAID};
            int code = run_sub(&subs[i], &o, argc, argv);
            mu_opt_free(rows, MU_COUNT(rows), &o);
            return code;
        }
    return -1;
}

void mu_topo_fabric_help(FILE *f)
{
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        fprintf(f, "  %-6s  %s\n", subs[i].name, subs[i].what);
}
