/* muster events --flight: what the ranks of an attempt had called last, from its keepers while it runs, then from the
 * files that they have left. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/flight.h"
#include "launcher/table.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/flight.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define FILE_MAX_BYTES (4u << 20) /* 16 rings of 256 lines are less */
#define RECORDS_ASKED 40000u      /* about; answers that a client has not read are bounded */

static bool is_file(const char *name)
{
    unsigned rank;
    int end = 0;

    return sscanf(name, "rank-%9u.flight%n", &rank, &end) == 1 && end && !name[end];
}

static int read_all(const char *dir, json_t *list, struct mu_err *err)
{
    mu_auto_dir DIR *d = opendir(dir);
    int rc = 0;

    if (!d && errno != ENOENT)
        return mu_err_errno(err, 0, "cannot read %s", dir);
    for (struct dirent *e; d && !rc && (e = readdir(d));) {
        mu_auto_buf struct mu_buf text = {0};
        char path[PATH_MAX];

        if (!is_file(e->d_name) || mu_path_join(path, sizeof path, dir, e->d_name, NULL))
            continue;
        rc = mu_path_read_regular(path, FILE_MAX_BYTES, &text, err);
        if (!rc && (rc = mu_flight_parse((const char *)text.data, text.len, list, err)))
            mu_err_prefix(err, "%s", path);
    }
    return rc;
}

static double when(const json_t *o)
{
    return mu_answer_num(o, "enqueued");
}

static int older(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    double d = when(x) - when(y);

    if (d < 0 || d > 0)
        return d < 0 ? -1 : 1;
    d = mu_answer_num(x, "rank") - mu_answer_num(y, "rank");
    return (d > 0) - (d < 0);
}

struct place {
    const char *comm;
    double rank;
    size_t at;
};

