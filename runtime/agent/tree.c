#include "runtime/agent/tree.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/rows.h"

/* Both ends number the channels that they open upwards, so pairs are in the order of x and of y at once. */
struct pair {
    uint32_t x, y; /* on the child's link, on ours upwards */
};
struct child {
    uint32_t id;
    uint32_t own; /* its own stream's channel upwards; 0: there is no way at present */
    bool heard;   /* it has said hello on that; what came before belongs to an older way */
    struct pair *v;
    unsigned n, cap;
};
struct above { /* a channel upwards */
    uint32_t y, child;
};

struct mu_tree {
    struct mu_tree_ops ops;
    struct child *v;
    unsigned n, cap;
    struct above *above; /* by y */
    unsigned nabove, capabove;
    uint32_t last;
    bool path;
};

struct mu_tree *mu_tree_new(const struct mu_tree_ops *ops)
{
    struct mu_tree *t = calloc(1, sizeof *t);

    if (t)
        t->ops = *ops;
    return t;
}

void mu_tree_free(struct mu_tree *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->n; i++)
        free(t->v[i].v);
    free(t->v);
    free(t->above);
    free(t);
}

unsigned mu_tree_children(const struct mu_tree *t)
{
    return t->n;
}

unsigned mu_tree_below(const struct mu_tree *t)
{
    return t->nabove;
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

static struct child *child_of(const struct mu_tree *t, uint32_t id)
{
    unsigned i = mu_rows_at(t->v, t->n, sizeof *t->v, id);

    return i < t->n && t->v[i].id == id ? &t->v[i] : NULL;
}

static struct above *above_of(const struct mu_tree *t, uint32_t y)
{
    unsigned i = mu_rows_at(t->above, t->nabove, sizeof *t->above, y);

    return i < t->nabove && t->above[i].y == y ? &t->above[i] : NULL;
}

static struct pair *by_x(const struct child *c, uint32_t x)
{
    unsigned i = mu_rows_at(c->v, c->n, sizeof *c->v, x);

    return i < c->n && c->v[i].x == x ? &c->v[i] : NULL;
}

static struct pair *by_y(const struct child *c, uint32_t y)
{
    for (unsigned lo = 0, hi = c->n; lo < hi;) {
        unsigned mid = lo + (hi - lo) / 2;
        if (c->v[mid].y == y)
            return &c->v[mid];
        if (c->v[mid].y < y)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* A new channel upwards; 0: no room. */
static uint32_t open_above(struct mu_tree *t, uint32_t child)
{
    if (t->nabove >= MU_TREE_CHANNELS || !mu_rows_room(&t->above, t->nabove, &t->capabove, sizeof *t->above))
        return 0;
    t->above[t->nabove++] = (struct above){.y = ++t->last, .child = child};
    return t->last;
}

static void forget_above(struct mu_tree *t, uint32_t y)
{
    struct above *a = above_of(t, y);

    if (a)
        memmove(a, a + 1, (size_t)(t->above + --t->nabove - a) * sizeof *a);
}

static void forget_pair(struct child *c, struct pair *p)
{
    memmove(p, p + 1, (size_t)(c->v + --c->n - p) * sizeof *p);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

/* Upwards, or (child) down. Without memory the frame is lost, as with its connection: streams begin anew then. */
static void send(const struct mu_tree *t, uint32_t child, const struct mu_m_relay *m)
{
    mu_auto_buf struct mu_buf b = {0};

    if (mu_msg_encode(&b, MU_MSG_relay, m))
        return;
    if (child)
        t->ops.down(t->ops.arg, child, b.data, b.len);
    else
        t->ops.up(t->ops.arg, b.data, b.len);
}

static void tell_child(const struct mu_tree *t, uint32_t child, uint32_t kind)
{
    send(t, child, &(struct mu_m_relay){.kind = kind});
}

static void close_above(const struct mu_tree *t, uint32_t *ys, uint32_t n, int status, uint64_t age)
{
    if (n && t->path)
        send(t, 0,
             &(struct mu_m_relay){
                 .kind = MU_RELAY_CLOSE, .channels = {.v = ys, .n = n}, .status = status, .age_ns = age});
}

/* Those below a child: their way is broken. */
static void close_pairs(struct mu_tree *t, struct child *c, uint64_t age)
{
    uint32_t *ys = malloc((c->n + 1u) * sizeof *ys);

    for (unsigned i = 0; i < c->n; i++) {
        forget_above(t, c->v[i].y);
        if (ys)
            ys[i] = c->v[i].y;
        else
            close_above(t, &c->v[i].y, 1, MU_DOWN_PARENT, age);
    }
    if (ys)
        close_above(t, ys, c->n, MU_DOWN_PARENT, age);
    free(ys);
    c->n = 0;
}

static void drop(struct mu_tree *t, struct child *c)
{
    free(c->v);
    memmove(c, c + 1, (size_t)(t->v + --t->n - c) * sizeof *c);
}

/* --- our own way ------------------------------------------------------------------------------------------------- */

void mu_tree_path(struct mu_tree *t, bool there)
{
    uint32_t *ys, n = 0;

    if (there == t->path)
        return;
    ys = there && t->n ? malloc(t->n * sizeof *ys) : NULL;
    t->nabove = 0;
    t->path = there;
    for (unsigned i = 0; i < t->n; i++) {
        struct child *c = &t->v[i];
        c->n = 0;
        c->heard = false;
        c->own = ys ? open_above(t, c->id) : 0;
        if (c->own)
            ys[n++] = c->own;
        tell_child(t, c->id, c->own ? MU_RELAY_OPEN : MU_RELAY_CLOSE);
    }
    if (n)
        send(t, 0, &(struct mu_m_relay){.kind = MU_RELAY_OPEN, .channels = {.v = ys, .n = n}});
    free(ys);
}

/* --- children ---------------------------------------------------------------------------------------------------- */

bool mu_tree_child(struct mu_tree *t, uint32_t id)
{
    if (t->n >= MU_TREE_CHILDREN || !mu_rows_room(&t->v, t->n, &t->cap, sizeof *t->v))
        return false;
    unsigned i = mu_rows_at(t->v, t->n, sizeof *t->v, id);
    struct child *c = &t->v[i];
    memmove(c + 1, c, (t->n++ - i) * sizeof *c);
    *c = (struct child){.id = id, .own = t->path ? open_above(t, id) : 0};
    if (c->own)
        send(t, 0, &(struct mu_m_relay){.kind = MU_RELAY_OPEN, .channels = {.v = &c->own, .n = 1}});
    else
        tell_child(t, id, MU_RELAY_CLOSE);
    return true;
}

static void opened(struct mu_tree *t, struct child *c, const struct mu_m_relay *m)
{
    struct mu_m_relay up = {.kind = MU_RELAY_OPEN, .via = c->own};
    const struct pair *via = m->via ? by_x(c, m->via) : NULL;
    uint32_t *ys = malloc((m->channels.n + 1u) * sizeof *ys);

    if (via)
        up.via = via->y;
    for (uint32_t i = 0; ys && i < m->channels.n && (!m->via || via); i++) {
        uint32_t x = m->channels.v[i], y;
        if (!x || (c->n && x <= c->v[c->n - 1].x) || !mu_rows_room(&c->v, c->n, &c->cap, sizeof *c->v) ||
            !(y = open_above(t, c->id)))
            continue;
        c->v[c->n++] = (struct pair){.x = x, .y = y};
        ys[up.channels.n++] = y;
        via = m->via ? by_x(c, m->via) : NULL; /* the table may have moved */
    }
    up.channels.v = ys;
    if (up.channels.n)
        send(t, 0, &up);
    free(ys);
}

/* Something of streams that come through the child. */
static void passed(struct mu_tree *t, struct child *c, const struct mu_m_relay *m)
{
    struct mu_m_relay up = *m;
    uint32_t *ys = malloc((m->channels.n + 1u) * sizeof *ys);

    up.channels = (struct mu_u32v){.v = ys};
    for (uint32_t i = 0; ys && i < m->channels.n; i++) {
        struct pair *p = by_x(c, m->channels.v[i]);
        if (!p)
            continue;
        ys[up.channels.n++] = p->y;
        if (m->kind != MU_RELAY_CLOSE)
            continue;
        forget_above(t, p->y);
        forget_pair(c, p);
    }
    if (up.channels.n)
        send(t, 0, &up);
    free(ys);
}

/* A frame of the child's own stream; long ones in pieces, so that others get their turn between them. */
static void own_frame(struct mu_tree *t, struct child *c, const void *frame, size_t len)
{
    struct mu_m_relay m = {.kind = len > MU_RELAY_MAX ? MU_RELAY_PIECE : MU_RELAY_FRAME,
                           .channels = {.v = &c->own, .n = 1}};

    for (size_t off = 0; off < len; off += m.data.len) {
        m.data.data = (uint8_t *)(uintptr_t)frame + off;
        m.data.len = (uint32_t)(len - off < MU_RELAY_MAX ? len - off : MU_RELAY_MAX);
        send(t, 0, &m);
    }
}

void mu_tree_child_msg(struct mu_tree *t, uint32_t id, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct child *c = child_of(t, id);

    if (!c || !c->own)
        return;
    if (msg->type == MU_MSG_relay) {
        if (msg->relay.kind == MU_RELAY_OPEN)
            opened(t, c, &msg->relay);
        else
            passed(t, c, &msg->relay);
        return;
    }
    c->heard = c->heard || msg->type == MU_MSG_hello;
    if (c->heard)
        own_frame(t, c, frame, len);
}

void mu_tree_child_gone(struct mu_tree *t, uint32_t id, int status, uint64_t age)
{
    struct child *c = child_of(t, id);

    if (!c)
        return;
    if (c->own) {
        forget_above(t, c->own);
        close_above(t, &c->own, 1, status, age);
    }
    close_pairs(t, c, age);
    drop(t, c);
}

/* --- from above -------------------------------------------------------------------------------------------------- */

struct hop {
    uint32_t child, x;
};

static int compare(const void *a, const void *b)
{
    const struct hop *p = a, *q = b;

    if (p->child != q->child)
        return p->child < q->child ? -1 : 1;
    return p->x < q->x ? -1 : p->x > q->x;
}

/* One message a child, however many it is for. */
static void spread(const struct mu_tree *t, const struct mu_m_relay *m, struct hop *v, unsigned n, uint32_t *xs)
{
    qsort(v, n, sizeof *v, compare);
    for (unsigned i = 0, k; i < n; i = k) {
        for (k = i; k < n && v[k].child == v[i].child; k++)
            xs[k - i] = v[k].x;
        if (m->kind == MU_RELAY_FRAME && k - i == 1 && !xs[0]) {
            t->ops.down(t->ops.arg, v[i].child, m->data.data, m->data.len);
            continue;
        }
        struct mu_m_relay down = *m;
        down.channels = (struct mu_u32v){.v = xs, .n = k - i};
        send(t, v[i].child, &down);
    }
}

/* What is closed from above: a stream of somebody below a child, or a child itself. */
static bool closed(struct mu_tree *t, struct child *c, struct pair *p, uint32_t y)
{
    uint32_t id = c->id;

    forget_above(t, y);
    if (p) {
        forget_pair(c, p);
        return false;
    }
    close_pairs(t, c, 0);
    drop(t, c);
    t->ops.cut(t->ops.arg, id);
    return true;
}

void mu_tree_above(struct mu_tree *t, const struct mu_m_relay *m)
{
    struct hop *v = malloc((m->channels.n + 1u) * sizeof *v);
    uint32_t *xs = malloc((m->channels.n + 1u) * sizeof *xs);
    bool self = false;
    unsigned n = 0;

    for (uint32_t i = 0; v && xs && i < m->channels.n; i++) {
        uint32_t y = m->channels.v[i];
        const struct above *a = y ? above_of(t, y) : NULL;
        struct child *c = a ? child_of(t, a->child) : NULL;
        struct pair *p = c && c->own != y ? by_y(c, y) : NULL;
        self = self || !y;
        if (!c || (c->own != y && !p))
            continue;
        v[n] = (struct hop){.child = c->id, .x = p ? p->x : 0};
        n += m->kind != MU_RELAY_CLOSE || !closed(t, c, p, y);
    }
    if (m->kind != MU_RELAY_OPEN && v && xs)
        spread(t, m, v, n, xs);
    free(v);
    free(xs);
    if (self && (m->kind == MU_RELAY_FRAME || m->kind == MU_RELAY_PIECE))
        t->ops.self(t->ops.arg, m->data.data, m->data.len, m->kind == MU_RELAY_PIECE);
}
