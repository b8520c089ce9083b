/* Fences of attempts on several nodes: what is gathered, who is answered, who is asked; and keepers' halves with it
 * over links that break and controllers that forget, until all is done. */
#include "launcher/core/fences.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/keeper/core_wireup.h"
#include "runtime/wire/gather.h"
#include "tests/unit/tap.h"

/* --- one by one: what was sent, as text --------------------------------------------------------------------------- */

static char log_[4096];

static void note_one(uint64_t job, uint32_t node, enum mu_msg_type type, const void *body)
{
    size_t n = strlen(log_);
    const struct mu_m_fence *q = body;
    const struct mu_m_fenced *m = body;

    if (type == MU_MSG_fence && q->seq == MU_FENCE_ALL)
        snprintf(log_ + n, sizeof log_ - n, "%u?all ", node);
    else if (type == MU_MSG_fence)
        snprintf(log_ + n, sizeof log_ - n, "%u?%llu ", node, (unsigned long long)q->seq);
    else if (m->status)
        snprintf(log_ + n, sizeof log_ - n, "%u!%llu=%s ", node, (unsigned long long)m->seq,
                 muster_strerror(m->status));
    else
        snprintf(log_ + n, sizeof log_ - n, "%u:%llu=%.*s ", node, (unsigned long long)m->seq, (int)m->data.len,
                 (const char *)m->data.data);
    if (job != 7)
        snprintf(log_, sizeof log_, "another job: %llu", (unsigned long long)job);
}

static void note(void *arg, uint64_t job, const uint32_t *nodes, uint32_t n, enum mu_msg_type type, const void *body)
{
    (void)arg;
    for (uint32_t i = 0; i < n; i++)
        note_one(job, nodes[i], type, body);
}

static bool said(const char *want)
{
    bool same = !strcmp(log_, want);

    if (!same)
        printf("# said: %s\n# want: %s\n", log_, want);
    log_[0] = 0;
    return same;
}

static void take(struct mu_fences *f, uint32_t attempt, uint64_t seq, uint32_t node, const char *data, uint32_t flags)
{
    mu_fences_take(f, 3,
                   &(struct mu_m_fence){.job = 7,
                                        .attempt = attempt,
                                        .seq = seq,
                                        .nodes = {.v = &node, .n = 1},
                                        .data = {.data = (uint8_t *)(uintptr_t)data, .len = (uint32_t)strlen(data)},
                                        .flags = flags});
}

static void gathering(void)
{
    struct mu_fences *f = mu_fences_new(1000, note, NULL);

    take(f, 1, 0, 2, "cc", 0);
    take(f, 1, 0, 0, "a", 0);
    take(f, 1, 0, 0, "other", 0);
    TAP_OK(said(""), "nothing is said while a node is missing");
    take(f, 1, 0, 1, "", 0);
    TAP_OK(said("0:0=acc 1:0=acc 2:0=acc "), "the data in the order of the nodes, to all; what came twice counts once");
    take(f, 1, 0, 1, "", MU_FENCE_AGAIN);
    TAP_OK(said("1:0=acc "), "said again, it is answered from memory");
    take(f, 1, 0, 1, "", MU_FENCE_DONE);
    TAP_OK(said(""), "who has it already is not answered");
    for (uint64_t seq = 1; seq <= 2; seq++)
        for (uint32_t i = 0; i < 3; i++)
            take(f, 1, seq, i, "x", 0);
    log_[0] = 0;
    take(f, 1, 1, 0, "x", MU_FENCE_AGAIN);
    TAP_OK(said("0:1=xxx "), "the last two are remembered");
    take(f, 1, 0, 0, "x", MU_FENCE_AGAIN);
    TAP_OK(said("") && mu_fences_bytes(f) == 6, "what all have had long ago is neither gathered nor asked for");
    take(f, 2, 0, 0, "n", 0);
    TAP_OK(mu_fences_bytes(f) == 1, "a newer attempt drives out the older one");
    take(f, 1, 3, 0, "old", 0);
    TAP_OK(mu_fences_bytes(f) == 1 && said(""), "which is heard no more");
    mu_fences_end(f, 7);
    mu_fences_end(f, 8);
    TAP_OK(!mu_fences_bytes(f), "the end of an attempt leaves nothing");
    mu_fences_free(f);
}

