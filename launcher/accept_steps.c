/* The steps of a profile: benchmarks, as jobs of their own. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/accept.h"
#include "launcher/answer.h"
#include "launcher/bench.h"
#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { ARGS_MAX = 8 };

/* How to add a step: a row. Its name is a benchmark's; the arguments are those of `muster bench`. */
static const struct step {
    const char *profile, *bench;
    unsigned weight; /* about so many seconds */
    bool two;        /* takes two hosts */
    const char *args[ARGS_MAX];
    const char *again; /* one more where suspects are measured again, or NULL: who is far off is told soon */
    bool gpus;         /* on a rank for each GPU, where all hosts have some; called nccl */
} steps[] = {
    /* 15 s with eight hosts, most often with time left for what is measured again: repetitions that would end later
     * are left out. */
    {"quick",
     "node",
     3,
     false,
     {"--tests=mem,cpu,gpu", "--trials=3", "--time=100ms", "--memory-size=64M", "--gpu-size=64M", "--gpu-matrix=4096",
      "--within=5s"},
     "--within=1500ms"},
    {"quick", "pair", 3, true, {"--trials=3", "--time=20ms", "--large=256K", "--within=6s"}, "--within=1500ms"},
    {"quick",
     "coll",
     3,
     false,
     {"--op=allreduce", "--min=64K", "--max=1M", "--time=60ms", "--timing=start"},
     "--within=1500ms"},
    {"quick",
     "coll",
     2,
     false,
     {"--op=allreduce", "--memory=device", "--min=64M", "--max=64M", "--time=500ms"},
     "--within=1500ms",
     true},
    {"standard", "node", 10, false, {"--trials=2", "--time=200ms", "--memory-size=128M", "--disk-size=64M"}, NULL},
    {"standard", "pair", 8, true, {"--trials=2", "--time=60ms"}, "--within=2s"},
    {"standard", "coll", 12, false, {"--op=all", "--min=1K", "--max=4M", "--time=100ms", "--timing=start"}, NULL},
    {"standard", "fabric", 5, true, {"--time=60ms"}, NULL},
    {"standard", "overlap", 4, false, {"--time=60ms"}, NULL},
    {"standard",
     "coll",
     12,
     false,
     {"--op=all", "--memory=device", "--min=1M", "--max=256M", "--time=200ms"},
     NULL,
     true},
};

/* Who is there, before anything is measured: one host has no links. */
static const struct step roll = {"", "hosts", 0, false, {NULL}, NULL, false};

static const char *name_of(const struct step *t)
{
    return t->gpus ? "nccl" : t->bench;
}

enum { LAUNCHES_STANDARD = 3, LAUNCHES_MAX = 10000 };
static const uint64_t STEP_S = 1800;

struct sight {
    struct mu_accept *a;
    const char *what;
    FILE *raw;
    bool quiet, bar, heard;      /* heard: the ranks have said something */
    int failed;                  /* errno of what could not be written */
    bool others;                 /* its hosts are not those of the run */
    bool look;                   /* at who is there, and no more */
    double before, weight, all;  /* seconds, as the table has them */
    unsigned round;              /* of measuring again; 0: none */
    uint64_t began, first, said; /* first: when the ranks were there */
};

static const char *profile_of(const struct mu_accept *a)
{
    return json_string_value(json_object_get(a->begin, "profile"));
}

static bool soaks(const struct mu_accept *a)
{
    return !strcmp(profile_of(a), "soak");
}

static double wall(void)
{
    return (double)mu_wall() / (double)MU_SEC;
}

/* Of the benchmarks whose tests --only may choose among. */
static const char *tests_there(const char *bench)
{
    return !strcmp(bench, "node") ? "mem,memtest,cpu,disk,gpu" : !strcmp(bench, "pair") ? "lat,bw" : "";
}

/* Whether the benchmark is to be made; tests (may be NULL): the argument that says which of its tests, where not all.
 */
