#include "launcher/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/branch.h"
#include "launcher/commit.h"
#include "launcher/gate.h"
#include "launcher/inventory.h"
#include "launcher/load.h"
#include "launcher/node_files.h"
#include "launcher/query.h"
#include "launcher/turn.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/beat.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/guard.h"
#include "runtime/wire/link.h"
#include "runtime/wire/pulse.h"
#include "runtime/wire/tls.h"

#define HELLO_NS (10 * MU_SEC)         /* who says nothing for so long is cut off */
#define CLIENT_PENDING_MAX (16u << 20) /* so is a client that does not read; credits keep an honest one far below */
#define RIVAL_TOLD_NS (10 * MU_SEC)

struct conn {
    struct mu_server *server;
    struct mu_link *link; /* NULL: it came through another one's (launcher/branch.h) */
    mu_conn id;
    int pid;
    char name[48];
    bool hello, closing;
    bool remote; /* on another host */
    bool beats;  /* and its agent */
    struct mu_beat beat;
    struct mu_guard *guard; /* it is this host's agent */
    struct mu_who who;
    struct mu_turn turn; /* of what it asks */
    uint64_t since;
    uint64_t query_until; /* a query for nodes that waits for the first agent; 0 = none */
};

struct mu_server {
    struct event_base *base;
    struct mu_store *store;
    struct mu_server_config cfg;
    struct mu_ctl *core;
    struct mu_commit *commit;
    struct mu_branches *branches;
    struct mu_gate *gate; /* NULL: all are let in */
    struct mu_fabric_state fabric;
    struct mu_alarm *alarm, *beater;
    struct mu_pace *pace;
    uint64_t beat_at; /* the beater is set to */
    struct mu_acts acts;
    struct conn **conns;
    size_t nconns, capconns;
    mu_conn last_id;
    uint64_t rival_told; /* when the log was last told of two nodes with one name */
    mu_conn *downs;      /* closed by us; the core hears of it after the step */
    size_t ndowns, capdowns;
    uint64_t started;
    bool waits; /* maybe there is one that has not said hello, or waits for an answer */
    bool exiting, exit_told, closed;
    bool ends_lost; /* the store was removed */
};

