/* The Slurm engine: the hosts of an allocation that are wanted at once get their agents by one srun step, which lives
 * as long as they do: scancel ends them. An agent that is wanted again gets a step of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/engine.h"
#include "launcher/left.h"
#include "launcher/slurm.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/exe.h"

#define KIND "srun"
#define GATHER_NS (20 * MU_MS) /* hosts that are wanted so soon after the first one go into its step */

struct step {
    struct steps *all;
    struct step *next;
    struct mu_child *child;
    const struct mu_paths *paths;
    pid_t pid;
    unsigned number;
    char key[MU_KEY_TEXT], file[PATH_MAX];
};

/* What the starter keeps for us. phase of a start: the number of its step, 0 while it waits for one. */
struct steps {
    struct mu_starter *starter;
    const struct mu_engine *engine;
    struct mu_alarm *alarm;
    struct step *list;
    unsigned last;
};

static void drop_step(struct step *step)
{
    for (struct step **at = &step->all->list; *at; at = &(*at)->next) {
        if (*at == step) {
            *at = step->next;
            break;
        }
    }
    explicit_bzero(step->key, sizeof step->key);
    free(step);
}

static void drop_steps(void *arg)
{
    struct steps *all = arg;

    while (all->list)
        drop_step(all->list);
    mu_alarm_free(all->alarm);
    free(all);
}

/* One of ours in that step; NULL: no more. */
static struct mu_start *in_step(const struct steps *all, unsigned number)
{
    struct mu_start *s = mu_starter_first(all->starter);

    while (s && (s->engine != all->engine || s->phase != number))
        s = s->next;
    return s;
}

static const char *job_of(const struct mu_start *s)
{
    static const char name[] = "SLURM_JOB_ID=";

    for (char **e = s->env; e && *e; e++)
        if (!strncmp(*e, name, sizeof name - 1))
            return *e + sizeof name - 1;
    return NULL;
}

/* The last line that srun or an agent said, made safe. */
static void last_line(const char *said, char *out, size_t n)
{
    size_t end = strlen(said);
    char line[300];

    while (end && strchr(" \r\n", said[end - 1]))
        end--;
    size_t begin = end;
    while (begin && said[begin - 1] != '\n')
        begin--;
    snprintf(line, sizeof line, "%.*s", (int)(end - begin < 299 ? end - begin : 299), said + begin);
    mu_str_show(out, n, line);
}

static void on_step_ended(void *arg, const struct mu_child_end *end)
{
    struct step *step = arg;
    struct steps *all = step->all;
    unsigned number = step->number;
    struct mu_start *s;
    char line[400];

    last_line(end->said, line, sizeof line);
    mu_log(MU_LOG_INFO, "engine", "srun step %u has ended%s%s", number, *line ? ": " : "", line);
    unlink(step->file);
    mu_left_ended(step->paths, KIND, step->pid);
    drop_step(step);
    while ((s = in_step(all, number)))
        mu_start_done(s, 1, "host %s: %s; is it in the allocation %s, and muster in the same place there?", s->dest,
                      *line ? line : "srun has ended and said nothing", job_of(s));
}

/* The words of srun for those in the step, of which s is one. */
static char **command(const struct steps *all, const struct mu_start *s, struct mu_err *err)
{
    mu_auto_buf struct mu_buf hosts = {0}, jobid = {0}, count = {0};
    char exe[PATH_MAX], **agent = NULL, **v = NULL;
    unsigned n = 0;

    if (mu_exe_find(exe, sizeof exe, err)) {
        mu_err_prefix(err, "srun starts agents from the file that this controller is of");
        return NULL;
    }
    for (const struct mu_start *k = mu_starter_first(all->starter); k; k = k->next)
        if (k->engine == all->engine && k->phase == s->phase)
            mu_buf_appendf(&hosts, "%s%s", n++ ? "," : "", k->dest);
    mu_buf_appendf(&jobid, "--jobid=%s", job_of(s));
    mu_buf_appendf(&count, "%u", n);
    /* The step takes nothing away from others; it lives on when a node of it dies. */
    const char *const words[] = {
        "srun",     mu_buf_str(&jobid), "--overlap",           "--nodes",    mu_buf_str(&count),
        "--ntasks", mu_buf_str(&count), "--ntasks-per-node=1", "--nodelist", mu_buf_str(&hosts),
        "--mem=0",  "--cpu-bind=none",  "--mpi=none",          "--no-kill",  "--kill-on-bad-exit=0",
        "--wait=0", "--output=none",    "--job-name=muster",   exe,          NULL};
    int rc = hosts.failed || !(agent = mu_start_agent_words(s, NULL)) ? MUSTER_ENOMEM : 0;
    for (size_t i = 0; words[i] && !rc; i++)
        rc = mu_strv_append(&v, words[i]);
    for (size_t i = 0; agent && agent[i] && !rc; i++)
        rc = mu_strv_append(&v, agent[i]);
    static const char *const last[] = {"--key-fd", "0", "--step"};
    for (size_t i = 0; i < MU_COUNT(last) && !rc; i++)
        rc = mu_strv_append(&v, last[i]);
    mu_strv_free(agent);
    if (rc) {
        mu_strv_free(v);
        mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        return NULL;
    }
    return v;
}

