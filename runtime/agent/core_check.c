/* Health checks that the controller asks for. One run at a time; what is asked for meanwhile is a run of its own, so
 * that it sees what was to be seen when it was asked for. Only the newest of these counts. */
#include <stdio.h>
#include <string.h>

#include "runtime/agent/core_priv.h"
#include "runtime/base/str.h"

static void run(struct mu_agent *a, const struct mu_m_check *m)
{
    struct mu_act *act = mu_acts_add(a->acts, MU_ACT_CHECK);
    struct mu_m_check with = *m;
    char number[40];
    int rc = 0;

    with.jobs = NULL;
    for (unsigned i = 0; i < a->n && !rc; i++) {
        const struct keeper *k = &a->v[i];
        bool runs = k->have_report && k->report.type && k->report.report.phase == MU_PHASE_RUNNING;
        snprintf(number, sizeof number, "%llu.%u", (unsigned long long)k->job, runs ? k->report.report.attempt : 0);
        rc = mu_strv_append(&with.jobs, number);
    }
    if (rc || mu_msg_encode(&act->frame, MU_MSG_check, &with))
        a->acts->failed = true;
    mu_strv_free(with.jobs);
    a->check.running = true;
    a->check.id = m->id;
    a->check.got_wall = a->wall;
}

void mu_agent_on_check(struct mu_agent *a, const struct mu_m_check *m)
{
    if (!a->check.running) {
        run(a, m);
        return;
    }
    mu_msg_free(&a->check.next);
    a->check.next.type = MU_MSG_check;
    if (mu_msg_copy(MU_MSG_check, &a->check.next.check, m)) {
        a->check.next.type = (enum mu_msg_type)0;
        a->acts->failed = true;
    }
}

void mu_agent_on_checked(struct mu_agent *a, const struct mu_m_checked *m)
{
    struct mu_m_checked answer = *m;

    if (!a->check.running)
        return;
    a->check.running = false;
    answer.id = a->check.id;
    answer.got_wall = a->check.got_wall;
    answer.sent_wall = a->wall;
    mu_agent_to_ctl(a, MU_MSG_checked, &answer);
    if (!a->check.next.type)
        return;
    run(a, &a->check.next.check);
    mu_msg_free(&a->check.next);
}
