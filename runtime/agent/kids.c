#include "runtime/agent/kids.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/agent/tree.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/beat.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "runtime/wire/tls.h"

#define HELLO_NS (10 * MU_SEC) /* who says nothing for so long is cut off */
#define PENDING_MAX                                                                                                    \
    (MU_FRAME_MAX + (16ull << 20)) /* a child that does not read; and what children may heap up above                  \
                                    */

struct kid {
    struct mu_kids *all;
    struct mu_link *link;
    uint32_t id;
    bool hello, over; /* over: to be closed once nobody is at work with it */
    struct mu_beat beat;
    uint64_t since;
    char name[40];
};

struct mu_kids {
    struct mu_kids_config cfg;
    struct event_base *base;
    struct mu_tree *tree;
    struct mu_alarm *beater;
    struct kid **v; /* by id */
    unsigned n, cap;
    uint32_t last;
    uint64_t beat_at;
    struct mu_buf pieces; /* of a long frame of our own */
};

static struct kid *kid_of(const struct mu_kids *a, uint32_t id)
{
    unsigned lo = 0, hi = a->n;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (a->v[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < a->n && a->v[lo]->id == id ? a->v[lo] : NULL;
}

static void wake(struct mu_kids *a, uint64_t at)
{
    if (at >= a->beat_at)
        return;
    a->beat_at = at;
    mu_alarm_set(a->beater, at);
}

/* Out of the table; the link is the caller's. */
static void forget(struct kid *k)
{
    struct mu_kids *a = k->all;
    unsigned i = 0;

    while (a->v[i] != k)
        i++;
    memmove(&a->v[i], &a->v[i + 1], (--a->n - i) * sizeof *a->v);
    free(k);
}

/* Not at once: we may be inside a call of the tree or of the link. */
static void end(struct kid *k)
{
    k->over = true;
    wake(k->all, 0);
}

/* --- what the tree does ------------------------------------------------------------------------------------------ */

static void on_tree_up(void *arg, const void *frame, size_t len)
{
    const struct mu_kids *a = arg;

    a->cfg.up(a->cfg.arg, frame, len);
}

static void on_tree_down(void *arg, uint32_t child, const void *frame, size_t len)
{
    struct kid *k = kid_of(arg, child);

    if (!k || k->over)
        return;
    int rc = mu_link_send(k->link, frame, len);
    if (rc != MUSTER_ENOMEM && mu_link_pending(k->link) <= PENDING_MAX + len)
        return;
    mu_log(MU_LOG_WARN, "agent", "%s does not read what it is sent; closing", k->name);
    end(k);
}

static void on_tree_cut(void *arg, uint32_t child)
{
    struct kid *k = kid_of(arg, child);

    if (k)
        end(k);
}

static void on_tree_self(void *arg, const void *frame, size_t len, bool piece)
{
    struct mu_kids *a = arg;
    mu_auto_buf struct mu_buf whole = {0};
    struct mu_msg msg;

    int rc = piece ? mu_msg_piece(&a->pieces, frame, len) : 1;
    if (!rc)
        return;
    if (piece) {
        whole = MU_STEAL(a->pieces, (struct mu_buf){0});
        frame = whole.data;
        len = whole.len;
    }
    rc = rc < 0 ? rc : mu_msg_decode(frame, len, &msg, NULL);
    if (rc == MUSTER_EVERSION)
        return;
    a->cfg.self(a->cfg.arg, rc ? NULL : &msg);
    if (!rc)
        mu_msg_free(&msg);
}

/* --- links ------------------------------------------------------------------------------------------------------- */

static void beat(struct kid *k, uint64_t now)
{
    struct mu_m_beat m = mu_beat_make(&k->beat, now, k->all->cfg.age(k->all->cfg.arg, now));

    mu_link_send_msg(k->link, MU_MSG_beat, &m);
}

static void on_hello(struct kid *k, const struct mu_msg *msg)
{
    const char *role = msg->hello.role ? msg->hello.role : "peer";

    snprintf(k->name, sizeof k->name, "agent %.30s", msg->hello.node ? msg->hello.node : "?");
    mu_link_name(k->link, k->name);
    k->hello = !strcmp(role, "agent") && msg->hello.proto == MU_WIRE_VERSION;
    if (!k->hello || !mu_tree_child(k->all->tree, k->id)) {
        mu_log(MU_LOG_WARN, "agent", "%s: %s; closing", k->name,
               k->hello ? "too many agents are below this one" : "it is no agent of this version");
        end(k);
        return;
    }
    mu_log(MU_LOG_INFO, "agent", "%s goes through here to the controller", k->name);
    mu_beat_begin(&k->beat, mu_now(), true);
    wake(k->all, mu_now());
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct kid *k = arg;
    struct mu_kids *a = k->all;
    uint64_t now = mu_now();

    (void)link;
    if (k->over)
        return;
    if (!k->hello) {
        if (msg->type == MU_MSG_hello)
            on_hello(k, msg);
        if (!k->hello || k->over)
            return;
    }
    mu_beat_heard(&k->beat, now);
    if (msg->type == MU_MSG_beat) {
        mu_beat_take(&k->beat, now, &msg->beat);
        if (mu_beat_answers(&k->beat, now))
            beat(k, now);
        return;
    }
    mu_tree_child_msg(a->tree, k->id, msg, frame, len);
    if (a->cfg.pending(a->cfg.arg) <= PENDING_MAX)
        return;
    mu_log(MU_LOG_WARN, "agent", "%s sends more than goes on from here; closing", k->name);
    end(k);
}

static void gone(struct kid *k, int status, uint64_t age)
{
    struct mu_kids *a = k->all;
    uint32_t id = k->id;

    forget(k);
    mu_tree_child_gone(a->tree, id, status, age);
}

static void on_down(void *arg, struct mu_link *link)
{
    struct kid *k = arg;

    mu_log(k->hello ? MU_LOG_INFO : MU_LOG_DEBUG, "agent", "%s has hung up", k->name);
    mu_link_free(link);
    gone(k, MU_DOWN_CLOSED, 0);
}

/* True: it is gone. */
static bool look_after(struct kid *k, uint64_t now, uint64_t *at)
{
    uint64_t quiet;
    unsigned words;

    *at = k->since + HELLO_NS;
    if (k->over || (!k->hello && now >= *at)) {
        mu_link_close_after_flush(k->link);
        gone(k, MU_DOWN_CLOSED, 0);
        return true;
    }
    if (!k->hello)
        return false;
    words = mu_beat_next(&k->beat, now, at);
    if (words & MU_BEAT_GONE) {
        quiet = now - k->beat.heard;
        mu_log(MU_LOG_WARN, "agent", "nothing was heard of %s for %llu ms; closing", k->name,
               (unsigned long long)(quiet / MU_MS));
        mu_link_free(k->link);
        gone(k, MU_DOWN_SILENT, quiet);
        return true;
    }
    if (words & MU_BEAT_SEND)
        beat(k, now);
    return false;
}

static void on_beater(void *arg)
{
    struct mu_kids *a = arg;
    uint64_t now = mu_now(), next = UINT64_MAX, at;

    a->beat_at = UINT64_MAX;
    for (unsigned i = a->n; i-- > 0;)
        if (!look_after(a->v[i], now, &at) && at < next)
            next = at;
    wake(a, next);
}

void mu_kids_accept(struct mu_kids *a, struct mu_tls_conn *conn)
{
    struct kid *k = calloc(1, sizeof *k);

    if (a->n == a->cap && k) {
        unsigned cap = a->cap ? a->cap * 2 : 8;
        struct kid **v = realloc(a->v, cap * sizeof *v);
        if (v) {
            a->v = v;
            a->cap = cap;
        }
    }
    if (!k || a->n == a->cap) {
        free(k);
        mu_tls_conn_free(conn);
        return;
    }
    *k = (struct kid){.all = a, .id = ++a->last, .since = mu_now()};
    snprintf(k->name, sizeof k->name, "%.39s", mu_tls_conn_peer(conn));
    k->link = mu_link_new_tls(conn, on_msg, on_down, k);
    if (!k->link) {
        free(k);
        return;
    }
    a->v[a->n++] = k;
    wake(a, k->since + HELLO_NS);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

struct mu_kids *mu_kids_new(struct event_base *base, const struct mu_kids_config *cfg)
{
    struct mu_kids *a = calloc(1, sizeof *a);
    struct mu_tree_ops ops = {
        .up = on_tree_up, .down = on_tree_down, .cut = on_tree_cut, .self = on_tree_self, .arg = a};

    if (!a)
        return NULL;
    *a = (struct mu_kids){.cfg = *cfg, .base = base, .beat_at = UINT64_MAX};
    a->tree = mu_tree_new(&ops);
    a->beater = mu_alarm_new(base, on_beater, a);
    if (!a->tree || !a->beater) {
        mu_kids_free(a);
        return NULL;
    }
    return a;
}

void mu_kids_free(struct mu_kids *a)
{
    if (!a)
        return;
    while (a->n) {
        mu_link_free(a->v[0]->link);
        forget(a->v[0]);
    }
    free(a->v);
    mu_tree_free(a->tree);
    mu_alarm_free(a->beater);
    mu_buf_free(&a->pieces);
    free(a);
}

void mu_kids_path(struct mu_kids *a, bool there)
{
    mu_buf_free(&a->pieces);
    mu_tree_path(a->tree, there);
}

void mu_kids_above(struct mu_kids *a, const struct mu_m_relay *m)
{
    mu_tree_above(a->tree, m);
}

unsigned mu_kids_count(const struct mu_kids *a)
{
    return mu_tree_children(a->tree);
}