/* They are in the order of their numbers. */
static struct conn *find(const struct mu_server *s, mu_conn id)
{
    size_t lo = 0, hi = s->nconns;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->conns[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->nconns && s->conns[lo]->id == id ? s->conns[lo] : NULL;
}

/* Only takes it out of the table; the link is the caller's. */
static void forget(struct mu_server *s, struct conn *k)
{
    size_t i = 0;

    while (i < s->nconns && s->conns[i] != k)
        i++;
    if (i < s->nconns)
        memmove(&s->conns[i], &s->conns[i + 1], (--s->nconns - i) * sizeof s->conns[0]);
    mu_guard_free(k->guard);
    mu_turn_end(&k->turn);
    mu_who_free(&k->who);
    free(k);
}

/* --- what the commit does ---------------------------------------------------------------------------------------- */

static void close_conn(struct mu_server *s, struct conn *k)
{
    if (k->closing)
        return;
    if (s->ndowns == s->capdowns) {
        size_t cap = s->capdowns ? s->capdowns * 2 : 16;
        mu_conn *v = realloc(s->downs, cap * sizeof *v);
        if (!v)
            return; /* stays open: its peer or the next attempt ends it */
        s->downs = v;
        s->capdowns = cap;
    }
    s->downs[s->ndowns++] = k->id;
    k->closing = true;
}

static void send_frame(struct mu_server *s, struct conn *k, const void *frame, size_t len)
{
    if (k->closing || !k->link)
        return;
    if (frame)
        mu_gate_answered(&k->who, frame, len);
    if (!frame || mu_link_send(k->link, frame, len) == MUSTER_ENOMEM) {
        mu_log(MU_LOG_ERROR, "controller", "out of memory: closing connection %u", k->id);
        close_conn(s, k);
    } else if (mu_link_pending(k->link) > CLIENT_PENDING_MAX + len && !mu_ctl_is_agent(s->core, k->id)) {
        mu_log(MU_LOG_WARN, "controller", "client %u (pid %d) does not read what it asked for; closing", k->id, k->pid);
        close_conn(s, k);
    }
}

static void do_send(void *arg, const mu_conn *to, uint32_t n, const void *frame, size_t len)
{
    struct mu_server *s = arg;

    mu_branches_send(s->branches, to, n, frame, len);
}

static void do_send_link(void *arg, mu_conn link, const void *frame, size_t len)
{
    struct conn *k = find(arg, link);

    if (k)
        send_frame(arg, k, frame, len);
}

static void do_close(void *arg, mu_conn id)
{
    struct conn *k = find(arg, id);

    if (k)
        close_conn(arg, k);
}

static void do_exit(void *arg)
{
    ((struct mu_server *)arg)->exiting = true;
}

static void do_host(void *arg, const struct mu_act *act)
{
    struct mu_server *s = arg;
    const struct mu_m_spec *spec = NULL, *of;
    const struct mu_m_jobrow *row;

    if (s->closed)
        return;
    if (act->kind == MU_ACT_MARKS) {
        if (s->cfg.on_marks)
            s->cfg.on_marks(s->cfg.arg, act->frame.data, act->frame.len);
        return;
    }
    if (act->kind == MU_ACT_PROBE) {
        if (s->cfg.on_probe)
            s->cfg.on_probe(s->cfg.arg, act);
        return;
    }
    for (unsigned i = 0; act->job && !spec && (row = mu_ctl_job(s->core, i, &of)); i++)
        if (row->id == act->job)
            spec = of;
    if (s->cfg.on_engine)
        s->cfg.on_engine(s->cfg.arg, act, spec);
}

static bool do_hurt(void *arg, const char *why)
{
    struct mu_server *s = arg;

    return s->cfg.on_hurt && s->cfg.on_hurt(s->cfg.arg, why);
}

static const struct mu_commit_ops ops = {
    .send = do_send, .close = do_close, .exit = do_exit, .host = do_host, .hurt = do_hurt};

/* --- stepping ---------------------------------------------------------------------------------------------------- */

static void step_once(struct mu_server *s, struct mu_ev *ev)
{
    ev->now = mu_now();
    ev->wall = mu_wall();
    mu_ctl_hold(s->core, mu_commit_waits(s->commit));
    mu_ctl_step(s->core, ev, &s->acts);
    if (s->acts.failed)
        mu_log(MU_LOG_ERROR, "controller", "out of memory: an action was lost");
    mu_commit_step(s->commit, &s->acts, ev->now, ev->wall);
}

static void answer_waiting(struct mu_server *s);

/* Without its store it is of no use to anybody but the jobs that it has and who asks about them; the next controller
 * begins a new one. */
static void end_without_store(struct mu_server *s)
{
    if (!mu_commit_lost(s->commit) || s->ends_lost || mu_server_has_jobs(s))
        return;
    for (size_t i = 0; i < s->nconns; i++)
        if (!mu_ctl_is_agent(s->core, s->conns[i]->id))
            return;
    s->ends_lost = true;
    mu_log(MU_LOG_WARN, "controller", "the job store was removed and no job runs: ending");
    mu_ctl_end(s->core);
    step_once(s, &(struct mu_ev){.kind = MU_EV_TIME});
}

/* What steps leave behind until nothing is left, then the alarm. */
static void settle(struct mu_server *s)
{
    bool waits = false;
    uint64_t job;

    for (bool more = true; more;) {
        more = false;
        while (s->ndowns) {
            mu_conn id = s->downs[--s->ndowns];
            struct conn *k = find(s, id);
            if (!k)
                continue;
            if (!mu_branches_close(s->branches, id))
                mu_link_close_after_flush(k->link);
            forget(s, k);
            step_once(s, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = id});
            mu_branches_lost(s->branches, id, 0);
            more = true;
        }
        while (mu_commit_refused(s->commit, &job)) {
            step_once(s, &(struct mu_ev){.kind = MU_EV_REFUSED, .job = job});
            more = true;
        }
    }
    end_without_store(s);
    answer_waiting(s);
    uint64_t next = mu_ctl_next(s->core), at = mu_commit_next(s->commit);
    next = at < next ? at : next;
    for (size_t i = s->waits ? 0 : s->nconns; i < s->nconns; i++) {
        const struct conn *k = s->conns[i];
        at = k->hello ? UINT64_MAX : k->since + HELLO_NS;
        next = at < next ? at : next;
        if (k->query_until && k->query_until < next)
            next = k->query_until;
        waits = waits || !k->hello || k->query_until;
    }
    s->waits = waits;
    mu_alarm_set(s->alarm, next);
    if (s->exiting && !s->exit_told) {
        s->exit_told = true;
        s->cfg.on_exit(s->cfg.arg);
    }
}

