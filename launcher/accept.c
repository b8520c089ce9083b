/* muster accept: one command from the benchmarks to a verdict that can be signed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/accept.h"
#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

struct opts {
    /* of `muster run` */
    int ranks, nodes, ppn;
    char **hosts, **hostfiles, **exports;
    const char *ssh, *engine, *bind;
    bool oversubscribe;
    /* ours */
    int profile, at_once;
    const char *criteria, *output, *resume, *baseline, *last, *only;
    uint64_t soak, seed;
    bool quarantine, json, quiet;
    double least;
};
#define AT(field) offsetof(struct opts, field)

#define NOT_GIVEN UINT64_MAX
#define DEFAULTS                                                                                                       \
    {                                                                                                                  \
        .profile = -1, .soak = NOT_GIVEN, .seed = NOT_GIVEN, .least = 5                                                \
    }

static const char *profile_of(const struct opts *o)
{
    static const char *const profiles[] = {"quick", "standard", "soak"};

    return profiles[o->profile < 0 ? 0 : o->profile];
}

enum { RUN_ROWS = 9 };
static const struct mu_opt rows[] = {
    {"nodes", 'N', MU_OPT_INT, AT(nodes), "N", "number of nodes (all)", .min = 1, .max = 1000000},
    {"ppn", 0, MU_OPT_INT, AT(ppn), "N", "ranks on each node (1)", .aliases = "npernode", .min = 1, .max = 1000000},
    {"hosts", 'H', MU_OPT_STRV, AT(hosts), "HOST[:SLOTS],...", "hosts to judge", .aliases = "host"},
    {"hostfile", 0, MU_OPT_STRV, AT(hostfiles), "FILE", "file of hosts to judge", .aliases = "machinefile"},
    {"ssh", 0, MU_OPT_STRING, AT(ssh), "COMMAND", "in place of ssh"},
    {"engine", 0, MU_OPT_STRING, AT(engine), "ssh|slurm|hand", "how agents are started on other hosts"},
    {"bind", 0, MU_OPT_STRING, AT(bind), "none|core|numa|gpu", "as for muster run"},
    {"export", 'x', MU_OPT_STRV, AT(exports), "VAR[=VALUE]", "set a variable for the ranks"},
    {"oversubscribe", 0, MU_OPT_FLAG, AT(oversubscribe), NULL, "more ranks than slots"},
    {"profile", 0, MU_OPT_CHOICE, AT(profile), "quick|standard|soak", "how much is measured (quick)"},
    {"only", 0, MU_OPT_STRING, AT(only), "NAME[.TEST],...",
     "benchmarks of the profile to run, or of their tests (all)"},
    {"at-once", 0, MU_OPT_INT, AT(at_once), "N", "hosts or pairs that measure at a time (all)", .min = 1,
     .max = 1000000},
    {"criteria", 0, MU_OPT_STRING, AT(criteria), "FILE", "what must hold (built in: muster accept criteria)"},
    {"baseline", 0, MU_OPT_STRING, AT(baseline), "FILE", "what criteria mean by baseline"},
    {"last", 0, MU_OPT_STRING, AT(last), "RUN", "an earlier run, to show the difference to"},
    {"output", 0, MU_OPT_STRING, AT(output), "DIR", "where reports and samples go"},
    {"resume", 0, MU_OPT_STRING, AT(resume), "TOKEN", "go on with a run that was interrupted"},
    {"for", 0, MU_OPT_DURATION, AT(soak), "TIME", "how long a soak takes (1h)"},
    {"seed", 0, MU_OPT_U64, AT(seed), "N", "of the random order (the time of day)", .max = (int64_t)1 << 48},
    {"quarantine", 0, MU_OPT_FLAG, AT(quarantine), NULL,
     "drain the nodes that failed, a twentieth of the pool at most"},
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON, schema muster.accept/1"},
    {"quiet", 'q', MU_OPT_FLAG, AT(quiet), NULL, "no progress on stderr"},
};
static const struct mu_opt compare_rows[] = {
    {"least", 0, MU_OPT_DOUBLE, AT(least), "PERCENT", "differences to show (5)"},
};
static const struct mu_opt make_rows[] = {
    {"output", 'o', MU_OPT_STRING, AT(output), "FILE", "the baseline"},
};
static const struct mu_opt report_rows[] = {
    {"last", 0, MU_OPT_STRING, AT(last), "RUN", "an earlier run, to show the difference to"},
    {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON, schema muster.accept/1"},
};
static const struct mu_opt criteria_rows[] = {
    {"profile", 0, MU_OPT_CHOICE, AT(profile), "quick|standard|soak", "of which profile (quick)"},
};

/* --- a run ---------------------------------------------------------------------------------------------------------
 */

static json_t *run_list(const struct opts *o)
{
    json_t *list = json_array();
    char text[64];

    for (size_t i = 0; i < RUN_ROWS; i++) {
        const char *at = (const char *)o + rows[i].offset;
        mu_auto_buf struct mu_buf b = {0};
        int n;
        const char *s;
        char **v;
        switch (rows[i].kind) {
        case MU_OPT_INT:
            memcpy(&n, at, sizeof n);
            snprintf(text, sizeof text, "--%s=%d", rows[i].name, n);
            if (n)
                json_array_append_new(list, json_string(text));
            break;
        case MU_OPT_FLAG:
            snprintf(text, sizeof text, "--%s", rows[i].name);
            if (*(const bool *)at)
                json_array_append_new(list, json_string(text));
            break;
        case MU_OPT_STRV:
            memcpy(&v, at, sizeof v);
            for (; v && *v; v++) {
                mu_buf_clear(&b);
                mu_buf_appendf(&b, "--%s=%s", rows[i].name, *v);
                json_array_append_new(list, json_string(mu_buf_str(&b)));
            }
            break;
        default:
            memcpy(&s, at, sizeof s);
            mu_buf_appendf(&b, "--%s=%s", rows[i].name, s ? s : "");
            if (s)
                json_array_append_new(list, json_string(mu_buf_str(&b)));
        }
    }
    return list;
}

/* Only what run_list has made: a journal may have been edited. */
static bool is_run_list(const json_t *list)
{
    const json_t *x;
    size_t i;

    json_array_foreach(list, i, x)
    {
        const char *s = json_string_value(x);
        bool known = false;
        size_t n = s && !strncmp(s, "--", 2) ? strcspn(s + 2, "=") : 0;
        for (size_t k = 0; k < RUN_ROWS; k++)
            known = known || (n && strlen(rows[k].name) == n && !strncmp(rows[k].name, s + 2, n));
        if (!known)
            return false;
    }
    return json_is_array(list);
}

/* A run that goes on: with what the journal says, where that is anything that a command line could have said. */
static int go_on(struct mu_accept *a, const struct opts *o, struct mu_err *err)
{
    int rc = mu_accept_go_on(a, o->resume, err);
    const json_t *only = rc ? NULL : json_object_get(a->begin, "only");
    const char *profile = rc ? NULL : json_string_value(json_object_get(a->begin, "profile"));

    if (rc)
        return rc;
    if (!is_run_list(json_object_get(a->begin, "run")) ||
        (only && (!json_is_string(only) || mu_accept_only(json_string_value(only), profile, NULL))))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s/journal.jsonl:1: damaged; begin another run", a->dir);
    return mu_accept_load(a, err); /* what it has measured so far is a file, too */
}

/* The line of a check that cannot be judged without one; 0: none. */
static unsigned wants_baseline(const struct mu_criteria *c)
{
    for (unsigned i = 0; i < c->nchecks; i++)
        for (unsigned k = 0; k < c->checks[i].nbounds; k++)
            if (c->checks[i].bounds[k].against == MU_AGAINST_BASELINE && !c->checks[i].optional)
                return c->checks[i].line;
    return 0;
}

static int begin(struct mu_accept *a, const struct opts *o, int argc, char **argv, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0}, command = {0}, samples = {0};
    struct mu_criteria c = {0};
    uint64_t now = mu_wall();
    int rc = 0;

    if (o->output && !*o->output)
        return mu_err_set(err, MUSTER_EARG, "--output: the name of the directory is empty");
    if (o->only && (rc = mu_accept_only(o->only, profile_of(o), err)))
        return rc;
    if (o->soak != NOT_GIVEN && strcmp(profile_of(o), "soak") != 0)
        return mu_err_set(err, MUSTER_EARG, "--for: only a soak takes a time; give --profile soak, too");
    if (!o->soak)
        return mu_err_set(err, MUSTER_EARG, "--for: takes a time above 0");
    if (o->criteria) {
        if ((rc = mu_path_read_text(o->criteria, 1 << 20, &text, err)))
            return rc;
        /* first under the name that the user knows */
        if ((rc = mu_criteria_parse(o->criteria, mu_buf_str(&text), text.len, &c, err)))
            return rc;
        unsigned line = o->baseline ? 0 : wants_baseline(&c);
        mu_criteria_free(&c);
        if (line)
            return mu_err_set(err, MUSTER_EARG, "%s:%u: compares with a baseline; give --baseline FILE", o->criteria,
                              line);
    } else
        mu_buf_puts(&text, mu_criteria_builtin(profile_of(o)));
    if (o->baseline) {
        struct mu_data d = {0};
        if (!(rc = mu_path_read_regular(o->baseline, 1 << 30, &samples, err)) &&
            !(rc = mu_data_read(&d, o->baseline, mu_buf_str(&samples), samples.len, 0, err)) && !d.n)
            rc = mu_err_set(err, MUSTER_EARG, "%s: no measurement in it; `muster accept baseline make` makes one",
                            o->baseline);
        mu_data_free(&d);
        if (rc)
            return rc;
    }
    mu_buf_puts(&command, "muster");
    for (int i = 0; i < argc; i++) {
        mu_buf_putc(&command, ' ');
        mu_str_quote(&command, argv[i]);
    }
    json_t *line = json_pack("{s:s, s:o, s:I, s:f, s:s, s:f}", "profile", profile_of(o), "run", run_list(o), "seed",
                             (json_int_t)(o->seed != NOT_GIVEN ? o->seed : now / MU_SEC), "t",
                             (double)now / (double)MU_SEC, "command", mu_buf_str(&command), "soak_s",
                             (double)(o->soak != NOT_GIVEN ? o->soak : 3600 * MU_SEC) / (double)MU_SEC);
    if (!line || text.failed)
        return mu_err_set(err, MUSTER_EARG, "the command line is not UTF-8, or memory is short");
    if (o->only)
        json_object_set_new(line, "only", json_string(o->only));
    if (o->at_once)
        json_object_set_new(line, "at_once", json_integer(o->at_once));
    return mu_accept_new(a, o->output, line, mu_buf_str(&text), o->baseline ? &samples : NULL, err);
}