static bool only_of(const struct mu_accept *a, const char *bench, struct mu_buf *tests)
{
    const char *only = json_string_value(json_object_get(a->begin, "only"));
    size_t n = strlen(bench), len;
    bool is = !only, all = !only;

    for (const char *p = only; p && *p; p += len, p += *p == ',') {
        len = strcspn(p, ",");
        if (len < n || strncmp(p, bench, n) != 0)
            continue;
        all = all || len == n;
        is = is || len == n || p[n] == '.';
        if (tests && len > n && p[n] == '.')
            mu_buf_appendf(tests, "%s%.*s", tests->len ? "," : "--tests=", (int)(len - n - 1), p + n + 1);
    }
    if (tests && all)
        mu_buf_clear(tests);
    return is;
}

static bool of_profile(const struct mu_accept *a, const struct step *t)
{
    return only_of(a, name_of(t), NULL) && !strcmp(t->profile, soaks(a) ? "standard" : profile_of(a));
}

static void show(struct sight *s, double done)
{
    char gone[32], left[32], bar[31];
    uint64_t now = mu_now(), took = now - s->began, rest;
    double part = s->all > 0 ? (s->before + s->weight * done) / s->all : 0;
    const char *again = s->round ? ", measured again" : "";

    if (soaks(s->a) && !s->round) {
        double whole = json_number_value(json_object_get(s->a->begin, "soak_s"));
        double gone_s = s->a->before + (double)took / MU_SEC;
        part = gone_s / whole;
        rest = gone_s < whole ? (uint64_t)((whole - gone_s) * MU_SEC) : 0;
    } else /* that the hosts had to be started says nothing of what is measured */
        rest = part > 0 && s->first ? (uint64_t)((double)(now - s->first) * (1 - part) / part) : 0;
    if (s->quiet || part <= 0 || (!s->bar && now - s->said < 10 * MU_SEC))
        return;
    part = part > 1 ? 1 : part;
    s->said = now;
    mu_str_fmt_duration(gone, sizeof gone, took);
    mu_str_fmt_duration(left, sizeof left, rest);
    if (part >= 1)
        snprintf(left, sizeof left, "nothing");
    if (!s->bar) {
        fprintf(stderr, "accept: %.0f %%, %s%s, %s gone, about %s left\n", part * 100, s->what, again, gone, left);
        return;
    }
    size_t full = (size_t)(part * 30);
    memset(bar, '#', full);
    memset(bar + full, '.', 30 - full);
    bar[30] = 0;
    fprintf(stderr, "\r\033[Kaccept [%s] %3.0f %%, %s%s, %s gone, about %s left", bar, part * 100, s->what, again, gone,
            left);
}

/* A run that goes on elsewhere, or in another allocation, would compare hosts that were never measured together. */
static bool are_others(const struct mu_data *d, const json_t *hosts)
{
    const json_t *x;
    size_t i;

    if (!d->nhosts)
        return false;
    bool others = json_array_size(hosts) != d->nhosts;
    json_array_foreach(hosts, i, x)
    {
        bool known = false;
        for (uint32_t h = 0; h < d->nhosts && !known; h++)
            known = json_is_string(x) && !strcmp(d->hosts[h], json_string_value(x));
        others = others || !known;
    }
    return others;
}

static void on_line(void *arg, const char *line, json_t *root)
{
    struct sight *s = arg;
    const char *kind = json_string_value(json_object_get(root, "kind"));

    s->heard = true;
    if (!strcmp(kind, "run") && !s->first)
        s->first = mu_now();
    if (!strcmp(kind, "run"))
        s->others = are_others(&s->a->data, json_object_get(root, "hosts"));
    if (!strcmp(kind, "progress")) {
        double done = json_number_value(json_object_get(root, "done"));
        show(s, done > 1 ? 1 : done);
        return;
    }
    if (fputs(line, s->raw) < 0 && !s->failed)
        s->failed = errno;
}

/* That every host has; 0: not all of them have any, or nobody has looked. */
static unsigned gpus_each(const struct mu_accept *a)
{
    double least = 1e6;
    unsigned hosts = 0;

    for (uint32_t i = 0; i < a->data.n; i++) {
        const struct mu_trials *s = &a->data.series[i];
        if (strcmp(a->data.tests[s->key.test].name, "node.gpu.count") != 0 || s->key.round || !s->n)
            continue;
        hosts++;
        least = fmin(least, mu_trials_median(s));
    }
    return hosts && hosts == a->data.nhosts ? (unsigned)least : 0;
}

