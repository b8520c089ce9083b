/* muster events --flight: what the ranks of an attempt had called last, from the files that its keepers have left. */
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
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define FILE_MAX_BYTES (4u << 20) /* 16 rings of 256 lines are less */

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

/* How many of the same rank and communicator follow it. */
static bool is_late(json_t *const *v, size_t n, size_t i, unsigned last)
{
    double rank = mu_answer_num(v[i], "rank");
    const char *comm = mu_answer_str(v[i], "comm");
    unsigned after = 0;

    for (size_t k = i + 1; k < n && after < last; k++)
        after += mu_answer_num(v[k], "rank") == rank && !strcmp(mu_answer_str(v[k], "comm"), comm);
    return after < last;
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

    for (size_t i = 0; t && i < n; i++)
        if (is_late(v, n, i, last))
            row(t, v[i]);
    if (t)
        mu_table_print(t, stdout);
    mu_table_free(t);
}

int mu_flight_show(uint64_t job, uint32_t attempt, unsigned last, bool json, struct mu_err *err)
{
    json_t *root, *jobs, *list = json_array();
    char dir[PATH_MAX], name[32];
    const json_t *j = NULL;
    int rc = mu_answer_get("status", job, true, "jobs", &root, &jobs, NULL, err);

    if (rc) {
        json_decref(list);
        return rc;
    }
    j = json_array_get(jobs, 0);
    if (!j)
        rc = mu_answer_no_job(job, err);
    for (uint32_t n = attempt ? attempt : (uint32_t)mu_answer_num(j, "attempt"); !rc && n; n--) {
        snprintf(name, sizeof name, "attempt-%u", n);
        rc = mu_path_join(dir, sizeof dir, mu_answer_str(j, "log_dir"), name, err);
        rc = rc ? rc : read_all(dir, list, err);
        if (attempt || json_array_size(list)) { /* the newest that has any */
            attempt = n;
            break;
        }
    }
    if (!rc && !json_array_size(list))
        rc = mu_err_set(err, MUSTER_EJOB,
                        "job %llu has left no flight records: they are kept when an attempt whose ranks have called "
                        "collectives fails",
                        (unsigned long long)job);
    size_t n = json_array_size(list);
    mu_auto_free json_t **v = rc ? NULL : malloc(n * sizeof *v);
    if (!rc && !v)
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu records", n);
    for (size_t i = 0; !rc && i < n; i++)
        v[i] = json_array_get(list, i);
    if (!rc)
        qsort(v, n, sizeof *v, older);
    if (!rc && json) {
        printf("{\"schema\": \"muster.flight/1\", \"job\": %llu, \"attempt\": %u, \"records\": [",
               (unsigned long long)job, attempt);
        for (size_t i = 0; i < n; i++) {
            mu_auto_free char *line = json_dumps(v[i], JSON_COMPACT | JSON_PRESERVE_ORDER);
            printf("%s\n  %s", i ? "," : "", line ? line : "{}");
        }
        puts("]}");
    } else if (!rc) {
        print(v, n, last);
    }
    json_decref(list);
    json_decref(root);
    return rc;
}
