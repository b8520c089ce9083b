/* --dry-run: what would be started, without starting even a controller. One that runs is asked. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/json.h"
#include "launcher/answer.h"
#include "launcher/dev_json.h"
#include "launcher/run.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "topo/pin.h"
#include "topo/topo.h"

static const char *const set_for_each[] = {"RANK",           "WORLD_SIZE",     "LOCAL_RANK",  "LOCAL_WORLD_SIZE",
                                           "NODE_RANK",      "MASTER_ADDR",    "MASTER_PORT", "MUSTER_JOB",
                                           "MUSTER_ATTEMPT", "MUSTER_CKPT_DIR"};

static json_t *texts(char *const *v, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, mu_json_string(v[i]));
    return list;
}

static void command_line(struct mu_buf *out, const struct mu_run_app *app)
{
    mu_auto_buf struct mu_buf line = {0};

    for (int i = 0; i < app->argc; i++) {
        if (i)
            mu_buf_putc(&line, ' ');
        mu_str_quote(&line, app->argv[i]);
    }
    mu_str_printable(out, mu_buf_str(&line), line.len);
}

/* Where a rank would go. */
struct where {
    const char *node;
    const struct mu_pin *pin; /* NULL: another host, which decides by itself */
    int local;                /* rank of the node */
};

struct places {
    char here[65];
    struct where *v; /* by rank */
    struct mu_share *shares;
    unsigned nspares;
    const struct mu_share *spares;
    struct mu_pin pin;
    const struct mu_topo *topo;
    uint32_t first;            /* rank of this machine */
    int agent;                 /* process on whose CPUs it is planned; 0: this one, an agent would be started from it */
    struct mu_run_asked asked; /* of the pool; names NULL: it was not */
};

static void free_places(struct places *w)
{
    free(w->v);
    if (!w->asked.names)
        free(w->shares);
    mu_run_asked_free(&w->asked);
    mu_pin_free(&w->pin);
}

static const char *host_of(const struct mu_run_plan *p, const struct places *w, uint32_t node)
{
    return w->asked.names ? w->asked.names[node] : mu_host_name(p->hosts.v[node].name);
}

static char *cpus_of(const struct where *w)
{
    return w->pin ? mu_cpuset_str(&mu_pin_rank(w->pin, w->local)->cpus) : NULL;
}

static int print_json(const struct mu_run_plan *p, const struct places *w, struct mu_err *err)
{
    json_t *ranks = json_array(), *each = json_array(), *spares = json_array();
    uint32_t rank = 0;

    for (unsigned a = 0; a < p->napps; a++) {
        const struct mu_run_app *app = &p->apps[a];
        for (uint32_t i = 0; i < app->ranks; i++, rank++) {
            const struct where *at = &w->v[rank];
            const struct mu_pin_rank *r = at->pin ? mu_pin_rank(at->pin, at->local) : NULL;
            mu_auto_free char *cpus = cpus_of(at);
            json_array_append_new(
                ranks, json_pack("{s:i,s:s,s:s?,s:s?,s:o,s:o,s:o,s:o,s:o}", "rank", (int)rank, "node", at->node, "bind",
                                 at->pin ? mu_pin_policy_name(at->pin->policy) : NULL, "cpuset", cpus, "gpu",
                                 mu_json_gpu(w->topo, r ? r->gpu : -1), "nic", mu_json_nic(w->topo, r ? r->nic : -1),
                                 "argv", texts(app->argv, (size_t)app->argc), "wdir", mu_json_string(app->wdir), "env",
                                 texts(app->env, mu_strv_len(app->env))));
        }
    }
    for (size_t i = 0; i < MU_COUNT(set_for_each); i++)
        json_array_append_new(each, json_string(set_for_each[i]));
    for (unsigned i = 0; i < w->nspares; i++)
        json_array_append_new(spares, json_string(host_of(p, w, w->spares[i].node)));
    json_t *root = json_pack(
        "{s:s,s:o,s:o,s:i,s:o,s:o,s:s,s:s?,s:o,s:s?,s:o,s:s}", "schema", "muster.dry-run/1", "ranks", ranks, "spares",
        spares, "inherited", (int)mu_strv_len(p->env), "set_for_each_rank", each, "output", mu_json_string(p->output),
        "note", w->pin.note, "placed", *w->asked.why ? w->asked.why : NULL, "starts",
        w->asked.names ? json_boolean(w->asked.starts) : json_null(), "waits", *w->asked.waits ? w->asked.waits : NULL,
        "expected_t", w->asked.expected > 0 ? json_real(w->asked.expected) : json_null(), "cpus_of",
        w->agent ? "agent" : "caller");
    mu_auto_free char *out = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!out)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    puts(out);
    return 0;
}

