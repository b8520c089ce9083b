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
#include "topo/sysfs.h"

#define SHARE_MAX (1 << 20)
enum { CPUS, NODES, GPU, ENV, COLUMNS };

/* What a job has here: vectors with an entry for each local rank. */
struct share {
    uint64_t job;
    char key[96]; /* what was asked for */
    char **v[COLUMNS];
    struct mu_cpuset cpus;
    struct share *next;
};

struct mu_plan {
    struct mu_topo *topo; /* NULL: could not be read */
    bool devices;         /* it has GPUs and adapters */
    const char *run_dir;
    struct share *shares;
};

struct mu_plan *mu_plan_of(const char *run_dir, struct mu_topo *topo)
{
    struct mu_plan *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->run_dir = run_dir;
    p->topo = topo;
    p->devices = topo;
    return p;
}

/* Adapters without a GPU are asked for by few jobs. */
static void want_devices(struct mu_plan *p)
{
    struct mu_topo *t;
    struct mu_err err;

    if (p->devices || !p->topo)
        return;
    p->devices = true;
    if (mu_topo_load(MU_TOPO_LIVE, NULL, MU_TOPO_IO, &t, &err)) {
        mu_log(MU_LOG_ERROR, "agent", "no GPUs are seen: %s", err.text);
        return;
    }
    mu_topo_free(p->topo);
    p->topo = t;
}

struct mu_plan *mu_plan_new(const char *run_dir)
{
    struct mu_plan *p = mu_plan_of(run_dir, NULL);
    struct mu_err err;

    if (!p)
        return NULL;
    if (mu_topo_load(MU_TOPO_LIVE, NULL, 0, &p->topo, &err)) {
        p->topo = NULL;
        mu_log(MU_LOG_ERROR, "agent", "ranks will not be bound: %s", err.text);
    } else if (mu_sysfs_may_have_gpus("")) { /* devices take long to look at: at once only where they count */
        want_devices(p);
    }
    return p;
}

static void share_free(struct share *s)
{
    for (int i = 0; i < COLUMNS; i++)
        mu_strv_free(s->v[i]);
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
    for (int i = 0; i < mu_topo_ngpus(p->topo); i++)
        out->gpus += !mu_topo_gpu(p->topo, i)->hidden;
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

/* Takes the vectors over. */
static void add(struct mu_plan *p, struct share *s)
{
    struct mu_cpuset one;

    for (char **v = s->v[CPUS]; v && *v; v++)
        if (!mu_cpuset_parse(*v, &one, NULL))
            mu_cpuset_or(&s->cpus, &one);
    s->next = p->shares;
    p->shares = s;
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

/* What was asked for, then a line for each rank: CPUs, NUMA nodes, GPU, variables, with tabs between. Not worth an
 * fsync: after a crash of the machine no job holds anything. */
static void save(const struct mu_plan *p, const struct share *s)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], tmp[PATH_MAX + 8];

    mu_buf_appendf(&b, "%s\n", s->key);
    for (size_t i = 0; i < mu_strv_len(s->v[CPUS]); i++) {
        for (int c = 0; c < COLUMNS; c++) {
            for (const char *q = s->v[c][i]; *q; q++)
                mu_buf_putc(&b, *q == '\n' ? '\t' : *q);
            mu_buf_putc(&b, c == COLUMNS - 1 ? '\n' : '\t');
        }
    }
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

/* Appends one rank; variables are the rest of the line. */
static int parse_line(struct share *s, char *line)
{
    for (int c = 0; c < COLUMNS; c++) {
        size_t n = c == COLUMNS - 1 ? strlen(line) : strcspn(line, "\t");
        char *next = line + n + (line[n] != 0);
        line[n] = 0;
        for (char *q = line; c == ENV && *q; q++)
            *q = *q == '\t' ? '\n' : *q;
        if (mu_strv_append(&s->v[c], line))
            return MUSTER_ENOMEM;
        line = next;
    }
    return 0;
}

void mu_plan_adopt(struct mu_plan *p, uint64_t job)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];

    if (find(p, job) || share_path(p, job, path) || mu_path_read(path, SHARE_MAX, &b, NULL))
        return;
    struct share *s = calloc(1, sizeof *s);
    char *save_ptr = NULL, *line = s ? strtok_r(b.data, "\n", &save_ptr) : NULL;
    if (!line) {
        free(s);
        return;
    }
    s->job = job;
    snprintf(s->key, sizeof s->key, "%s", line);
    while ((line = strtok_r(NULL, "\n", &save_ptr)) && !parse_line(s, line))
        ;
    add(p, s);
}

