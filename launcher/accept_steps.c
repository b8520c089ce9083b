/* The steps of a profile: benchmarks, as jobs of their own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/accept.h"
#include "launcher/answer.h"
#include "launcher/bench.h"
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
} steps[] = {
    {"quick", "node", 3, false, {"--tests=mem,cpu", "--trials=3", "--time=100ms", "--memory-size=64M"}},
    {"quick", "pair", 3, true, {"--trials=3", "--time=20ms", "--large=256K"}},
    {"quick", "coll", 3, false, {"--op=allreduce", "--min=64K", "--max=1M", "--time=100ms", "--timing=start"}},
    {"standard", "node", 10, false, {"--trials=2", "--time=300ms", "--memory-size=128M", "--disk-size=64M"}},
    {"standard", "pair", 8, true, {"--trials=2", "--time=60ms"}},
    {"standard", "coll", 12, false, {"--op=all", "--min=1K", "--max=4M", "--time=100ms", "--timing=start"}},
    {"standard", "fabric", 5, true, {"--time=60ms"}},
    {"standard", "overlap", 4, false, {"--time=60ms"}},
};

enum { LAUNCHES_STANDARD = 3, LAUNCHES_MAX = 10000, STEP_S = 1800 };

struct sight {
    struct mu_accept *a;
    const char *what;
    FILE *raw;
    bool failed, quiet, bar;
    double before, weight, all; /* seconds, as the table has them */
    uint64_t began, said;
};

static const char *profile_of(const struct mu_accept *a)
{
    return json_string_value(json_object_get(a->begin, "profile"));
}

static bool soaks(const struct mu_accept *a)
{
    return !strcmp(profile_of(a), "soak");
}

static void show(struct sight *s, double done)
{
    char gone[32], left[32], bar[31];
    uint64_t now = mu_now(), took = now - s->began;
    double part = s->all > 0 ? (s->before + s->weight * done) / s->all : 0;

    if (s->quiet || part <= 0 || (!s->bar && now - s->said < 10 * MU_SEC))
        return;
    part = part > 1 ? 1 : part;
    s->said = now;
    mu_str_fmt_duration(gone, sizeof gone, took);
    mu_str_fmt_duration(left, sizeof left, (uint64_t)((double)took * (1 - part) / part));
    if (!s->bar) {
        fprintf(stderr, "accept: %.0f %%, %s, %s gone, about %s left\n", part * 100, s->what, gone, left);
        return;
    }
    size_t full = (size_t)(part * 30);
    memset(bar, '#', full);
    memset(bar + full, '.', 30 - full);
    bar[30] = 0;
    fprintf(stderr, "\r\033[Kaccept [%s] %3.0f %%, %s, %s gone, about %s left", bar, part * 100, s->what, gone, left);
}

static void on_line(void *arg, const char *line, json_t *root)
{
    struct sight *s = arg;

    if (!strcmp(json_string_value(json_object_get(root, "kind")), "progress")) {
        double done = json_number_value(json_object_get(root, "done"));
        show(s, done > 1 ? 1 : done);
        return;
    }
    if (fputs(line, s->raw) < 0)
        s->failed = true;
}

/* What the user said of `muster run`, and what the benchmark wants where nothing was said. */
static int run_options(const struct mu_accept *a, const char *bench, char ***out)
{
    const json_t *run = json_object_get(a->begin, "run"), *x;
    bool sized = false;
    size_t i;
    int rc = 0;

    json_array_foreach(run, i, x)
    {
        const char *s = json_string_value(x);
        sized = sized || !strncmp(s, "--ranks=", 8) || !strncmp(s, "--nodes=", 8) || !strncmp(s, "--ppn=", 6);
        rc = rc ? rc : mu_strv_append(out, s);
    }
    bool one = a->data.nhosts == 1 && strcmp(bench, "node") != 0;
    if (one && !rc) /* one host has no network: its processes have one another */
        rc = mu_strv_append(out, "--ranks=2");
    else if (!sized && !rc)
        rc = mu_strv_append(out, "--ppn=1");
    if (one && !rc)
        rc = mu_strv_append(out, "--oversubscribe");
    rc = rc ? rc : mu_strv_append(out, "--timeout=1800");
    return rc || strcmp(bench, "node") != 0 ? rc : mu_strv_append(out, "--bind=none");
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
    json_t *line = json_pack("{s:s, s:s, s:i, s:i, s:s}", "kind", "step", "name", name, "round", (int)round, "rc", code,
                             "sha256", hex);
    json_object_set(a->done, name, line);
    return mu_accept_note(a, line, err);
}

static int make_step(struct sight *s, const struct step *t, const char *name, unsigned launch, unsigned round,
                     struct mu_err *err)
{
    struct mu_accept *a = s->a;
    char path[PATH_MAX], part[PATH_MAX + 8], sub[100], text[64];
    char **run = NULL, **rank = NULL;
    int rc;

