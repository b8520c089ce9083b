/* The file with the policy's settings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/policy.h"
#include "launcher/core/settings.h"
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

/* How to add a setting: a row, a field, a line in docs/formats.md. */
#define AT(field) offsetof(struct mu_policy_settings, field)
static const char *const preempts[] = {"off", "on", "force", NULL};
static const struct mu_setting_row rows[] = {
    {"half-life", MU_SET_DURATION, AT(half_life_ns), 60 * MU_SEC, 87600 * HOUR, NULL},
    {"share-weight", MU_SET_DURATION, AT(share_weight_ns), 0, 87600 * HOUR, NULL},
    {"priority-step", MU_SET_DURATION, AT(priority_step_ns), 0, 87600 * HOUR, NULL},
    {"assumed-limit", MU_SET_DURATION, AT(assumed_limit_ns), MU_SEC, 87600 * HOUR, NULL},
    {"replan", MU_SET_DURATION, AT(replan_ns), 0, HOUR, NULL},
    {"depth", MU_SET_NUMBER, AT(depth), 1, 10000, NULL},
    {"spare-nodes", MU_SET_NUMBER, AT(spare_nodes), 0, 1000000, NULL},
    {"preempt", MU_SET_CHOICE, AT(preempt), 0, 0, preempts},
    {"preempt-after", MU_SET_DURATION, AT(preempt_after_ns), 0, 87600 * HOUR, NULL},
    {"preempt-checkpoint-age", MU_SET_DURATION, AT(preempt_ckpt_ns), MU_SEC, 87600 * HOUR, NULL},
};

static int set_share(const struct mu_setting *l, struct mu_policy_settings *s, const char *user)
{
    double share;

    if (!*user || strlen(user) >= sizeof s->shares->user)
        return mu_setting_bad(l, user, "'%s' is not the name of a user: 1 to 63 bytes%s", user, "");
    if (mu_str_double(l->value, &share) || share < 0 || share > 1e6)
        return mu_setting_bad(l, l->value, "'%s' is not a share: a number from 0 to 1000000, others have 1%s", l->value,
                              "");
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
            return mu_setting_bad(l, user, "user '%s' has a share already%s", user, "");
    snprintf(v[s->nshares].user, sizeof v->user, "%s", user);
    v[s->nshares++].share = share;
    return 0;
}

static int set(void *arg, const struct mu_setting *l)
{
    const char *user = mu_setting_of(l, "share");

    return user ? set_share(l, arg, user) : mu_setting_set(l, rows, MU_COUNT(rows), arg);
}

int mu_policy_parse(const char *name, const char *text, size_t len, struct mu_policy_settings *out, struct mu_err *err)
{
    struct mu_policy_settings s;

    mu_policy_defaults(&s);
    int rc = mu_settings_parse(name, text, len, "setting = value, or: share USER = number", set, &s, err);
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
    char size[32];
    size_t len = (size_t)snprintf(buf, n, "waiting for %llu slot%s", (unsigned long long)slots, slots == 1 ? "" : "s");

    if (j->need[MU_RES_GPUS] && len < n)
        len += (size_t)snprintf(buf + len, n - len, " with %llu GPU%s each", (unsigned long long)j->need[MU_RES_GPUS],
                                j->need[MU_RES_GPUS] == 1 ? "" : "s");
    if (j->need[MU_RES_MEMORY] && len < n)
        len += (size_t)snprintf(buf + len, n - len, " with %s each",
                                mu_str_fmt_size(size, sizeof size, j->need[MU_RES_MEMORY]));
    if (j->nodes && len < n)
        len += (size_t)snprintf(buf + len, n - len, " on %u node%s", j->nodes, j->nodes == 1 ? "" : "s");
    if (j->spares && len < n)
        len += (size_t)snprintf(buf + len, n - len, " and %u spare node%s", j->spares, j->spares == 1 ? "" : "s");
    if (j->label && len < n)
        len += (size_t)snprintf(buf + len, n - len, " with label %.60s", j->label);
    if (j->baseline && len < n)
        len += (size_t)snprintf(buf + len, n - len, " with --require-baseline");
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