/* What the user said of `muster run`, and what the benchmark wants where nothing was said. */
static int run_options(const struct mu_accept *a, const struct step *t, char ***out)
{
    const json_t *run = json_object_get(a->begin, "run"), *x;
    bool sized = false, bound = false;
    char text[32];
    size_t i;
    int rc = 0;

    json_array_foreach(run, i, x)
    {
        const char *s = json_string_value(x);
        sized = sized || !strncmp(s, "--ppn=", 6);
        bound = bound || !strncmp(s, "--bind=", 7);
        rc = rc ? rc : mu_strv_append(out, s);
    }
    bool node = !strcmp(t->bench, "node"), one = a->data.nhosts == 1 && !node;
    unsigned gpus = t->gpus ? gpus_each(a) : 0;
    if (gpus) {
        snprintf(text, sizeof text, "--ppn=%u", gpus);
        return rc || sized ? rc : mu_strv_append(out, text);
    }
    if (one && !rc) /* one host has no network: its processes have one another */
        rc = mu_strv_append(out, "--ranks=2");
    else if (!sized && !rc)
        rc = mu_strv_append(out, "--ppn=1");
    if (one && !rc)
        rc = mu_strv_append(out, "--oversubscribe");
    /* A rank that has a host to itself sees to that (bench/rank/steps.c), so that one job makes all steps. */
    return rc || (!node && (sized || bound || one)) ? rc : mu_strv_append(out, "--bind=none");
}

/* Its job is that of the roll, too. There is one: --only was looked at. */
static const struct step *first_of(const struct mu_accept *a)
{
    size_t i = 0;

    while (i + 1 < MU_COUNT(steps) && !of_profile(a, &steps[i]))
        i++;
    return &steps[i];
}

static bool same(char *const *a, char *const *b)
{
    for (; a && b && *a && *b; a++, b++)
        if (strcmp(*a, *b) != 0)
            return false;
    return !(a && *a) && !(b && *b);
}

void mu_accept_rest(struct mu_accept *a, bool wait)
{
    if (a->team)
        mu_bench_team_dismiss(a->team);
    if (!wait)
        return;
    mu_bench_team_free(a->team);
    mu_strv_free(a->team_run);
    a->team = NULL;
    a->team_run = NULL;
}

/* The ranks that are there, or new ones. */
static int get_team(struct mu_accept *a, char ***run, unsigned launch, struct mu_err *err)
{
    if (a->team && a->team_launch == launch && same(a->team_run, *run))
        return 0;
    mu_accept_rest(a, true);
    a->team_launch = launch;
    a->team_run = MU_STEAL(*run, NULL);
    return mu_bench_team_new(&a->team, "accept", a->team_run, err);
}

static int keep(struct mu_accept *a, const char *name, const char *part, const char *path, unsigned round, int code,
                struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    char hex[65];
    int rc = mu_path_read_regular(part, 1 << 30, &text, err);

    if (rc)
        return rc;
    if (mu_accept_sha256(mu_buf_str(&text), text.len, hex))
        return mu_err_set(err, MUSTER_EIO, "SHA-256 cannot be had from libcrypto");
    if (rename(part, path))
        return mu_err_errno(err, 0, "%s", path);
    json_t *line = json_pack("{s:s, s:s, s:i, s:i, s:s, s:f}", "kind", "step", "name", name, "round", (int)round, "rc",
                             code, "sha256", hex, "t", wall());
    json_object_set(a->done, name, line);
    return mu_accept_note(a, line, err);
}

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
    stopped = sig;
}

void mu_accept_watch(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction stop = {.sa_handler = on_stop}, was;

    for (size_t i = 0; i < MU_COUNT(signals); i++)
        if (!sigaction(signals[i], NULL, &was) && was.sa_handler != SIG_IGN)
            sigaction(signals[i], &stop, NULL);
}

bool mu_accept_stopped(void)
{
    return stopped != 0 || mu_bench_interrupted();
}

static int interrupted(const struct mu_accept *a, const char *name)
{
    fprintf(stderr, "muster accept: %s: interrupted; `muster accept --resume %s` goes on from there\n", name, a->token);
    return MU_ACCEPT_INTERRUPTED;
}

