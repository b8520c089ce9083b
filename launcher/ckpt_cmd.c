/* muster ckpt: looks at a directory of checkpoints, and tends it. Needs no controller. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/ckpt.h"
#include "launcher/ckpt_export.h"
#include "launcher/commands.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/dtype.h"
#include "runtime/base/str.h"
#include "runtime/ckpt/daemon/s3conf.h"
#include "runtime/ckpt/verify.h"

#define AT(f) offsetof(struct mu_ckpt_opts, f)
#define JSON_ROW                                                                                                       \
    {                                                                                                                  \
        "json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON, schema muster.ckpt/1", NULL, 0, 0, NULL                   \
    }
#define QUIET_ROW                                                                                                      \
    {                                                                                                                  \
        "quiet", 'q', MU_OPT_FLAG, AT(quiet), NULL, "no progress on stderr", NULL, 0, 0, NULL                          \
    }

#define DRY_ROW                                                                                                        \
    {                                                                                                                  \
        "dry-run", 0, MU_OPT_FLAG, AT(dry), NULL, "say what would go, remove nothing", NULL, 0, 0, NULL                \
    }
#define KEEP_ROW                                                                                                       \
    {                                                                                                                  \
        "keep", 0, MU_OPT_U64, AT(keep), "N", "newest generations that stay (3)", NULL, 1, 1000000, NULL               \
    }
#define EVERY_ROW                                                                                                      \
    {                                                                                                                  \
        "every", 0, MU_OPT_U64, AT(every), "N", "those whose number N divides stay, too", NULL, 0, 1000000000, NULL    \
    }
#define STORE_ROWS                                                                                                     \
    {"endpoint", 0, MU_OPT_STRING, AT(endpoint), "URL", "of the object store (AWS_ENDPOINT_URL, or Amazon)", NULL,     \
     0,          0, NULL},                                                                                             \
        {"credentials",                                                                                                \
         0,                                                                                                            \
         MU_OPT_STRING,                                                                                                \
         AT(credentials),                                                                                              \
         "FILE",                                                                                                       \
         "with its key (AWS_ACCESS_KEY_ID, or ~/.aws/credentials)",                                                    \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL},                                                                                                        \
        {"key", 0, MU_OPT_STRING, AT(key), "FILE", "with keys that encrypt what lies there", NULL, 0, 0, NULL},        \
    {                                                                                                                  \
        "timeout", 0, MU_OPT_DURATION, AT(patience), "TIME", "for which a request may fail (60s)", NULL, 0, 0, NULL    \
    }
#define LANES_ROW                                                                                                      \
    {                                                                                                                  \
        "connections", 0, MU_OPT_INT, AT(lanes), "N", "connections at once (4)", NULL, 1, 64, NULL                     \
    }

static const struct mu_opt json_rows[] = {JSON_ROW};
static const struct mu_opt list_rows[] = {JSON_ROW, STORE_ROWS};
static const struct mu_opt verify_rows[] = {JSON_ROW, QUIET_ROW, STORE_ROWS, LANES_ROW};
static const struct mu_opt prune_rows[] = {KEEP_ROW, EVERY_ROW, DRY_ROW, STORE_ROWS};
static const struct mu_opt pin_rows[] = {STORE_ROWS};
static const struct mu_opt push_rows[] = {
    {"all", 'a', MU_OPT_FLAG, AT(all), NULL, "all that are complete, not only the newest", NULL, 0, 0, NULL},
    {"incremental", 'i', MU_OPT_FLAG, AT(incremental), NULL, "less what the store has of the one before", NULL, 0, 0,
     NULL},
    {"read-back", 0, MU_OPT_FLAG, AT(read_back), NULL, "read all of it back before it is committed", NULL, 0, 0, NULL},
    JSON_ROW,
    QUIET_ROW,
    STORE_ROWS,
    LANES_ROW,
    {"part-size", 0, MU_OPT_SIZE, AT(part), "SIZE", "of the parts of large files (16M)", NULL, 0, 0, NULL},
};
static const struct mu_opt pull_rows[] = {
    {"all", 'a', MU_OPT_FLAG, AT(all), NULL, "all that are complete, not only the newest", NULL, 0, 0, NULL},
    JSON_ROW,
    QUIET_ROW,
    STORE_ROWS,
    LANES_ROW,
};
static const struct mu_opt export_rows[] = {
    {"generation", 'g', MU_OPT_U64, AT(generation), "N", "which one (the newest)", NULL, 1, 0, NULL},
    QUIET_ROW,
};

static const struct mu_opt import_rows[] = {
    {"step", 0, MU_OPT_STRING, AT(step), "N", "step that it is from (that of its metadata, or 0)", NULL, 0, 0, NULL},
    QUIET_ROW,
};

static int absolute(const char *given, char dir[MU_CKPT_DIR_MAX], struct mu_err *err)
{
    struct stat st;

    if (strlen(given) >= MU_CKPT_DIR_MAX)
        return mu_err_set(err, MUSTER_EARG, "the path is too long");
    snprintf(dir, MU_CKPT_DIR_MAX, "%s", given);
    if (stat(dir, &st))
        return mu_err_errno(err, MUSTER_EARG, "%s", dir);
    if (!S_ISDIR(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%s is not a directory", dir);
    return 0;
}

static struct mu_ckpt_seen look(const char *dir, uint64_t number)
{
    struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, number), pin = mu_ckpt_path("%s/PIN", gendir.s);
    struct mu_ckpt_seen g = {.number = number, .verified = -1, .pinned = access(pin.s, F_OK) == 0};
    struct mu_ckpt_commit k;
    struct mu_err err;
    int rc = mu_ckpt_store_commit(gendir.s, number, &k, &err);

    g.newer = rc == MUSTER_EVERSION;
    if (rc) {
        snprintf(g.why, sizeof g.why, "%.299s", err.text);
        return g;
    }
    g.step = k.id.step;
    g.ranks = k.id.world;
    g.attempt = k.id.attempt;
    g.wall = k.wall;
    memcpy(g.job, k.job, sizeof g.job);
    for (uint32_t r = 0; r < k.id.world; r++)
        g.bytes += k.votes[r].segment + k.votes[r].manifest;
    free(k.votes);
    rc = mu_ckpt_store_check(dir, number, &err);
    g.complete = rc == 0;
    g.newer = rc == MUSTER_EVERSION;
    if (!g.complete)
        snprintf(g.why, sizeof g.why, "%.299s", err.text);
    return g;
}

int mu_ckpt_number(const char *text, uint64_t *number, struct mu_err *err)
{
    if (mu_str_u64(text + (*text == 'g'), 0, UINT64_MAX, number))
        return mu_err_set(err, MUSTER_EARG, "'%.80s' is not the number of a generation", text);
    return 0;
}

int mu_ckpt_collect(const char *dir, int argc, char **argv, struct mu_ckpt_seen **v, size_t *n, struct mu_err *err)
{
    mu_auto_free uint64_t *list = NULL;
    size_t found = 0;
    int rc = mu_ckpt_store_scan(dir, &list, &found, err);

    if (rc)
        return rc;
    if (!(*v = calloc(found + (size_t)argc + 1, sizeof **v)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    *n = 0;
    for (int i = 0; i < argc; i++) {
        uint64_t want = 0;
        bool there = false;

        rc = mu_ckpt_number(argv[i], &want, err);
        for (size_t k = 0; !rc && k < found; k++)
            there |= list[k] == want;
        if (!rc && !there)
            rc = mu_err_set(err, MUSTER_EARG, "there is no generation %" PRIu64 " in %s", want, dir);
        if (rc) {
            free(MU_STEAL(*v, NULL));
            return rc;
        }
        (*v)[(*n)++] = look(dir, want);
    }
    for (size_t k = 0; !argc && k < found; k++)
        (*v)[(*n)++] = look(dir, list[k]);
    return 0;
}

/* --- subcommands -------------------------------------------------------------------------------------------------- */

