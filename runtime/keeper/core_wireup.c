#include "runtime/keeper/core_wireup.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

#define WAIT (MU_MODEX_WAIT_S * MU_SEC)
#define REPEAT (MU_MODEX_REPEAT_S * MU_SEC)
#define KEPT 16u /* answered fences of all kinds */

struct fence {
    struct mu_m_fence said; /* owned; what goes out, but for the flags */
    bool open;
};
struct question { /* ours, to another node */
    struct mu_m_modex m;
    uint64_t until, again;
};
struct task { /* another node's, that PMIx has here */
    uint32_t from;
    uint64_t id;
};

struct mu_wireup {
    mu_conn agent;
    uint64_t job;
    uint32_t attempt, me;
    struct mu_u32v ranks; /* by node */
    struct fence *fences; /* in the order in which PMIx wanted them */
    unsigned nfences, capfences;
    struct question *questions;
    unsigned nquestions, capquestions;
    struct task *tasks;
    unsigned ntasks, captasks;
};

struct mu_wireup *mu_wireup_new(mu_conn agent)
{
    struct mu_wireup *w = calloc(1, sizeof *w);

    if (w)
        w->agent = agent;
    return w;
}

static void drop_fence(struct mu_wireup *w, unsigned i)
{
    mu_msg_free_body(MU_MSG_fence, &w->fences[i].said);
    w->nfences--;
    memmove(&w->fences[i], &w->fences[i + 1], (w->nfences - i) * sizeof w->fences[0]);
}

static void forget(struct mu_wireup *w)
{
    while (w->nfences)
        drop_fence(w, w->nfences - 1);
    free(w->ranks.v);
    w->ranks = (struct mu_u32v){0};
    w->nquestions = w->ntasks = 0;
}

void mu_wireup_free(struct mu_wireup *w)
{
    if (!w)
        return;
    forget(w);
    free(w->fences);
    free(w->questions);
    free(w->tasks);
    free(w);
}

int mu_wireup_begin(struct mu_wireup *w, const struct mu_m_start *s)
{
    forget(w);
    w->job = s->job;
    w->attempt = s->attempt;
    w->me = s->node_id;
    w->ranks.v = malloc((s->node_ranks.n + 1u) * sizeof *w->ranks.v);
    if (!w->ranks.v)
        return MUSTER_ENOMEM;
    for (uint32_t i = 0; i < s->node_ranks.n; i++)
        w->ranks.v[w->ranks.n++] = s->node_ranks.v[i];
    return 0;
}

static void *grown(void *v, unsigned n, unsigned *cap, size_t size)
{
    if (n < *cap)
        return v;
    unsigned more = *cap ? *cap * 2 : 4;
    void *p = realloc(v, more * size);
    if (p)
        *cap = more;
    return p;
}

/* --- fences ------------------------------------------------------------------------------------------------------- */

static void say(struct mu_wireup *w, const struct mu_wireup_at *at, const struct fence *f, uint32_t flags)
{
    struct mu_m_fence m = f->said;

    m.flags = flags | (f->open ? 0 : MU_FENCE_DONE);
    if (at->up)
        mu_acts_send(at->acts, w->agent, MU_MSG_fence, &m);
}

static void hand_over(const struct mu_wireup_at *at, const struct mu_m_fenced *m)
{
    if (mu_msg_encode(&mu_acts_add(at->acts, MU_ACT_FENCED)->frame, MU_MSG_fenced, m))
        at->acts->failed = true;
}

void mu_wireup_fence(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_fence *m)
{
    struct mu_m_fenced answer = {.job = w->job, .attempt = m->attempt, .seq = m->seq, .data = m->data};
    struct fence *v;

    if (m->attempt != w->attempt)
        return;
    if (w->ranks.n <= 1 || (m->among.n == 1 && m->among.v[0] == w->me)) { /* nobody else takes part */
        hand_over(at, &answer);
        return;
    }
    v = grown(w->fences, w->nfences, &w->capfences, sizeof *v);
    if (v) {
        struct mu_m_fence said = *m;

        w->fences = v;
        v += w->nfences;
        said.job = w->job;
        said.nodes = (struct mu_u32v){.v = &w->me, .n = 1};
        if (!mu_msg_copy(MU_MSG_fence, &v->said, &said)) {
            v->open = true;
            w->nfences++;
            say(w, at, v, 0);
            return;
        }
    }
    answer.status = MUSTER_ENOMEM;
    answer.data = (struct mu_bytes){0};
    hand_over(at, &answer);
}

