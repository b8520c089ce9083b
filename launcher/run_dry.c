/* --dry-run: what would be started, without starting even a controller. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "launcher/run.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/pin.h"
#include "topo/topo.h"

static const char *const set_for_each[] = {"RANK",           "WORLD_SIZE",     "LOCAL_RANK",  "LOCAL_WORLD_SIZE",
                                           "NODE_RANK",      "MASTER_ADDR",    "MASTER_PORT", "MUSTER_JOB",
                                           "MUSTER_ATTEMPT", "MUSTER_CKPT_DIR"};

/* Any bytes as JSON text. */
static json_t *text(const char *s)
{
    mu_auto_buf struct mu_buf b = {0};
    json_t *t = json_string(s);

    if (t)
        return t;
    mu_str_printable(&b, s, strlen(s));
    return json_string(mu_buf_str(&b));
}

static json_t *texts(char *const *v, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, text(v[i]));
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

static int print_json(const struct mu_run_plan *p, const struct mu_pin *pin, const char *host, struct mu_err *err)
{
    json_t *ranks = json_array(), *each = json_array();
    uint32_t rank = 0;

    for (unsigned a = 0; a < p->napps; a++) {
        const struct mu_run_app *app = &p->apps[a];
        for (uint32_t i = 0; i < app->ranks; i++, rank++) {
            mu_auto_free char *cpus = mu_cpuset_str(&mu_pin_rank(pin, (int)rank)->cpus);
            json_array_append_new(ranks, json_pack("{s:i,s:s,s:s,s:s,s:o,s:o,s:o}", "rank", (int)rank, "node", host,
                                                   "bind", mu_pin_policy_name(pin->policy), "cpuset", cpus ? cpus : "",
                                                   "argv", texts(app->argv, (size_t)app->argc), "wdir", text(app->wdir),
                                                   "env", texts(app->env, mu_strv_len(app->env))));
        }
    }
    for (size_t i = 0; i < MU_COUNT(set_for_each); i++)
        json_array_append_new(each, json_string(set_for_each[i]));
    json_t *root =
        json_pack("{s:s,s:o,s:i,s:o,s:o,s:s}", "schema", "muster.dry-run/1", "ranks", ranks, "inherited",
                  (int)mu_strv_len(p->env), "set_for_each_rank", each, "output", text(p->output), "note", pin->note);
    mu_auto_free char *out = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!out)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    puts(out);
    return 0;
}

static int print_text(const struct mu_run_plan *p, const struct mu_pin *pin, const char *host, struct mu_err *err)
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
            mu_auto_free char *cpus = mu_cpuset_str(&mu_pin_rank(pin, (int)rank)->cpus);
            mu_table_cellf(t, "%u", rank);
            mu_table_cell(t, host);
            mu_table_cellf(t, "%s%s", cpus ? cpus : "?", pin->policy == MU_PIN_NONE ? " (not pinned)" : "");
            mu_table_raw(t, mu_buf_str(&line));
        }
    }
    mu_table_print(t, stdout);
    mu_table_free(t);
    if (pin->note[0])
        printf("\nbinding: %s\n", pin->note);
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

int mu_run_dry(struct mu_run_plan *p, struct mu_err *err)
{
    struct mu_topo *topo = NULL;
    struct mu_pin pin = {0};
    char host[65];
    int rc = mu_topo_load(MU_TOPO_LIVE, NULL, 0, &topo, err);

    if (rc)
        return rc;
    uint32_t slots = (uint32_t)mu_topo_slots(topo);
    mu_path_host(host);
    if ((rc = mu_run_plan_slots(p, slots, 1, err)))
        goto out;
    if (p->opts.nodes > 1) {
        rc = mu_err_set(err, MUSTER_EARG, "%d nodes asked for, the pool has 1", p->opts.nodes);
        goto out;
    }
    if (p->ranks > slots && !p->opts.oversubscribe) {
        rc = mu_err_set(err, MUSTER_EARG,
                        "%u ranks asked for, the pool has %u slots: ask for fewer with -n, or share cores with "
                        "--oversubscribe",
                        p->ranks, slots);
        goto out;
    }
    struct mu_pin_request req = {.nranks = (int)p->ranks,
                                 .policy = p->opts.bind == MU_RUN_BIND_NONE ? MU_PIN_NONE : MU_PIN_CORE};
    if ((rc = mu_pin_compute(topo, &req, &pin, err)))
        goto out;
    rc = p->opts.json ? print_json(p, &pin, host, err) : print_text(p, &pin, host, err);
    mu_pin_free(&pin);
out:
    mu_topo_free(topo);
    return rc;
}