/* Never silently, never more than a twentieth of the hosts (one at least), and undone by `muster nodes resume`. */
static void quarantine(const struct mu_accept *a)
{
    unsigned most = a->data.nhosts / 20 > 1 ? a->data.nhosts / 20 : 1, n = 0;

    for (unsigned i = 0; i < a->blame.n; i++) {
        const struct mu_suspect *s = &a->blame.v[i];
        char drain[] = "drain", nodes[] = "nodes", flag[] = "--reason", reason[200];
        bool again = false;
        if (s->state != MU_CONFIRMED || !mu_suspect_on_host(s))
            continue;
        for (unsigned k = 0; k < i; k++)
            again = again || (a->blame.v[k].state == MU_CONFIRMED && a->blame.v[k].a == s->a &&
                              mu_suspect_on_host(&a->blame.v[k]));
        if (again)
            continue;
        if (n == most) {
            fprintf(stderr, "muster accept: %s is left in the pool: no more than %u of %u hosts are taken out\n",
                    a->data.hosts[s->a], most, a->data.nhosts);
            continue;
        }
        snprintf(reason, sizeof reason, "failed acceptance %s in %s", a->token, a->data.tests[s->test].name);
        char *argv[] = {nodes, drain, flag, reason, a->data.hosts[s->a], NULL};
        n++;
        if (!mu_cmd_nodes(5, argv))
            fprintf(stderr, "muster accept: %s gets no more jobs; `muster nodes resume %s` undoes it\n",
                    a->data.hosts[s->a], a->data.hosts[s->a]);
    }
}