/* By communicator and rank, the newest first. */
static int apart(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int d = strcmp(x->comm, y->comm);

    if (d)
        return d;
    if (x->rank < y->rank || x->rank > y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->at > y->at ? -1 : x->at < y->at;
}

/* Which of them are among the last of their rank and communicator; v is in order. NULL: no memory. */
static bool *late_ones(json_t *const *v, size_t n, unsigned last)
{
    mu_auto_free struct place *p = malloc(n * sizeof *p);
    mu_auto_free bool *late = calloc(n, sizeof *late);
    unsigned place = 0;

    if (!p || !late)
        return NULL;
    for (size_t i = 0; i < n; i++)
        p[i] = (struct place){.comm = mu_answer_str(v[i], "comm"), .rank = mu_answer_num(v[i], "rank"), .at = i};
    qsort(p, n, sizeof *p, apart);
    for (size_t i = 0; i < n; i++) {
        bool another = i && (strcmp(p[i].comm, p[i - 1].comm) != 0 || p[i].rank > p[i - 1].rank);

        place = another ? 0 : place;
        late[p[i].at] = place++ < last;
    }
    return MU_STEAL(late, NULL);
}

static void row(struct mu_table *t, const json_t *o)
{
    const char *state = mu_answer_str(o, "state");
    double ended = mu_answer_num(o, "ended");
    char at[64];

    mu_table_cell(t, mu_answer_time(when(o), at, sizeof at));
    mu_table_cellf(t, "%.0f", mu_answer_num(o, "rank"));
    const char *comm = mu_answer_str(o, "comm");
    mu_table_cell(t, strlen(comm) > 8 ? comm + strlen(comm) - 8 : comm);
    if (mu_answer_has(o, "number"))
        mu_table_cellf(t, "%.0f", mu_answer_num(o, "number"));
    else
        mu_table_cell(t, "");
    mu_table_cell(t, mu_answer_str(o, "op"));
    mu_table_cell(t, mu_answer_str(o, "dtype"));
    mu_table_cellf(t, "%.0f", mu_answer_num(o, "count"));
    if (mu_answer_has(o, "peer"))
        mu_table_cellf(t, "%.0f", mu_answer_num(o, "peer"));
    else
        mu_table_cell(t, "");
    mu_table_coloured(t, !strcmp(state, "completed") ? MU_PLAIN : !strcmp(state, "failed") ? MU_BAD : MU_BUSY, state);
    if (ended > 0 && when(o) > 0)
        mu_table_cellf(t, "%.3f ms", (ended - when(o)) * 1e3);
    else
        mu_table_cell(t, "-");
}

static void print(json_t *const *v, size_t n, unsigned last)
{
    static const struct mu_column columns[] = {
        {"TIME", 0},  {"RANK", MU_RIGHT},  {"COMM", 0},        {"NUMBER", MU_RIGHT}, {"OPERATION", 0},
        {"DTYPE", 0}, {"COUNT", MU_RIGHT}, {"PEER", MU_RIGHT}, {"STATE", 0},         {"TOOK", MU_RIGHT}};
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    mu_auto_free bool *late = late_ones(v, n, last);

    for (size_t i = 0; t && late && i < n; i++)
        if (late[i])
            row(t, v[i]);
    if (t)
        mu_table_print(t, stdout);
    mu_table_free(t);
}

static bool runs(const json_t *job)
{
    const char *state = mu_answer_str(job, "state");

    return !strcmp(state, "running") || !strcmp(state, "starting") || !strcmp(state, "recovering");
}

/* Of the attempt that runs, if it is that one that is wanted and its ranks have called anything. */
static int get_live(const json_t *j, uint64_t job, uint32_t wanted, unsigned last, uint32_t *attempt, json_t *list,
                    json_t *missing, struct mu_err *err)
{
    double ranks = mu_answer_num(j, "ranks");
    unsigned most = ranks < RECORDS_ASKED / 2 ? RECORDS_ASKED / 2 / (unsigned)(ranks > 1 ? ranks : 1) : 1;
    uint32_t now = 0;

    if (!runs(j) || (wanted && wanted != (uint32_t)mu_answer_num(j, "attempt")))
        return 0;
    int rc = mu_flight_ask(job, last < most ? last : most, &now, list, missing, err);
    if (rc == MUSTER_EJOB) /* it has just ended */
        rc = 0;
    if (wanted && now != wanted)
        json_array_clear(list);
    *attempt = json_array_size(list) ? now : 0;
    return rc;
}

static int get_files(const json_t *j, uint32_t wanted, uint32_t *attempt, json_t *list, struct mu_err *err)
{
    char dir[PATH_MAX], name[32];
    int rc = 0;

    for (uint32_t n = wanted ? wanted : (uint32_t)mu_answer_num(j, "attempt"); !rc && n; n--) {
        snprintf(name, sizeof name, "attempt-%u", n);
        rc = mu_path_join(dir, sizeof dir, mu_answer_str(j, "log_dir"), name, err);
        rc = rc ? rc : read_all(dir, list, err);
        *attempt = n;
        if (wanted || json_array_size(list)) /* the newest that has any */
            break;
    }
    return rc;
}

static int nothing(uint64_t job, bool runs_now, const json_t *missing, struct mu_err *err)
{
    char names[400];

    if (json_array_size(missing))
        return mu_err_set(err, MUSTER_ETIMEOUT, "no answer from %s", mu_answer_names(missing, names, sizeof names));
    if (runs_now)
        return mu_err_set(err, MUSTER_EJOB, "the ranks of job %llu have not called any collectives of muster's yet",
                          (unsigned long long)job);
    return mu_err_set(err, MUSTER_EJOB,
                      "job %llu has left no flight records: they are kept when an attempt whose ranks have called "
                      "collectives fails",
                      (unsigned long long)job);
}

static void print_json(uint64_t job, uint32_t attempt, bool live, const json_t *missing, json_t *const *v, size_t n)
{
    mu_auto_free char *nodes = json_dumps(missing, JSON_COMPACT);

    printf("{\"schema\": \"muster.flight/1\", \"job\": %llu, \"attempt\": %u, \"running\": %s, \"missing\": %s, "
           "\"records\": [",
           (unsigned long long)job, attempt, live ? "true" : "false", nodes ? nodes : "[]");
    for (size_t i = 0; i < n; i++) {
        mu_auto_free char *line = json_dumps(v[i], JSON_COMPACT | JSON_PRESERVE_ORDER);
        printf("%s\n  %s", i ? "," : "", line ? line : "{}");
    }
    puts("]}");
}

static int put(uint64_t job, uint32_t attempt, unsigned last, bool json, bool live, const json_t *list,
               const json_t *missing, struct mu_err *err)
{
    size_t n = json_array_size(list);
    mu_auto_free json_t **v = malloc((n + 1) * sizeof *v);
    char text[400];

    if (!v)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu records", n);
    for (size_t i = 0; i < n; i++)
        v[i] = json_array_get(list, i);
    qsort(v, n, sizeof *v, older);
    if (json)
        print_json(job, attempt, live, missing, v, n);
    else
        print(v, n, last);
    if (json_array_size(missing))
        fprintf(stderr, "muster events: no answer from %s\n", mu_answer_names(missing, text, sizeof text));
    return 0;
}

int mu_flight_show(uint64_t job, uint32_t attempt, unsigned last, bool json, struct mu_err *err)
{
    json_t *root, *jobs, *list = json_array(), *missing = json_array();
    uint32_t of = 0;
    int rc = mu_answer_get("status", job, true, "jobs", &root, &jobs, NULL, err);

    if (rc) {
        json_decref(list);
        json_decref(missing);
        return rc;
    }
    const json_t *j = json_array_get(jobs, 0);
    if (!j)
        rc = mu_answer_no_job(job, err);
    else
        rc = get_live(j, job, attempt, json ? MU_FLIGHT_RING : last, &of, list, missing, err);
    bool live = of, runs_now = !rc && runs(j);
    if (!rc && !live)
        rc = get_files(j, attempt, &of, list, err);
    if (!rc && !json_array_size(list))
        rc = nothing(job, runs_now, missing, err);
    if (!rc)
        rc = put(job, of, last, json, live, list, missing, err);
    json_decref(list);
    json_decref(missing);
    json_decref(root);
    return rc;
}