/* more: arguments behind the row's own, which they replace; or NULL. */
static int make_step(struct sight *s, const struct step *t, const char *name, char *const *more, unsigned launch,
                     unsigned round, struct mu_err *err)
{
    struct mu_accept *a = s->a;
    char path[PATH_MAX], part[PATH_MAX + 8], sub[100], text[64];
    mu_auto_buf struct mu_buf tests = {0};
    char **run = NULL, **rank = NULL;
    int rc;

    snprintf(sub, sizeof sub, "raw/%s.jsonl", name);
    if ((rc = mu_path_join(path, sizeof path, a->dir, sub, err)))
        return rc;
    snprintf(part, sizeof part, "%s.part", path);
    (void)unlink(part); /* of a run that was killed, or a pipe, for which opening would wait */
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 || !(s->raw = fdopen(fd, "w"))) {
        rc = mu_err_errno(err, 0, "%s", part);
        mu_clean_fd(&fd);
        return rc;
    }
    s->failed = 0;
    s->others = false;
    rc = run_options(a, t == &roll ? first_of(a) : t, &run);
    for (unsigned i = 0; i < ARGS_MAX && t->args[i] && !rc; i++)
        rc = mu_strv_append(&rank, t->args[i]);
    (void)only_of(a, name_of(t), &tests);
    if (!rc && (tests.len || tests.failed))
        rc = tests.failed ? MUSTER_ENOMEM : mu_strv_append(&rank, mu_buf_str(&tests));
    for (char *const *p = more; p && *p && !rc; p++)
        rc = mu_strv_append(&rank, *p);
    int at_once = (int)json_integer_value(json_object_get(a->begin, "at_once"));
    snprintf(text, sizeof text, "--at-once=%d", at_once);
    if (!rc && at_once && (!strcmp(t->bench, "node") || !strcmp(t->bench, "pair")))
        rc = mu_strv_append(&rank, text);
    snprintf(text, sizeof text, "--launch=%u", launch);
    rc = rc ? rc : mu_strv_append(&rank, text);
    snprintf(text, sizeof text, "--seed=%llu",
             (unsigned long long)json_integer_value(json_object_get(a->begin, "seed")) + launch + 1000 * round);
    rc = rc ? rc : mu_strv_append(&rank, text);
    struct mu_bench_job job = {.name = t->bench, .rank = rank, .line = on_line, .arg = s};
    show(s, 0);
    int code = rc ? rc : get_team(a, &run, !strcmp(profile_of(a), "quick") ? a->anew : launch, err);
    if (!code)
        code = mu_bench_team_run(a->team, &job, STEP_S * MU_SEC, err);
    if (code && code != 5)
        mu_accept_rest(a, true);
    mu_strv_free(run);
    mu_strv_free(rank);
    if ((fflush(s->raw) || fsync(fileno(s->raw))) && !s->failed)
        s->failed = errno;
    fclose(s->raw);
    if (rc || code < 0 || s->failed)
        unlink(part);
    if (rc)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (code < 0)
        return code;
    if (s->failed)
        return mu_err_set(err, mu_err_from_errno(s->failed),
                          "%s: %s; mend that, and `muster accept --resume %s` makes this step again", part,
                          strerror(s->failed), a->token);
    if ((code == 0 || code == 5) && s->others) {
        unlink(part);
        return mu_err_set(err, MUSTER_EARG,
                          "%s: its hosts are not those that run %s has begun with; go on where those are, or begin "
                          "another run",
                          name, a->token);
    }
    if ((code == 0 || code == 5) && !s->look)
        return keep(a, name, part, path, round, code, err);
    unlink(part);
    if (code == 0)
        return 0;
    if (s->bar && !s->quiet)
        fputs("\r\033[K", stderr);
    /* Said already: no host was asked yet, and nothing but another command line would help. */
    if (code == MU_EXIT_USAGE && !json_object_size(a->done) && !s->heard)
        return MU_EXIT_USAGE;
    if (code == 130 || code == 143 || code == 129)
        return interrupted(a, name);
    fprintf(stderr, "muster accept: %s: %s; `muster accept --resume %s` goes on from there\n", name,
            code == 124 ? "was not done within 30 minutes" : "could not be run, see above", a->token);
    return MU_ACCEPT_NOT_RUN;
}

