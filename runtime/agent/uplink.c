#include "runtime/agent/uplink.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/beat.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/guard.h"
#include "runtime/wire/link.h"
#include "runtime/wire/pulse.h"
#include "runtime/wire/tls.h"

#define DIAL_EVERY (50 * MU_MS)
#define DIAL_SLOW (1 * MU_SEC) /* after a connection that was cut at once: the two do not understand each other */
#define APART (150 * MU_MS)    /* between the dials of two addresses */
#define LOG_EVERY (30 * MU_SEC)
#define MOVE_NS (2 * MU_SEC)   /* a parent that is not reached by then */
#define RETIRE_NS (2 * MU_SEC) /* the connection before this one is the controller's to close; then it is ours */
#define ASIDE (600 * MU_MS)    /* not heard by the controller for so long: dial it beside the parent */
#define ASIDE_SPREAD                                                                                                   \
    (200 * MU_MS)                 /* to so much later where the parent is there: it may be all of the pool that waits */
#define ASIDE_CALM (3 * MU_SEC)   /* to twice as long where no lease runs: the controller may just be busy */
#define ABSENT (250 * MU_MS)      /* called so late, it is us who were away: what came meanwhile is read first */
#define ASIDE_EVERY (200 * MU_MS) /* again; then each time twice as much later, as many may do so together */
#define ASIDE_MOST (6400 * MU_MS)

/* How long between two dials of an address, by how long the controller has been away: one that restarts is found at
 * once. */
static const struct {
    uint64_t away, every;
} patience[] = {
    {5 * MU_SEC, DIAL_EVERY}, {60 * MU_SEC, 500 * MU_MS}, {600 * MU_SEC, 2 * MU_SEC}, {UINT64_MAX, 5 * MU_SEC}};

struct dial { /* of one address */
    struct mu_uplink *up;
    struct mu_tls_dial *tls; /* NULL: not under way */
    uint64_t at;             /* the next one begins */
    bool failed;
};

struct mu_uplink {
    struct mu_uplink_config cfg;
    struct event_base *base;
    struct mu_link *link, *old; /* old: the one before, whose end is waited for */
    struct mu_alarm *dialer, *beater, *mover, *retirer;
    struct mu_beat beat;
    struct mu_tls_dial *parent_dial;
    struct mu_guard *guard; /* of the controller, when it is on this host */
    struct dial dials[MU_JOIN_HOSTS];
    struct mu_err why; /* they fail, the most telling one */
    uint64_t since, away_since, logged;
    uint64_t patient, pause; /* the controller is not dialled aside before then; again after so long */
    bool welcome, over;
    bool path; /* a parent has a way itself */
    bool spoilt;
    bool aside; /* the controller is dialled although there is a parent */
    char local_host[64], peer_host[64];
    char via[256], parent[256]; /* parent: the one that is dialled */
};

/* Less than range; what happens to many agents within a moment is scattered over all of it. */
static uint64_t scatter(uint64_t time, uint64_t range)
{
    return (time * 0x9e3779b97f4a7c15ull >> 16) % range;
}

static uint64_t every(struct mu_uplink *u, uint64_t now)
{
    size_t i = 0;

    if (u->link) {
        uint64_t late = u->pause + scatter(now, u->pause / 2);
        u->pause = u->pause < ASIDE_MOST ? u->pause * 2 : u->pause;
        return late;
    }
    while (u->cfg.join && now - u->away_since > patience[i].away)
        i++;
    return patience[i].every;
}

static void begin_dials(struct mu_uplink *u, uint64_t at);
static void cancel_dials(struct mu_uplink *u);

/* The link is gone. */
static void away(struct mu_uplink *u)
{
    uint64_t now = mu_now();

    mu_guard_free(MU_STEAL(u->guard, NULL));
    u->link = NULL;
    u->via[0] = 0;
    u->aside = u->path = u->spoilt = false;
    u->away_since = now;
    mu_alarm_set(u->beater, UINT64_MAX);
    begin_dials(u, now + (u->welcome || now - u->since > DIAL_SLOW ? DIAL_EVERY : DIAL_SLOW));
}

static void on_down(void *arg, struct mu_link *link)
{
    struct mu_uplink *u = arg;

    mu_link_free(link);
    if (link == u->old) {
        u->old = NULL;
        return;
    }
    mu_log(MU_LOG_INFO, "agent", "%s is gone", *u->via ? u->via : "the controller");
    away(u);
    u->cfg.down(u->cfg.arg, MU_DOWN_CLOSED);
}

