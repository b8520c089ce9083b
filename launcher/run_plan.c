/* From a command line to a checked plan, and from the plan to the spec that the controller gets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/run.h"
#include "runtime/base/ckptopt.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

extern char **environ;

enum { NAME_MAX_BYTES = 255 };

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
}

/* The working directory as the user knows it: $PWD where that is the same one, as homes are often behind links. */
static int here(char *out, size_t n, struct mu_err *err)
{
    const char *pwd = getenv("PWD");
    struct stat a, b;

    if (pwd && pwd[0] == '/' && !stat(pwd, &a) && !stat(".", &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino &&
        !mu_str_copy(out, n, pwd))
        return 0;
    if (!getcwd(out, n))
        return mu_err_errno(err, MUSTER_EARG, "the current directory cannot be used; cd elsewhere or give --wdir");
    return 0;
}

static int absolute(const char *option, const char *path, char *out, size_t n, struct mu_err *err)
{
    char cwd[4096] = "";
    int rc;

    if (!*path)
        return mu_err_set(err, MUSTER_EARG, "%s: the directory's name is empty", option);
    if (path[0] != '/' && (rc = here(cwd, sizeof cwd, err)))
        return rc;
    if ((size_t)snprintf(out, n, "%s%s%s", cwd, *cwd ? "/" : "", path) >= n)
        return mu_err_set(err, MUSTER_EARG, "%s: the path is longer than %zu bytes", option, n - 1);
    return 0;
}

static int set_wdir(struct mu_run_app *app, const char *wdir, struct mu_err *err)
{
    return wdir ? absolute("--wdir", wdir, app->wdir, sizeof app->wdir, err) : here(app->wdir, sizeof app->wdir, err);
}

static bool is_name(const char *s, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    return len && !(s[0] >= '0' && s[0] <= '9') && strspn(s, letters) >= len;
}

/* -x entries become NAME=VALUE at the end of env, where they win. */
static int add_exports(struct mu_run_plan *p, char ***env, char *const *exports, struct mu_err *err)
{
    char shown[80];

    for (char *const *v = exports; v && *v; v++) {
        size_t len = strcspn(*v, "=");
        mu_auto_buf struct mu_buf b = {0};

        if (!is_name(*v, len))
            return mu_err_set(err, MUSTER_EARG, "-x %s: a variable's name is letters, digits and _, no digit first",
                              mu_str_show(shown, sizeof shown, *v));
        if (mu_run_env_is_own(*v))
            return mu_err_set(err, MUSTER_EARG, "-x %.*s: muster sets this variable itself", (int)len, *v);
        if (!(*v)[len]) {
            const char *value = getenv(*v);
            if (!value) {
                snprintf(p->note, sizeof p->note, "-x %s: there is no such variable to hand on; say -x %s=VALUE",
                         mu_str_show(shown, sizeof shown, *v), shown);
                continue;
            }
            mu_buf_appendf(&b, "%s=%s", *v, value);
        } else {
            mu_buf_puts(&b, *v);
        }
        if (b.failed || mu_strv_append(env, mu_buf_str(&b)))
            return no_memory(err);
    }
    return 0;
}

static int add_app(struct mu_run_plan *p, int argc, char **argv, struct mu_err *err)
{
    struct mu_run_opts *o = &p->opts;
    mu_auto_buf struct mu_buf pwd = {0};
    struct mu_run_app *v = realloc(p->apps, (p->napps + 1) * sizeof *v);
    int rc;

    if (!v)
        return no_memory(err);
    p->apps = v;
    struct mu_run_app *app = &v[p->napps++];
    memset(app, 0, sizeof *app);
    app->ranks = (uint32_t)o->ranks;
    app->argc = argc;
    app->argv = argv;
    if ((rc = set_wdir(app, o->wdir, err)))
        return rc;
    mu_buf_appendf(&pwd, "PWD=%s", app->wdir);
    if (pwd.failed || mu_strv_append(&app->env, mu_buf_str(&pwd)))
        return no_memory(err);
    for (char **m = o->mca; m && *m; m++)
        if (mu_strv_append(&app->env, *m))
            return no_memory(err);
    return add_exports(p, &app->env, o->exports, err);
}

static void next_program(struct mu_run_opts *o)
{
    mu_strv_free(o->exports);
    mu_strv_free(o->mca);
    o->exports = o->mca = NULL;
    o->mca_name = o->wdir = NULL;
    o->ranks = 0;
}

/* Options of one program from argv[at + 1] on. *first: its name. As mu_opt_parse. */
static int parse_one(struct mu_run_plan *p, const struct mu_opt *table, size_t n, int argc, char **argv, int at,
                     int *first, bool *closed, struct mu_err *err)
{
    for (;;) {
        int rc = mu_opt_parse(table, n, argc - at, argv + at, MU_OPT_ONE_DASH, &p->opts, first, err);

        if (rc)
            return rc;
        *first += at;
        if (!p->opts.mca_name) {
            *closed = *first - 1 > at && !strcmp(argv[*first - 1], "--");
            return 0;
        }
        if (*first >= argc)
            return mu_err_set(err, MUSTER_EARG, "--mca %s needs a value", p->opts.mca_name);
        if ((rc = mu_run_mca_value(&p->opts, argv[*first], err)))
            return rc;
        at = *first;
    }
}

static int parse_programs(struct mu_run_plan *p, const struct mu_opt *table, size_t n, int argc, char **argv,
                          struct mu_err *err)
{
    int at = 0;

    for (;;) {
        int first = argc, end, rc;
        bool closed = false;

        next_program(&p->opts);
        if ((rc = parse_one(p, table, n, argc, argv, at, &first, &closed, err)))
            return rc;
        /* behind `--` a ':' is an argument like any other */
        for (end = first; end < argc && (closed || strcmp(argv[end], ":")); end++)
            ;
        if (first >= argc || end == first) {
            if (p->napps || end < argc)
                return mu_err_set(err, MUSTER_EARG, "there is no program %s ':'", end < argc ? "before" : "behind");
            return mu_err_set(err, MUSTER_EARG, "no program is given; usage: muster %s [OPTIONS] PROGRAM [ARGUMENTS]",
                              argv[0]);
        }
        if ((rc = add_app(p, end - first, argv + first, err)))
            return rc;
        if (end == argc)
            return 0;
        at = end;
    }
}

/* The first host whose slots are left to the node. */
static const char *first_open(const struct mu_hosts *hosts)
{
    for (size_t i = 0; i < hosts->n; i++)
        if (!hosts->v[i].slots)
            return hosts->v[i].name;
    return "?";
}

static int count_ranks(struct mu_run_plan *p, struct mu_err *err)
{
    const struct mu_run_opts *o = &p->opts;
    uint64_t sum = 0;

    if (p->napps == 1 && !p->apps[0].ranks && o->nodes && o->ppn)
        sum = (uint64_t)o->nodes * (uint64_t)o->ppn;
    else if (p->napps == 1 && !p->apps[0].ranks && p->host_slots && !o->ppn)
        sum = p->host_slots;
    else if (p->napps == 1 && !p->apps[0].ranks && p->hosts.n && o->ppn)
        sum = (uint64_t)o->ppn * (p->hosts.n - (size_t)o->spares);
    else if (p->napps == 1 && !p->apps[0].ranks && p->hosts.n && !(p->hosts.n == 1 && mu_run_hosts_here(&p->hosts)))
        return mu_err_set(
            err, MUSTER_EARG,
            "how many ranks? The slots of host %s are known only once its agent runs: say -n, or HOST:SLOTS",
            first_open(&p->hosts));
    for (unsigned i = 0; i < p->napps; i++) {
        if (p->napps > 1 && !p->apps[i].ranks)
            return mu_err_set(err, MUSTER_EARG, "with several programs each needs its own -n; program %u has none",
                              i + 1);
        sum += p->apps[i].ranks;
    }
    if (sum > MU_RUN_RANKS_MAX)
        return mu_err_set(err, MUSTER_EARG, "%llu ranks: a job has at most %d", (unsigned long long)sum,
                          MU_RUN_RANKS_MAX);
    p->ranks = (uint32_t)sum;
    if (p->napps == 1)
        p->apps[0].ranks = p->ranks;
    return 0;
}

/* Once the number of ranks is known. */
static int check_ranks(struct mu_run_plan *p, struct mu_err *err)
{
    struct mu_run_opts *o = &p->opts;

    if (o->min_ranks > (int)p->ranks)
        return mu_err_set(err, MUSTER_EARG, "--min-ranks %d is more than the job's %u ranks", o->min_ranks, p->ranks);
    if (o->nodes && o->ppn && p->ranks > (uint64_t)o->nodes * (uint64_t)o->ppn)
        return mu_err_set(err, MUSTER_EARG, "%u ranks do not fit %d nodes with --ppn %d", p->ranks, o->nodes, o->ppn);
    if (p->host_slots && p->ranks > p->host_slots && !o->oversubscribe)
        return mu_err_set(err, MUSTER_EARG,
                          "%u ranks asked for, the hosts %s have %u slots%s: %s, ask for fewer with -n, or "
                          "share cores with --oversubscribe",
                          p->ranks, p->from_slurm ? "of this allocation" : "given", p->host_slots,
                          o->spares ? " besides the spare ones" : "",
                          p->from_slurm ? "allocate more tasks" : "say HOST:SLOTS");
    return p->hosts.n ? mu_run_place(p, NULL, NULL, NULL, err) : 0;
}

int mu_run_plan_slots(struct mu_run_plan *p, uint32_t slots, uint32_t nodes, struct mu_err *err)
{
    uint64_t n = p->opts.ppn ? (uint64_t)p->opts.ppn * nodes : slots;

    if (p->ranks)
        return 0;
    if (!n || n > MU_RUN_RANKS_MAX)
        return mu_err_set(err, MUSTER_ENODE, "the pool has no slots; `muster nodes` shows why");
    p->ranks = p->apps[0].ranks = (uint32_t)n;
    return check_ranks(p, err);
}

static int check_hang(struct mu_run_plan *p, struct mu_err *err)
{
    const char *text = getenv("MUSTER_HANG_TIMEOUT"), *name = "--hang-timeout";
    char shown[80];

    if (p->opts.hang_ns == UINT64_MAX && text && *text) {
        name = "MUSTER_HANG_TIMEOUT";
        if (mu_str_duration(text, &p->opts.hang_ns) || p->opts.hang_ns == UINT64_MAX)
            return mu_err_set(err, MUSTER_EARG, "%s=%s: not a duration such as 90 or 5m", name,
                              mu_str_show(shown, sizeof shown, text));
    }
    if (p->opts.hang_ns && p->opts.hang_ns < MU_HANG_LEAST_NS)
        return mu_err_set(err, MUSTER_EARG, "%s: takes 1s or more, or 0 for never", name);
    return 0;
}

static int check_ckpt(struct mu_run_plan *p, struct mu_err *err)
{
    struct mu_ckpt_options ckpt = {.keep = 0};
    const struct mu_run_opts *o = &p->opts;
    size_t len = 0;
    int rc;

    for (char **v = o->ckpt; v && *v; v++) {
        if ((rc = mu_ckpt_options_overlay(&ckpt, *v, "--ckpt", err)))
            return rc;
        len += (size_t)snprintf(p->ckpt + len, sizeof p->ckpt - len, "%s%s", len ? "," : "", *v);
        if (len >= sizeof p->ckpt)
            return mu_err_set(err, MUSTER_EARG, "--ckpt: the options are longer than %zu bytes", sizeof p->ckpt - 1);
    }
    return 0;
}

/* Where this host has ranks. A full disk is no reason: a job makes room by what it removes. */
static int check_ckpt_dir(struct mu_run_plan *p, struct mu_err *err)
{
    const char *dir = p->opts.ckpt_dir, *name = "--ckpt-dir";
    int rc;

    if (!dir && !getenv("MUSTER_JOB")) { /* within a rank the variable is that of the job around us */
        dir = getenv("MUSTER_CKPT_DIR");
        name = "MUSTER_CKPT_DIR";
    }
    if (!dir || (!*dir && strcmp(name, "--ckpt-dir")))
        return 0;
    if ((rc = absolute(name, dir, p->ckpt_dir, sizeof p->ckpt_dir, err)) || !mu_run_hosts_here(&p->hosts))
        return rc;
    rc = mu_run_check_dir(name, p->ckpt_dir, !p->opts.dry_run, err);
    return rc == MUSTER_ENOSPC ? 0 : rc;
}

int mu_run_plan_make(struct mu_run_plan *p, const struct mu_opt *table, size_t n, int argc, char **argv,
                     struct mu_err *err)
{
    struct mu_run_opts *o = &p->opts;
    int rc;

    memset(p, 0, sizeof *p);
    o->bind = MU_RUN_BIND_UNSAID;
    o->restarts = -1;
    o->hang_ns = UINT64_MAX;
    if (!(p->env = mu_run_env_copy(environ)))
        return no_memory(err);
    if ((rc = parse_programs(p, table, n, argc, argv, err)))
        return rc;
    if (o->name && strlen(o->name) > NAME_MAX_BYTES)
        return mu_err_set(err, MUSTER_EARG, "--name: longer than %d bytes", NAME_MAX_BYTES);
    if ((rc = check_hang(p, err)) || (rc = mu_run_check_hosts(p, err)) || (rc = check_ckpt(p, err)) ||
        (rc = count_ranks(p, err)))
        return rc;
    if ((p->ranks && (rc = check_ranks(p, err))) || (rc = mu_run_check_programs(p, err)))
        return rc;
    if (o->output && ((rc = absolute("--output", o->output, p->output, sizeof p->output, err)) ||
                      (rc = mu_run_check_dir("--output", p->output, !o->dry_run, err))))
        return rc;
    if ((rc = check_ckpt_dir(p, err)))
        return rc;
    mu_client_user(p->user, sizeof p->user);
    return 0;
}

void mu_run_plan_free(struct mu_run_plan *p)
{
    size_t n;
    const struct mu_opt *table = mu_run_options(&n);

    mu_opt_free(table, n, &p->opts);
    mu_strv_free(p->opts.mca);
    mu_strv_free(p->opts.after);
    for (unsigned i = 0; i < p->napps; i++)
        mu_strv_free(p->apps[i].env);
    free(p->apps);
    mu_strv_free(p->env);
    mu_strv_free(p->engine_env);
    mu_strv_free(p->slots);
    mu_hosts_free(&p->hosts);
    memset(p, 0, sizeof *p);
}

int mu_run_spec(const struct mu_run_plan *p, bool foreground, bool input, struct mu_bytes *out, struct mu_err *err)
{
    static const uint32_t binds[] = {[MU_RUN_BIND_NONE] = MU_BIND_NONE,
                                     [MU_RUN_BIND_CORE] = MU_BIND_CORE,
                                     [MU_RUN_BIND_NUMA] = MU_BIND_NUMA,
                                     [MU_RUN_BIND_GPU] = MU_BIND_GPU};
    const struct mu_run_opts *o = &p->opts;
    const char *slash = strrchr(p->apps[0].argv[0], '/');
    char name[NAME_MAX_BYTES + 1];
    size_t words = 0, vars = 0;
    mode_t mask = umask(077);
    mu_auto_free char *hosts = p->hosts.n ? mu_run_hosts_text(&p->hosts) : NULL;
    struct rlimit files;

    umask(mask);
    for (unsigned i = 0; i < p->napps; i++) {
        words += (size_t)p->apps[i].argc;
        vars += mu_strv_len(p->apps[i].env);
    }
    mu_auto_free uint32_t *counts = calloc(3 * (size_t)p->napps, sizeof *counts);
    mu_auto_free char **argv = calloc(words + 1, sizeof *argv), **env = calloc(vars + 1, sizeof *env),
                      **wdir = calloc(p->napps + 1u, sizeof *wdir);
    if (!counts || !argv || !env || !wdir || (p->hosts.n && !hosts))
        return no_memory(err);
    words = vars = 0;
    for (unsigned i = 0; i < p->napps; i++) {
        struct mu_run_app *app = &p->apps[i];
        counts[i] = app->ranks;
        counts[p->napps + i] = (uint32_t)app->argc;
        counts[2 * p->napps + i] = (uint32_t)mu_strv_len(app->env);
        wdir[i] = app->wdir;
        for (int k = 0; k < app->argc; k++)
            argv[words++] = app->argv[k];
        for (size_t k = 0; app->env[k]; k++)
            env[vars++] = app->env[k];
    }
    snprintf(name, sizeof name, "%s", o->name ? o->name : slash && slash[1] ? slash + 1 : p->apps[0].argv[0]);
    struct mu_m_spec spec = {
        .name = name,
        .user = (char *)(uintptr_t)p->user,
        .ranks = p->ranks,
        .app_ranks = {.v = counts, .n = p->napps},
        .app_argc = {.v = counts + p->napps, .n = p->napps},
        .argv = argv,
        .app_envc = {.v = counts + 2 * p->napps, .n = p->napps},
        .app_env = env,
        .app_wdir = wdir,
        .env = p->env,
        .bind = o->bind == MU_RUN_BIND_UNSAID ? 0 : binds[o->bind],
        .map = (char *)(uintptr_t)o->map,
        .oversubscribe = o->oversubscribe,
        .output = (char *)(uintptr_t)p->output,
        .tag_output = o->tag_output,
        .timeout_ns = o->timeout_ns,
        .restarts_plus1 = (uint32_t)(o->restarts + 1),
        .on_failure = (uint32_t)o->on_failure,
        .min_ranks = (uint32_t)o->min_ranks,
        .spares = (uint32_t)o->spares,
        .nodes = (uint32_t)o->nodes,
        .ppn = (uint32_t)o->ppn,
        .ckpt_dir = (char *)(uintptr_t)p->ckpt_dir,
        .ckpt_options = (char *)(uintptr_t)p->ckpt,
        .foreground = foreground,
        .grace_ns = o->grace_ns,
        .hang_ns_plus1 = o->hang_ns + 1, /* not said: 0 */
        .umask_plus1 = (uint32_t)mask + 1,
        .nofile = getrlimit(RLIMIT_NOFILE, &files) ? 0 : files.rlim_cur,
        .input = input,
        .gpus = (uint32_t)o->gpus,
        .memory = o->memory,
        .label = (char *)(uintptr_t)o->label,
        .baseline = o->baseline,
        .hosts = hosts,
        .ssh = (char *)(uintptr_t)o->ssh,
        .engine = (char *)(uintptr_t)p->engine,
        .engine_env = p->engine_env,
        .smt = o->smt,
        .slots = p->slots,
        .priority = o->priority,
        .after = o->after,
        .hold = o->hold,
        .group = (uint32_t)o->group,
    };
    int rc = mu_msg_pack(out, MU_MSG_spec, &spec);
    return rc ? mu_err_set(err, rc, "the job's description: %s",
                           rc == MUSTER_EARG ? "arguments and environment are larger than 64 MiB" : muster_strerror(rc))
              : 0;
}

int mu_run_token(char token[33], struct mu_err *err)
{
    unsigned char raw[16];

    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw)
        return mu_err_errno(err, MUSTER_EIO, "no random bytes");
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(token + 2 * i, 3, "%02x", raw[i]);
    return 0;
}