/* What cannot be written is neither of the verdicts that the exit code would say. */
static int print(const char *text, struct mu_err *err)
{
    if (fputs(text, stdout) >= 0 && !fflush(stdout))
        return 0;
    int e = errno;
    clearerr(stdout);
    errno = e;
    return mu_err_errno(err, 0, "standard output");
}

static int finish(struct mu_accept *a, const struct mu_accept *before, bool json, struct mu_err *err)
{
    mu_auto_buf struct mu_buf said = {0};
    mu_auto_free char *text = NULL;
    int rc = mu_accept_write(a, before, &text, &said, err);

    if (rc)
        return rc;
    if (json)
        mu_buf_clear(&said);
    mu_buf_puts(&said, !json ? "  " : text ? text : "");
    if (!json)
        mu_buf_appendf(&said, "%s/report.html; to see it again: muster accept report %s", a->dir, a->token);
    mu_buf_putc(&said, '\n');
    return said.failed ? mu_err_set(err, MUSTER_ENOMEM, "out of memory") : print(mu_buf_str(&said), err);
}

/* Sets *before; nothing where there is no name. */
static int open_last(const char *last, struct mu_accept *before, struct mu_err *err)
{
    int rc = last ? mu_accept_open(before, last, err) : 0;

    rc = rc || !last ? rc : mu_accept_load(before, err);
    return rc ? mu_err_prefix(err, "--last") : 0;
}

