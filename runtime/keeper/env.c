#include "runtime/keeper/env.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"

/* Left over from a launcher around the submitter: it would make a rank part of another job. PMIX_MCA_ and OMPI_MCA_ are
 * the user's settings and stay. */
static const char *const dropped[] = {"PMIX_", "PMI_",  "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_FIRST_RANKS=",
                                      "ORTE_", "PRTE_", "OMPI_APP_CTX_",    "OMPI_NUM_APP_"};
static const char *const kept[] = {"PMIX_MCA_", "PRTE_MCA_"};

enum when { ALWAYS, ONE_NODE, SEVERAL, TCP, CROWDED }; /* TCP: several nodes and nothing better between them */

/* Settings for MPI libraries; the user's own win. Names that a library does not know do no harm.
 * Measured with 2 ranks of Open MPI 4.1.4 on 2 cores, MPI_Init: 250 ms without them, 45 ms with.
 *
 * To add one: a row, with what it is good for; it must mean the same in Open MPI 4.1 and 5. */
static const struct setting {
    const char *name;
    enum when when;
    const char *value;
} settings[] = {
    /* Open MPI 4.1 does not believe in a PMIx server that it does not know and comes up as a singleton without. */
    {"OMPI_MCA_schizo", ALWAYS, "jsm"},
    /* Names the message layer instead of opening all and asking: cm alone opens libfabric. */
    {"OMPI_MCA_pml", ONE_NODE, "ob1"},
    /* Shared memory and self remain (vader in 4.1, sm in 5; smcuda where built). Opening the ofi transport probes every
     * network and costs 200 ms. */
    {"OMPI_MCA_btl", ONE_NODE, "^tcp,openib,ofi,uct,usnic"},
    {"OMPI_MCA_pml", TCP, "ob1"},
    {"OMPI_MCA_btl", TCP, "^openib,ofi,uct,usnic"},
    /* A frame of ours (64 KiB and its head) in one go. It is also what lets ranks outlive a peer: when a connection
     * breaks under a message of several steps, 4.1 takes the next step with the connection's lock held, and waits for
     * itself. */
    {"OMPI_MCA_btl_tcp_eager_limit", SEVERAL, "81920"},
    /* The posix component tries itself out in /dev/shm at each start, and a kill in that moment leaves a file there. */
    {"OMPI_MCA_shmem", ALWAYS, "mmap"},
    /* hwloc loads X11, OpenCL and ICU libraries for these: 3 ms of CPU a rank. */
    {"HWLOC_PLUGINS_BLACKLIST", ALWAYS, "hwloc_opencl.so,hwloc_gl.so,hwloc_xml_libxml.so"},
    /* Ranks that share a core and spin while they wait take turns of whole time slices. */
    {"OMPI_MCA_mpi_yield_when_idle", CROWDED, "1"},
};

bool mu_env_fabric(void)
{
    static const char *const dirs[] = {"/sys/class/infiniband", "/sys/class/cxi", "/sys/class/hfi1"};
    bool any = false;

    for (size_t i = 0; i < MU_COUNT(dirs) && !any; i++) {
        mu_auto_dir DIR *d = opendir(dirs[i]);
        struct dirent *e;

        while (d && !any && (e = readdir(d)))
            any = e->d_name[0] != '.';
    }
    return any;
}

static bool applies(enum when when, const struct mu_env_job *j)
{
    bool one = j->start->node_ranks.n == 1;

    switch (when) {
    case ONE_NODE:
        return one;
    case SEVERAL:
        return !one;
    case TCP:
        return !one && !j->fabric;
    case CROWDED:
        return j->crowded;
    case ALWAYS:
        break;
    }
    return true;
}

static size_t name_len(const char *var)
{
    return strcspn(var, "=");
}

static char **find(char **v, const char *name, size_t len)
{
    for (; v && *v; v++)
        if (!strncmp(*v, name, len) && (*v)[len] == '=')
            return v;
    return NULL;
}

