/* The file with the policy's settings. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/policy.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define HOUR (3600 * MU_SEC)

void mu_policy_defaults(struct mu_policy_settings *s)
{
    *s = (struct mu_policy_settings){.half_life_ns = 168 * HOUR,
                                     .share_weight_ns = 720 * HOUR,
                                     .priority_step_ns = 168 * HOUR,
                                     .assumed_limit_ns = 24 * HOUR,
                                     .replan_ns = 60 * MU_SEC,
                                     .depth = 64,
                                     .preempt_after_ns = 60 * MU_SEC,
                                     .preempt_ckpt_ns = 600 * MU_SEC,
                                     .default_share = 1};
}

enum kind { DURATION, NUMBER, PREEMPT };
/* How to add a setting: a row, a field, a line in docs/formats.md. */
static const struct {
    const char *name;
    enum kind kind;
    size_t offset;
    uint64_t min, max;
} rows[] = {
    {"half-life", DURATION, offsetof(struct mu_policy_settings, half_life_ns), 60 * MU_SEC, 87600 * HOUR},
    {"share-weight", DURATION, offsetof(struct mu_policy_settings, share_weight_ns), 0, 87600 * HOUR},
    {"priority-step", DURATION, offsetof(struct mu_policy_settings, priority_step_ns), 0, 87600 * HOUR},
    {"assumed-limit", DURATION, offsetof(struct mu_policy_settings, assumed_limit_ns), MU_SEC, 87600 * HOUR},
    {"replan", DURATION, offsetof(struct mu_policy_settings, replan_ns), 0, HOUR},
    {"depth", NUMBER, offsetof(struct mu_policy_settings, depth), 1, 10000},
    {"spare-nodes", NUMBER, offsetof(struct mu_policy_settings, spare_nodes), 0, 1000000},
    {"preempt", PREEMPT, offsetof(struct mu_policy_settings, preempt), 0, 0},
    {"preempt-after", DURATION, offsetof(struct mu_policy_settings, preempt_after_ns), 0, 87600 * HOUR},
    {"preempt-checkpoint-age", DURATION, offsetof(struct mu_policy_settings, preempt_ckpt_ns), MU_SEC, 87600 * HOUR},
};
static const char *const preempts[] = {"off", "on", "force"};

struct line {
    const char *file, *text; /* text: the whole line, without its end */
    unsigned number;
    struct mu_err *err;
};

static int bad(const struct line *l, const char *at, const char *fmt, const char *what, const char *more)
{
    char shown[80], text[300];

    snprintf(text, sizeof text, fmt, mu_str_show(shown, sizeof shown, what), more);
    return mu_err_set(l->err, MUSTER_EARG, "%s:%u:%u: %s", l->file, l->number, (unsigned)(at - l->text) + 1, text);
}

static char *trim(char *s)
{
    size_t n;

    while (isspace((unsigned char)*s))
        s++;
    for (n = strlen(s); n && isspace((unsigned char)s[n - 1]); n--)
        ;
    s[n] = 0;
    return s;
}

static int set_share(const struct line *l, struct mu_policy_settings *s, const char *user, const char *value)
{
    double share;

    if (!*user || strlen(user) >= sizeof s->shares->user)
        return bad(l, user, "'%s' is not the name of a user: 1 to 63 bytes%s", user, "");
    if (mu_str_double(value, &share) || share < 0 || share > 1e6)
        return bad(l, value, "'%s' is not a share: a number from 0 to 1000000, others have 1%s", value, "");
    if (!strcmp(user, "default")) {
        s->default_share = share;
        return 0;
    }
    struct mu_policy_share_of *v = realloc(s->shares, (s->nshares + 1) * sizeof *v);
    if (!v)
        return mu_err_set(l->err, MUSTER_ENOMEM, "out of memory");
    s->shares = v;
    for (unsigned i = 0; i < s->nshares; i++)
        if (!strcmp(v[i].user, user))
            return bad(l, user, "user '%s' has a share already%s", user, "");
    snprintf(v[s->nshares].user, sizeof v->user, "%s", user);
    v[s->nshares++].share = share;
    return 0;
}

