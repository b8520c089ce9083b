/* For tests that drive the controller's core: the controller, and what they all say to it in the same way. */
#ifndef MU_TESTS_UNIT_CTL_HELP_H
#define MU_TESTS_UNIT_CTL_HELP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl.h"
#include "runtime/base/clock.h"

static struct mu_ctl *ctl;
static struct mu_acts acts;
static uint64_t now = 1000 * MU_SEC;
static uint64_t clock_set; /* the time of the day is so far ahead of `now` */
static mu_conn last_conn;

static void note(const struct mu_act *a); /* the test's own: what it makes of an action */

static void step(struct mu_ev ev)
{
    ev.now = now;
    ev.wall = now + clock_set;
    mu_ctl_step(ctl, &ev, &acts);
    for (size_t i = 0; i < acts.n; i++)
        note(&acts.v[i]);
    mu_acts_clear(&acts);
}

static void hear(mu_conn conn, enum mu_msg_type type, const void *body)
{
    struct mu_msg m = {.type = type};

    memcpy(&m.hello, body, mu_msg_size(type));
    step((struct mu_ev){.kind = MU_EV_MSG, .conn = conn, .msg = &m});
}

/* A connection that comes from somebody who says what he is. */
static void greet(mu_conn conn, const char *role)
{
    step((struct mu_ev){.kind = MU_EV_UP, .conn = conn});
    hear(conn, MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = (char *)(uintptr_t)role});
}

static inline mu_conn up(const char *role)
{
    greet(++last_conn, role);
    return last_conn;
}

/* An agent that has not said yet what it has: `ready` is that. */
static inline mu_conn introduce(struct mu_m_agent m)
{
    mu_conn c = up("agent");

    hear(c, MU_MSG_agent, &m);
    return c;
}

static inline void ready(mu_conn c)
{
    hear(c, MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
}

/* An agent from another host, that has everything. */
static inline mu_conn join_as(char *name, uint32_t slots)
{
    static char addr[] = "10.0.0.1";
    mu_conn c = introduce((struct mu_m_agent){.node = name, .slots = slots, .incarnation = 1, .port = 7, .addr = addr});

    ready(c);
    return c;
}

static inline const struct mu_node *pool_node(const char *name)
{
    return &mu_ctl_pool(ctl)->v[mu_pool_find(mu_ctl_pool(ctl), name)];
}

static inline void free_ctl(void)
{
    mu_ctl_free(ctl);
    mu_acts_free(&acts);
}

/* A job of one program. token: NULL, none */
static inline void hand_in(mu_conn client, const char *token, struct mu_m_spec spec)
{
    static char prog[] = "prog", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL};
    struct mu_m_submit m = {.token = (char *)(uintptr_t)token};
    uint32_t zero = 0, one = 1, ranks = spec.ranks;

    spec.app_ranks.v = &ranks;
    spec.app_argc.v = &one;
    spec.app_envc.v = &zero;
    spec.app_ranks.n = spec.app_argc.n = spec.app_envc.n = 1;
    spec.argv = argv;
    spec.app_wdir = wdirs;
    if (mu_msg_pack(&m.spec, MU_MSG_spec, &spec))
        exit(99);
    hear(client, MU_MSG_submit, &m);
    free(m.spec.data);
}

static inline const struct mu_m_jobrow *newest_job(void)
{
    return mu_ctl_job(ctl, mu_ctl_job_count(ctl) - 1, NULL);
}

#endif
