#include "launcher/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launcher/client.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

/* Of a pool that there is not. */
static int nothing(const char *what, uint64_t job, char **json, struct mu_err *err)
{
    static const struct {
        const char *what, *json;
    } lists[] = {{"jobs", "{\"schema\":\"muster.jobs/1\",\"jobs\":[]}"},
                 {"table", "{\"schema\":\"muster.jobs/1\",\"jobs\":[]}"},
                 {"status", "{\"schema\":\"muster.jobs/1\",\"jobs\":[]}"},
                 {"nodes", "{\"schema\":\"muster.nodes/1\",\"nodes\":[]}"},
                 {"recent", "{\"schema\":\"muster.events/1\",\"events\":[]}"}};

    for (size_t i = 0; i < MU_COUNT(lists); i++)
        if (!strcmp(lists[i].what, what))
            return (*json = strdup(lists[i].json)) ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    return mu_answer_no_job(job, err);
}

int mu_answer_no_job(uint64_t job, struct mu_err *err)
{
    return mu_err_set(err, MUSTER_EJOB, "there is no job %llu; `muster jobs --all` lists them",
                      (unsigned long long)job);
}

int mu_answer_get(const char *what, uint64_t job, bool all, const char *key, json_t **root, json_t **list, char **text,
                  struct mu_err *err)
{
    mu_auto_free char *json = NULL;
    json_error_t why;
    int rc = mu_client_query(what, job, all, &json, err);

    if (rc == MU_CLIENT_NO_POOL)
        rc = nothing(what, job, &json, err);
    if (rc)
        return rc;
    json_t *r = json_loads(json, 0, &why), *v = json_object_get(r, key);
    if (!json_is_array(v)) {
        json_decref(r);
        return mu_err_set(err, MUSTER_EIO, "the controller's answer cannot be read: %s", r ? "no list" : why.text);
    }
    *root = r;
    *list = v;
    if (text)
        *text = MU_STEAL(json, NULL);
    return 0;
}

const char *mu_answer_str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

double mu_answer_num(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

bool mu_answer_has(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return v && !json_is_null(v);
}

const char *mu_answer_elapsed(const json_t *job, char *buf, size_t n)
{
    double from = mu_answer_num(job, "started_t"), to = mu_answer_num(job, "ended_t");

    if (from <= 0)
        return "-";
    if (to <= 0)
        to = (double)mu_wall() / (double)MU_SEC;
    return mu_str_fmt_duration(buf, n, to > from ? (uint64_t)((to - from) * (double)MU_SEC) : 0);
}

const char *mu_answer_time(double t, char *buf, size_t n)
{
    time_t s = (time_t)t;
    struct tm tm;
    size_t len;

    if (t <= 0 || !localtime_r(&s, &tm) || !(len = strftime(buf, n, "%Y-%m-%d %H:%M:%S", &tm)))
        return "-";
    snprintf(buf + len, n - len, ".%03d", (int)((t - (double)s) * 1000));
    return buf;
}

const char *mu_answer_names(const json_t *list, char *buf, size_t n)
{
    size_t len = 0, i;
    json_t *name;

    buf[0] = 0;
    json_array_foreach(list, i, name)
    {
        const char *s = json_string_value(name);
        int k = snprintf(buf + len, n - len, "%s%s", i ? "," : "", s ? s : "?");
        if (len + (size_t)k + 16 >= n && i + 1 < json_array_size(list)) {
            snprintf(buf + len, n - len, " and %zu more", json_array_size(list) - i);
            break;
        }
        len += (size_t)k;
        if (len >= n)
            break;
    }
    return buf;
}