/* The switches that the pool knows its nodes to be on. */
static int note_switches(struct mu_accept *a, struct mu_err *err)
{
    struct mu_err none;
    json_t *root, *list, *node, *of;
    size_t i;

    if (a->switches || mu_answer_get("nodes", 0, false, "nodes", &root, &list, NULL, &none))
        return 0;
    of = json_object();
    json_array_foreach(list, i, node)
    {
        if (mu_answer_has(node, "leaf"))
            json_object_set_new(of, mu_answer_str(node, "name"), json_string(mu_answer_str(node, "leaf")));
    }
    json_decref(root);
    a->switches = of;
    return json_object_size(of) ? mu_accept_note(a, json_pack("{s:s, s:O}", "kind", "switches", "of", of), err) : 0;
}

/* The first step of a run that goes on: with the hosts that it has begun with, which is looked at before they measure.
 */
static int go_on(struct sight *s, const char *name, struct mu_err *err)
{
    struct mu_accept *a = s->a;

    if (a->fresh || a->resumed)
        return 0;
    a->resumed = true;
    a->ended = false;
    int rc = mu_accept_note(a, json_pack("{s:s, s:f}", "kind", "resume", "t", wall()), err);
    if (rc || !a->data.nhosts)
        return rc;
    s->look = true;
    rc = make_step(s, &roll, name, NULL, 0, 0, err);
    s->look = false;
    return rc;
}

static int do_step(struct sight *s, const struct step *t, const char *name, char *const *more, unsigned launch,
                   unsigned round, struct mu_err *err)
{
    struct mu_accept *a = s->a;
    int rc = 0;

    s->what = name_of(t);
    s->weight = t->weight;
    s->round = round;
    if (!json_object_get(a->done, name)) {
        if (mu_accept_stopped())
            return interrupted(a, name);
        if ((rc = go_on(s, name, err)))
            return rc;
        rc = make_step(s, t, name, more, launch + 100 * round, round, err);
        if (!rc)
            rc = note_switches(a, err);
    }
    s->before += t->weight;
    return rc               ? rc
           : a->data.nhosts ? 0
                            : mu_accept_load(a, err); /* how many hosts there are decides on the next steps */
}

int mu_accept_only(const char *names, const char *profile, struct mu_err *err)
{
    const char *like = strcmp(profile, "quick") != 0 ? "standard" : profile;
    mu_auto_buf struct mu_buf there = {0};
    char shown[80], test[32];
    bool all = true;

    for (const char *p = names; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        bool known = false;
        size_t n = strcspn(p, ".,"), more = p[n] == '.' ? strcspn(p + n + 1, ",") : 0;
        snprintf(test, sizeof test, "%.*s", (int)(more < sizeof test ? more : 0), p + n + 1);
        for (size_t i = 0; i < MU_COUNT(steps); i++)
            known = known || (!strcmp(steps[i].profile, like) && n == strlen(name_of(&steps[i])) &&
                              !strncmp(p, name_of(&steps[i]), n) &&
                              (p[n] != '.' || (test[0] && mu_str_listed(tests_there(name_of(&steps[i])), test))));
        all = all && known;
    }
    for (size_t i = 0; i < MU_COUNT(steps); i++)
        if (!strcmp(steps[i].profile, like))
            mu_buf_appendf(&there, "%s%s%s%s%s", there.len ? ", " : "", name_of(&steps[i]),
                           *tests_there(name_of(&steps[i])) ? " (." : "", tests_there(name_of(&steps[i])),
                           *tests_there(name_of(&steps[i])) ? ")" : "");
    if (all && mu_str_listed(names, "nccl") && !mu_str_listed(names, "node") && !mu_str_listed(names, "node.gpu"))
        return mu_err_set(err, MUSTER_EARG,
                          "--only nccl: how many GPUs there are is known from node; give --only node.gpu,nccl");
    return all ? 0
               : mu_err_set(err, MUSTER_EARG, "--only %s: not all are benchmarks of profile %s, which has %s",
                            mu_str_show(shown, sizeof shown, names), profile, mu_buf_str(&there));
}

static struct sight begin_sight(struct mu_accept *a)
{
    return (struct sight){.a = a, .quiet = a->quiet, .bar = isatty(2), .began = mu_now()};
}

static bool goes(const struct mu_accept *a, const struct step *t)
{
    return of_profile(a, t) && !(t->two && a->data.nhosts == 1) && !(t->gpus && gpus_each(a) * a->data.nhosts < 2);
}