static int do_list(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    size_t n = 0;
    int rc = mu_ckpt_collect(dir, argc, argv, &v, &n, err);

    return rc ? rc : mu_ckpt_show_list(o, v, n, err);
}

static int do_show(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    struct mu_ckpt_tensors tensors = {0};
    struct mu_ckpt_commit k;
    size_t n = 0;
    int rc = mu_ckpt_collect(dir, argc, argv, &v, &n, err);

    if (!rc && !n)
        rc = mu_err_set(err, MUSTER_ENOCKPT, "no checkpoint in %s", dir);
    if (rc || (rc = mu_ckpt_whole(dir, v[0].number, &k, &tensors, err)))
        return rc;
    free(k.votes);
    rc = mu_ckpt_show_tensors(o, &v[0], &tensors, err);
    mu_ckpt_tensors_free(&tensors);
    return rc;
}

static int do_verify(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    uint64_t total = 0;
    size_t n = 0;
    int rc = mu_ckpt_collect(dir, argc, argv, &v, &n, err), bad = 0;

    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++)
        total += v[i].bytes;
    struct mu_ckpt_progress p = mu_ckpt_progress(o, "verify", total);
    for (size_t i = 0; i < n; i++) {
        struct mu_err why = {0};

        v[i].verified = mu_ckpt_verify(dir, v[i].number, mu_ckpt_advance, &p, &why) == 0;
        if (!v[i].verified) {
            snprintf(v[i].why, sizeof v[i].why, "%.299s", why.text);
            bad++;
        }
    }
    mu_ckpt_finish(&p);
    if ((rc = mu_ckpt_show_list(o, v, n, err)))
        return rc;
    if (!n)
        return mu_err_set(err, MUSTER_ENOCKPT, "no checkpoint in %s", dir);
    return bad ? mu_err_set(err, MUSTER_ECORRUPT, "%d of %zu generations cannot be restored", bad, n) : 0;
}