static void helping(void)
{
    struct mu_fences *f = mu_fences_new(1000, note, NULL);

    mu_fences_node_up(f, 7, 1, 2);
    TAP_OK(said("2?all "), "a node that comes back is asked what it waits for");
    take(f, 1, 5, 1, "b", MU_FENCE_AGAIN);
    TAP_OK(said("0?5 2?5 "), "one that is said again and not known: the others are asked");
    take(f, 1, 5, 1, "b", MU_FENCE_AGAIN);
    TAP_OK(said(""), "once");
    mu_fences_node_up(f, 7, 1, 2);
    TAP_OK(said("2?all 2?5 "), "and again when they come back");
    take(f, 1, 5, 0, "a", MU_FENCE_DONE);
    take(f, 1, 5, 2, "c", MU_FENCE_DONE | MU_FENCE_AGAIN);
    TAP_OK(said("1:5=abc "), "they help and are not answered");
    take(f, 1, 6, 0, "a", MU_FENCE_DONE);
    TAP_OK(said("") && mu_fences_bytes(f) == 3, "nothing is gathered for nobody");
    take(f, 1, 6, 0, "a", 0);
    take(f, 1, 6, 1, "b", 0);
    mu_fences_node_gone(f, 7, 1, 3, 2);
    mu_fences_node_gone(f, 7, 1, 3, 2);
    TAP_OK(said("2?6 "), "a node whose ranks have ended is asked for its contribution");
    mu_fences_take(f, 3,
                   &(struct mu_m_fence){.job = 7,
                                        .attempt = 1,
                                        .seq = 6,
                                        .nodes = {.v = &(uint32_t){2}, .n = 1},
                                        .flags = MU_FENCE_DONE,
                                        .status = MUSTER_EPEER});
    char want[200];
    snprintf(want, sizeof want, "0!6=%s 1!6=%s ", muster_strerror(MUSTER_EPEER), muster_strerror(MUSTER_EPEER));
    TAP_OK(said(want), "it never had one: the fence fails for those who wait");
    take(f, 1, 7, 0, "a", 0);
    TAP_OK(said("2?7 "), "and so that nobody waits in vain it is asked at once from then on");
    mu_fences_free(f);
}

static void some_nodes(void)
{
    struct mu_fences *f = mu_fences_new(1000, note, NULL);
    const uint64_t seq = 1ull << 63 | 0x5550000;
    struct mu_m_fence m = {.job = 7,
                           .attempt = 1,
                           .seq = seq,
                           .nodes = {.v = &(uint32_t){2}, .n = 1},
                           .data = {.data = (uint8_t[]){'c'}, .len = 1},
                           .among = {.v = (uint32_t[]){0, 2}, .n = 2}};
    char want[200];

    take(f, 1, 0, 0, "zero", 0);
    mu_fences_take(f, 3, &m);
    m.nodes.v = (uint32_t[]){0};
    m.data.data = (uint8_t[]){'a'};
    mu_fences_take(f, 3, &m);
    snprintf(want, sizeof want, "0:%llu=ac 2:%llu=ac ", (unsigned long long)seq, (unsigned long long)seq);
    TAP_OK(said(want), "a fence of two nodes, beside one of all");
    for (uint64_t i = 1; i <= 40; i++) {
        m.seq = seq + (i << 32);
        m.nodes.v = (uint32_t[]){0};
        mu_fences_take(f, 3, &m);
        m.nodes.v = (uint32_t[]){2};
        mu_fences_take(f, 3, &m);
    }
    TAP_OK(mu_fences_bytes(f) == 4 + 8 * 2, "of many kinds the results of eight are kept");
    log_[0] = 0;
    m.seq = seq + 1;
    m.nodes.v = (uint32_t[]){1};
    mu_fences_take(f, 3, &m);
    TAP_OK(strstr(log_, "1!") == log_, "one who takes no part is told so");
    log_[0] = 0;
    mu_fences_free(f);
}

