#include "runtime/agent/way.h"

#include <stdlib.h>

#include "runtime/agent/kids.h"
#include "runtime/agent/refusal.h"
#include "runtime/agent/uplink.h"
#include "runtime/wire/tls.h"

struct mu_way {
    struct mu_way_config cfg;
    struct mu_uplink *up;
    struct mu_refusal *refusal; /* while there is no way */
    struct mu_tls *tls;
    struct mu_tls_listener *listener;
    struct mu_kids *kids;
    unsigned count; /* of ways so far on which we have said who we are: nothing is taken from us before */
};

static void on_up(void *arg)
{
    struct mu_way *w = arg;

    mu_refusal_stop(w->refusal);
    if (w->kids)
        mu_kids_path(w->kids, false); /* another way; theirs begins once the controller leaves us on it */
    if (!*mu_uplink_via(w->up)) {
        if (w->listener)
            mu_agent_set_addr(w->cfg.core, mu_uplink_local_host(w->up), mu_tls_listener_port(w->listener));
        w->cfg.direct(w->cfg.arg);
    }
    w->cfg.event(w->cfg.arg, &(struct mu_ev){.kind = MU_EV_UP, .conn = MU_AGENT_CTL});
}

static void on_down(void *arg, int how)
{
    struct mu_way *w = arg;

    if (w->kids)
        mu_kids_path(w->kids, false);
    w->cfg.event(w->cfg.arg, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = MU_AGENT_CTL, .status = how});
    if (w->cfg.join)
        mu_refusal_watch(w->refusal, mu_uplink_peer_host(w->up), w->cfg.join->port);
}

static void on_parent(struct mu_way *w, const struct mu_m_parent *m)
{
    if (m->node && *m->node && m->addr)
        mu_uplink_move(w->up, m->node, m->addr, (uint16_t)m->port);
    else
        mu_kids_path(w->kids, true);
}

static void on_msg(void *arg, const struct mu_msg *msg)
{
    struct mu_way *w = arg;

    if (msg->type == MU_MSG_relay) {
        if (w->kids)
            mu_kids_above(w->kids, &msg->relay);
        return;
    }
    if (w->cfg.msg(w->cfg.arg, msg))
        w->cfg.event(w->cfg.arg, &(struct mu_ev){.kind = MU_EV_MSG, .conn = MU_AGENT_CTL, .msg = msg});
    if (msg->type == MU_MSG_parent && w->kids)
        on_parent(w, &msg->parent);
}

static void on_echo(void *arg, uint64_t at)
{
    struct mu_way *w = arg;

    w->cfg.event(w->cfg.arg, &(struct mu_ev){.kind = MU_EV_ECHO, .at = at});
}

static uint64_t on_known(void *arg)
{
    return mu_agent_known(((struct mu_way *)arg)->cfg.core);
}

static bool on_leased(void *arg)
{
    return mu_agent_leased(((struct mu_way *)arg)->cfg.core);
}

static void on_stuck(void *arg, const char *node)
{
    struct mu_way *w = arg;

    w->cfg.event(w->cfg.arg, &(struct mu_ev){.kind = MU_EV_STAY, .node = node});
}

static void on_failed(void *arg, uint64_t away_since, const struct mu_err *err)
{
    struct mu_way *w = arg;

    w->cfg.failed(w->cfg.arg, away_since, err);
}

static void on_refused(void *arg, uint64_t at)
{
    struct mu_way *w = arg;

    w->cfg.event(w->cfg.arg, &(struct mu_ev){.kind = MU_EV_NOCTL, .at = at});
}

/* --- children ---------------------------------------------------------------------------------------------------- */

static void on_child_up(void *arg, const void *frame, size_t len)
{
    struct mu_way *w = arg;

    /* a gap in what was passed on would go unnoticed */
    if (mu_uplink_send(w->up, frame, len) == MUSTER_ENOMEM)
        mu_uplink_spoilt(w->up);
}

static size_t on_pending(void *arg)
{
    return mu_uplink_pending(((struct mu_way *)arg)->up);
}

static void on_self(void *arg, const struct mu_msg *msg)
{
    struct mu_way *w = arg;

    if (msg)
        on_msg(w, msg);
    else
        mu_uplink_spoilt(w->up);
}

static uint64_t on_age(void *arg, uint64_t now)
{
    return mu_agent_up_age(((struct mu_way *)arg)->cfg.core, now);
}

static void on_accept(void *arg, struct mu_tls_conn *conn)
{
    mu_kids_accept(((struct mu_way *)arg)->kids, conn);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static int set_up(struct event_base *base, struct mu_way *w, struct mu_err *err)
{
    struct mu_uplink_config up = {.run = w->cfg.run,
                                  .join = w->cfg.join,
                                  .up = on_up,
                                  .down = on_down,
                                  .msg = on_msg,
                                  .echo = on_echo,
                                  .known = on_known,
                                  .leased = on_leased,
                                  .stuck = on_stuck,
                                  .failed = on_failed,
                                  .arg = w};
    struct mu_kids_config kids = {.up = on_child_up, .pending = on_pending, .self = on_self, .age = on_age, .arg = w};
    int rc;

    w->refusal = mu_refusal_new(base, on_refused, w);
    if (w->cfg.join) {
        /* a way that leads nowhere is tried anew soon: it may have healed */
        const struct mu_tls_limits limits = {.connect_ms = 1500};
        if ((rc = mu_tls_new(base, &w->cfg.join->key, &limits, &w->tls, err)) ||
            (rc = mu_listen_tcp(w->tls, NULL, 0, 0, on_accept, w, &w->listener, err)))
            return rc;
        up.tls = w->tls;
        w->kids = mu_kids_new(base, &kids);
    }
    w->up = mu_uplink_new(base, &up);
    if (!w->refusal || !w->up || (w->cfg.join && !w->kids))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    return 0;
}

int mu_way_new(struct event_base *base, const struct mu_way_config *cfg, struct mu_way **out, struct mu_err *err)
{
    struct mu_way *w = calloc(1, sizeof *w);
    int rc;

    if (!w)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    w->cfg = *cfg;
    if ((rc = set_up(base, w, err)))
        mu_way_free(w);
    else
        *out = w;
    return rc;
}

void mu_way_free(struct mu_way *w)
{
    if (!w)
        return;
    if (w->refusal)
        mu_refusal_free(w->refusal);
    mu_tls_listener_free(w->listener);
    mu_kids_free(w->kids);
    mu_uplink_free(w->up);
    mu_tls_free(w->tls);
    free(w);
}

int mu_way_send(struct mu_way *w, const void *frame, size_t len)
{
    const unsigned char *head = frame;

    if (len >= MU_FRAME_HEAD && (head[4] | (unsigned)head[5] << 8) == MU_MSG_agent)
        w->count++;
    return mu_uplink_send(w->up, frame, len);
}

void mu_way_hang_up(struct mu_way *w)
{
    if (w->kids)
        mu_kids_path(w->kids, false);
    mu_uplink_hang_up(w->up);
}

void mu_way_leave(struct mu_way *w)
{
    mu_uplink_leave(w->up);
}

void mu_way_redial(struct mu_way *w)
{
    mu_uplink_redial(w->up);
}

const char *mu_way_ctl_host(const struct mu_way *w)
{
    return mu_uplink_peer_host(w->up);
}

const char *mu_way_via(const struct mu_way *w)
{
    return mu_uplink_via(w->up);
}

unsigned mu_way_count(const struct mu_way *w)
{
    return w->count;
}

unsigned mu_way_children(const struct mu_way *w)
{
    return w->kids ? mu_kids_count(w->kids) : 0;
}