static void step(struct mu_server *s, struct mu_ev *ev)
{
    step_once(s, ev);
    settle(s);
}

static void on_alarm(void *arg)
{
    struct mu_server *s = arg;
    uint64_t now = mu_now();

    if (s->closed)
        return;
    mu_commit_time(s->commit, now);
    for (size_t i = 0; i < s->nconns; i++)
        if (!s->conns[i]->hello && now >= s->conns[i]->since + HELLO_NS)
            close_conn(s, s->conns[i]);
    step(s, &(struct mu_ev){.kind = MU_EV_TIME});
}

void mu_server_engine_done(struct mu_server *s, const char *node, int status, const char *text)
{
    if (!s->closed)
        step(s, &(struct mu_ev){.kind = MU_EV_ENGINE, .node = node, .status = status, .text = text});
}

void mu_server_fabric(struct mu_server *s, const struct mu_fabric_state *f)
{
    s->fabric = *f;
    if (!s->closed && !f->reading)
        step(s, &(struct mu_ev){.kind = MU_EV_FABRIC, .place = f->place});
}

void mu_server_probed(struct mu_server *s, const char *node, int status)
{
    if (!s->closed)
        step(s, &(struct mu_ev){.kind = MU_EV_PROBED, .node = node, .status = status});
}

/* --- beats ------------------------------------------------------------------------------------------------------- */

static void set_beater(struct mu_server *s, uint64_t at)
{
    if (at >= s->beat_at)
        return;
    s->beat_at = at;
    mu_alarm_set(s->beater, at);
}

static void begin_beats(struct conn *k)
{
    uint64_t now = mu_now();

    k->beats = true;
    mu_beat_begin(&k->beat, now, true);
    set_beater(k->server, now);
}

/* Its connection is as good as gone; nothing can be flushed to it. */
static void fell_silent(struct mu_server *s, struct conn *k)
{
    mu_conn id = k->id;
    uint64_t heard = k->beat.heard, age = mu_now() - heard;

    mu_log(MU_LOG_WARN, "controller", "connection %u: nothing was heard of %s for %llu ms; closing", id, k->name,
           (unsigned long long)(age / MU_MS));
    mu_link_free(k->link);
    forget(s, k);
    step_once(s, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = id, .status = MU_DOWN_SILENT, .at = heard});
    mu_branches_lost(s->branches, id, age);
    settle(s);
}

static void beat(struct conn *k, uint64_t now)
{
    struct mu_m_beat m = mu_beat_make(&k->beat, now, 0);

    mu_link_send_msg(k->link, MU_MSG_beat, &m);
}