static int print_ranks(const struct mu_run_plan *p, const struct places *w, struct mu_err *err)
{
    static const struct mu_column columns[] = {{"RANK", MU_RIGHT}, {"NODE", 0}, {"CPUS", 0}, {"COMMAND", 0}};
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    uint32_t rank = 0;

    if (!t)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    for (unsigned a = 0; a < p->napps; a++) {
        mu_auto_buf struct mu_buf line = {0};
        command_line(&line, &p->apps[a]);
        for (uint32_t i = 0; i < p->apps[a].ranks; i++, rank++) {
            const struct where *at = &w->v[rank];
            mu_auto_free char *cpus = cpus_of(at);
            mu_table_cellf(t, "%u", rank);
            mu_table_cell(t, at->node);
            mu_table_cellf(t, "%s%s", cpus ? cpus : "-",
                           at->pin && at->pin->policy == MU_PIN_NONE ? " (not pinned)" : "");
            mu_table_raw(t, mu_buf_str(&line));
        }
    }
    mu_table_print(t, stdout);
    mu_table_free(t);
    return 0;
}

/* What the agent may use, from what this command may. */
static bool differs(const struct mu_topo *topo)
{
    struct mu_topo *own = NULL;
    bool differ = mu_topo_load(MU_TOPO_LIVE, NULL, 0, &own, NULL) ||
                  !mu_cpuset_equal(mu_topo_allowed(own), mu_topo_allowed(topo));

    mu_topo_free(own);
    return differ;
}

static void print_turn(const struct mu_run_asked *a)
{
    char buf[64];

    if (!a->names)
        return;
    if (a->starts)
        printf("\nqueue: it would start at once\n");
    else if (a->expected > 0)
        printf("\nqueue: %s; it would start by %s at the latest\n", a->waits,
               mu_answer_time(a->expected, buf, sizeof buf));
    else
        printf("\nqueue: %s; when it would start is not known\n", a->waits);
}

static int print_text(const struct mu_run_plan *p, const struct places *w, struct mu_err *err)
{
    int rc = print_ranks(p, w, err);

    if (rc)
        return rc;
    for (unsigned i = 0; i < w->nspares; i++)
        printf("%s%s%s", i ? ", " : "\nspare: ", host_of(p, w, w->spares[i].node), i + 1 == w->nspares ? "\n" : "");
    if (w->asked.why[0])
        printf("\nplaced: %s\n", w->asked.why);
    print_turn(&w->asked);
    if (w->agent && w->pin.ranks && differs(w->topo))
        printf("\nCPUs: of those that the agent of this machine may use (process %d), not this command\n", w->agent);
    if (w->pin.note[0])
        printf("\nbinding: %s\n", w->pin.note);
    for (unsigned a = 0; a < p->napps; a++) {
        mu_auto_buf struct mu_buf dir = {0};
        mu_str_printable(&dir, p->apps[a].wdir, strlen(p->apps[a].wdir));
        printf("\nprogram %u: works in %s, with these variables added:\n", a + 1, mu_buf_str(&dir));
        for (char **e = p->apps[a].env; e && *e; e++) {
            mu_auto_buf struct mu_buf quoted = {0}, shown = {0};
            mu_str_quote(&quoted, *e);
            mu_str_printable(&shown, mu_buf_str(&quoted), quoted.len);
            printf("  %s\n", mu_buf_str(&shown));
        }
    }
    printf("\n%zu variables of this environment are handed on; set for each rank:\n ", mu_strv_len(p->env));
    for (size_t i = 0; i < MU_COUNT(set_for_each); i++)
        printf(" %s", set_for_each[i]);
    putchar('\n');
    return 0;
}

/* All on this machine. */
static int place_here(struct mu_run_plan *p, const struct mu_topo *topo, struct places *w, struct mu_err *err)
{
    uint32_t slots = (uint32_t)mu_topo_slots(topo);
    int rc = mu_run_plan_slots(p, slots, 1, err);

    if (rc)
        return rc;
    if (p->opts.nodes > 1)
        return mu_err_set(err, MUSTER_EARG, "%d nodes asked for, this machine is one; name hosts with -H",
                          p->opts.nodes);
    if (p->ranks > slots && !p->opts.oversubscribe)
        return mu_err_set(err, MUSTER_EARG,
                          "%u ranks asked for, this machine has %u slots: ask for fewer with -n, or share cores with "
                          "--oversubscribe",
                          p->ranks, slots);
    w->v = calloc(p->ranks, sizeof *w->v);
    for (uint32_t i = 0; w->v && i < p->ranks; i++)
        w->v[i] = (struct where){.node = w->here, .pin = &w->pin, .local = (int)i};
    return w->v ? (int)p->ranks : mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
}