static void merged(void)
{
    struct mu_fences *f = mu_fences_new(1000, note, NULL);
    struct mu_gather g;
    struct mu_m_fence m = {.job = 7, .attempt = 1, .seq = 0};
    char want[] = "0:0=abc 1:0=abc 2:0=abc ";

    /* what an inner node of a tree would do for nodes 2 and 0 */
    TAP_OK(!mu_gather_init(&g, 3, &(struct mu_u32v){0}) && g.missing == 3, "a gathering of three");
    mu_gather_add(&g, &(struct mu_m_fence){.nodes = {.v = (uint32_t[]){2}, .n = 1}, .data = {(uint8_t[]){'c'}, 1}});
    mu_gather_add(&g, &(struct mu_m_fence){.nodes = {.v = (uint32_t[]){0}, .n = 1}, .data = {(uint8_t[]){'a'}, 1}});
    TAP_OK(!mu_gather_message(&g, &m) && m.nodes.n == 2 && m.lens.n == 2 && g.missing == 1,
           "two of them in one message");
    take(f, 1, 0, 2, "c", 0); /* also on its own, by another way */
    mu_fences_take(f, 3, &m);
    take(f, 1, 0, 1, "b", 0);
    TAP_OK(said(want), "each node's piece is taken once and in its place");
    mu_gather_free(&g);
    mu_msg_free_body(MU_MSG_fence, &m);
    mu_fences_free(f);
}

static void limits(void)
{
    struct mu_fences *f = mu_fences_new(20, note, NULL);
    uint32_t zero[] = {0, 0}, both[] = {0, 1}, three[] = {3}, nine[] = {9};
    const struct {
        const char *what;
        struct mu_m_fence m;
    } bad[] = {
        {"of nobody", {.job = 7, .attempt = 1}},
        {"of a node that there is not", {.job = 7, .attempt = 1, .nodes = {three, 1}}},
        {"of two nodes without lengths", {.job = 7, .attempt = 1, .nodes = {both, 2}}},
        {"with lengths of others", {.job = 7, .attempt = 1, .nodes = {zero, 1}, .lens = {zero, 2}}},
        {"with lengths past the data", {.job = 7, .attempt = 1, .nodes = {zero, 1}, .lens = {nine, 1}}},
    };
    char want[300];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mu_fences_take(f, 3, &bad[i].m);
        TAP_OK(said("") && !mu_fences_bytes(f), "a message %s is ignored", bad[i].what);
    }
    for (uint32_t i = 0; i < 3; i++)
        take(f, 1, 0, i, "12345", 0);
    log_[0] = 0;
    take(f, 1, 1, 0, "1234567", 0);
    TAP_OK(said("") && mu_fences_bytes(f) == 7, "a result makes room for what is under way");
    take(f, 1, 0, 0, "12345", MU_FENCE_AGAIN);
    TAP_OK(said("1?0 2?0 "), "and is gathered anew when it is wanted");
    take(f, 1, 1, 1, "12345678901234567890", 0);
    snprintf(want, sizeof want, "0!1=%s 1!1=%s ", muster_strerror(MUSTER_ENOMEM), muster_strerror(MUSTER_ENOMEM));
    TAP_OK(said(want) && mu_fences_bytes(f) == 5, "what does not fit fails, and frees what it had");
    for (uint64_t seq = 10; seq < 10 + MU_FENCES_OPEN; seq++)
        take(f, 1, seq, 0, "", 0);
    snprintf(want, sizeof want, "0!%u=%s ", 10 + MU_FENCES_OPEN - 1, muster_strerror(MUSTER_ENOMEM));
    TAP_OK(said(want), "an attempt has so many under way and no more");
    mu_fences_free(f);
}

/* --- keepers, links and controllers ------------------------------------------------------------------------------- */

enum { NODES = 4, FENCES = 8, QUEUE = 256 };

static struct {
    uint64_t rng;
    struct mu_fences *ctl;
    struct node {
        struct mu_wireup *w;
        bool ka, ac; /* keeper to agent, agent to controller */
        struct mu_buf up[QUEUE], down[QUEUE];
        unsigned nup, ndown;
        uint64_t next, done;  /* fences begun; all before it are answered */
        bool ahead;           /* and the one behind that */
        bool some, some_done; /* the fence of some of the ranks */
    } node[NODES];
    unsigned n, depth;
    uint64_t steps;
    bool bad;
} w;