static void on_beater(void *arg)
{
    struct mu_server *s = arg;
    uint64_t now = mu_now(), next = UINT64_MAX;

    s->beat_at = UINT64_MAX;
    if (s->closed)
        return;
    /* from the end: whoever goes makes room for one that was served already */
    for (size_t i = s->nconns; i-- > 0;) {
        struct conn *k = i < s->nconns ? s->conns[i] : NULL;
        uint64_t at;
        if (!k || !k->beats || k->closing)
            continue;
        unsigned words = mu_beat_next(&k->beat, now, &at);
        next = at < next ? at : next;
        if (words & MU_BEAT_SEND)
            beat(k, now);
        if (words & MU_BEAT_GONE)
            fell_silent(s, k);
        else if (words & MU_BEAT_SUSPECTED)
            step(s, &(struct mu_ev){.kind = MU_EV_SUSPECT, .conn = k->id, .status = 1});
    }
    set_beater(s, next);
}

/* True: that was all there is to it. */
static bool take_beat(struct conn *k, const struct mu_msg *msg)
{
    bool comes = msg->type == MU_MSG_beat;
    struct mu_server *s = k->server;
    uint64_t now = mu_now();
    mu_conn id = k->id;

    bool cleared = k->beats && mu_beat_heard(&k->beat, now);
    if (comes && k->beats) {
        mu_beat_take(&k->beat, now, &msg->beat);
        if (mu_beat_answers(&k->beat, now))
            beat(k, now);
    }
    if (cleared) {
        step(s, &(struct mu_ev){.kind = MU_EV_SUSPECT, .conn = id, .status = 0});
        k = find(s, id); /* the core may have closed it */
    }
    return comes || !k || k->closing;
}

/* --- queries ----------------------------------------------------------------------------------------------------- */

static int send_msg(struct conn *k, enum mu_msg_type type, const void *body)
{
    mu_auto_buf struct mu_buf b = {0};
    int rc = mu_msg_encode(&b, type, body);

    if (!rc)
        do_send(k->server, &k->id, 1, b.data, b.len);
    return rc;
}

static void send_error(struct conn *k, int code, const char *text)
{
    send_msg(k, MU_MSG_error, &(struct mu_m_error){.code = code, .text = (char *)(uintptr_t)text});
}

static void answer(struct mu_server *s, struct conn *k, const struct mu_m_query *q)
{
    const struct mu_query_env env = {.core = s->core,
                                     .store = s->store,
                                     .commit = s->commit,
                                     .fabric = &s->fabric,
                                     .who = &k->who,
                                     .backup = s->cfg.on_backup,
                                     .arg = s->cfg.arg};
    mu_auto_free char *text = NULL;
    struct mu_err err = {0};
    int rc = mu_query_answer(&env, q, &text, &err);

    if (!rc && (rc = send_msg(k, MU_MSG_reply, &(struct mu_m_reply){.json = text}))) /* EARG of the encoder */
        mu_err_set(&err, rc, "the answer is too long");
    if (rc)
        send_error(k, rc, err.text);
}

/* Right after its start a controller knows no node yet: whoever asks for nodes then waits for the first one. */
static void on_query(struct mu_server *s, struct conn *k, const struct mu_m_query *q)
{
    bool nodes = q->what && !strcmp(q->what, "nodes");
    uint64_t until = s->started + s->cfg.ctl.agent_wait_ns;

    if (nodes && !mu_server_node_ready(s) && mu_now() < until) {
        k->query_until = until;
        s->waits = true;
    } else {
        answer(s, k, q);
    }
}

static void on_turn(void *arg, const struct mu_m_query *q)
{
    struct conn *k = arg;
    struct mu_server *s = k->server;

    if (k->closing || s->closed)
        return;
    on_query(s, k, q);
    settle(s);
}

static void answer_waiting(struct mu_server *s)
{
    char what[] = "nodes";

    for (size_t i = s->waits ? 0 : s->nconns; i < s->nconns; i++) {
        struct conn *k = s->conns[i];
        if (!k->query_until || (!mu_server_node_ready(s) && mu_now() < k->query_until))
            continue;
        k->query_until = 0;
        answer(s, k, &(struct mu_m_query){.what = what});
    }
}

/* --- connections ------------------------------------------------------------------------------------------------- */