static void on_fenced(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_fenced *m)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < w->nfences; i++) {
        if (w->fences[i].said.seq != m->seq)
            continue;
        if (!w->fences[i].open)
            return;
        w->fences[i].open = false;
        hand_over(at, m);
        break;
    }
    /* of each kind the last ones, of all kinds together not too many; newest first */
    for (unsigned i = w->nfences; i-- > 0;) {
        const struct fence *f = &w->fences[i];
        bool old = !f->open && mu_fence_kind(f->said.seq) == mu_fence_kind(m->seq) &&
                   mu_fence_behind(m->seq, f->said.seq) >= MU_FENCE_KEEP;

        kept += !f->open && !old;
        if (old || (!f->open && kept > KEPT))
            drop_fence(w, i);
    }
}

/* A question for our contribution. */
static void on_fence(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_fence *m)
{
    struct mu_m_fence never = {.job = w->job,
                               .attempt = w->attempt,
                               .seq = m->seq,
                               .nodes = {.v = &w->me, .n = 1},
                               .flags = MU_FENCE_DONE,
                               .status = MUSTER_EPEER};
    bool all = m->seq == MU_FENCE_ALL;

    for (unsigned i = 0; i < w->nfences; i++) {
        if (all ? !w->fences[i].open : w->fences[i].said.seq != m->seq)
            continue;
        say(w, at, &w->fences[i], MU_FENCE_AGAIN);
        if (!all)
            return;
    }
    if (!all && at->phase == MU_PHASE_GONE && at->up)
        mu_acts_send(at->acts, w->agent, MU_MSG_fence, &never);
}

/* --- single questions --------------------------------------------------------------------------------------------- */

static void to_pmix(const struct mu_wireup_at *at, const struct mu_m_modex *m)
{
    if (mu_msg_encode(&mu_acts_add(at->acts, MU_ACT_MODEX)->frame, MU_MSG_modex, m))
        at->acts->failed = true;
}

static void to_node(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_modex *m)
{
    if (at->up)
        mu_acts_send(at->acts, w->agent, MU_MSG_modex, m);
}

/* The node that has a rank; ranks.n: none. */
static uint32_t node_of(const struct mu_wireup *w, uint32_t rank)
{
    uint64_t end = 0;
    uint32_t i;

    for (i = 0; i < w->ranks.n && rank >= (end += w->ranks.v[i]); i++)
        ;
    return i;
}

static void ask(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_modex *from_pmix)
{
    struct mu_m_modex m = {.job = w->job,
                           .attempt = w->attempt,
                           .from = w->me,
                           .to = node_of(w, from_pmix->rank),
                           .id = from_pmix->id,
                           .rank = from_pmix->rank};
    struct question *v = NULL;

    if (m.to >= w->ranks.n || m.to == w->me) {
        m.status = MUSTER_EARG; /* PMIx itself knows what is here */
    } else {
        v = w->nquestions < MU_MODEX_OPEN ? grown(w->questions, w->nquestions, &w->capquestions, sizeof *v) : NULL;
        m.status = v ? 0 : MUSTER_ENOMEM;
    }
    if (m.status) {
        m.answer = 1;
        to_pmix(at, &m);
        return;
    }
    w->questions = v;
    v[w->nquestions++] = (struct question){.m = m, .until = at->now + WAIT, .again = at->now + REPEAT};
    to_node(w, at, &m);
}