/* --- planning ---------------------------------------------------------------------------------------------------- */

static enum mu_pin_policy policy_of(uint32_t bind)
{
    static const enum mu_pin_policy policies[] = {[0] = MU_PIN_CORE,
                                                  [MU_BIND_NONE] = MU_PIN_NONE,
                                                  [MU_BIND_CORE] = MU_PIN_CORE,
                                                  [MU_BIND_NUMA] = MU_PIN_NUMA,
                                                  [MU_BIND_GPU] = MU_PIN_GPU};

    return bind < MU_COUNT(policies) ? policies[bind] : MU_PIN_CORE;
}

static enum mu_pin_map map_of(const struct mu_m_spec *spec)
{
    enum mu_pin_map map = MU_MAP_DEFAULT;

    if (spec->map && *spec->map)
        mu_pin_map_parse(spec->map, &map, NULL); /* one that is not known counts as none */
    return map;
}

/* Memory is bound where a binding was asked for: a rank that may not have more than its NUMA node is killed when that
 * is full, and should not be by surprise. Without it the kernel prefers the node all the same. */
static int row(const struct mu_plan *p, const struct mu_pin_rank *r, bool bound, bool asked, struct share *s)
{
    mu_auto_free char *cpus = mu_cpuset_str(&r->cpus), *nodes = mu_cpuset_str(&r->nodes);
    const struct mu_topo_dev *gpu = r->gpu >= 0 ? mu_topo_gpu(p->topo, r->gpu) : NULL;
    bool memory = bound && asked && !mu_cpuset_equal(&r->nodes, mu_topo_allowed_nodes(p->topo));
    mu_auto_buf struct mu_buf vars = {0};
    char **env = NULL;

    if (!cpus || !nodes || mu_pin_env(p->topo, r, &env))
        return MUSTER_ENOMEM;
    for (char **e = env; e && *e; e++)
        mu_buf_appendf(&vars, "%s%s", e == env ? "" : "\n", *e);
    mu_strv_free(env);
    if (vars.failed || mu_strv_append(&s->v[CPUS], bound ? cpus : "") ||
        mu_strv_append(&s->v[NODES], memory ? nodes : "") ||
        mu_strv_append(&s->v[GPU], !gpu        ? ""
                                   : *gpu->pci ? gpu->pci
                                               : gpu->uuid) ||
        mu_strv_append(&s->v[ENV], mu_buf_str(&vars)))
        return MUSTER_ENOMEM;
    return 0;
}

/* GPUs of all jobs here, for mu_strv_free. */
static char **busy_gpus(const struct mu_plan *p)
{
    char **busy = NULL;

    for (const struct share *s = p->shares; s; s = s->next)
        for (char **g = s->v[GPU]; g && *g; g++)
            if (**g)
                mu_strv_append(&busy, *g);
    return busy;
}

/* What n ranks get, NULL when they are not to be bound and get nothing; *note says why if that is not what was asked
 * for, *refusal (set in place of it) that there is no way to do it. */
static struct share *compute(struct mu_plan *p, uint32_t n, const struct mu_m_spec *spec, char *const *slots,
                             char note[200], char refusal[300])
{
    struct mu_cpuset taken = {0};
    struct mu_pin pin = {0};
    struct mu_err err;
    char **busy = busy_gpus(p);

    for (struct share *s = p->shares; s; s = s->next)
        mu_cpuset_or(&taken, &s->cpus);
    struct mu_pin_request req = {.nranks = (int)n,
                                 .policy = policy_of(spec->bind),
                                 .map = map_of(spec),
                                 .smt = spec->smt,
                                 .occupied = &taken,
                                 .busy = busy,
                                 .slots = slots};
    int rc = mu_pin_compute(p->topo, &req, &pin, &err);
    mu_strv_free(busy);
    if (rc) {
        snprintf(slots ? refusal : note, slots ? 300 : 200, "%s%.180s",
                 slots ? "rank file: " : "ranks are not bound: ", err.text);
        return NULL;
    }
    if (spec->bind || slots || req.map == MU_MAP_GPU)
        snprintf(note, 200, "%s", pin.note);
    bool bound = pin.policy != MU_PIN_NONE;
    for (int i = 0; i < pin.nrows && !note[0]; i++)
        if (pin.ranks[i].gpu >= 0 && !*mu_topo_gpu(p->topo, pin.ranks[i].gpu)->uuid)
            snprintf(note, 200, "the UUID of GPU %s is not known: its ranks see all GPUs",
                     mu_topo_gpu(p->topo, pin.ranks[i].gpu)->pci);
    struct share *s = bound || pin.ranks[0].gpu >= 0 ? calloc(1, sizeof *s) : NULL;
    for (uint32_t i = 0; s && i < n && !rc; i++)
        rc = row(p, mu_pin_rank(&pin, (int)i), bound && !(slots && !*slots[i]), spec->bind || slots, s);
    if (rc) {
        share_free(s);
        s = NULL;
        snprintf(note, 200, "ranks are not bound: out of memory");
    }
    mu_pin_free(&pin);
    return s;
}

