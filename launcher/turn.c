#include "launcher/turn.h"

#include "runtime/base/clean.h"
#include "runtime/wire/link.h"

static void on_turn(void *arg)
{
    struct mu_turn *t = arg;
    struct mu_m_query q = MU_STEAL(t->asked, (struct mu_m_query){0});

    mu_link_pause(t->link, false); /* before: the answer may be the end of it */
    if (MU_STEAL(t->asks, false))
        t->answer(t->arg, &q);
    mu_msg_free_body(MU_MSG_query, &q);
}

bool mu_turn_wait(struct mu_turn *t, const struct mu_m_query *q)
{
    if (!t->link || t->asks || (q && mu_msg_copy(MU_MSG_query, &t->asked, q)))
        return false;
    t->asks = q != NULL;
    t->step.fn = on_turn;
    t->step.arg = t;
    mu_link_pause(t->link, true);
    mu_pace_add(t->pace, &t->step);
    return true;
}

void mu_turn_end(struct mu_turn *t)
{
    if (t->pace)
        mu_pace_drop(t->pace, &t->step);
    mu_msg_free_body(MU_MSG_query, &t->asked);
    t->asked = (struct mu_m_query){0};
    t->link = NULL;
}
