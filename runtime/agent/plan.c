#include "runtime/agent/plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/core.h"
#include "topo/pin.h"

#define SHARE_MAX (1 << 20)

struct share {
    uint64_t job;
    uint32_t bind;
    char **cpusets; /* one a local rank */
    struct mu_cpuset cpus;
    struct share *next;
};

struct mu_plan {
    struct mu_topo *topo; /* NULL: could not be read */
    const char *run_dir;
    struct share *shares;
};

struct mu_plan *mu_plan_new(const char *run_dir)
{
    struct mu_plan *p = calloc(1, sizeof *p);
    struct mu_err err;

    if (!p)
        return NULL;
    p->run_dir = run_dir;
    if (mu_topo_load(MU_TOPO_LIVE, NULL, 0, &p->topo, &err)) {
        p->topo = NULL;
        mu_log(MU_LOG_ERROR, "agent", "ranks will not be bound: %s", err.text);
    }
    return p;
}

static void share_free(struct share *s)
{
    mu_strv_free(s->cpusets);
    free(s);
}

void mu_plan_free(struct mu_plan *p)
{
    if (!p)
        return;
    for (struct share *s = p->shares, *next; s; s = next) {
        next = s->next;
        share_free(s);
    }
    mu_topo_free(p->topo);
    free(p);
}

void mu_plan_node(const struct mu_plan *p, struct mu_plan_node *out)
{
    struct mu_topo_counts n;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    *out = (struct mu_plan_node){.slots = cpus > 0 ? (uint32_t)cpus : 1, .numa = 1};
    out->pus = out->slots;
    if (!p->topo)
        return;
    mu_topo_count(p->topo, &n);
    *out = (struct mu_plan_node){.slots = (uint32_t)mu_topo_slots(p->topo),
                                 .pus = (uint32_t)n.pus,
                                 .numa = (uint32_t)n.nodes,
                                 .memory = n.memory};
}

/* --- what jobs hold, kept beside their keepers ------------------------------------------------------------------- */

static int share_path(const struct mu_plan *p, uint64_t job, char path[PATH_MAX])
{
    char name[32];

    snprintf(name, sizeof name, "pin.%llu", (unsigned long long)job);
    return mu_path_join(path, PATH_MAX, p->run_dir, name, NULL);
}

static struct share *find(struct mu_plan *p, uint64_t job)
{
    for (struct share *s = p->shares; s; s = s->next)
        if (s->job == job)
            return s;
    return NULL;
}

/* Takes cpusets over, also on failure. */
static struct share *add(struct mu_plan *p, uint64_t job, uint32_t bind, char **cpusets)
{
    struct share *s = calloc(1, sizeof *s);
    struct mu_cpuset one;

    if (!s) {
        mu_strv_free(cpusets);
        return NULL;
    }
    s->job = job;
    s->bind = bind;
    s->cpusets = cpusets;
    for (char **v = cpusets; v && *v; v++)
        if (!mu_cpuset_parse(*v, &one, NULL))
            mu_cpuset_or(&s->cpus, &one);
    s->next = p->shares;
    p->shares = s;
    return s;
}

static void drop(struct mu_plan *p, uint64_t job)
{
    for (struct share **at = &p->shares; *at; at = &(*at)->next) {
        struct share *s = *at;
        if (s->job != job)
            continue;
        *at = s->next;
        share_free(s);
        return;
    }
}

void mu_plan_release(struct mu_plan *p, uint64_t job)
{
    char path[PATH_MAX];

    drop(p, job);
    if (!share_path(p, job, path))
        unlink(path);
}

