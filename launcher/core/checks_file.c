/* The file with the settings of health checks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/checks.h"
#include "launcher/core/settings.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define HOUR (3600 * MU_SEC)
#define GIB (1ull << 30)

/* What those of the agents lead to, and the one that is made here, of the clock. */
static const struct mu_check_action built_in[] = {{"memory", MU_CHECK_QUARANTINE},
                                                  {"ecc", MU_CHECK_DRAIN},
                                                  {"disk", MU_CHECK_QUARANTINE},
                                                  {"gpu", MU_CHECK_DRAIN},
                                                  {"infiniband", MU_CHECK_QUARANTINE},
                                                  {"stray", MU_CHECK_QUARANTINE},
                                                  {"clock", MU_CHECK_TELL}};

void mu_check_defaults(struct mu_check_settings *s)
{
    *s = (struct mu_check_settings){.every_ns = 600 * MU_SEC,
                                    .idle_ns = HOUR,
                                    .after_failure = 1,
                                    .most_percent = 25,
                                    .limit_ns = 30 * MU_SEC,
                                    .disk_free = GIB,
                                    .clock_ns = 2 * MU_SEC,
                                    .memory_percent = 5,
                                    .scripts = MU_CHECK_DRAIN};
}

#define AT(field) offsetof(struct mu_check_settings, field)
static const char *const yes[] = {"no", "yes", NULL}, *const actions[] = {"off", "tell", "quarantine", "drain", NULL};
/* How to add one: a row, a field, a line in docs/formats.md. */
static const struct mu_setting_row rows[] = {
    {"every", MU_SET_DURATION, AT(every_ns), 0, 87600 * HOUR, NULL},
    {"before-job-after-idle", MU_SET_DURATION, AT(idle_ns), 0, 87600 * HOUR, NULL},
    {"after-failure", MU_SET_CHOICE, AT(after_failure), 0, 0, yes},
    {"most-percent", MU_SET_NUMBER, AT(most_percent), 1, 100, NULL},
    {"time-limit", MU_SET_DURATION, AT(limit_ns), MU_SEC, 600 * MU_SEC, NULL},
    {"disk-free", MU_SET_SIZE, AT(disk_free), 0, GIB << 20, NULL},
    {"clock-offset", MU_SET_DURATION, AT(clock_ns), MU_MS, 24 * HOUR, NULL},
    {"memory-percent", MU_SET_NUMBER, AT(memory_percent), 0, 100, NULL},
    {"scripts", MU_SET_CHOICE, AT(scripts), 0, 0, actions},
};

static int set_action(const struct mu_setting *l, struct mu_check_settings *s, const char *name)
{
    static const struct mu_setting_row row = {"action", MU_SET_CHOICE, 0, 0, 0, actions};
    struct mu_setting as = *l;
    uint32_t action;

    if (!*name || strlen(name) >= sizeof s->actions->name)
        return mu_setting_bad(l, name, "'%s' is not the name of a check: 1 to 63 bytes%s", name, "");
    as.key = row.name;
    int rc = mu_setting_set(&as, &row, 1, &action);
    if (rc)
        return rc;
    struct mu_check_action *v = realloc(s->actions, (s->nactions + 1) * sizeof *v);
    if (!v)
        return mu_err_set(l->err, MUSTER_ENOMEM, "out of memory");
    s->actions = v;
    snprintf(v[s->nactions].name, sizeof v->name, "%s", name);
    v[s->nactions++].action = action;
    return 0;
}

static int set(void *arg, const struct mu_setting *l)
{
    const char *check = mu_setting_of(l, "check");

    return check ? set_action(l, arg, check) : mu_setting_set(l, rows, MU_COUNT(rows), arg);
}

int mu_check_parse(const char *name, const char *text, size_t len, struct mu_check_settings *out, struct mu_err *err)
{
    struct mu_check_settings s;

    mu_check_defaults(&s);
    int rc =
        mu_settings_parse(name, text, len, "setting = value, or: check NAME = off|tell|quarantine|drain", set, &s, err);
    if (rc) {
        free(s.actions);
        return rc;
    }
    free(out->actions);
    *out = s;
    return 0;
}

void mu_check_settings_free(struct mu_check_settings *s)
{
    free(s->actions);
    s->actions = NULL;
    s->nactions = 0;
}

uint32_t mu_check_action_of(const struct mu_check_settings *s, const char *check)
{
    for (unsigned i = s->nactions; i-- > 0;) /* the last one counts */
        if (!strcmp(s->actions[i].name, check))
            return s->actions[i].action;
    for (size_t i = 0; i < MU_COUNT(built_in); i++)
        if (!strcmp(built_in[i].name, check))
            return built_in[i].action;
    return s->scripts;
}