const char *mu_env_get(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; env && *env; env++)
        if (!strncmp(*env, name, len) && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* Whether the environment decides already what the variable would: the name of the one that does, or NULL. */
static const char *users(char *const *env, const char *name)
{
    /* AMD's libraries number what ROCR_VISIBLE_DEVICES leaves. */
    static const char *const same[][2] = {{"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"},
                                          {"ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}};

    if (mu_env_get(env, name))
        return name;
    for (size_t i = 0; i < MU_COUNT(same); i++)
        if (!strcmp(same[i][0], name) && mu_env_get(env, same[i][1]))
            return same[i][1];
    return NULL;
}

int mu_env_plan(const char *lines, char *const *common, char ***vars, char theirs[64])
{
    int rc = 0;

    while (*lines && !rc) {
        size_t n = strcspn(lines, "\n");
        mu_auto_free char *var = strndup(lines, n);
        if (!var)
            return MUSTER_ENOMEM;
        char *sign = strchr(var, '=');
        if (sign) {
            *sign = 0;
            const char *decides = users(common, var);
            if (decides)
                snprintf(theirs, 64, "%s", decides);
            *sign = '=';
            if (!decides)
                rc = mu_strv_append(vars, var);
        }
        lines += n + (lines[n] != 0);
    }
    return rc;
}

/* The vector under construction; `failed` is latched. */
struct envp {
    char **v;
    size_t n, cap;
    bool failed;
};

static void envp_free(struct envp *e)
{
    mu_strv_free(e->v);
    memset(e, 0, sizeof *e);
}
#define auto_envp __attribute__((cleanup(envp_free)))

/* Takes text ("NAME=value", from malloc, NULL = out of memory). */
static void take(struct envp *e, char *text)
{
    char **at = text ? find(e->v, text, name_len(text)) : NULL;

    if (at) {
        free(*at);
        *at = text;
        return;
    }
    if (text && e->n + 1 >= e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 64;
        char **v = realloc(e->v, cap * sizeof *v);
        if (v) {
            e->v = v;
            e->cap = cap;
        } else {
            free(text);
            text = NULL;
        }
    }
    if (!text) {
        e->failed = true;
        return;
    }
    e->v[e->n++] = text;
    e->v[e->n] = NULL;
}

static void set(struct envp *e, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void set(struct envp *e, const char *name, const char *fmt, ...)
{
    struct mu_buf b = {0};
    va_list ap;

    mu_buf_appendf(&b, "%s=", name);
    va_start(ap, fmt);
    mu_buf_appendv(&b, fmt, ap);
    va_end(ap);
    take(e, mu_buf_take(&b));
}

static bool matches(const char *var, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strncmp(var, list[i], strlen(list[i])))
            return true;
    return false;
}

static void copy(struct envp *e, char *const *from, size_t n)
{
    for (size_t i = 0; i < n && from && from[i]; i++)
        if (strchr(from[i], '='))
            take(e, strdup(from[i]));
}

static int finish(struct envp *e, char ***env, struct mu_err *err)
{
    if (e->failed)
        return mu_err_set(err, MUSTER_ENOMEM, "environment of the ranks: out of memory");
    *env = MU_STEAL(e->v, NULL);
    return 0;
}

int mu_env_common(const struct mu_env_job *j, uint32_t app, char ***env, struct mu_err *err)
{
    const struct mu_m_start *st = j->start;
    const struct mu_m_spec *spec = j->spec;
    struct mu_proc_tag tag = {.pool = j->pool, .job = st->job, .attempt = st->attempt};
    size_t app_at = 0, nenv = mu_strv_len(spec->env), napp_env = mu_strv_len(spec->app_env);
    uint32_t world = 0, nlocal = st->node_ranks.v[st->node_id];
    char text[MU_PROC_TAG_SIZE];
    auto_envp struct envp e = {0};

    for (uint32_t i = 0; i < st->node_ranks.n; i++)
        world += st->node_ranks.v[i];
    for (size_t i = 0; i < nenv; i++)
        if (!matches(spec->env[i], dropped, MU_COUNT(dropped)) || matches(spec->env[i], kept, MU_COUNT(kept)))
            copy(&e, spec->env + i, 1);
    for (uint32_t a = 0; a < app && a < spec->app_envc.n; a++)
        app_at += spec->app_envc.v[a];

    const char *wdir = app < mu_strv_len(spec->app_wdir) ? spec->app_wdir[app] : "";
    if (*wdir)
        set(&e, "PWD", "%s", wdir);
    set(&e, "MASTER_ADDR", "%s", j->master_addr);
    set(&e, "MASTER_PORT", "%u", j->master_port);
    if (app < spec->app_envc.n && app_at < napp_env)
        copy(&e, spec->app_env + app_at, spec->app_envc.v[app]);

    for (size_t i = 0; i < MU_COUNT(settings); i++) {
        const struct setting *s = &settings[i];

        if (applies(s->when, j) && !mu_env_get(e.v, s->name))
            set(&e, s->name, "%s", s->value);
    }
    if (j->shm_dir) {
        set(&e, "OMPI_MCA_btl_vader_backing_directory", "%s", j->shm_dir);
        set(&e, "OMPI_MCA_btl_sm_backing_directory", "%s", j->shm_dir);
    }
    set(&e, "OMPI_MCA_orte_tmpdir_base", "%s", j->session_dir);

    set(&e, "WORLD_SIZE", "%u", world);
    set(&e, "LOCAL_WORLD_SIZE", "%u", nlocal);
    set(&e, "NODE_RANK", "%u", st->node_id);
    if (getenv("MUSTER_RACK")) /* the host's, not the submitter's */
        set(&e, "MUSTER_RACK", "%s", getenv("MUSTER_RACK"));
    set(&e, "OMPI_COMM_WORLD_SIZE", "%u", world);
    set(&e, "OMPI_COMM_WORLD_LOCAL_SIZE", "%u", nlocal);
    set(&e, "OMPI_UNIVERSE_SIZE", "%u", world);
    set(&e, "MUSTER_JOB", "%llu", (unsigned long long)st->job);
    set(&e, "MUSTER_JOB_MARK", "%08x%08x", st->mark, (uint32_t)st->job);
    set(&e, "MUSTER_ATTEMPT", "%u", st->attempt);
    set(&e, "MUSTER_FAILURES", "%u/%.3f", st->failures, (double)st->ran_ns / 1e9);
    set(&e, "MUSTER_NODE", "%s", st->nodes[st->node_id]);
    set(&e, "MUSTER_SLOTS", "%s", j->slots);
    if (j->arena)
        set(&e, "MUSTER_ARENA", "%s", j->arena);
    if (st->ckpt_dir && *st->ckpt_dir)
        set(&e, "MUSTER_CKPT_DIR", "%s", st->ckpt_dir);
    if (spec->ckpt_options && *spec->ckpt_options)
        set(&e, "MUSTER_CKPT", "%s", spec->ckpt_options);
    take(&e, strdup(mu_proc_tag_format(text, &tag)));
    return finish(&e, env, err);
}

int mu_env_rank(char *const *common, uint32_t rank, uint32_t local, char *const *pmix, char ***env, struct mu_err *err)
{
    static const char *const names[][2] = {{"RANK", "LOCAL_RANK"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"},
                                           {NULL, "OMPI_COMM_WORLD_NODE_RANK"},
                                           {NULL, "MUSTER_SLOT_INDEX"}};
    auto_envp struct envp e = {.n = mu_strv_len(common)};

    e.cap = e.n + 1;
    e.v = mu_strv_dup(common);
    e.failed = !e.v;
    for (size_t i = 0; i < MU_COUNT(names) && !e.failed; i++) {
        if (names[i][0])
            set(&e, names[i][0], "%u", rank);
        set(&e, names[i][1], "%u", local);
    }
    if (!e.failed)
        copy(&e, pmix, SIZE_MAX);
    return finish(&e, env, err);
}
