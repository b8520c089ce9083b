/* The options of `muster run` and `muster submit`, mpirun's and srun's spellings among them. */
#include <stdio.h>
#include <string.h>

#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

#define AT(field) offsetof(struct mu_run_opts, field)

/* slot, node, numa, gpu or core; ppr:N:node and the OVERSUBSCRIBE modifier as mpirun has them. */
static int take_map(const char *value, void *opts, struct mu_err *err)
{
    static const char *const words[] = {"slot", "node", "numa", "gpu", "core"};
    struct mu_run_opts *o = opts;
    char shown[80], word[64];
    bool ok = true, first = true;
    uint64_t n;

    for (const char *p = value; ok; first = false) {
        size_t len = strcspn(p, ":");
        snprintf(word, sizeof word, "%.*s", (int)(len < 63 ? len : 63), p);
        if (first && !strcmp(word, "ppr") && p[len]) {
            p += len + 1;
            len = strcspn(p, ":");
            snprintf(word, sizeof word, "%.*s", (int)(len < 63 ? len : 63), p);
            ok = !mu_str_u64(word, 1, MU_RUN_RANKS_MAX, &n) && !strncmp(p + len, ":node", 5) &&
                 (!p[len + 5] || p[len + 5] == ':');
            if (!ok)
                break;
            o->ppn = (int)n;
            p += len + 1;
            len = 4;
        } else if (first) {
            ok = false;
            for (size_t i = 0; i < MU_COUNT(words) && !ok; i++)
                ok = !strcmp(word, words[i]);
            if (ok) /* the next core is the next slot */
                snprintf(o->map, sizeof o->map, "%.15s", strcmp(word, "core") ? word : "slot");
        } else if (!strcasecmp(word, "oversubscribe")) {
            o->oversubscribe = true;
        } else {
            ok = !strcasecmp(word, "nooversubscribe");
        }
        if (!p[len])
            break;
        p += len + 1;
    }
    return ok ? 0
              : mu_err_set(err, MUSTER_EARG, "takes slot, node, numa, gpu or ppr:N:node, not '%s'",
                           mu_str_show(shown, sizeof shown, value));
}

static int take_input(const char *value, void *opts, struct mu_err *err)
{
    struct mu_run_opts *o = opts;
    char shown[80];

    if (strcmp(value, "none") && strcmp(value, "0"))
        return mu_err_set(err, MUSTER_EARG, "takes 0 (rank 0 reads it) or none, not '%s'",
                          mu_str_show(shown, sizeof shown, value));
    o->input = value[0] == '0' ? MU_RUN_INPUT_RANK0 : MU_RUN_INPUT_NONE;
    return 0;
}

static int take_after(const char *value, void *opts, struct mu_err *err)
{
    struct mu_run_opts *o = opts;
    char shown[80], word[32];
    uint64_t id;

    for (const char *p = value;; p++) {
        size_t len = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)(len < 31 ? len : 31), p);
        if (mu_str_u64(word, 1, UINT64_MAX, &id) || mu_strv_len(o->after) == MU_AFTER_MAX)
            return mu_err_set(err, MUSTER_EARG, "takes numbers of jobs, %u at most, not '%s'", MU_AFTER_MAX,
                              mu_str_show(shown, sizeof shown, value));
        if (mu_strv_append(&o->after, word))
            return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
        if (!p[len])
            return 0;
        p += len;
    }
}

static int add_mca(struct mu_run_opts *o, const char *name, size_t len, const char *value, struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};

    if (!len || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") < len)
        return mu_err_set(err, MUSTER_EARG,
                          "takes the name of an MCA parameter and its value, such as: --mca btl self");
    mu_buf_appendf(&b, "OMPI_MCA_%.*s=%s", (int)len, name, value);
    return mu_strv_append(&o->mca, mu_buf_str(&b)) || b.failed
               ? mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM))
               : 0;
}

/* `--mca NAME VALUE`: the value is the next word, which the planner fetches; NAME=VALUE is taken too. */
static int take_mca(const char *value, void *opts, struct mu_err *err)
{
    struct mu_run_opts *o = opts;
    size_t len = strcspn(value, "=");

    if (value[len])
        return add_mca(o, value, len, value + len + 1, err);
    o->mca_name = value;
    return 0;
}

int mu_run_mca_value(struct mu_run_opts *o, const char *value, struct mu_err *err)
{
    const char *name = MU_STEAL(o->mca_name, NULL);
    int rc = add_mca(o, name, strlen(name), value, err);

    return rc ? mu_err_prefix(err, "--mca") : 0;
}