int mu_accept_measure(struct mu_accept *a, struct mu_err *err)
{
    struct sight s = begin_sight(a);
    unsigned launches = !strcmp(profile_of(a), "quick") ? 1 : LAUNCHES_STANDARD;
    double left = json_number_value(json_object_get(a->begin, "soak_s")) - a->before;
    char name[64];
    int rc = 0;

    if (!a->data.nhosts)
        rc = do_step(&s, &roll, roll.bench, NULL, 0, 0, err);
    for (size_t i = 0; i < MU_COUNT(steps); i++)
        s.all += goes(a, &steps[i]) ? steps[i].weight * launches : 0;
    for (unsigned l = 0; l < (soaks(a) ? LAUNCHES_MAX : launches) && !rc; l++) {
        if (l >= launches && (double)(mu_now() - s.began) / MU_SEC >= left)
            break;
        for (size_t i = 0; i < MU_COUNT(steps) && !rc; i++) {
            snprintf(name, sizeof name, "%u.%s", l, name_of(&steps[i]));
            if (!l && steps[i].gpus && of_profile(a, &steps[i])) /* the step of nodes has told which there are */
                rc = mu_accept_load(a, err);
            if (!rc && goes(a, &steps[i]))
                rc = do_step(&s, &steps[i], name, NULL, l, 0, err);
        }
    }
    if (s.bar && !s.quiet)
        fputs("\r\033[K", stderr);
    return rc;
}

/* --- whom the first look suspects ----------------------------------------------------------------------------------
 */

enum { LIST_MAX = 64 << 10 }; /* of one argument */

static bool is_device(const char *test)
{
    return strstr(test, "/device") != NULL;
}

static bool is_of(const char *test, const char *bench)
{
    size_t n = strlen(bench);

    return !strncmp(test, bench, n) && test[n] == '.';
}

static bool is_of_step(const char *test, const struct step *t)
{
    return is_of(test, t->bench) && is_device(test) == t->gpus;
}

static int append_list(char ***more, struct mu_buf *b)
{
    int rc = b->failed ? MUSTER_ENOMEM : mu_strv_append(more, mu_buf_str(b));

    mu_buf_clear(b);
    return rc;
}

/* A link that is slow each time may be only one of the paths between two hosts, which a connection keeps: new processes
 * make new connections. */
static bool wants_others(const struct mu_accept *a)
{
    for (unsigned i = 0; i < a->blame.n; i++) {
        const struct mu_suspect *s = &a->blame.v[i];
        if (s->state == MU_SUSPECTED && s->kind == MU_SUSPECT_LINK && s->rounds &&
            s->round_drop[s->rounds - 1] > s->drop / 2)
            return true;
    }
    return false;
}

/* Only the pairs that are asked for, in the direction that is. */
static int pairs_of(const struct mu_data *d, const struct step *t, const struct mu_ask *v, unsigned n, char ***more)
{
    mu_auto_buf struct mu_buf list = {0};
    bool lat = false, bw = false;
    int rc = 0;

    for (unsigned i = 0; i < n && !rc; i++) {
        if (v[i].to < 0 || !is_of_step(d->tests[v[i].test].name, t))
            continue;
        bool is_bw = !strcmp(d->tests[v[i].test].name, "pair.bw");
        bw = bw || is_bw;
        lat = lat || !is_bw;
        if (list.len > LIST_MAX)
            rc = append_list(more, &list);
        mu_buf_appendf(&list, "%s%s>%s", list.len ? "," : "--pairs=", d->hosts[v[i].from], d->hosts[v[i].to]);
    }
    if (!rc && list.len)
        rc = append_list(more, &list);
    return rc ? rc : mu_strv_append(more, lat && bw ? "--tests=lat,bw" : bw ? "--tests=bw" : "--tests=lat");
}

/* Only the tests that are asked for; of all hosts, which measure side by side. */
static int tests_of(const struct mu_data *d, const struct step *t, const struct mu_ask *v, unsigned n, char ***more)
{
    (void)t;
    mu_auto_buf struct mu_buf list = {0}, names = {0};

    mu_ask_tests(d, v, n, &names);
    if (names.len)
        mu_buf_appendf(&list, "--tests=%s", mu_buf_str(&names));
    list.failed = list.failed || names.failed;
    return list.len || list.failed ? append_list(more, &list) : 0;
}