/* 1 and 3 are verdicts: what fails by itself is a file to be mended or, once hosts are asked, a run that did not come
 * about. */
static int failed(const char *name, const struct mu_err *err, bool begun)
{
    int code = mu_cmd_fail(name, err);

    return code != MU_EXIT_FAILED ? code : begun ? MU_ACCEPT_NOT_RUN : MU_EXIT_USAGE;
}

static int measure(struct mu_accept *a, const struct opts *o, const struct mu_accept *before, struct mu_err *err)
{
    uint64_t t0 = mu_now();
    int rc = mu_accept_measure(a, err);

    rc = rc ? rc : mu_accept_judge(a, true, err);
    mu_accept_rest(a, false);
    bool ended = a->ended && !a->resumed; /* it was already, and nothing was measured now */
    if (!ended)
        a->seconds = a->before + (double)(mu_now() - t0) / (double)MU_SEC;
    if (!rc && !ended)
        rc = mu_accept_note(
            a,
            json_pack("{s:s, s:s, s:f}", "kind", "end", "verdict", mu_verdict_name(a->verdict), "seconds", a->seconds),
            err);
    a->ended = !rc;
    return rc ? rc : finish(a, before, o->json, err);
}

static int run(const struct opts *o, int argc, char **argv)
{
    struct mu_accept a = {.quiet = o->quiet}, before = {0};
    struct mu_err err = {0};
    int rc = open_last(o->last, &before, &err);

    mu_accept_watch();
    rc = rc ? rc : o->resume ? go_on(&a, o, &err) : begin(&a, o, argc, argv, &err);
    bool begun = !rc;
    if (begun && !o->quiet)
        fprintf(stderr, "accept: %s, in %s\n", a.token, a.dir);
    if (begun)
        rc = measure(&a, o, o->last ? &before : NULL, &err);
    fflush(stdout);
    mu_accept_rest(&a, true);
    if (!rc && o->quarantine)
        quarantine(&a);
    bool unwritten = begun && rc < 0 && a.ended;
    if (!begun || rc == MU_EXIT_USAGE)
        mu_accept_undo(&a);
    rc = rc < 0 ? failed("accept", &err, begun && !unwritten) : rc ? rc : mu_verdict_exit(a.verdict);
    if (!begun && rc && mu_accept_stopped())
        rc = MU_ACCEPT_INTERRUPTED;
    if (unwritten)
        fprintf(stderr, "muster accept: all is measured; once that is mended `muster accept %s %s%s` writes it\n",
                o->quarantine ? "--resume" : "report", a.token, o->quarantine ? " --quarantine" : "");
    mu_accept_free(&before);
    mu_accept_free(&a);
    return rc;
}