static void set_text(char **to, const char *text)
{
    free(*to);
    *to = *text ? strdup(text) : NULL;
}

/* What a rank file says of the ranks of this node. *slots: malloced, the texts are the spec's. */
static int slots_here(const struct mu_m_start *start, const struct mu_m_spec *spec, uint32_t n, char ***slots)
{
    uint64_t first = 0, all = mu_strv_len(spec->slots);

    *slots = NULL;
    for (uint32_t i = 0; i < start->node_id; i++)
        first += start->node_ranks.v[i];
    if (!all || first + n > all) /* a job that shrinks: its ranks are others than those of the file */
        return 0;
    if (!(*slots = calloc(n + 1u, sizeof **slots)))
        return MUSTER_ENOMEM;
    memcpy(*slots, spec->slots + first, n * sizeof **slots);
    return 0;
}

static void plan(struct mu_plan *p, struct mu_m_start *start, const struct mu_m_spec *spec, uint32_t n)
{
    char note[200] = "", refusal[300] = "", key[96];
    mu_auto_free char **slots = NULL;
    uint64_t hash = 0;

    if (slots_here(start, spec, n, &slots))
        return;
    for (uint32_t i = 0; slots && i < n; i++)
        hash = hash * 31 + mu_str_hash(slots[i], strlen(slots[i]) + 1);
    snprintf(key, sizeof key, "%u %.15s %u %llx", spec->bind, spec->map ? spec->map : "", spec->smt,
             (unsigned long long)hash);
    struct share *s = find(p, start->job);
    if (s && (strcmp(s->key, key) || mu_strv_len(s->v[CPUS]) != n)) {
        drop(p, start->job);
        s = NULL;
    }
    bool gpus = spec->bind == MU_BIND_GPU || map_of(spec) == MU_MAP_GPU;
    if ((spec->bind == MU_BIND_NONE && !gpus && !slots) || !n || n > INT32_MAX)
        return;
    if (gpus)
        want_devices(p);
    if (!p->topo) {
        if (spec->bind || slots)
            set_text(&start->note, "ranks are not bound: the topology of this node cannot be read");
        return;
    }
    if (!s) {
        s = compute(p, n, spec, slots, note, refusal);
        set_text(&start->note, note);
        set_text(&start->refusal, refusal);
        if (!s)
            return;
        s->job = start->job;
        snprintf(s->key, sizeof s->key, "%s", key);
        add(p, s);
        save(p, s);
    }
    start->cpusets = mu_strv_dup(s->v[CPUS]);
    start->nodesets = mu_strv_dup(s->v[NODES]);
    start->rank_env = mu_strv_dup(s->v[ENV]);
}

void mu_plan_start(struct mu_plan *p, struct mu_m_start *start)
{
    struct mu_m_spec spec;
    char ***made[] = {&start->cpusets, &start->nodesets, &start->rank_env};

    for (size_t i = 0; i < MU_COUNT(made); i++) {
        mu_strv_free(*made[i]);
        *made[i] = NULL;
    }
    set_text(&start->note, "");
    set_text(&start->refusal, "");
    if (start->node_id >= start->node_ranks.n || mu_msg_unpack(&start->spec, MU_MSG_spec, &spec, NULL))
        return; /* the keeper says what is wrong with it */
    plan(p, start, &spec, start->node_ranks.v[start->node_id]);
    mu_msg_free_body(MU_MSG_spec, &spec);
}
