#include "launcher/core/access.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/core/settings.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static const char *const roles[] = {
    [MU_ROLE_NONE] = "none",         [MU_ROLE_VIEWER] = "viewer", [MU_ROLE_USER] = "user",
    [MU_ROLE_OPERATOR] = "operator", [MU_ROLE_ADMIN] = "admin",   [MU_ROLE_COUNT] = NULL};

static const struct mu_access_row table[] = {
    {"jobs", MU_MSG_query, "jobs", MU_ROLE_VIEWER, MU_SEE_JOB, false, true},
    {"jobs", MU_MSG_query, "table", MU_ROLE_VIEWER, MU_SEE_JOB, false, true},
    {"status", MU_MSG_query, "status", MU_ROLE_VIEWER, MU_SEE_JOB, false, true},
    {"events", MU_MSG_query, "events", MU_ROLE_VIEWER, MU_SEE_JOB, false, true},
    {"events", MU_MSG_query, "recent", MU_ROLE_VIEWER, MU_SEE_JOB, false, true},
    {"events", MU_MSG_flight, NULL, MU_ROLE_VIEWER, MU_SEE_JOB, false, true},
    {"nodes", MU_MSG_query, "nodes", MU_ROLE_VIEWER, MU_ANY_JOB, false, true},
    {"nodes", MU_MSG_query, "checks", MU_ROLE_VIEWER, MU_ANY_JOB, false, true},
    {"nodes inventory, nodes diff", MU_MSG_query, "inventory", MU_ROLE_VIEWER, MU_ANY_JOB, false, true},
    {"submit --dry-run", MU_MSG_query, "place", MU_ROLE_VIEWER, MU_ANY_JOB, false, true},
    {"submit", MU_MSG_submit, NULL, MU_ROLE_USER, MU_ANY_JOB, true, true},
    {"run", MU_MSG_attach, NULL, MU_ROLE_USER, MU_TOUCH_JOB, false, true},
    {"run", MU_MSG_input, NULL, MU_ROLE_USER, MU_TOUCH_JOB, false, false},
    {"run", MU_MSG_output_ack, NULL, MU_ROLE_USER, MU_TOUCH_JOB, false, false},
    {"run", MU_MSG_signal, NULL, MU_ROLE_USER, MU_TOUCH_JOB, true, false},
    {"cancel", MU_MSG_cancel, NULL, MU_ROLE_USER, MU_TOUCH_JOB, true, true},
    {"hold, release", MU_MSG_hold, NULL, MU_ROLE_USER, MU_TOUCH_JOB, true, true},
    {"requeue", MU_MSG_requeue, NULL, MU_ROLE_USER, MU_TOUCH_JOB, true, true},
    {"nodes drain", MU_MSG_nodes_drain, NULL, MU_ROLE_OPERATOR, MU_ANY_JOB, true, true},
    {"nodes resume", MU_MSG_nodes_resume, NULL, MU_ROLE_OPERATOR, MU_ANY_JOB, true, true},
    {"nodes check", MU_MSG_nodes_check, NULL, MU_ROLE_OPERATOR, MU_ANY_JOB, true, true},
    {"nodes label", MU_MSG_nodes_label, NULL, MU_ROLE_OPERATOR, MU_ANY_JOB, true, true},
    {"nodes add", MU_MSG_nodes_add, NULL, MU_ROLE_ADMIN, MU_ANY_JOB, true, true},
    {"nodes remove", MU_MSG_nodes_remove, NULL, MU_ROLE_ADMIN, MU_ANY_JOB, true, true},
    {"inventory approve", MU_MSG_approve, NULL, MU_ROLE_ADMIN, MU_ANY_JOB, true, true},
    {"inventory withdraw", MU_MSG_withdraw, NULL, MU_ROLE_ADMIN, MU_ANY_JOB, true, true},
    {"controller --stop", MU_MSG_stop, NULL, MU_ROLE_ADMIN, MU_ANY_JOB, true, true},
    {"store backup", MU_MSG_query, "backup", MU_ROLE_ADMIN, MU_ANY_JOB, false, true},
    {"store backup", MU_MSG_query, "copies", MU_ROLE_ADMIN, MU_ANY_JOB, false, true},
    {"audit", MU_MSG_query, "audit", MU_ROLE_ADMIN, MU_ANY_JOB, false, true},
};

const char *mu_role_name(enum mu_role role)
{
    return role < MU_ROLE_COUNT ? roles[role] : "?";
}

const struct mu_access_row *mu_access_row_at(size_t i)
{
    return i < MU_COUNT(table) ? &table[i] : NULL;
}

const struct mu_access_row *mu_access_row(const struct mu_msg *m)
{
    for (size_t i = 0; i < MU_COUNT(table); i++) {
        if (table[i].type != m->type)
            continue;
        if (!table[i].what || (m->query.what && !strcmp(table[i].what, m->query.what)))
            return &table[i];
    }
    return NULL;
}

uint64_t mu_access_job(const struct mu_msg *m)
{
    switch (m->type) {
    case MU_MSG_query:
        return m->query.job;
    case MU_MSG_flight:
        return m->flight.job;
    case MU_MSG_attach:
        return m->attach.job;
    case MU_MSG_input:
        return m->input.job;
    case MU_MSG_output_ack:
        return m->output_ack.job;
    case MU_MSG_signal:
        return m->signal.job;
    case MU_MSG_cancel:
        return m->cancel.job;
    case MU_MSG_hold:
        return m->hold.job;
    case MU_MSG_requeue:
        return m->requeue.job;
    default:
        return 0;
    }
}

static bool same(const char *a, const char *b)
{
    return a && b && *a && !strcmp(a, b);
}