/* Through a parent that does not bring us to the controller any more, whatever the reason. */
static void look_aside(struct mu_uplink *u, uint64_t now)
{
    uint64_t known = u->cfg.known ? u->cfg.known(u->cfg.arg) : now;
    bool calm = u->path && u->cfg.leased && !u->cfg.leased(u->cfg.arg);
    bool there = now < u->beat.heard + ABSENT;
    uint64_t spread = calm ? ASIDE_CALM : there ? ASIDE_SPREAD : 1;
    uint64_t limit = (calm ? ASIDE_CALM : ASIDE) + scatter(u->since, spread);
    bool need = *u->via && now > (known ? known : u->since) + limit && now >= u->patient;

    if (need == u->aside)
        return;
    u->aside = need;
    u->pause = ASIDE_EVERY;
    if (need) {
        mu_log(MU_LOG_INFO, "agent", "the controller is not heard through %s; dialling it", u->via);
        begin_dials(u, now);
    } else {
        cancel_dials(u);
        mu_alarm_set(u->dialer, UINT64_MAX);
    }
}

static void on_beater(void *arg)
{
    struct mu_uplink *u = arg;
    uint64_t now = mu_now(), at;

    if (now > u->beat.due + ABSENT)
        u->patient = now + ABSENT;
    unsigned words = u->spoilt ? 0 : mu_beat_next(&u->beat, now, &at);

    if (u->spoilt) {
        mu_link_close_after_flush(u->link);
        away(u);
        u->cfg.down(u->cfg.arg, MU_DOWN_CLOSED);
        return;
    }
    if (words & MU_BEAT_GONE) {
        mu_log(MU_LOG_WARN, "agent", "nothing was heard of %s for %llu ms; dialling again",
               *u->via ? u->via : "the controller", (unsigned long long)((now - u->beat.heard) / MU_MS));
        mu_link_free(u->link);
        away(u);
        u->cfg.down(u->cfg.arg, MU_DOWN_SILENT);
        return;
    }
    if (words & MU_BEAT_SEND) {
        struct mu_m_beat m = mu_beat_make(&u->beat, now, 0);
        mu_link_send_msg(u->link, MU_MSG_beat, &m);
    }
    mu_alarm_set(u->beater, at);
    look_aside(u, now);
}

/* What a parent says of its own way. */
static void on_path(struct mu_uplink *u, const struct mu_m_relay *m)
{
    bool was = u->path;

    u->path = m->kind == MU_RELAY_OPEN;
    u->beat.known = 0;
    if (u->path)
        u->cfg.up(u->cfg.arg);
    else if (was)
        u->cfg.down(u->cfg.arg, MU_DOWN_PARENT);
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct mu_uplink *u = arg;
    uint64_t now = mu_now(), known;

    (void)frame, (void)len;
    if (link != u->link)
        return;
    if (u->cfg.join)
        mu_beat_heard(&u->beat, now);
    if (mu_guard_take(u->guard, msg))
        return;
    if (msg->type == MU_MSG_beat) {
        known = mu_beat_known(&u->beat);
        mu_beat_take(&u->beat, now, &msg->beat);
        if (mu_beat_known(&u->beat) > known && u->path && u->cfg.echo)
            u->cfg.echo(u->cfg.arg, mu_beat_known(&u->beat));
        return;
    }
    if (msg->type == MU_MSG_relay && !msg->relay.channels.n) {
        if (*u->via)
            on_path(u, &msg->relay);
        return;
    }
    if (msg->type == MU_MSG_welcome)
        u->welcome = true;
    u->cfg.msg(u->cfg.arg, msg);
}

static void retire(void *arg)
{
    struct mu_uplink *u = arg;

    mu_link_close_after_flush(MU_STEAL(u->old, NULL));
}

/* via: the parent; NULL: it is the controller itself. */
static void connected(struct mu_uplink *u, struct mu_link *link, const char *via)
{
    uint64_t now = mu_now();
    pid_t pid = 0;

    cancel_dials(u);
    mu_alarm_set(u->dialer, UINT64_MAX);
    mu_link_free(u->old);
    u->old = u->link;
    if (u->old)
        mu_alarm_set(u->retirer, now + RETIRE_NS);
    u->link = link;
    snprintf(u->via, sizeof u->via, "%s", via ? via : "");
    mu_link_name(link, via ? via : "controller");
    u->why = (struct mu_err){0};
    u->logged = 0;
    u->since = now;
    u->welcome = u->aside = u->spoilt = false;
    u->path = true;
    mu_beat_begin(&u->beat, now, false);
    if (u->cfg.join)
        mu_alarm_set(u->beater, now);
    else if (mu_daemon_locked(u->cfg.run, "ctl.lock", &pid)) {
        char name[40];
        snprintf(name, sizeof name, "the controller (pid %ld)", (long)pid);
        u->guard = mu_guard_new(u->base, link, name, pid, MU_PULSE_CONTROLLER, NULL, NULL);
    }
    u->cfg.up(u->cfg.arg);
}