/* Only what is whole counts, and the newest that is whole stays in any case. */
static int do_prune(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    struct mu_ckpt_place place = {.io = &mu_ckpt_io_posix}; /* of no epoch: nothing that is written is touched */
    uint64_t good = 0, keep = o->keep ? o->keep : 3;
    size_t n = 0;
    int rc = mu_ckpt_collect(dir, argc, argv, &v, &n, err);

    snprintf(place.dir, sizeof place.dir, "%s", dir);
    for (size_t i = 0; !rc && i < n; i++) {
        const struct mu_ckpt_seen *g = &v[i];
        struct mu_ckpt_path from = mu_ckpt_path("%s/g%08" PRIu64, dir, g->number), del = mu_ckpt_path("%s.del", from.s);

        if (g->pinned || g->newer)
            continue;
        if (good < keep) {
            good += g->complete;
            continue;
        }
        if (mu_ckpt_kept_for_ever(g->number, (uint32_t)o->every))
            continue;
        if (!o->dry && rename(from.s, del.s))
            rc = mu_err_errno(err, 0, "rename %s", from.s);
        else if (!o->dry)
            rc = mu_ckpt_remove_dir(&mu_ckpt_io_posix, del.s, "COMMIT", err);
        if (!rc)
            printf("%s generation %" PRIu64 " (step %" PRIu64 ")\n", o->dry ? "would remove" : "removed", g->number,
                   g->step);
    }
    if (!rc && !o->dry) /* what a prune that was killed has begun */
        mu_ckpt_store_sweep(&place, 0);
    return rc;
}

static int set_pin(const char *dir, int argc, char **argv, bool on, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    size_t n = 0;
    int rc = mu_ckpt_collect(dir, argc, argv, &v, &n, err);

    for (size_t i = 0; !rc && i < n; i++) {
        struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, v[i].number),
                            pin = mu_ckpt_path("%s/PIN", gendir.s);
        mu_auto_fd int fd = on ? open(pin.s, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;

        if (on ? fd < 0 : unlink(pin.s) && errno != ENOENT)
            rc = mu_err_errno(err, 0, "%s", pin.s);
        else
            rc = mu_ckpt_sync_dir(&mu_ckpt_io_posix, gendir.s, err);
    }
    return rc;
}

