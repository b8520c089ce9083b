#include "runtime/agent/checkup.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/agent/checker.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/checked.h"
#include "runtime/wire/daemon.h"

#define OVER (5 * MU_SEC) /* a check may last so long beyond its limit, to end what it has started */
#define ALL (MU_CHECK_ALL_NS - 10 * MU_SEC)

struct mu_checkup {
    struct event_base *base;
    mu_checkup_fn fn;
    void *arg;
    struct mu_checker who;
    struct mu_alarm *alarm;
    uint64_t limit, until; /* of one check; of all */
    char name[64];         /* what is being checked; "": nothing */
    struct mu_m_checked rows;
    char why[300]; /* it could not be started */
};

static void finish(struct mu_checkup *u)
{
    mu_alarm_set(u->alarm, UINT64_MAX);
    mu_checker_end(&u->who);
    u->name[0] = 0;
    struct mu_m_checked rows = MU_STEAL(u->rows, (struct mu_m_checked){0});
    u->fn(u->arg, &rows);
    mu_msg_free_body(MU_MSG_checked, &rows);
}

static void on_alarm(void *arg)
{
    struct mu_checkup *u = arg;
    char limit[32], why[200];

    if (u->why[0]) {
        mu_checked_add(&u->rows, "checks", MU_LEVEL_WARN, u->why, 0);
    } else {
        snprintf(why, sizeof why, "it has not ended within %s: what it looks at hangs, or all took too long",
                 mu_str_fmt_duration(limit, sizeof limit, u->limit + OVER));
        mu_log(MU_LOG_WARN, "agent", "health check %s: %s", u->name, why);
        mu_checked_add(&u->rows, *u->name ? u->name : "checks", *u->name ? MU_LEVEL_FAIL : MU_LEVEL_WARN, why, 0);
    }
    finish(u);
}

static void set_alarm(struct mu_checkup *u)
{
    uint64_t at = mu_now() + u->limit + OVER;

    mu_alarm_set(u->alarm, at < u->until ? at : u->until);
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct mu_checkup *u = arg;
    const struct mu_m_checked *m = &msg->checked;

    (void)link, (void)frame, (void)len;
    if (msg->type != MU_MSG_checked || !m->names || !m->names[0])
        return;
    if (!m->levels.n) {
        snprintf(u->name, sizeof u->name, "%s", m->names[0]);
        set_alarm(u);
        return;
    }
    u->name[0] = 0;
    mu_checked_add(&u->rows, m->names[0], m->levels.v[0], m->reasons && m->reasons[0] ? m->reasons[0] : "",
                   m->took_ms.n ? m->took_ms.v[0] : 0);
}

static void on_down(void *arg, struct mu_link *link)
{
    struct mu_checkup *u = arg;

    (void)link;
    if (*u->name)
        mu_checked_add(&u->rows, u->name, MU_LEVEL_WARN, "the process that makes the checks has died over it", 0);
    finish(u);
}

static int start(struct mu_checkup *u, const struct mu_m_check *m, struct mu_err *err)
{
    int rc = mu_checker_start(&u->who, u->base, NULL, on_msg, on_down, u, err);

    return rc || !mu_link_send_msg(u->who.link, MU_MSG_check, m) ? rc : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

void mu_checkup_start(struct mu_checkup *u, const struct mu_m_check *m)
{
    struct mu_err err = {0};

    u->limit = m->limit_ns;
    u->until = mu_now() + ALL;
    u->why[0] = 0;
    if (start(u, m, &err)) {
        snprintf(u->why, sizeof u->why, "they cannot be made: %.250s", err.text);
        mu_log(MU_LOG_ERROR, "agent", "health checks: %s", u->why);
        mu_alarm_set(u->alarm, mu_now());
        return;
    }
    set_alarm(u);
}

struct mu_checkup *mu_checkup_new(struct event_base *base, mu_checkup_fn fn, void *arg)
{
    struct mu_checkup *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    *u = (struct mu_checkup){.base = base, .fn = fn, .arg = arg, .who = MU_CHECKER_NONE};
    u->alarm = mu_alarm_new(base, on_alarm, u);
    if (!u->alarm) {
        free(u);
        return NULL;
    }
    return u;
}

void mu_checkup_free(struct mu_checkup *u)
{
    if (!u)
        return;
    mu_checker_end(&u->who);
    mu_alarm_free(u->alarm);
    mu_msg_free_body(MU_MSG_checked, &u->rows);
    free(u);
}