/* --- dialling ---------------------------------------------------------------------------------------------------- */

static void cancel_dials(struct mu_uplink *u)
{
    for (unsigned i = 0; i < MU_JOIN_HOSTS; i++) {
        mu_tls_dial_cancel(u->dials[i].tls);
        u->dials[i] = (struct dial){.up = u};
    }
}

/* The first address at once, the others a moment later each. */
static void begin_dials(struct mu_uplink *u, uint64_t at)
{
    cancel_dials(u);
    for (unsigned i = 0; i < MU_JOIN_HOSTS; i++)
        u->dials[i].at = at + i * APART;
    mu_alarm_set(u->dialer, at);
}

/* Wrong keys and versions say more than addresses that lead nowhere. */
static unsigned weight(const struct mu_err *err)
{
    return err->code == MUSTER_EARG || err->code == MUSTER_EVERSION ? 3 : err->code == MUSTER_EPEER ? 2 : 1;
}

/* Each address is tried by itself: one that leads nowhere does not hold up the others. */
static void note(struct mu_uplink *u, struct dial *d, const struct mu_err *err)
{
    uint64_t now = mu_now();

    d->failed = true;
    d->at = now + every(u, now);
    if (!u->why.text[0] || weight(err) > weight(&u->why))
        u->why = *err;
    for (unsigned i = 0; i < u->cfg.join->n; i++)
        if (!u->dials[i].failed)
            return;
    /* all of them have failed now */
    struct mu_err why = MU_STEAL(u->why, (struct mu_err){0});
    for (unsigned i = 0; i < u->cfg.join->n; i++)
        u->dials[i].failed = false;
    if (!u->logged || now - u->logged > LOG_EVERY) {
        u->logged = now;
        mu_log(MU_LOG_INFO, "agent", "%s; trying again", why.text);
    }
    if (!u->link)
        u->cfg.failed(u->cfg.arg, u->away_since, &why);
}

static void next_dial(struct mu_uplink *u)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < u->cfg.join->n; i++)
        if (!u->dials[i].tls && u->dials[i].at < at)
            at = u->dials[i].at;
    mu_alarm_set(u->dialer, at);
}

static void on_dialled(void *arg, struct mu_tls_conn *conn, const struct mu_err *err)
{
    struct dial *d = arg;
    struct mu_uplink *u = d->up;
    struct mu_link *link = NULL;

    d->tls = NULL;
    if (conn && u->link && !u->aside) { /* heard through the parent again meanwhile */
        mu_tls_conn_free(conn);
        return;
    }
    if (conn) {
        snprintf(u->local_host, sizeof u->local_host, "%s", mu_tls_conn_local_host(conn));
        snprintf(u->peer_host, sizeof u->peer_host, "%s", mu_tls_conn_peer_host(conn));
        mu_log(MU_LOG_INFO, "agent", "connected to the controller at %s", mu_tls_conn_peer(conn));
        link = mu_link_new_tls(conn, on_msg, on_down, u);
    }
    if (link) {
        connected(u, link, NULL);
        return;
    }
    note(u, d, conn ? &(struct mu_err){.code = MUSTER_ENOMEM, .text = "out of memory"} : err);
    if (!u->over && (!u->link || u->aside))
        next_dial(u);
}

/* Those that are due. */
static void dial_tcp(struct mu_uplink *u)
{
    const struct mu_join *j = u->cfg.join;
    uint64_t now = mu_now();
    struct mu_err err;

    for (unsigned i = 0; i < j->n && !u->over; i++) {
        struct dial *d = &u->dials[i];
        if (!d->tls && d->at <= now && mu_connect_tcp(u->cfg.tls, j->hosts[i], j->port, on_dialled, d, &d->tls, &err))
            note(u, d, &err);
    }
    if (!u->over)
        next_dial(u);
}

static void dial_unix(struct mu_uplink *u)
{
    struct mu_err err;
    int fd;
    int rc = mu_connect_unix(u->cfg.run, "ctl.sock", &fd, &err);
    struct mu_link *link = rc ? NULL : mu_link_new(u->base, fd, on_msg, on_down, u);

    if (link) {
        connected(u, link, NULL);
        return;
    }
    mu_alarm_set(u->dialer, mu_now() + (rc ? DIAL_EVERY : DIAL_SLOW));
    if (rc)
        u->cfg.failed(u->cfg.arg, u->away_since, &err);
}

static void on_dialer(void *arg)
{
    struct mu_uplink *u = arg;

    if ((u->link && !u->aside) || u->over)
        return;
    if (u->cfg.join)
        dial_tcp(u);
    else
        dial_unix(u);
}

/* --- a parent ---------------------------------------------------------------------------------------------------- */