static void op_of(const char *test, char *op, size_t n)
{
    snprintf(op, n, "%.*s", (int)strcspn(test + 5, "./"), test + 5); /* behind "coll." */
}

static int op_args(const char *op, uint64_t size, char ***more)
{
    mu_auto_buf struct mu_buf b = {0};

    mu_buf_appendf(&b, "--op=%s", op);
    int rc = append_list(more, &b);
    mu_buf_appendf(&b, "--min=%llu", (unsigned long long)size);
    rc = rc ? rc : append_list(more, &b);
    mu_buf_appendf(&b, "--max=%llu", (unsigned long long)size);
    return rc ? rc : append_list(more, &b);
}

/* The operation and size that is asked for, if it is only one. */
static int operation_of(const struct mu_data *d, const struct step *t, const struct mu_ask *v, unsigned n, char ***more)
{
    const struct mu_ask *first = NULL;
    char op[80], other[80];

    for (unsigned i = 0; i < n; i++) {
        const char *test = d->tests[v[i].test].name;
        if (!is_of_step(test, t))
            continue;
        op_of(test, first ? other : op, sizeof op);
        if (first && (first->size != v[i].size || strcmp(op, other) != 0))
            return 0;
        first = first ? first : &v[i];
    }
    return first ? op_args(op, first->size, more) : 0;
}

int mu_accept_again(struct mu_accept *a, unsigned round, struct mu_err *err)
{
    static const struct {
        const char *bench;
        int (*args)(const struct mu_data *, const struct step *, const struct mu_ask *, unsigned n, char ***more);
    } rows[] = {{"node", tests_of}, {"pair", pairs_of}, {"coll", operation_of}};
    struct sight s = begin_sight(a);
    mu_auto_free struct mu_ask *asks = NULL;
    unsigned n = 0;
    int rc = mu_blame_ask(&a->blame, &a->data, round, &asks, &n);

    a->anew = a->anew || wants_others(a);
    if (rc)
        return mu_err_set(err, rc, "out of memory");
    for (size_t i = 0; i < MU_COUNT(steps) && !rc; i++) {
        const struct step *t = &steps[i];
        char **more = NULL, name[64];
        bool wanted = false;
        for (unsigned k = 0; k < n && !wanted; k++)
            wanted = is_of_step(a->data.tests[asks[k].test].name, t);
        if (!wanted || !of_profile(a, t))
            continue;
        for (size_t k = 0; k < MU_COUNT(rows) && !rc; k++)
            if (!strcmp(rows[k].bench, t->bench))
                rc = rows[k].args(&a->data, t, asks, n, &more);
        if (!rc && t->again)
            rc = mu_strv_append(&more, t->again);
        rc = rc ? mu_err_set(err, rc, "out of memory") : 0;
        s.all += t->weight;
        snprintf(name, sizeof name, "again-%u.%s", round, name_of(t));
        rc = rc ? rc : do_step(&s, t, name, more, 0, round, err);
        mu_strv_free(more);
    }
    if (s.bar && !s.quiet)
        fputs("\r\033[K", stderr);
    return rc ? rc : mu_accept_load(a, err);
}

/* --- what pairs do not explain -------------------------------------------------------------------------------------
 */

int mu_accept_bisect(struct mu_accept *a, uint32_t test, uint64_t size, double floor, struct mu_err *err)
{
    struct sight s = begin_sight(a);
    char **more = NULL, op[80], text[64];
    int rc = 0;

    for (size_t i = 0; i < MU_COUNT(steps) && !rc; i++) {
        if (!is_of_step(a->data.tests[test].name, &steps[i]) || !of_profile(a, &steps[i]))
            continue;
        op_of(a->data.tests[test].name, op, sizeof op);
        snprintf(text, sizeof text, "--floor=%.6g", floor);
        rc = op_args(op, size, &more);
        rc = rc ? rc : mu_strv_append(&more, "--bisect");
        rc = rc || floor <= 0 ? rc : mu_strv_append(&more, text);
        rc = rc ? mu_err_set(err, rc, "out of memory") : do_step(&s, &steps[i], "bisect.coll", more, 0, 0, err);
        mu_strv_free(more);
        more = NULL;
    }
    return rc ? rc : mu_accept_load(a, err);
}