/* --- what looks at runs that are there -----------------------------------------------------------------------------
 */

static int cmd_report(const struct opts *o, char **operands, struct mu_err *err)
{
    struct mu_accept a = {.quiet = true}, before = {0};
    int rc = open_last(o->last, &before, err);

    rc = rc ? rc : mu_accept_open(&a, operands[0], err);
    rc = rc ? rc : mu_accept_judge(&a, false, err);
    rc = rc ? rc : finish(&a, o->last ? &before : NULL, o->json, err);
    rc = rc ? rc : mu_verdict_exit(a.verdict);
    mu_accept_free(&before);
    mu_accept_free(&a);
    return rc;
}

static int cmd_compare(const struct opts *o, char **operands, struct mu_err *err)
{
    struct mu_accept a = {0}, b = {0};
    mu_auto_buf struct mu_buf said = {0};
    unsigned both, worse;
    int rc = o->least >= 0 && o->least <= 1000
                 ? mu_accept_open(&a, operands[0], err)
                 : mu_err_set(err, MUSTER_EARG, "--least: takes a percentage from 0 to 1000");

    rc = rc ? rc : mu_accept_open(&b, operands[1], err);
    rc = rc ? rc : mu_accept_load(&a, err);
    rc = rc ? rc : mu_accept_load(&b, err);
    if (!rc) {
        worse = mu_report_compare(&a.data, &b.data, o->least / 100, &both, &said);
        rc = print(mu_buf_str(&said), err);
        rc = rc ? rc : worse ? 1 : both ? 0 : mu_verdict_exit(MU_VERDICT_INCONCLUSIVE);
    }
    mu_accept_free(&a);
    mu_accept_free(&b);
    return rc;
}

/* A device or pipe that somebody names stays what it is, and so does a link. */
static int write_named(const char *path, const struct mu_buf *text, struct mu_err *err)
{
    char real[PATH_MAX];
    struct stat st;
    FILE *f;
    int rc;

    if (stat(path, &st) || S_ISREG(st.st_mode))
        return mu_path_write_atomic(realpath(path, real) ? real : path, mu_buf_str(text), text->len, 0644, err);
    if ((rc = mu_path_create(path, &f, err)))
        return rc;
    bool bad = fwrite(mu_buf_str(text), 1, text->len, f) != text->len;
    bad = fclose(f) || bad;
    return bad ? mu_err_errno(err, 0, "cannot write %s", path) : 0;
}

/* Its samples, all in one file. */
static int cmd_make(const struct opts *o, char **operands, struct mu_err *err)
{
    struct mu_accept a = {0};
    mu_auto_buf struct mu_buf all = {0};
    const char *name;
    struct stat st;
    json_t *line;
    int rc;

    if (strcmp(operands[0], "make") != 0)
        return mu_err_set(err, MUSTER_EARG, "there is only `muster accept baseline make RUN -o FILE`");
    if (!o->output || !*o->output)
        return mu_err_set(err, MUSTER_EARG, "say where it goes: -o FILE");
    if (!(rc = mu_accept_open(&a, operands[1], err)))
        rc = mu_accept_load(&a, err); /* with a look at the sums */
    json_object_foreach(a.done, name, line)
    {
        char path[PATH_MAX], sub[300];
        snprintf(sub, sizeof sub, "raw/%.200s.jsonl", name);
        if (!rc && !json_integer_value(json_object_get(line, "round")) &&
            !(rc = mu_path_join(path, sizeof path, a.dir, sub, err)))
            rc = mu_path_read_regular(path, 1 << 30, &all, err);
    }
    if (!rc && !a.data.n)
        rc = mu_err_set(err, MUSTER_EARG, "%s: has no measurement that a baseline could be made of", a.dir);
    char real[PATH_MAX];
    size_t n = strlen(a.dir);
    if (!rc && realpath(o->output, real) && !strncmp(real, a.dir, n) && real[n] == '/')
        rc = mu_err_set(err, MUSTER_EARG, "%s: is a file of the run itself; name another", o->output);
    rc = rc ? rc : write_named(o->output, &all, err);
    if (!rc) /* what goes to no file may go to standard output */
        fprintf(stat(o->output, &st) || S_ISREG(st.st_mode) ? stdout : stderr,
                "%s: %u hosts, %llu measurements of %s\n", o->output, a.data.nhosts,
                (unsigned long long)a.data.measurements, a.token);
    mu_accept_free(&a);
    return rc;
}