static void stop_moving(struct mu_uplink *u)
{
    mu_tls_dial_cancel(MU_STEAL(u->parent_dial, NULL));
    mu_alarm_set(u->mover, UINT64_MAX);
}

static void stuck(struct mu_uplink *u, const struct mu_err *err)
{
    stop_moving(u);
    mu_log(MU_LOG_WARN, "agent", "the way through %s: %s", u->parent, err->text);
    if (u->link)
        u->cfg.stuck(u->cfg.arg, u->parent);
}

static void on_mover(void *arg)
{
    struct mu_err err;

    mu_err_set(&err, MUSTER_ETIMEOUT, "not reached within %llu ms", (unsigned long long)(MOVE_NS / MU_MS));
    stuck(arg, &err);
}

static void on_parent(void *arg, struct mu_tls_conn *conn, const struct mu_err *err)
{
    struct mu_uplink *u = arg;
    struct mu_link *link = conn ? mu_link_new_tls(conn, on_msg, on_down, u) : NULL;

    u->parent_dial = NULL;
    if (!link) {
        stuck(u, conn ? &(struct mu_err){.code = MUSTER_ENOMEM, .text = "out of memory"} : err);
        return;
    }
    stop_moving(u);
    mu_log(MU_LOG_INFO, "agent", "goes through %s to the controller", u->parent);
    connected(u, link, u->parent);
}

void mu_uplink_move(struct mu_uplink *u, const char *node, const char *addr, uint16_t port)
{
    struct mu_err err;

    if (!u->cfg.tls || u->over)
        return;
    stop_moving(u);
    snprintf(u->parent, sizeof u->parent, "%s", node);
    mu_alarm_set(u->mover, mu_now() + MOVE_NS);
    if (mu_connect_tcp(u->cfg.tls, addr, port, on_parent, u, &u->parent_dial, &err))
        stuck(u, &err);
}

const char *mu_uplink_via(const struct mu_uplink *u)
{
    return u->via;
}

size_t mu_uplink_pending(const struct mu_uplink *u)
{
    return u->link ? mu_link_pending(u->link) : 0;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

struct mu_uplink *mu_uplink_new(struct event_base *base, const struct mu_uplink_config *cfg)
{
    struct mu_uplink *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    u->cfg = *cfg;
    u->base = base;
    u->away_since = mu_now();
    u->dialer = mu_alarm_new(base, on_dialer, u);
    u->beater = mu_alarm_new(base, on_beater, u);
    u->mover = mu_alarm_new(base, on_mover, u);
    u->retirer = mu_alarm_new(base, retire, u);
    if (!u->dialer || !u->beater || !u->mover || !u->retirer) {
        mu_uplink_free(u);
        return NULL;
    }
    begin_dials(u, mu_now());
    return u;
}

void mu_uplink_free(struct mu_uplink *u)
{
    if (!u)
        return;
    cancel_dials(u);
    mu_tls_dial_cancel(u->parent_dial);
    mu_guard_free(u->guard);
    mu_link_free(u->link);
    mu_link_free(u->old);
    mu_alarm_free(u->dialer);
    mu_alarm_free(u->beater);
    mu_alarm_free(u->mover);
    mu_alarm_free(u->retirer);
    free(u);
}

int mu_uplink_send(struct mu_uplink *u, const void *frame, size_t len)
{
    return u->link && u->path ? mu_link_send(u->link, frame, len) : MUSTER_EPEER;
}

void mu_uplink_hang_up(struct mu_uplink *u)
{
    if (!u->link)
        return;
    mu_link_close_after_flush(u->link);
    away(u);
}

void mu_uplink_spoilt(struct mu_uplink *u)
{
    if (!u->link)
        return;
    u->spoilt = true;
    mu_alarm_set(u->beater, 0);
}

void mu_uplink_leave(struct mu_uplink *u)
{
    if (!u)
        return;
    u->over = true;
    stop_moving(u);
    cancel_dials(u);
    mu_alarm_set(u->dialer, UINT64_MAX);
    mu_alarm_set(u->beater, UINT64_MAX);
    mu_alarm_set(u->retirer, UINT64_MAX);
    mu_guard_free(MU_STEAL(u->guard, NULL));
    mu_link_close_after_flush(MU_STEAL(u->link, NULL));
    mu_link_close_after_flush(MU_STEAL(u->old, NULL));
}

void mu_uplink_redial(struct mu_uplink *u)
{
    if (u->link || u->over)
        return;
    u->away_since = mu_now();
    begin_dials(u, u->away_since);
}

const char *mu_uplink_peer_host(const struct mu_uplink *u)
{
    return u->peer_host;
}

const char *mu_uplink_local_host(const struct mu_uplink *u)
{
    return u->local_host;
}