/* The policy, then one list of CPUs a line. Not worth an fsync: after a crash of the machine no job holds anything. */
static void save(const struct mu_plan *p, const struct share *s)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], tmp[PATH_MAX + 8];

    mu_buf_appendf(&b, "%u\n", s->bind);
    for (char **v = s->cpusets; v && *v; v++)
        mu_buf_appendf(&b, "%s\n", *v);
    if (b.failed || share_path(p, s->job, path))
        return;
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    mu_auto_file FILE *f = fopen(tmp, "we");
    bool ok = f && fwrite(b.data, 1, b.len, f) == b.len && !fclose(MU_STEAL(f, NULL));
    if (!ok || rename(tmp, path)) {
        mu_log(MU_LOG_WARN, "agent", "job %llu: cannot write %s; an agent that is restarted may give its CPUs again",
               (unsigned long long)s->job, path);
        unlink(tmp);
    }
}

void mu_plan_adopt(struct mu_plan *p, uint64_t job)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], **cpusets = NULL;
    uint64_t bind = 0;

    if (find(p, job) || share_path(p, job, path) || mu_path_read(path, SHARE_MAX, &b, NULL))
        return;
    bool first = true;
    for (char *save_ptr = NULL, *line = strtok_r(b.data, "\n", &save_ptr); line;
         line = strtok_r(NULL, "\n", &save_ptr)) {
        if (first ? mu_str_u64(line, 0, UINT32_MAX, &bind) : mu_strv_append(&cpusets, line))
            break;
        first = false;
    }
    add(p, job, (uint32_t)bind, cpusets);
}

/* --- planning ---------------------------------------------------------------------------------------------------- */

/* Lists of CPUs for n ranks, NULL when they are not to be bound; *note says why if that is not what was asked for. */
static char **compute(struct mu_plan *p, uint32_t n, uint32_t bind, char note[200])
{
    struct mu_cpuset taken = {0};
    struct mu_pin pin = {0};
    struct mu_err err;
    char **out = NULL;

    for (struct share *s = p->shares; s; s = s->next)
        mu_cpuset_or(&taken, &s->cpus);
    struct mu_pin_request req = {.nranks = (int)n, .policy = MU_PIN_CORE, .occupied = &taken};
    if (mu_pin_compute(p->topo, &req, &pin, &err)) {
        snprintf(note, 200, "ranks are not bound: %.150s", err.text);
        return NULL;
    }
    if (bind == MU_BIND_CORE)
        snprintf(note, 200, "%s", pin.note);
    for (uint32_t i = 0; i < n && pin.policy != MU_PIN_NONE; i++) {
        mu_auto_free char *list = mu_cpuset_str(&mu_pin_rank(&pin, (int)i)->cpus);
        if (!list || mu_strv_append(&out, list)) {
            mu_strv_free(out);
            out = NULL;
            snprintf(note, 200, "ranks are not bound: out of memory");
            break;
        }
    }
    mu_pin_free(&pin);
    return out;
}

static void set_note(struct mu_m_start *start, const char *text)
{
    free(start->note);
    start->note = *text ? strdup(text) : NULL;
}

void mu_plan_start(struct mu_plan *p, struct mu_m_start *start)
{
    struct mu_m_spec spec;
    char note[200] = "";

    mu_strv_free(start->cpusets);
    start->cpusets = NULL;
    set_note(start, "");
    if (start->node_id >= start->node_ranks.n || mu_msg_unpack(&start->spec, MU_MSG_spec, &spec, NULL))
        return; /* the keeper says what is wrong with it */
    uint32_t n = start->node_ranks.v[start->node_id], bind = spec.bind;
    mu_msg_free_body(MU_MSG_spec, &spec);

    struct share *s = find(p, start->job);
    if (s && (s->bind != bind || mu_strv_len(s->cpusets) != n)) {
        drop(p, start->job);
        s = NULL;
    }
    if (bind == MU_BIND_NONE || !n || n > INT32_MAX)
        return;
    if (!p->topo) {
        if (bind == MU_BIND_CORE)
            set_note(start, "ranks are not bound: the topology of this node cannot be read");
        return;
    }
    if (!s) {
        char **cpusets = compute(p, n, bind, note);
        set_note(start, note);
        if (!cpusets)
            return;
        s = add(p, start->job, bind, cpusets);
        if (!s)
            return;
        save(p, s);
    }
    start->cpusets = mu_strv_dup(s->cpusets);
}