    snprintf(sub, sizeof sub, "raw/%s.jsonl", name);
    if ((rc = mu_path_join(path, sizeof path, a->dir, sub, err)))
        return rc;
    snprintf(part, sizeof part, "%s.part", path);
    if (!(s->raw = fopen(part, "we")))
        return mu_err_errno(err, 0, "%s", part);
    s->failed = false;
    rc = run_options(a, t->bench, &run);
    for (unsigned i = 0; i < ARGS_MAX && t->args[i] && !rc; i++)
        rc = mu_strv_append(&rank, t->args[i]);
    int at_once = (int)json_integer_value(json_object_get(a->begin, "at_once"));
    snprintf(text, sizeof text, "--at-once=%d", at_once);
    if (!rc && at_once && (!strcmp(t->bench, "node") || !strcmp(t->bench, "pair")))
        rc = mu_strv_append(&rank, text);
    snprintf(text, sizeof text, "--launch=%u", launch);
    rc = rc ? rc : mu_strv_append(&rank, text);
    snprintf(text, sizeof text, "--seed=%llu",
             (unsigned long long)json_integer_value(json_object_get(a->begin, "seed")) + launch + 1000 * round);
    rc = rc ? rc : mu_strv_append(&rank, text);
    struct mu_bench_job job = {.name = t->bench, .run = run, .rank = rank, .line = on_line, .arg = s};
    show(s, 0);
    int code = rc ? rc : mu_bench_run(&job, err);
    mu_strv_free(run);
    mu_strv_free(rank);
    if (fflush(s->raw) || fsync(fileno(s->raw)))
        s->failed = true;
    fclose(s->raw);
    if (rc)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (code < 0)
        return code;
    if (s->failed)
        return mu_err_set(err, MUSTER_EIO, "%s: not all could be written", part);
    if (code == 0 || code == 5)
        return keep(a, name, part, path, round, code, err);
    unlink(part);
    if (s->bar && !s->quiet)
        fputs("\r\033[K", stderr);
    bool signal = code == 130 || code == 143 || code == 129;
    fprintf(stderr, "muster accept: %s: %s; `muster accept --resume %s` goes on from there\n", name,
            signal        ? "interrupted"
            : code == 124 ? "was not done within 30 minutes"
                          : "could not be run, see above",
            a->token);
    return signal ? MU_ACCEPT_INTERRUPTED : MU_ACCEPT_NOT_RUN;
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

static int do_step(struct sight *s, const struct step *t, unsigned launch, unsigned round, struct mu_err *err)
{
    struct mu_accept *a = s->a;
    char name[64];
    int rc = 0;

    if (round)
        snprintf(name, sizeof name, "again-%u.%s", round, t->bench);
    else
        snprintf(name, sizeof name, "%u.%s", launch, t->bench);
    s->what = t->bench;
    s->weight = t->weight;
    if (!json_object_get(a->done, name)) {
        rc = make_step(s, t, name, launch + 100 * round, round, err);
        if (!rc)
            rc = note_switches(a, err);
    }
    s->before += t->weight;
    return rc               ? rc
           : a->data.nhosts ? 0
                            : mu_accept_load(a, err); /* how many hosts there are decides on the next steps */
}

static bool among(const char *names, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = names; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strcspn(p, ",") == n && !strncmp(p, name, n))
            return true;
    return false;
}

int mu_accept_only(const char *names, struct mu_err *err)
{
    char shown[80];
    bool all = true;

    for (const char *p = names; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        bool known = false;
        for (size_t i = 0; i < MU_COUNT(steps); i++)
            known = known ||
                    (strcspn(p, ",") == strlen(steps[i].bench) && !strncmp(p, steps[i].bench, strlen(steps[i].bench)));
        all = all && known;
    }
    return all ? 0
               : mu_err_set(err, MUSTER_EARG,
                            "--only %s: not all are benchmarks; there are node, pair, coll, fabric, overlap",
                            mu_str_show(shown, sizeof shown, names));
}

static bool of_profile(const struct mu_accept *a, const struct step *t)
{
    const char *only = json_string_value(json_object_get(a->begin, "only"));

    if (only && !among(only, t->bench))
        return false;
    return !strcmp(t->profile, soaks(a) ? "standard" : profile_of(a));
}

static struct sight begin_sight(struct mu_accept *a)
{
    return (struct sight){.a = a, .quiet = a->quiet, .bar = isatty(2), .began = mu_now()};
}

int mu_accept_measure(struct mu_accept *a, struct mu_err *err)
{
    struct sight s = begin_sight(a);
    unsigned launches = !strcmp(profile_of(a), "quick") ? 1 : LAUNCHES_STANDARD;
    double until =
        json_number_value(json_object_get(a->begin, "t")) + json_number_value(json_object_get(a->begin, "soak_s"));
    int rc = 0;

    for (size_t i = 0; i < MU_COUNT(steps); i++)
        s.all += of_profile(a, &steps[i]) ? steps[i].weight * launches : 0;
    for (unsigned l = 0; l < (soaks(a) ? LAUNCHES_MAX : launches) && !rc; l++) {
        if (l >= launches && (double)mu_wall() / MU_SEC >= until)
            break;
        for (size_t i = 0; i < MU_COUNT(steps) && !rc; i++)
            if (of_profile(a, &steps[i]) && !(steps[i].two && a->data.nhosts == 1))
                rc = do_step(&s, &steps[i], l, 0, err);
    }
    if (s.bar && !s.quiet)
        fputs("\r\033[K", stderr);
    return rc;
}

int mu_accept_again(struct mu_accept *a, unsigned round, struct mu_err *err)
{
    struct sight s = begin_sight(a);
    int rc = 0;

    for (size_t i = 0; i < MU_COUNT(steps) && !rc; i++) {
        bool wanted = false;
        for (unsigned k = 0; k < a->blame.n && !wanted; k++) {
            const char *test = a->data.tests[a->blame.v[k].test].name;
            wanted = a->blame.v[k].state == MU_SUSPECTED && !strncmp(test, steps[i].bench, strlen(steps[i].bench));
        }
        s.all += wanted ? steps[i].weight : 0;
        if (wanted && of_profile(a, &steps[i]))
            rc = do_step(&s, &steps[i], 0, round, err);
    }
    if (s.bar && !s.quiet)
        fputs("\r\033[K", stderr);
    return rc ? rc : mu_accept_load(a, err);
}