/* What a job is, whether somebody watches it or not. */
#define JOB_ROWS                                                                                                         \
    {"ranks",     'n', MU_OPT_INT,       AT(ranks), "N", "number of ranks; default: one for each slot",                  \
     "np ntasks", 1,   MU_RUN_RANKS_MAX, NULL},                                                                          \
        {"nodes", 'N', MU_OPT_INT, AT(nodes), "N", "number of nodes", NULL, 1, MU_RUN_RANKS_MAX, NULL},                  \
        {"ppn", 0, MU_OPT_INT, AT(ppn), "N", "ranks on each node", "npernode ntasks-per-node", 1, MU_RUN_RANKS_MAX,      \
         NULL},                                                                                                          \
        {"hosts", 'H', MU_OPT_STRV, AT(hosts), "HOST[:SLOTS],...", "hosts to run on", "host", 0, 0, NULL},               \
        {"hostfile", 0, MU_OPT_STRV, AT(hostfiles), "FILE", "file of hosts to run on", "machinefile", 0, 0, NULL},       \
        {"ssh", 0, MU_OPT_STRING, AT(ssh), "COMMAND", "in place of ssh", NULL, 0, 0, NULL},                              \
        {"engine", 0, MU_OPT_STRING, AT(engine), "ssh|slurm|hand", "how agents are started on other hosts", NULL,        \
         0,        0, NULL},                                                                                             \
        {"oversubscribe", 0, MU_OPT_FLAG, AT(oversubscribe), NULL, "allow more ranks than slots", NULL, 0, 0, NULL},     \
        {"bind",                                                                                                         \
         0,                                                                                                              \
         MU_OPT_CHOICE,                                                                                                  \
         AT(bind),                                                                                                       \
         "none|core|numa|gpu",                                                                                           \
         "what each rank gets; default: core, unless oversubscribed",                                                    \
         "bind-to",                                                                                                      \
         0,                                                                                                              \
         0,                                                                                                              \
         NULL},                                                                                                          \
        {"map", 0, MU_OPT_FUNC, 0, "slot|node|numa|gpu", "where the next rank goes", "map-by", 0, 0, take_map},          \
        {"rankfile",   0,      MU_OPT_STRING,                                                                            \
         AT(rankfile), "FILE", "hosts and CPUs of each rank: 'rank N=HOST slot=LIST' a line",                            \
         "rf",         0,      0,                                                                                        \
         NULL},                                                                                                          \
        {"smt",                                                                                                          \
         0,                                                                                                              \
         MU_OPT_FLAG,                                                                                                    \
         AT(smt),                                                                                                        \
         NULL,                                                                                                           \
         "bind to all hardware threads of a core, not its first",                                                        \
         "use-hwthread-cpus",                                                                                            \
         0,                                                                                                              \
         0,                                                                                                              \
         NULL},                                                                                                          \
        {"export", 'x', MU_OPT_STRV, AT(exports), "VAR[=VALUE]", "set a variable for the ranks", NULL, 0, 0, NULL},      \
        {"mca", 0, MU_OPT_FUNC, 0, "NAME VALUE", "set a parameter of Open MPI", NULL, 0, 0, take_mca},                   \
        {"wdir", 0, MU_OPT_STRING, AT(wdir), "DIR", "directory to work in", "wd chdir", 0, 0, NULL},                     \
        {"name", 0, MU_OPT_STRING, AT(name), "NAME", "name of the job", "job-name", 0, 0, NULL},                         \
        {"output", 0, MU_OPT_STRING, AT(output), "DIR", "directory for the ranks' logs", "output-filename", 0, 0, NULL}, \
        {"timeout",                                                                                                      \
         0,                                                                                                              \
         MU_OPT_DURATION,                                                                                                \
         AT(timeout_ns),                                                                                                 \
         "TIME",                                                                                                         \
         "end the job after so long, with exit code 124",                                                                \
         NULL,                                                                                                           \
         0,                                                                                                              \
         0,                                                                                                              \
         NULL},                                                                                                          \
        {"grace",      0,      MU_OPT_DURATION,                                                                          \
         AT(grace_ns), "TIME", "when a job is ended: time between the asking and the killing signal; default 5s",        \
         NULL,         0,      0,                                                                                        \
         NULL},                                                                                                          \
        {"hang-timeout",                                                                                                 \
         0,                                                                                                              \
         MU_OPT_DURATION,                                                                                                \
         AT(hang_ns),                                                                                                    \
         "TIME",                                                                                                         \
         "a rank that others wait for so long hangs; 0: none does; default 10m",                                         \
         NULL,                                                                                                           \
         0,                                                                                                              \
         0,                                                                                                              \
         NULL},                                                                                                          \
        {"restarts", 0, MU_OPT_INT, AT(restarts), "N", "failures in a row without progress that are mended",             \
         NULL,       0, 1000000,    NULL},                                                                               \
        {"on-failure",                                                                                                   \
         0,                                                                                                              \
         MU_OPT_CHOICE,                                                                                                  \
         AT(on_failure),                                                                                                 \
         "kill|keep",                                                                                                    \
         "what happens to the other ranks when one fails; default: kill",                                                \
         NULL,                                                                                                           \
         0,                                                                                                              \
         0,                                                                                                              \
         NULL},                                                                                                          \
        {"min-ranks", 0, MU_OPT_INT,       AT(min_ranks), "N", "go on with fewer ranks, down to N",                      \
         NULL,        1, MU_RUN_RANKS_MAX, NULL},                                                                        \
        {"spares", 0, MU_OPT_INT, AT(spares), "N", "nodes held in reserve", NULL, 0, 65536, NULL},                       \
        {"gpus-per-rank", 0, MU_OPT_INT, AT(gpus), "N", "GPUs that are kept for each rank",                              \
         "gpus-per-task", 0, 1024,       NULL},                                                                          \
        {"mem", 0, MU_OPT_SIZE, AT(memory), "SIZE", "memory that is kept for each rank", NULL, 0, 0, NULL},              \
        {"label", 0, MU_OPT_STRING, AT(label), "NAME", "run on nodes with this label", "constraint", 0, 0, NULL},        \
        {"require-baseline",                                                                                             \
         0,                                                                                                              \
         MU_OPT_FLAG,                                                                                                    \
         AT(baseline),                                                                                                   \
         NULL,                                                                                                           \
         "run on nodes that are as they were approved",                                                                  \
         NULL,                                                                                                           \
         0,                                                                                                              \
         0,                                                                                                              \
         NULL},                                                                                                          \
        {"group-size", 0,   MU_OPT_INT,                                                                                  \
         AT(group),    "G", "nodes that talk most to one another; they are kept on one switch where that costs nothing", \
         NULL,         1,   1 << 20,                                                                                     \
         NULL},                                                                                                          \
        {"ckpt-dir", 0, MU_OPT_STRING, AT(ckpt_dir), "DIR", "directory for checkpoints", NULL, 0, 0, NULL},              \
        {"ckpt", 0, MU_OPT_STRV, AT(ckpt), "KEY=VALUE,...", "options for checkpoints", NULL, 0, 0, NULL},                \
        {"priority",                                                                                                     \
         0,                                                                                                              \
         MU_OPT_INT,                                                                                                     \
         AT(priority),                                                                                                   \
         "N",                                                                                                            \
         "before others, or behind them (below 0)",                                                                      \
         NULL,                                                                                                           \
         -MU_PRIORITY_MAX,                                                                                               \
         MU_PRIORITY_MAX,                                                                                                \
         NULL},                                                                                                          \
        {"after", 0, MU_OPT_FUNC, 0, "JOB,...", "start when these jobs have completed", NULL, 0, 0, take_after},         \
        {"dry-run", 0, MU_OPT_FLAG, AT(dry_run), NULL, "check and print what would be started", NULL, 0, 0, NULL},       \
        {"json", 0, MU_OPT_FLAG, AT(json), NULL, JSON_HELP, NULL, 0, 0, NULL},                                           \
        {"allow-run-as-root", 0, MU_OPT_FLAG, AT(accepted), NULL, NULL, NULL, 0, 0, NULL},                               \
    {                                                                                                                    \
        "nooversubscribe", 0, MU_OPT_FLAG, AT(accepted), NULL, NULL, NULL, 0, 0, NULL                                    \
    }

#define JSON_HELP "with --dry-run: print JSON"
static const struct mu_opt run_rows[] = {
    JOB_ROWS,
    {"tag-output", 0, MU_OPT_FLAG, AT(tag_output), NULL, "begin each line with [JOB,RANK]<stream>:", NULL, 0, 0, NULL},
    {"stdin", 0, MU_OPT_FUNC, 0, "0|none", "who reads standard input; default: rank 0", NULL, 0, 0, take_input},
    {"quiet", 'q', MU_OPT_FLAG, AT(quiet), NULL, "say nothing of restarts and waiting", NULL, 0, 0, NULL},
};
#undef JSON_HELP
#define JSON_HELP "print JSON"
static const struct mu_opt submit_rows[] = {
    JOB_ROWS,
    {"hold", 0, MU_OPT_FLAG, AT(hold), NULL, "do not start before muster release", NULL, 0, 0, NULL},
};

const struct mu_opt *mu_run_options(size_t *n)
{
    *n = MU_COUNT(run_rows);
    return run_rows;
}

const struct mu_opt *mu_submit_options(size_t *n)
{
    *n = MU_COUNT(submit_rows);
    return submit_rows;
}