static int do_pin(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    (void)o;
    return set_pin(dir, argc, argv, true, err);
}

static int do_unpin(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    (void)o;
    return set_pin(dir, argc, argv, false, err);
}

static int do_export(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    char number[24], *which[] = {number};
    size_t n = 0;
    int rc;

    (void)argc;
    snprintf(number, sizeof number, "%" PRIu64, o->generation);
    if ((rc = mu_ckpt_collect(dir, o->generation ? 1 : 0, which, &v, &n, err)))
        return rc;
    if (!n)
        return mu_err_set(err, MUSTER_ENOCKPT, "no checkpoint in %s", dir);
    for (size_t i = 0; i < n; i++) { /* the newest that can be had */
        struct mu_ckpt_progress p = mu_ckpt_progress(o, "export", 0);
        struct mu_err why = {0};

        rc = mu_ckpt_export(dir, v[i].number, argv[0], mu_ckpt_advance_of, &p, &why);
        mu_ckpt_finish(&p);
        if (!rc) {
            printf("generation %" PRIu64 ", step %" PRIu64 "\n", v[i].number, v[i].step);
            return 0;
        }
        if (rc != MUSTER_ECORRUPT && rc != MUSTER_EIO) {
            *err = why;
            return rc;
        }
        fprintf(stderr, "muster ckpt export: generation %" PRIu64 " cannot be used: %s\n", v[i].number, why.text);
    }
    return mu_err_set(err, MUSTER_ECORRUPT, "none of %zu generations can be used", n);
}

static int do_import(const char *file, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    uint64_t step = 0, generation = 0;
    int rc;

    (void)argc;
    if (o->step && mu_str_u64(o->step, 0, UINT64_MAX, &step))
        return mu_err_set(err, MUSTER_EARG, "--step takes a number, not '%.80s'", o->step);
    if (mu_s3_is_url(argv[0]) || strlen(argv[0]) >= MU_CKPT_DIR_MAX)
        return mu_err_set(err, MUSTER_EARG, "%.200s: the second operand is a directory", argv[0]);
    struct mu_ckpt_progress p = mu_ckpt_progress(o, "import", 0);
    rc = mu_ckpt_import(file, argv[0], o->step ? &step : NULL, mu_ckpt_advance_of, &p, &generation, &step, err);
    mu_ckpt_finish(&p);
    if (!rc)
        printf("generation %" PRIu64 ", step %" PRIu64 "\n", generation, step);
    return rc;
}