static int cmd_criteria(const struct opts *o, char **operands, struct mu_err *err)
{
    (void)operands;
    (void)err;
    printf("# known references\n%s\n# profile %s\n%s", mu_criteria_references(), profile_of(o),
           mu_criteria_builtin(profile_of(o)));
    return 0;
}

/* To add one: a row, its function, its part of docs/man/muster-accept.1. */
static const struct sub {
    const char *name, *usage, *summary;
    const struct mu_opt *rows;
    size_t nrows;
    int operands;
    int (*run)(const struct opts *, char **operands, struct mu_err *);
} subs[] = {
    {"compare", "muster accept compare [OPTIONS] RUN RUN", "what is better or worse in the second run", compare_rows,
     MU_COUNT(compare_rows), 2, cmd_compare},
    {"baseline", "muster accept baseline make RUN -o FILE", "a run's samples as a file for --baseline", make_rows,
     MU_COUNT(make_rows), 2, cmd_make},
    {"report", "muster accept report [OPTIONS] RUN", "judge a run's samples again, and write its reports", report_rows,
     MU_COUNT(report_rows), 1, cmd_report},
    {"criteria", "muster accept criteria [OPTIONS]", "print the built-in criteria and references", criteria_rows,
     MU_COUNT(criteria_rows), 0, cmd_criteria},
};

int mu_cmd_accept(int argc, char **argv)
{
    struct opts o = DEFAULTS;
    struct mu_err err = {0};
    char name[40];
    int first, code, rc;
    bool help = argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));

    for (size_t i = 0; i < MU_COUNT(subs) && argc > 1; i++) {
        const struct sub *s = &subs[i];
        if (strcmp(argv[1], s->name) != 0)
            continue;
        snprintf(name, sizeof name, "accept %s", s->name);
        argv[1] = name;
        if (mu_cmd_options(s->usage, s->rows, s->nrows, argc - 1, argv + 1, s->operands, s->operands, &o, &first,
                           &code))
            return code;
        rc = s->run(&o, argv + 1 + first, &err);
        mu_opt_free(s->rows, s->nrows, &o);
        return rc < 0 ? failed(name, &err, false) : rc;
    }
    if (mu_cmd_options("muster accept [OPTIONS] [COMMAND]", rows, MU_COUNT(rows), argc, argv, 0, 0, &o, &first,
                       &code)) {
        for (size_t i = 0; i < MU_COUNT(subs) && help; i++)
            printf("%s  %-9s %s\n", i ? "" : "\n", subs[i].name, subs[i].summary);
        return code;
    }
    json_t *of_run = run_list(&o);
    bool runs = json_array_size(of_run) > 0;
    json_decref(of_run);
    if (o.resume && (runs || o.profile >= 0 || o.criteria || o.output || o.baseline || o.only || o.at_once ||
                     o.soak != NOT_GIVEN || o.seed != NOT_GIVEN)) {
        mu_err_set(&err, MUSTER_EARG,
                   "--resume goes on with what the run has begun with; give only --last, --quarantine, --json and "
                   "--quiet beside it");
        rc = failed("accept", &err, false);
    } else
        rc = run(&o, argc, argv);
    mu_opt_free(rows, MU_COUNT(rows), &o);
    return rc;
}
