#include "runtime/keeper/wired.h"

#include "runtime/base/clean.h"
#include "runtime/base/log.h"

void mu_wired_fenced(struct mu_pmix *pmix, const struct mu_act *act)
{
    MU_AUTO_MSG struct mu_msg msg = {0};

    if (mu_msg_decode(act->frame.data, act->frame.len, &msg, NULL))
        return;
    struct mu_m_fenced *m = &msg.fenced;
    if (m->status)
        mu_log(MU_LOG_ERROR, "keeper", "attempt %u: a fence of its nodes fails: %s", m->attempt,
               muster_strerror(m->status));
    mu_log(MU_LOG_DEBUG, "keeper", "attempt %u: fence %llu is done: %u bytes", m->attempt, (unsigned long long)m->seq,
           m->data.len);
    mu_pmix_fence_done(pmix, m->attempt, m->seq, m->status, MU_STEAL(m->data.data, NULL), m->data.len);
}

void mu_wired_modex(struct mu_pmix *pmix, const struct mu_act *act)
{
    MU_AUTO_MSG struct mu_msg msg = {0};

    if (mu_msg_decode(act->frame.data, act->frame.len, &msg, NULL))
        return;
    struct mu_m_modex *m = &msg.modex;
    if (!m->answer) {
        mu_log(MU_LOG_DEBUG, "keeper", "attempt %u: node %u asks what rank %u has published", m->attempt, m->from,
               m->rank);
        mu_pmix_modex_ask(pmix, m->attempt, m->rank, m->id, m->from);
        return;
    }
    if (m->status)
        mu_log(MU_LOG_WARN, "keeper", "attempt %u: what rank %u has published cannot be had: %s", m->attempt, m->rank,
               muster_strerror(m->status));
    mu_pmix_modex_done(pmix, m->attempt, m->id, m->status, MU_STEAL(m->data.data, NULL), m->data.len);
}

bool mu_wired_event(struct mu_pmix *pmix, const struct mu_pmix_event *ev, struct mu_msg *msg)
{
    struct mu_bytes data = {.data = ev->data, .len = (uint32_t)ev->len};

    if (ev->len > MU_FRAME_MAX) {
        mu_log(MU_LOG_ERROR, "keeper", "attempt %u: %zu bytes from PMIx do not fit a message", ev->attempt, ev->len);
        if (ev->kind == MU_PMIX_FENCE)
            mu_pmix_fence_done(pmix, ev->attempt, ev->seq, MUSTER_EARG, NULL, 0);
        return false;
    }
    if (ev->kind == MU_PMIX_FENCE) {
        mu_log(MU_LOG_DEBUG, "keeper", "attempt %u: fence %llu begins: %zu bytes", ev->attempt,
               (unsigned long long)ev->seq, ev->len);
        msg->type = MU_MSG_fence;
        msg->fence = (struct mu_m_fence){
            .attempt = ev->attempt, .seq = ev->seq, .among = {.v = ev->among, .n = ev->namong}, .data = data};
    } else {
        msg->type = MU_MSG_modex;
        msg->modex = (struct mu_m_modex){.attempt = ev->attempt,
                                         .to = ev->node,
                                         .id = ev->seq,
                                         .rank = ev->rank,
                                         .answer = ev->answer,
                                         .status = ev->status,
                                         .data = data};
    }
    return true;
}