void mu_wireup_modex(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_modex *m)
{
    if (m->attempt != w->attempt)
        return;
    if (!m->answer) {
        ask(w, at, m);
        return;
    }
    for (unsigned i = 0; i < w->ntasks; i++) {
        if (w->tasks[i].from != m->to || w->tasks[i].id != m->id)
            continue;
        struct mu_m_modex answer = *m;

        w->tasks[i] = w->tasks[--w->ntasks];
        answer.job = w->job;
        answer.from = w->me;
        to_node(w, at, &answer);
        return;
    }
}

static void on_question(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_modex *m)
{
    bool live = at->phase == MU_PHASE_STARTING || at->phase == MU_PHASE_RUNNING;
    struct task *v;

    for (unsigned i = 0; i < w->ntasks; i++)
        if (w->tasks[i].from == m->from && w->tasks[i].id == m->id)
            return;
    v = live && w->ntasks < MU_MODEX_OPEN ? grown(w->tasks, w->ntasks, &w->captasks, sizeof *v) : NULL;
    w->tasks = v ? v : w->tasks;
    if (!v || node_of(w, m->rank) != w->me) {
        struct mu_m_modex no = *m;

        no.from = m->to;
        no.to = m->from;
        no.answer = 1;
        no.status = !live ? MUSTER_EPEER : v ? MUSTER_EARG : MUSTER_ENOMEM;
        to_node(w, at, &no);
        return;
    }
    v[w->ntasks++] = (struct task){.from = m->from, .id = m->id};
    to_pmix(at, m);
}

static void on_answer(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_m_modex *m)
{
    for (unsigned i = 0; i < w->nquestions; i++) {
        if (w->questions[i].m.id != m->id || w->questions[i].m.to != m->from)
            continue;
        w->questions[i] = w->questions[--w->nquestions];
        to_pmix(at, m);
        return;
    }
}

/* --- both --------------------------------------------------------------------------------------------------------- */

static void ask_again(struct mu_wireup *w, const struct mu_wireup_at *at)
{
    for (unsigned i = 0; i < w->nquestions; i++) {
        to_node(w, at, &w->questions[i].m);
        w->questions[i].again = at->now + REPEAT;
    }
}

void mu_wireup_msg(struct mu_wireup *w, const struct mu_wireup_at *at, const struct mu_msg *m)
{
    switch (m->type) {
    case MU_MSG_fence:
        if (m->fence.job != w->job || m->fence.attempt != w->attempt)
            return;
        on_fence(w, at, &m->fence);
        if (m->fence.seq == MU_FENCE_ALL)
            ask_again(w, at);
        return;
    case MU_MSG_fenced:
        if (m->fenced.job == w->job && m->fenced.attempt == w->attempt)
            on_fenced(w, at, &m->fenced);
        return;
    case MU_MSG_modex:
        if (m->modex.job != w->job || m->modex.attempt != w->attempt || m->modex.to != w->me)
            return;
        if (m->modex.answer)
            on_answer(w, at, &m->modex);
        else
            on_question(w, at, &m->modex);
        return;
    default:
        return;
    }
}

void mu_wireup_up(struct mu_wireup *w, const struct mu_wireup_at *at)
{
    for (unsigned i = 0; i < w->nfences; i++)
        say(w, at, &w->fences[i], MU_FENCE_AGAIN);
    ask_again(w, at);
}

void mu_wireup_time(struct mu_wireup *w, const struct mu_wireup_at *at)
{
    for (unsigned i = 0; i < w->nquestions;) {
        struct question *q = &w->questions[i];

        if (at->now >= q->until) {
            struct mu_m_modex late = q->m;

            late.answer = 1;
            late.status = MUSTER_ETIMEOUT;
            *q = w->questions[--w->nquestions];
            to_pmix(at, &late);
            continue;
        }
        if (at->now >= q->again) {
            q->again = at->now + REPEAT;
            to_node(w, at, &q->m);
        }
        i++;
    }
}

uint64_t mu_wireup_next(const struct mu_wireup *w)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < w->nquestions; i++) {
        next = w->questions[i].until < next ? w->questions[i].until : next;
        next = w->questions[i].again < next ? w->questions[i].again : next;
    }
    return next;
}
