#include "launcher/branch.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/rows.h"

struct stream { /* by id */
    mu_conn id, link;
    uint32_t channel;
    struct mu_buf pieces;
};
struct leaf { /* of a link; ascending by both */
    uint32_t channel;
    mu_conn id;
};
struct branch { /* by link */
    mu_conn link;
    struct leaf *v;
    unsigned n, cap;
};
struct mu_branches {
    struct mu_branch_ops ops;
    struct stream *streams;
    unsigned nstreams, capstreams;
    struct branch *v;
    unsigned n, cap;
};

struct mu_branches *mu_branches_new(const struct mu_branch_ops *ops)
{
    struct mu_branches *b = calloc(1, sizeof *b);

    if (b)
        b->ops = *ops;
    return b;
}

void mu_branches_free(struct mu_branches *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < b->nstreams; i++)
        mu_buf_free(&b->streams[i].pieces);
    for (unsigned i = 0; i < b->n; i++)
        free(b->v[i].v);
    free(b->streams);
    free(b->v);
    free(b);
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

static struct stream *stream_of(const struct mu_branches *b, mu_conn id)
{
    unsigned i = mu_rows_at(b->streams, b->nstreams, sizeof *b->streams, id);

    return i < b->nstreams && b->streams[i].id == id ? &b->streams[i] : NULL;
}

static struct branch *branch_of(const struct mu_branches *b, mu_conn link)
{
    unsigned i = mu_rows_at(b->v, b->n, sizeof *b->v, link);

    return i < b->n && b->v[i].link == link ? &b->v[i] : NULL;
}

static struct leaf *leaf_of(const struct branch *k, uint32_t channel)
{
    unsigned i = k ? mu_rows_at(k->v, k->n, sizeof *k->v, channel) : 0;

    return k && i < k->n && k->v[i].channel == channel ? &k->v[i] : NULL;
}

static struct branch *make_branch(struct mu_branches *b, mu_conn link)
{
    unsigned i = mu_rows_at(b->v, b->n, sizeof *b->v, link);

    if (i < b->n && b->v[i].link == link)
        return &b->v[i];
    if (!mu_rows_room(&b->v, b->n, &b->cap, sizeof *b->v))
        return NULL;
    memmove(&b->v[i + 1], &b->v[i], (b->n++ - i) * sizeof *b->v);
    b->v[i] = (struct branch){.link = link};
    return &b->v[i];
}

static void forget_stream(struct mu_branches *b, struct stream *s)
{
    mu_buf_free(&s->pieces);
    memmove(s, s + 1, (size_t)(b->streams + --b->nstreams - s) * sizeof *s);
}

static void forget(struct mu_branches *b, struct stream *s)
{
    struct branch *k = branch_of(b, s->link);
    struct leaf *l = leaf_of(k, s->channel);

    if (l)
        memmove(l, l + 1, (size_t)(k->v + --k->n - l) * sizeof *l);
    forget_stream(b, s);
}

/* --- what comes -------------------------------------------------------------------------------------------------- */

static void open_one(struct mu_branches *b, mu_conn link, uint32_t channel, mu_conn via)
{
    struct branch *k = make_branch(b, link);
    mu_conn id;

    if (!k || !channel || (k->n && channel <= k->v[k->n - 1].channel) ||
        !mu_rows_room(&k->v, k->n, &k->cap, sizeof *k->v) ||
        !mu_rows_room(&b->streams, b->nstreams, &b->capstreams, sizeof *b->streams) ||
        !(id = b->ops.opened(b->ops.arg)))
        return;
    k->v[k->n++] = (struct leaf){.channel = channel, .id = id};
    b->streams[b->nstreams++] = (struct stream){.id = id, .link = link, .channel = channel};
    b->ops.up(b->ops.arg, id, via);
}

static void opened(struct mu_branches *b, mu_conn link, const struct mu_m_relay *m)
{
    const struct leaf *l = m->via ? leaf_of(branch_of(b, link), m->via) : NULL;
    mu_conn via = l ? l->id : link;

    for (uint32_t i = 0; i < m->channels.n && (l || !m->via); i++)
        open_one(b, link, m->channels.v[i], via);
}

static void data(struct mu_branches *b, mu_conn link, uint32_t channel, const struct mu_m_relay *m)
{
    const struct leaf *l = leaf_of(branch_of(b, link), channel);
    struct stream *s = l ? stream_of(b, l->id) : NULL;

    if (!s)
        return;
    if (m->kind == MU_RELAY_FRAME) {
        b->ops.frame(b->ops.arg, s->id, m->data.data, m->data.len);
        return;
    }
    mu_conn id = s->id;
    int rc = mu_msg_piece(&s->pieces, m->data.data, m->data.len);
    if (rc < 0) {
        mu_branches_close(b, id);
        b->ops.down(b->ops.arg, id, MU_DOWN_CLOSED, 0);
    } else if (rc) {
        mu_auto_buf struct mu_buf whole = MU_STEAL(s->pieces, (struct mu_buf){0});
        b->ops.frame(b->ops.arg, id, whole.data, whole.len);
    }
}