static uint64_t below(uint64_t n)
{
    w.rng ^= w.rng << 13;
    w.rng ^= w.rng >> 7;
    w.rng ^= w.rng << 17;
    return w.rng % n;
}

static void clear(struct mu_buf *q, unsigned *n)
{
    while (*n)
        mu_buf_free(&q[--*n]);
}

static void shift(struct mu_buf *q, unsigned *n)
{
    mu_buf_free(&q[0]);
    memmove(q, q + 1, --*n * sizeof *q);
    memset(&q[*n], 0, sizeof *q);
}

static void put(struct mu_buf *q, unsigned *n, enum mu_msg_type type, const void *body)
{
    if (*n == QUEUE || mu_msg_encode(&q[(*n)++], type, body))
        w.bad = true;
}

static void to_node(void *arg, uint64_t job, const uint32_t *nodes, uint32_t n, enum mu_msg_type type, const void *body)
{
    (void)arg, (void)job;
    for (uint32_t i = 0; i < n; i++)
        if (w.node[nodes[i]].ac && w.node[nodes[i]].ka)
            put(w.node[nodes[i]].down, &w.node[nodes[i]].ndown, type, body);
}

static void carry_out(struct node *k, struct mu_acts *acts)
{
    char want[200] = "";

    for (size_t i = 0; i < acts->n; i++) {
        MU_AUTO_MSG struct mu_msg m = {0};

        if (mu_msg_decode(acts->v[i].frame.data, acts->v[i].frame.len, &m, NULL)) {
            w.bad = true;
        } else if (acts->v[i].kind == MU_ACT_SEND) {
            if (k->ac && k->ka)
                put(k->up, &k->nup, m.type, &m.hello);
        } else if (acts->v[i].kind == MU_ACT_FENCED) {
            bool all = !(m.fenced.seq >> 63);

            want[0] = 0;
            for (unsigned p = 0; p < w.n; p++)
                if (all || p != 1)
                    snprintf(want + strlen(want), sizeof want - strlen(want), "%u.%llu ", p,
                             (unsigned long long)m.fenced.seq);
            if (m.fenced.status || m.fenced.data.len != strlen(want) ||
                memcmp(m.fenced.data.data, want, strlen(want)) ||
                (all ? m.fenced.seq < k->done || m.fenced.seq > k->done + 1 || (m.fenced.seq > k->done && k->ahead)
                     : k->some_done))
                w.bad = true;
            if (all && m.fenced.seq > k->done) {
                k->ahead = true;
            } else if (all) {
                k->done += 1 + k->ahead;
                k->ahead = false;
            }
            k->some_done |= !all;
        }
    }
    mu_acts_free(acts);
}

static bool gone(const struct node *k)
{
    return k->done == FENCES && (k->some_done || k == &w.node[1]);
}

static struct mu_wireup_at at(const struct node *k, struct mu_acts *acts)
{
    return (struct mu_wireup_at){.acts = acts, .phase = gone(k) ? MU_PHASE_GONE : MU_PHASE_RUNNING, .up = k->ka};
}

static void begin(struct node *k, uint64_t seq, struct mu_u32v among)
{
    struct mu_acts acts = {0};
    struct mu_wireup_at a = at(k, &acts);
    char data[40];
    struct mu_m_fence m = {.attempt = 1, .seq = seq, .among = among, .data = {.data = (uint8_t *)data}};

    m.data.len = (uint32_t)snprintf(data, sizeof data, "%u.%llu ", (unsigned)(k - w.node), (unsigned long long)seq);
    mu_wireup_fence(k->w, &a, &m);
    carry_out(k, &acts);
}