bool mu_access_hides(const struct mu_access *a, enum mu_role role, const char *user, const char *user_of_job)
{
    return role == MU_ROLE_NONE || (role == MU_ROLE_USER && !a->see_all && !same(user, user_of_job));
}

int mu_access_may(const struct mu_access *a, enum mu_role role, const char *user, const struct mu_access_row *row,
                  uint64_t job, const char *user_of_job, struct mu_err *err)
{
    char who[80], whose[80];

    mu_str_show(who, sizeof who, user);
    if (role == MU_ROLE_NONE)
        return mu_err_set(err, MUSTER_EPERM,
                          "%s has no role in this pool; its owner gives one in the file $MUSTER_HOME/access", who);
    if (!row || row->least > role)
        return mu_err_set(err, MUSTER_EPERM, "%s has the role %s in this pool: `muster %s` takes %s", who, roles[role],
                          row ? row->command : "?", row ? roles[row->least] : "the pool's own account");
    if (!job || !user_of_job || role != MU_ROLE_USER || row->own == MU_ANY_JOB || same(user, user_of_job))
        return 0;
    if (!a->see_all)
        return mu_err_set(err, MUSTER_EJOB, "there is no job %llu; `muster jobs --all` lists them",
                          (unsigned long long)job);
    if (row->own == MU_TOUCH_JOB && !a->touch_all)
        return mu_err_set(err, MUSTER_EPERM, "job %llu is %s's, and %s has the role user in this pool: ask an operator",
                          (unsigned long long)job, mu_str_show(whose, sizeof whose, user_of_job), who);
    return 0;
}

enum mu_role mu_access_role(const struct mu_access *a, uint32_t uid, const uint32_t *gids, size_t ngids)
{
    enum mu_role best = MU_ROLE_NONE;
    bool any = false;

    for (unsigned i = 0; i < a->n; i++)
        if (a->rules[i].known && !a->rules[i].group && a->rules[i].id == uid)
            return a->rules[i].role;
    for (unsigned i = 0; i < a->n; i++) {
        const struct mu_access_rule *r = &a->rules[i];
        for (size_t g = 0; g < ngids && r->known && r->group; g++) {
            if (gids[g] != r->id)
                continue;
            any = true;
            best = r->role > best ? r->role : best;
        }
    }
    return any ? best : (enum mu_role)a->others;
}

/* --- the file ---------------------------------------------------------------------------------------------------- */

static const char *const extents[] = {"own", "all", NULL};
static const struct mu_setting_row rows[] = {
    {"others", MU_SET_CHOICE, offsetof(struct mu_access, others), 0, 0, roles},
    {"users-see", MU_SET_CHOICE, offsetof(struct mu_access, see_all), 0, 0, extents},
    {"users-touch", MU_SET_CHOICE, offsetof(struct mu_access, touch_all), 0, 0, extents},
};

void mu_access_defaults(struct mu_access *a)
{
    *a = (struct mu_access){.others = MU_ROLE_NONE, .see_all = true};
}

void mu_access_free(struct mu_access *a)
{
    free(a->rules);
    a->rules = NULL;
    a->n = 0;
}

static int add_rule(const struct mu_setting *l, struct mu_access *a, bool group, const char *name)
{
    const char *kind = group ? "group" : "user";
    struct mu_access_rule r = {.group = group, .role = MU_ROLE_COUNT};

    if (!*name || strlen(name) >= sizeof r.name)
        return mu_setting_bad(l, name, "'%s' is not the name of a %s: 1 to 63 bytes", name, kind);
    for (unsigned k = 0; roles[k]; k++)
        if (!strcmp(roles[k], l->value))
            r.role = (enum mu_role)k;
    if (r.role == MU_ROLE_COUNT)
        return mu_setting_bad(l, l->value, "'%s' is no role: none, viewer, user, operator or admin%s", l->value, "");
    for (unsigned i = 0; i < a->n; i++)
        if (a->rules[i].group == group && !strcmp(a->rules[i].name, name))
            return mu_setting_bad(l, name, "'%s' has a role already, as a %s", name, kind);
    struct mu_access_rule *v = realloc(a->rules, (a->n + 1) * sizeof *v);
    if (!v)
        return mu_err_set(l->err, MUSTER_ENOMEM, "out of memory");
    mu_str_copy(r.name, sizeof r.name, name);
    a->rules = v;
    v[a->n++] = r;
    return 0;
}

static int set(void *arg, const struct mu_setting *l)
{
    struct mu_access *a = arg;
    const char *name;

    if ((name = mu_setting_of(l, "user")))
        return add_rule(l, a, false, name);
    if ((name = mu_setting_of(l, "group")))
        return add_rule(l, a, true, name);
    if (strcmp(l->key, "socket") != 0)
        return mu_setting_set(l, rows, MU_COUNT(rows), a);
    size_t n = strlen(l->value);
    if (*l->value != '/' || n >= sizeof a->socket || l->value[n - 1] == '/')
        return mu_setting_bad(l, l->value, "'%s' is not the path of a socket: absolute, 107 bytes at most%s", l->value,
                              "");
    memcpy(a->socket, l->value, n + 1);
    return 0;
}

int mu_access_parse(const char *name, const char *text, size_t len, struct mu_access *out, struct mu_err *err)
{
    struct mu_access a;

    mu_access_defaults(&a);
    int rc =
        mu_settings_parse(name, text, len, "setting = value, user NAME = role, or: group NAME = role", set, &a, err);
    if (rc) {
        mu_access_free(&a);
        return rc;
    }
    mu_access_free(out);
    *out = a;
    return 0;
}