/* Two hosts with one name would take each other's place for ever. A host that was booted anew, or an agent that was
 * started again, has left a connection that is closed or silent. */
static bool has_rival(struct conn *k, const struct mu_m_agent *m)
{
    struct mu_server *s = k->server;
    const struct conn *rival = k->remote ? find(s, mu_ctl_rival(s->core, k->id, m)) : NULL;
    char text[400];

    if (!rival || rival->closing || (rival->beats && mu_now() - rival->beat.heard > MU_BEAT_SUSPECT))
        return false;
    snprintf(text, sizeof text,
             "another host of this pool is called %.255s already; give this one a name of its own: --node", m->node);
    if (mu_now() >= s->rival_told + RIVAL_TOLD_NS) {
        s->rival_told = mu_now();
        mu_log(MU_LOG_WARN, "controller", "the agent at %s is refused: %s", m->addr && *m->addr ? m->addr : "?", text);
    }
    send_error(k, MUSTER_EARG, text);
    close_conn(s, k);
    settle(s);
    return true;
}

static void take(struct conn *k, const struct mu_msg *msg)
{
    struct mu_server *s = k->server;
    MU_AUTO_MSG struct mu_msg own = {0};
    struct mu_err err;

    if (!(msg = mu_gate_pass(&k->who, msg, &own, &err))) {
        send_error(k, err.code, err.text);
        settle(s);
        return;
    }
    if (msg->type == MU_MSG_hello && !k->hello) {
        const char *role = msg->hello.role ? msg->hello.role : "peer";
        k->hello = true;
        if (k->remote)
            snprintf(k->name, sizeof k->name, "%.12s %.26s", role, msg->hello.node ? msg->hello.node : k->name);
        else
            snprintf(k->name, sizeof k->name, "%.12s %u (pid %d)", role, k->id, k->pid);
        if (k->link)
            mu_link_name(k->link, k->name);
        mu_log(MU_LOG_DEBUG, "controller", "%s is here", k->name);
        if (k->link && k->remote && !strcmp(role, "agent"))
            begin_beats(k);
        else if (k->link && !strcmp(role, "agent"))
            k->guard = mu_guard_new(s->base, k->link, k->name, k->pid, MU_PULSE_STOPPED, NULL, NULL);
    }
    if (msg->type == MU_MSG_agent && k->hello && has_rival(k, &msg->agent))
        return;
    if (msg->type == MU_MSG_nodes_add && k->hello && s->cfg.on_nodes_add)
        s->cfg.on_nodes_add(s->cfg.arg, &msg->nodes_add);
    if (msg->type == MU_MSG_agent && msg->agent.node && s->cfg.on_agent)
        s->cfg.on_agent(s->cfg.arg, &msg->agent, k->remote);
    if ((msg->type == MU_MSG_approve || msg->type == MU_MSG_withdraw) && k->hello && !mu_ctl_is_agent(s->core, k->id) &&
        mu_inventory_approve(s->core, s->store, msg, &err)) {
        send_error(k, err.code, err.text);
        settle(s);
        return;
    }
    if (msg->type == MU_MSG_query && k->hello) {
        if (!mu_turn_wait(&k->turn, &msg->query))
            on_query(s, k, &msg->query);
        settle(s);
        return;
    }
    bool pool = msg->type == MU_MSG_nodes_add || msg->type == MU_MSG_nodes_remove;
    step(s, &(struct mu_ev){.kind = MU_EV_MSG, .conn = k->id, .msg = msg});
    if (pool || msg->type == MU_MSG_nodes_label)
        mu_pool_told(s->core, s->cfg.on_labels, pool ? s->cfg.on_pool_changed : NULL, s->cfg.arg);
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct conn *k = arg;
    struct mu_server *s = k->server;

    (void)link, (void)frame, (void)len;
    if (k->closing || s->closed || mu_guard_take(k->guard, msg) || take_beat(k, msg))
        return;
    if (msg->type != MU_MSG_relay) {
        if (k->who.guest) /* whatever it says */
            mu_turn_wait(&k->turn, NULL);
        take(k, msg);
    } else if (k->beats) {
        mu_branches_take(s->branches, k->id, &msg->relay);
        settle(s);
    }
}