/* To add one: a row, a section in muster-ckpt.1. */
static const struct sub {
    const char *name, *what, *usage;
    const struct mu_opt *rows;
    size_t nrows;
    int min, max;        /* operands behind the first one; -1: any number */
    mu_ckpt_sub *run;    /* on a directory; NULL: not that */
    mu_ckpt_sub *remote; /* on s3://; NULL: not that */
    bool file;           /* the first operand is one, for run to look at */
} subs[] = {
#define ROWS(r) r, MU_COUNT(r)
    {"list", "list the generations", "muster ckpt list [OPTION]... DIR|URL", ROWS(list_rows), 0, 0, do_list,
     mu_ckpt_remote_list, false},
    {"show", "show the tensors of one", "muster ckpt show [OPTION]... DIR [GENERATION]", ROWS(json_rows), 0, 1, do_show,
     NULL, false},
    {"verify", "read all of it and compare", "muster ckpt verify [OPTION]... DIR|URL [GENERATION]...",
     ROWS(verify_rows), 0, -1, do_verify, mu_ckpt_remote_verify, false},
    {"prune", "remove older ones", "muster ckpt prune [OPTION]... DIR|URL", ROWS(prune_rows), 0, 0, do_prune,
     mu_ckpt_remote_prune, false},
    {"pin", "keep one for ever", "muster ckpt pin [OPTION]... DIR|URL GENERATION...", ROWS(pin_rows), 1, -1, do_pin,
     mu_ckpt_remote_set_pin, false},
    {"unpin", "keep it no longer", "muster ckpt unpin [OPTION]... DIR|URL GENERATION...", ROWS(pin_rows), 1, -1,
     do_unpin, mu_ckpt_remote_unset_pin, false},
    {"push", "copy to an object store", "muster ckpt push [OPTION]... DIR s3://BUCKET/PREFIX [GENERATION]...",
     ROWS(push_rows), 1, -1, mu_ckpt_remote_push, NULL, false},
    {"pull", "copy from an object store", "muster ckpt pull [OPTION]... s3://BUCKET/PREFIX DIR [GENERATION]...",
     ROWS(pull_rows), 1, -1, NULL, mu_ckpt_remote_pull, false},
    {"export", "write one as a safetensors file", "muster ckpt export [OPTION]... DIR FILE", ROWS(export_rows), 1, 1,
     do_export, NULL, false},
    {"import", "make one of a safetensors file", "muster ckpt import [OPTION]... FILE DIR", ROWS(import_rows), 1, 1,
     do_import, NULL, true},
};

static int help(FILE *f)
{
    fprintf(f, "usage: muster ckpt COMMAND [OPTION]... DIR|s3://BUCKET/PREFIX\n\n");
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        fprintf(f, "  %-7s %s\n", subs[i].name, subs[i].what);
    return f == stdout ? 0 : MU_EXIT_USAGE;
}

static int complain(const struct sub *s, const struct mu_err *err, int code)
{
    char text[sizeof err->text * 2];

    fflush(stdout);
    fprintf(stderr, "muster ckpt %s: %s\n", s->name, mu_str_show(text, sizeof text, err->text));
    return code;
}

static int run_sub(const struct sub *s, int argc, char **argv)
{
    char dir[MU_CKPT_DIR_MAX];
    struct mu_ckpt_opts o = {0};
    struct mu_err err = {0};
    int first = 0, rc = mu_opt_parse(s->rows, s->nrows, argc, argv, MU_OPT_PERMUTE, &o, &first, &err);
    int left = argc - first - 1;

    if (rc == 1) {
        mu_opt_help(stdout, s->usage, s->rows, s->nrows);
        return 0;
    }
    if (!rc && (left < s->min || (s->max >= 0 && left > s->max)))
        rc = mu_err_set(&err, MUSTER_EARG, "usage: %s", s->usage);
    bool remote = !rc && mu_s3_is_url(argv[first]);
    if (!rc && remote && !s->remote)
        rc = mu_err_set(&err, MUSTER_EARG, "this takes a directory; `muster ckpt pull` makes one of %.200s",
                        argv[first]);
    else if (!rc && !remote && !s->run)
        rc = mu_err_set(&err, MUSTER_EARG, "%.200s: the first operand is s3://BUCKET/PREFIX", argv[first]);
    else if (!rc && !remote && !s->file)
        rc = absolute(argv[first], dir, &err);
    if (rc)
        return complain(s, &err, MU_EXIT_USAGE);
    if ((rc = (remote ? s->remote : s->run)(remote || s->file ? argv[first] : dir, &o, left, argv + first + 1, &err)))
        return complain(s, &err, rc == MUSTER_EARG ? MU_EXIT_USAGE : MU_EXIT_FAILED);
    return 0;
}

int mu_cmd_ckpt(int argc, char **argv)
{
    if (argc < 2)
        return help(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return help(stdout);
    for (size_t i = 0; i < MU_COUNT(subs); i++)
        if (!strcmp(argv[1], subs[i].name))
            return run_sub(&subs[i], argc - 1, argv + 1);
    fprintf(stderr, "muster ckpt: unknown command '%s'; `muster ckpt --help` lists them\n", argv[1]);
    return MU_EXIT_USAGE;
}