static int set(const struct line *l, struct mu_policy_settings *s, const char *key, const char *value)
{
    uint64_t n;
    size_t i = 0, near = 0;

    while (i < MU_COUNT(rows) && strcmp(rows[i].name, key) != 0) {
        if (mu_str_distance(key, rows[i].name) < mu_str_distance(key, rows[near].name))
            near = i;
        i++;
    }
    if (i == MU_COUNT(rows))
        return bad(l, key, "there is no setting '%s'; the nearest is '%s'", key, rows[near].name);
    void *at = (char *)s + rows[i].offset;
    char least[32], most[32], range[80];
    switch (rows[i].kind) {
    case DURATION:
        snprintf(range, sizeof range, "%s to %s", mu_str_fmt_duration(least, sizeof least, rows[i].min),
                 mu_str_fmt_duration(most, sizeof most, rows[i].max));
        if (mu_str_duration(value, &n) || n < rows[i].min || n > rows[i].max)
            return bad(l, value, "'%s' is not a time such as 90s, 10m, 36h or 7d, %s", value, range);
        memcpy(at, &n, sizeof n);
        return 0;
    case NUMBER:
        snprintf(range, sizeof range, "%llu to %llu", (unsigned long long)rows[i].min, (unsigned long long)rows[i].max);
        if (mu_str_u64(value, rows[i].min, rows[i].max, &n))
            return bad(l, value, "'%s' is not a number, %s", value, range);
        memcpy(at, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
        return 0;
    case PREEMPT:
        for (uint32_t k = 0; k < MU_COUNT(preempts); k++)
            if (!strcmp(value, preempts[k])) {
                memcpy(at, &k, sizeof k);
                return 0;
            }
        return bad(l, value, "'%s' is none of off, on and force%s", value, "");
    }
    return 0;
}

static int parse_line(const struct line *l, char *text, struct mu_policy_settings *s)
{
    char *hash = strchr(text, '#'), *eq;

    if (hash)
        *hash = 0;
    char *key = trim(text);
    if (!*key)
        return 0;
    if (!(eq = strchr(key, '=')))
        return bad(l, key, "'%s' has no '='; a line is: setting = value, or: share USER = number%s", key, "");
    *eq = 0;
    char *value = trim(eq + 1);
    trim(key);
    if (!strncmp(key, "share", 5) && isspace((unsigned char)key[5]))
        return set_share(l, s, trim(key + 6), value);
    return set(l, s, key, value);
}

int mu_policy_parse(const char *name, const char *text, size_t len, struct mu_policy_settings *out, struct mu_err *err)
{
    struct mu_policy_settings s;
    char line[1024];
    unsigned number = 0;
    int rc = 0;

    mu_policy_defaults(&s);
    for (size_t at = 0; at < len && !rc; number++) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - text) - at : len - at;
        struct line l = {.file = name, .text = line, .number = number + 1, .err = err};
        if (n >= sizeof line) {
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u:1: the line is longer than %zu bytes", name, number + 1,
                            sizeof line - 1);
        } else if (memchr(text + at, 0, n)) {
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u:1: the line is not text", name, number + 1);
        } else {
            memcpy(line, text + at, n);
            line[n] = 0;
            rc = parse_line(&l, line, &s);
        }
        at += n + 1;
    }
    if (rc) {
        free(s.shares);
        return rc;
    }
    free(out->shares);
    *out = s;
    return 0;
}

void mu_policy_settings_free(struct mu_policy_settings *s)
{
    free(s->shares);
    s->shares = NULL;
    s->nshares = 0;
}

double mu_policy_share(const struct mu_policy_settings *s, const char *user)
{
    for (unsigned i = 0; i < s->nshares; i++)
        if (!strcmp(s->shares[i].user, user))
            return s->shares[i].share;
    return s->default_share;
}

/* --- what users have used ------------------------------------------------------------------------------------------
 */

double mu_usage_get(const struct mu_usage *u, uint64_t half_life_ns, uint64_t now)
{
    double lambda = log(2) / ((double)half_life_ns / (double)MU_SEC);
    double dt = now > u->at ? (double)(now - u->at) / (double)MU_SEC : 0;
    double left = exp(-lambda * dt);

    return u->value * left + u->rate * (1 - left) / lambda;
}

void mu_usage_rate(struct mu_usage *u, uint64_t half_life_ns, uint64_t now, double rate)
{
    u->value = mu_usage_get(u, half_life_ns, now);
    u->rate = rate;
    u->at = now > u->at ? now : u->at;
}

/* --- why a job waits -----------------------------------------------------------------------------------------------
 */

static void room(const struct mu_policy_job *j, const struct mu_policy_wait *w, char *buf, size_t n)
{
    uint64_t slots = j->ranks * j->need[MU_RES_SLOTS];
    size_t len = (size_t)snprintf(buf, n, "waiting for %llu slot%s", (unsigned long long)slots, slots == 1 ? "" : "s");

    if (j->nodes && len < n)
        len += (size_t)snprintf(buf + len, n - len, " on %u node%s", j->nodes, j->nodes == 1 ? "" : "s");
    if (j->spares && len < n)
        len += (size_t)snprintf(buf + len, n - len, " and %u spare node%s", j->spares, j->spares == 1 ? "" : "s");
    if (j->label && len < n)
        len += (size_t)snprintf(buf + len, n - len, " with label %.60s", j->label);
    if (len < n && w->why == MU_WHY_ROOM)
        snprintf(buf + len, n - len, ", %llu of %llu %s free", (unsigned long long)w->free_slots,
                 (unsigned long long)w->slots, w->free_slots == 1 ? "is" : "are");
}

void mu_policy_reason(const struct mu_policy_job *j, const struct mu_policy_wait *w, char *buf, size_t n)
{
    unsigned long long other = w->other;

    switch (w->why) {
    case MU_WHY_NOT:
        snprintf(buf, n, "it does not wait");
        return;
    case MU_WHY_HELD:
        snprintf(buf, n, "held; `muster release %llu` lets it go", (unsigned long long)j->id);
        return;
    case MU_WHY_AFTER:
        snprintf(buf, n, "waiting for job %llu to complete", other);
        return;
    case MU_WHY_BEHIND:
        snprintf(buf, n, "waiting behind job %llu, which has been promised what is free", other);
        return;
    case MU_WHY_PREEMPTING:
        snprintf(buf, n, "jobs of lower priority make room for it");
        return;
    case MU_WHY_NODES:
    case MU_WHY_SHAPE:
    case MU_WHY_ROOM:
        room(j, w, buf, n);
        if (w->why == MU_WHY_NODES)
            snprintf(buf + strlen(buf), n - strlen(buf), ": the nodes that are up have no room for it");
        else if (w->why == MU_WHY_SHAPE)
            snprintf(buf + strlen(buf), n - strlen(buf), ": %llu are free, but not where it needs them",
                     (unsigned long long)w->free_slots);
        return;
    }
}