static void on_down(void *arg, struct mu_link *link)
{
    struct conn *k = arg;
    struct mu_server *s = k->server;
    mu_conn id = k->id;

    if (s->closed)
        return;
    bool agent = mu_ctl_is_agent(s->core, id), remote = k->remote;
    forget(s, k);
    mu_link_free(link);
    step_once(s, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = id});
    mu_branches_lost(s->branches, id, 0);
    settle(s);
    if (agent && !remote && s->cfg.on_agent_lost && !s->exit_told)
        s->cfg.on_agent_lost(s->cfg.arg);
}

static struct conn *new_conn(struct mu_server *s)
{
    struct conn *k = calloc(1, sizeof *k);

    if (s->nconns == s->capconns) {
        size_t cap = s->capconns ? s->capconns * 2 : 16;
        struct conn **v = realloc(s->conns, cap * sizeof *v);
        if (v) {
            s->conns = v;
            s->capconns = cap;
        }
    }
    if (!k || s->nconns == s->capconns || s->closed || s->exiting) {
        free(k);
        return NULL;
    }
    *k = (struct conn){.server = s, .id = ++s->last_id, .since = mu_now()};
    mu_who_init(&k->who, s->gate, "another host");
    s->waits = true;
    return k;
}

static mu_conn branch_opened(void *arg)
{
    struct mu_server *s = arg;
    struct conn *k = new_conn(s);

    if (!k)
        return 0;
    k->remote = true;
    snprintf(k->name, sizeof k->name, "stream %u", k->id);
    s->conns[s->nconns++] = k;
    return k->id;
}

static void branch_up(void *arg, mu_conn id, mu_conn via)
{
    step_once(arg, &(struct mu_ev){.kind = MU_EV_UP, .conn = id, .via = via});
}

static void branch_frame(void *arg, mu_conn id, const void *frame, size_t len)
{
    struct conn *k = find(arg, id);
    MU_AUTO_MSG struct mu_msg msg = {0};
    struct mu_err err;

    if (!k || k->closing || mu_msg_decode(frame, len, &msg, &err))
        return;
    if (msg.type != MU_MSG_beat && msg.type != MU_MSG_relay)
        take(k, &msg);
}

static void branch_down(void *arg, mu_conn id, int status, uint64_t age)
{
    struct mu_server *s = arg;
    struct conn *k = find(s, id);
    uint64_t now = mu_now();

    if (!k)
        return;
    forget(s, k);
    step_once(
        s, &(struct mu_ev){.kind = MU_EV_DOWN, .conn = id, .status = status, .at = age && age < now ? now - age : 0});
}

static void add_conn(struct mu_server *s, struct conn *k, struct mu_link *link)
{
    if (!link) {
        mu_who_free(&k->who);
        free(k);
        return;
    }
    k->link = link;
    k->turn = (struct mu_turn){.pace = s->pace, .link = link, .answer = on_turn, .arg = k};
    s->conns[s->nconns++] = k;
    step(s, &(struct mu_ev){.kind = MU_EV_UP, .conn = k->id});
}

static void accept_unix(void *arg, int fd, struct mu_who *who)
{
    struct mu_server *s = arg;
    struct conn *k = new_conn(s);

    if (!k) {
        mu_who_free(who);
        close(fd);
        return;
    }
    k->pid = who->pid;
    k->who = *who;
    snprintf(k->name, sizeof k->name, "pid %d", k->pid);
    add_conn(s, k, mu_link_new(s->base, fd, on_msg, on_down, k));
}

void mu_server_accept(struct mu_server *s, int fd, int pid)
{
    struct mu_who who;

    mu_who_init(&who, s->gate, "socket");
    who.pid = pid;
    accept_unix(s, fd, &who);
}