static void one(struct node *k)
{
    struct mu_acts acts = {0};
    struct mu_wireup_at a = at(k, &acts);
    MU_AUTO_MSG struct mu_msg m = {0};
    uint32_t others[NODES], n = 0;

    switch (below(4)) {
    case 0:
        if (k->next < FENCES && k->next < k->done + w.depth)
            begin(k, k->next++, (struct mu_u32v){0});
        else if (!k->some && k != &w.node[1]) {
            for (uint32_t i = 0; i < w.n; i++)
                if (i != 1)
                    others[n++] = i;
            k->some = true;
            begin(k, 1ull << 63 | 0x770000, (struct mu_u32v){.v = others, .n = n});
        }
        return;
    case 1:
        if (!k->nup || mu_msg_decode(k->up[0].data, k->up[0].len, &m, NULL))
            return;
        shift(k->up, &k->nup);
        mu_fences_take(w.ctl, w.n, &m.fence);
        return;
    default:
        if (!k->ndown || mu_msg_decode(k->down[0].data, k->down[0].len, &m, NULL))
            return;
        shift(k->down, &k->ndown);
        mu_wireup_msg(k->w, &a, &m);
        carry_out(k, &acts);
        if (gone(k))
            mu_fences_node_gone(w.ctl, 1, 1, w.n, (uint32_t)(k - w.node));
    }
}

static void cut(struct node *k)
{
    clear(k->up, &k->nup);
    clear(k->down, &k->ndown);
}

static void mend(struct node *k)
{
    struct mu_acts acts = {0};

    if (!k->ac) {
        k->ac = true;
        mu_fences_node_up(w.ctl, 1, 1, (uint32_t)(k - w.node));
        if (gone(k))
            mu_fences_node_gone(w.ctl, 1, 1, w.n, (uint32_t)(k - w.node));
    }
    if (!k->ka) {
        k->ka = true;
        struct mu_wireup_at a = at(k, &acts);
        mu_wireup_up(k->w, &a);
        carry_out(k, &acts);
    }
}

static void break_something(struct node *k)
{
    switch (below(6)) {
    case 0:
        k->ka = false;
        cut(k);
        return;
    case 1:
        k->ac = false;
        cut(k);
        return;
    case 2:
        mu_fences_free(w.ctl);
        w.ctl = mu_fences_new(below(2) ? 200 : 10000, to_node, NULL);
        for (unsigned i = 0; i < w.n; i++) {
            w.node[i].ac = false;
            cut(&w.node[i]);
        }
        return;
    default:
        mend(k);
    }
}

static bool over(void)
{
    for (unsigned i = 0; i < w.n; i++)
        if (!gone(&w.node[i]))
            return false;
    return true;
}

static const char *schedule(uint64_t seed)
{
    const char *why = NULL;

    memset(&w, 0, sizeof w);
    w.rng = seed * 0x9e3779b97f4a7c15ull + 1;
    w.n = 3 + (unsigned)below(NODES - 2);
    w.depth = 1 + (unsigned)below(2);
    w.ctl = mu_fences_new(10000, to_node, NULL);
    for (unsigned i = 0; i < w.n; i++) {
        uint32_t ranks[NODES] = {1, 1, 1, 1};

        w.node[i].ka = w.node[i].ac = true;
        w.node[i].w = mu_wireup_new(1);
        mu_wireup_begin(w.node[i].w, &(struct mu_m_start){
                                         .job = 1, .attempt = 1, .node_id = i, .node_ranks = {.v = ranks, .n = w.n}});
    }
    unsigned calm = 20 + (unsigned)below(400);
    while (!over() && !w.bad && w.steps++ < 20000) {
        struct node *k = &w.node[below(w.n)];

        if (w.steps < 1500 && !below(calm))
            break_something(k);
        else if (w.steps >= 1500 || !below(20))
            mend(k);
        else
            one(k);
        if (w.steps >= 1500)
            one(&w.node[below(w.n)]);
    }
    why = w.bad ? "a wrong answer" : over() ? NULL : "somebody waits for ever";
    mu_fences_end(w.ctl, 1);
    if (!why && mu_fences_bytes(w.ctl))
        why = "memory is left";
    mu_fences_free(w.ctl);
    for (unsigned i = 0; i < w.n; i++) {
        cut(&w.node[i]);
        mu_wireup_free(w.node[i].w);
    }
    return why;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, last = argc > 1 ? seed : 3000;
    const char *why = NULL;

    gathering();
    helping();
    some_nodes();
    merged();
    limits();
    while (seed <= last && !why)
        why = schedule(seed++);
    TAP_OK(!why, "keepers behind links that break, with controllers that forget: all fences end (seed %llu: %s)",
           (unsigned long long)seed - 1, why ? why : "fine");
    return tap_done();
}