static int start_step(struct steps *all, const struct mu_start *s, struct mu_err *err)
{
    static const char *const drop[] = {
        "SLURM", "SRUN_", "SBATCH_", "SALLOC_", "MUSTER_TAG=", "PMIX_", "PMI_", "OMPI_", NULL};
    struct step *step = calloc(1, sizeof *step);
    char **argv, **env;

    if (!step)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    *step = (struct step){.all = all, .next = all->list, .paths = mu_start_paths(s), .number = all->last};
    all->list = step;
    memcpy(step->key, s->key, sizeof step->key);
    snprintf(step->file, sizeof step->file, "%.4000s/log/srun.%u.log", mu_start_paths(s)->state, step->number);
    argv = command(all, s, err);
    env = argv ? mu_child_env(drop, s->env) : NULL;
    struct mu_child_spec spec = {.argv = argv,
                                 .env = env,
                                 .input = step->key,
                                 .ninput = strlen(step->key),
                                 .deadline = UINT64_MAX,
                                 .ended = on_step_ended,
                                 .arg = step,
                                 .said_file = step->file,
                                 .lives_on = true};
    int rc = !argv  ? err->code
             : !env ? mu_err_set(err, MUSTER_ENOMEM, "out of memory")
                    : mu_child_start(mu_start_children(s), &spec, &step->child, err);
    mu_strv_free(argv);
    mu_strv_free(env);
    if (rc) {
        drop_step(step);
        return rc;
    }
    step->pid = mu_child_pid(step->child);
    mu_left_began(step->paths, KIND, step->pid);
    return 0;
}

/* All that wait and belong together. */
static void gather(struct steps *all)
{
    struct mu_start *first = in_step(all, 0), *s;
    struct mu_err err;

    if (!first)
        return;
    unsigned number = ++all->last;
    for (s = mu_starter_first(all->starter); s; s = s->next)
        if (s->engine == all->engine && !s->phase && s->job == first->job && !strcmp(job_of(s), job_of(first)))
            s->phase = number;
    if (start_step(all, first, &err))
        while ((s = in_step(all, number)))
            mu_start_done(s, err.code, "host %s: %s; is Slurm's srun in the controller's PATH?", s->dest, err.text);
    gather(all);
}

static const char *said_by(struct steps *all, unsigned number)
{
    for (struct step *step = all->list; step; step = step->next)
        if (step->number == number)
            return mu_child_said(step->child);
    return "";
}

static void on_alarm(void *arg)
{
    struct steps *all = arg;
    uint64_t now = mu_now(), next = UINT64_MAX, at;

    gather(all);
    for (struct mu_start *s = mu_starter_first(all->starter), *after; s; s = after) {
        after = s->next;
        if (s->engine != all->engine)
            continue;
        at = s->begun + mu_start_limit_s(s) * MU_SEC;
        if (now < at) {
            next = at < next ? at : next;
            continue;
        }
        char line[400];
        last_line(said_by(all, s->phase), line, sizeof line);
        mu_start_done(s, 1, "host %s: its agent has not joined within %u s%s%s; see `squeue --steps`", s->dest,
                      mu_start_limit_s(s), *line ? ": " : "", line);
        after = mu_starter_first(all->starter); /* whoever was told may have changed the list */
    }
    mu_alarm_set(all->alarm, next);
}

/* Those of an earlier controller, too. */
unsigned mu_engine_slurm_left(const struct mu_paths *paths, bool kill_them)
{
    return mu_left_running(paths, KIND, kill_them);
}

bool mu_engine_slurm_inside(void)
{
    return mu_slurm_inside();
}

void mu_engine_slurm(struct mu_start *s)
{
    struct mu_start_shared *shared = mu_start_shared(s);
    struct steps *all = shared->p;

    if (!job_of(s)) {
        mu_start_done(
            s, 1,
            "host %s: there is no allocation of Slurm's: start muster within salloc or sbatch, or say --engine ssh",
            s->dest);
        return;
    }
    if (!all) {
        all = calloc(1, sizeof *all);
        if (all) {
            *all = (struct steps){.starter = s->starter, .engine = s->engine, .last = (unsigned)getpid() % 10000 * 100};
            all->alarm = mu_alarm_new(mu_start_base(s), on_alarm, all);
        }
        if (!all || !all->alarm) {
            free(all);
            mu_start_done(s, MUSTER_ENOMEM, "host %s: out of memory", s->dest);
            return;
        }
        *shared = (struct mu_start_shared){.p = all, .drop = drop_steps};
    }
    mu_alarm_set(all->alarm, mu_now() + GATHER_NS);
}