/* Ranks over w->shares, n of them. */
static int place_shares(const struct mu_run_plan *p, struct places *w, unsigned n, struct mu_err *err)
{
    unsigned rank = 0, here = 0;

    w->spares = w->shares + n;
    w->v = calloc(p->ranks, sizeof *w->v);
    if (!w->v)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    for (unsigned s = 0; s < n; s++) {
        const char *node = host_of(p, w, w->shares[s].node);
        bool local = !strcmp(node, w->here);
        if (local && !here)
            w->first = rank;
        for (uint32_t i = 0; i < w->shares[s].ranks && rank < p->ranks; i++)
            w->v[rank++] = (struct where){.node = node, .pin = local ? &w->pin : NULL, .local = (int)i};
        here += local ? w->shares[s].ranks : 0;
    }
    return (int)here;
}

static int place_on_hosts(const struct mu_run_plan *p, struct places *w, struct mu_err *err)
{
    unsigned n = 0;
    int rc = mu_run_place(p, &w->shares, &n, &w->nspares, err);

    return rc ? rc : place_shares(p, w, n, err);
}

/* This machine, as far as the agent may use it that runs here and would start the ranks; without one it will be started
 * from where we are. *agent: its number, or 0. */
static int load_topo(unsigned flags, struct mu_topo **topo, int *agent, struct mu_err *err)
{
    struct mu_paths paths;
    char pid[16];

    *agent = 0;
    if (!mu_paths_find(&paths, NULL) && mu_daemon_locked(paths.run, "agent.lock", agent) && *agent > 0) {
        snprintf(pid, sizeof pid, "%d", *agent);
        if (!mu_topo_load(MU_TOPO_PROCESS, pid, flags, topo, NULL))
            return 0;
    }
    *agent = 0;
    return mu_topo_load(MU_TOPO_LIVE, NULL, flags, topo, err);
}

/* In the pool, as its controller says; on this machine, where there is none. */
static int place_in_pool(struct mu_run_plan *p, const struct mu_topo *topo, struct places *w, struct mu_err *err)
{
    int rc = mu_run_ask(p, &w->asked, err);

    if (rc)
        return rc < 0 ? rc : place_here(p, topo, w, err);
    w->shares = w->asked.shares;
    w->nspares = w->asked.nspares;
    return place_shares(p, w, w->asked.n, err);
}

int mu_run_dry(struct mu_run_plan *p, struct mu_err *err)
{
    struct mu_topo *topo = NULL;
    struct places w = {.here = ""};
    enum mu_pin_map map = MU_MAP_DEFAULT;
    if (*p->opts.map)
        mu_pin_map_parse(p->opts.map, &map, NULL);
    bool gpus = p->opts.bind == MU_RUN_BIND_GPU || map == MU_MAP_GPU;
    int here, rc = load_topo(gpus ? MU_TOPO_IO : 0, &topo, &w.agent, err);

    if (rc)
        return rc;
    w.topo = topo;
    mu_path_host(w.here);
    here = p->hosts.n && p->ranks ? place_on_hosts(p, &w, err)
           : p->hosts.n           ? place_here(p, topo, &w, err)
                                  : place_in_pool(p, topo, &w, err);
    rc = here < 0 ? here : 0;
    if (here > 0) {
        static const enum mu_pin_policy policies[] = {[MU_RUN_BIND_NONE] = MU_PIN_NONE,
                                                      [MU_RUN_BIND_CORE] = MU_PIN_CORE,
                                                      [MU_RUN_BIND_NUMA] = MU_PIN_NUMA,
                                                      [MU_RUN_BIND_GPU] = MU_PIN_GPU};
        struct mu_pin_request req = {.nranks = here,
                                     .policy =
                                         p->opts.bind == MU_RUN_BIND_UNSAID ? MU_PIN_CORE : policies[p->opts.bind],
                                     .map = map,
                                     .smt = p->opts.smt,
                                     .slots = p->slots ? p->slots + w.first : NULL};
        rc = mu_pin_compute(topo, &req, &w.pin, err);
        if (rc && p->slots)
            mu_err_prefix(err, "%s", p->opts.rankfile);
    }
    if (!rc)
        rc = p->opts.json ? print_json(p, &w, err) : print_text(p, &w, err);
    free_places(&w);
    mu_topo_free(topo);
    return rc;
}