void mu_server_accept_tls(struct mu_server *s, struct mu_tls_conn *conn)
{
    struct conn *k = new_conn(s);

    if (!k) {
        mu_tls_conn_free(conn);
        return;
    }
    k->remote = true;
    snprintf(k->name, sizeof k->name, "%.40s", mu_tls_conn_peer(conn));
    mu_who_init(&k->who, s->gate, k->name);
    add_conn(s, k, mu_link_new_tls(conn, on_msg, on_down, k));
}

/* --- life -------------------------------------------------------------------------------------------------------- */

int mu_server_new(struct event_base *base, struct mu_store *store, const struct mu_server_config *cfg,
                  struct mu_server **out, struct mu_err *err)
{
    struct mu_server *s = calloc(1, sizeof *s);
    int rc = MUSTER_ENOMEM;

    if (!s)
        return mu_err_set(err, rc, "out of memory");
    s->base = base;
    s->store = store;
    s->cfg = *cfg;
    s->started = mu_now();
    s->core = mu_ctl_new(&cfg->ctl);
    s->commit = mu_commit_new(store, &ops, s);
    s->branches = mu_branches_new(&(struct mu_branch_ops){.opened = branch_opened,
                                                          .up = branch_up,
                                                          .frame = branch_frame,
                                                          .down = branch_down,
                                                          .send = do_send_link,
                                                          .arg = s});
    s->alarm = mu_alarm_new(base, on_alarm, s);
    s->beater = mu_alarm_new(base, on_beater, s);
    s->beat_at = UINT64_MAX;
    s->pace = mu_pace_get(base);
    if (!s->core || !s->commit || !s->branches || !s->alarm || !s->beater || !s->pace) {
        mu_err_set(err, rc, "out of memory");
        goto failed;
    }
    const struct mu_gate_config gate = {cfg->paths, store, s->core, accept_unix, s};
    if (cfg->paths && (rc = mu_gate_new(base, &gate, &s->gate, err)))
        goto failed;
    rc = mu_load(&(struct mu_load){s->core, store, cfg->state, cfg->pool_hosts, &s->acts}, err);
    if (rc)
        goto failed;
    step(s, &(struct mu_ev){.kind = MU_EV_LOADED});
    *out = s;
    return 0;
failed:
    mu_server_free(s);
    return rc;
}

const struct mu_ctl *mu_server_core(const struct mu_server *s)
{
    return s->core;
}

uint64_t mu_server_heard(const struct mu_server *s, mu_conn id)
{
    const struct conn *k = find(s, id);

    return k && k->beats ? k->beat.heard : 0;
}

size_t mu_server_connections(const struct mu_server *s)
{
    return s->nconns;
}

void mu_server_close(struct mu_server *s)
{
    struct mu_err err;

    if (s->closed)
        return;
    s->closed = true;
    mu_alarm_set(s->alarm, UINT64_MAX);
    mu_alarm_set(s->beater, UINT64_MAX);
    if (mu_commit_flush(s->commit, &err))
        mu_log(MU_LOG_ERROR, "store", "%s; the last changes are lost", err.text);
    while (s->nconns) {
        mu_link_close_after_flush(s->conns[0]->link);
        forget(s, s->conns[0]);
    }
    mu_gate_free(MU_STEAL(s->gate, NULL)); /* while there is a store */
}

void mu_server_free(struct mu_server *s)
{
    if (!s)
        return;
    while (s->nconns) {
        mu_link_free(s->conns[0]->link);
        forget(s, s->conns[0]);
    }
    mu_alarm_free(s->alarm);
    mu_alarm_free(s->beater);
    mu_pace_put(s->pace);
    mu_commit_free(s->commit);
    mu_branches_free(s->branches);
    mu_gate_free(s->gate);
    mu_ctl_free(s->core);
    mu_acts_free(&s->acts);
    free(s->conns);
    free(s->downs);
    free(s);
}