void mu_branches_take(struct mu_branches *b, mu_conn link, const struct mu_m_relay *m)
{
    if (m->kind == MU_RELAY_OPEN)
        opened(b, link, m);
    for (uint32_t i = 0; i < m->channels.n && m->kind != MU_RELAY_OPEN; i++) {
        const struct leaf *l = leaf_of(branch_of(b, link), m->channels.v[i]);
        if (m->kind == MU_RELAY_FRAME || m->kind == MU_RELAY_PIECE) {
            data(b, link, m->channels.v[i], m);
        } else if (m->kind == MU_RELAY_CLOSE && l) {
            mu_conn id = l->id;
            forget(b, stream_of(b, id));
            b->ops.down(b->ops.arg, id, m->status, m->age_ns);
        }
    }
}

void mu_branches_lost(struct mu_branches *b, mu_conn link, uint64_t age)
{
    struct branch *k = branch_of(b, link);
    struct branch was;

    if (!k)
        return;
    was = *k;
    memmove(k, k + 1, (size_t)(b->v + --b->n - k) * sizeof *k);
    for (unsigned i = 0; i < was.n; i++) {
        struct stream *s = stream_of(b, was.v[i].id);
        if (!s)
            continue;
        forget_stream(b, s);
        b->ops.down(b->ops.arg, was.v[i].id, MU_DOWN_PARENT, age);
    }
    free(was.v);
}

bool mu_branches_close(struct mu_branches *b, mu_conn id)
{
    struct stream *s = stream_of(b, id);
    mu_auto_buf struct mu_buf frame = {0};

    if (!s)
        return false;
    struct mu_m_relay m = {.kind = MU_RELAY_CLOSE, .channels = {.v = &s->channel, .n = 1}};
    mu_conn link = s->link;
    int rc = mu_msg_encode(&frame, MU_MSG_relay, &m);
    forget(b, s);
    if (!rc)
        b->ops.send(b->ops.arg, link, frame.data, frame.len);
    return true;
}

/* --- what goes --------------------------------------------------------------------------------------------------- */

struct hop {
    mu_conn link;
    uint32_t channel; /* 0: the other end of the link itself */
};

static struct hop hop_to(const struct mu_branches *b, mu_conn id)
{
    const struct stream *s = stream_of(b, id);

    return s ? (struct hop){.link = s->link, .channel = s->channel} : (struct hop){.link = id};
}

static int compare(const void *a, const void *b)
{
    const struct hop *p = a, *q = b;

    if (p->link != q->link)
        return p->link < q->link ? -1 : 1;
    return p->channel < q->channel ? -1 : p->channel > q->channel;
}

static void send_through(struct mu_branches *b, mu_conn link, uint32_t *channels, uint32_t n, const void *frame,
                         size_t len)
{
    struct mu_m_relay m = {.kind = len > MU_RELAY_MAX ? MU_RELAY_PIECE : MU_RELAY_FRAME,
                           .channels = {.v = channels, .n = n}};

    if (n == 1 && !channels[0]) {
        b->ops.send(b->ops.arg, link, frame, len);
        return;
    }
    for (size_t off = 0; off < len; off += m.data.len) {
        mu_auto_buf struct mu_buf out = {0};
        m.data.data = (uint8_t *)(uintptr_t)frame + off;
        m.data.len = (uint32_t)(len - off < MU_RELAY_MAX ? len - off : MU_RELAY_MAX);
        if (mu_msg_encode(&out, MU_MSG_relay, &m)) {
            b->ops.send(b->ops.arg, link, NULL, 0);
            return;
        }
        b->ops.send(b->ops.arg, link, out.data, out.len);
    }
}

void mu_branches_send(struct mu_branches *b, const mu_conn *to, uint32_t n, const void *frame, size_t len)
{
    struct hop one = n == 1 ? hop_to(b, to[0]) : (struct hop){0};
    struct hop *v = n == 1 ? &one : malloc(n * sizeof *v);
    uint32_t *channels = n == 1 ? &one.channel : malloc(n * sizeof *channels);

    for (uint32_t i = 0; v && channels && i < n; i++) {
        v[i] = hop_to(b, to[i]);
    }
    if (v && channels) {
        qsort(v, n, sizeof *v, compare);
        for (uint32_t i = 0, k; i < n; i = k) {
            for (k = i; k < n && v[k].link == v[i].link; k++)
                channels[k - i] = v[k].channel;
            send_through(b, v[i].link, channels, k - i, frame, len);
        }
    }
    if (n != 1) {
        free(v);
        free(channels);
    }
}
