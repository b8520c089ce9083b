#include "runtime/keeper/hang.h"

#include "runtime/base/clock.h"

#define POLLED_LATELY MU_SEC         /* a rank that calls muster_test so often is waiting */
#define MOVES_ELSEWHERE (5 * MU_SEC) /* one that waits for less, or a quarter of the deadline, is on its way */
#define STUCK (2 * MU_SEC)           /* without a beat for so long, or half the deadline */
#define AGAIN MU_SEC                 /* the end of a deadline is said again after so long */

static bool verdict(uint32_t what)
{
    return what >= MU_HANG_STOPPED && what <= MU_HANG_CYCLE;
}

/* Describes the local rank i. */
static void end(const struct mu_hang_view *v, uint32_t i, uint32_t what, struct mu_m_hang *out)
{
    const struct mu_hang_rank *r = &v->ranks[i];

    out->what = what;
    out->rank = v->first + i;
    out->process = (uint32_t)r->process;
    out->still_ns = what == MU_HANG_STOPPED && r->stopped_at ? v->now - r->stopped_at : 0;
    out->op_seq = r->op_seq;
    out->in_kind = r->op.polled ? 0 : r->op.kind;
    out->last_ctx = r->last_ctx;
    out->last_number = r->last_number;
}

static bool local(const struct mu_hang_view *v, uint32_t rank, uint32_t *i)
{
    *i = rank - v->first;
    return rank >= v->first && *i < v->n;
}

static bool before_mpi(const struct mu_slot_op *op)
{
    return op->kind == MU_OP_KIND_INIT && !op->ctx;
}

/* Somebody of this node who has not called muster_init, a stopped one first; MU_ALL: nobody. */
static uint32_t not_joined(const struct mu_hang_view *v)
{
    uint32_t who = MU_ALL;

    for (uint32_t i = 0; i < v->n; i++) {
        const struct mu_hang_rank *r = &v->ranks[i];
        if (!r->alive || r->state != MU_RANK_EMPTY)
            continue;
        if (r->stopped_at)
            return i;
        who = who == MU_ALL ? i : who;
    }
    return who;
}

static void end_at_init(const struct mu_hang_view *v, struct mu_m_hang *out)
{
    uint32_t who = not_joined(v);

    if (who != MU_ALL) {
        end(v, who, v->ranks[who].stopped_at ? MU_HANG_STOPPED : MU_HANG_ABSENT, out);
        return;
    }
    out->what = MU_HANG_ELSEWHERE;
    out->rank = MU_ALL;
}

/* What is to be said of rank i when others wait for it; or *peer, whom it waits for. */
static uint32_t how(const struct mu_hang_view *v, uint32_t i, bool first, uint32_t *peer)
{
    const struct mu_hang_rank *r = &v->ranks[i];
    const struct mu_slot_op *op = &r->op;
    uint64_t moves = v->hang_ns / 4 < MOVES_ELSEWHERE ? v->hang_ns / 4 : MOVES_ELSEWHERE;

    *peer = MU_OP_PEER_NONE;
    if (r->late_kind) { /* out of its wait, but no less a victim */
        *peer = r->late_peer;
        return *peer == MU_OP_PEER_NONE ? MU_HANG_NOBODY : MU_HANG_ELSEWHERE;
    }
    if (!r->alive || r->gave_up)
        return MU_HANG_NOBODY;
    if (r->stopped_at)
        return MU_HANG_STOPPED;
    if (op->kind == MU_OP_KIND_CKPT)
        return MU_HANG_FILES;
    if (op->kind == MU_OP_KIND_NONE)
        return r->state >= MU_RANK_FINALIZED ? MU_HANG_NOBODY : MU_HANG_ABSENT;
    if (op->polled && v->now - r->beat_at > POLLED_LATELY)
        return MU_HANG_ABSENT;
    if (before_mpi(op))
        return MU_HANG_ELSEWHERE; /* peer: none */
    if (!first && v->now - r->beat_at > (v->hang_ns / 2 > STUCK ? v->hang_ns / 2 : STUCK))
        return MU_HANG_STUCK;
    if (!first && v->now - op->since < moves)
        return MU_HANG_ABSENT;
    *peer = op->peer;
    return *peer == MU_OP_PEER_NONE ? MU_HANG_NOBODY : MU_HANG_ELSEWHERE;
}

static bool waits(const struct mu_hang_rank *r)
{
    return r->alive && !r->stopped_at && !r->op.polled && r->op.kind != MU_OP_KIND_NONE &&
           r->op.kind != MU_OP_KIND_CKPT;
}

static uint64_t age(const struct mu_hang_view *v, uint32_t i)
{
    return waits(&v->ranks[i]) && v->now > v->ranks[i].op.since ? v->now - v->ranks[i].op.since : 0;
}

static bool gave_up_in(const struct mu_hang_rank *r, uint64_t ctx, uint64_t number)
{
    return r->gave_up && r->last_ctx == ctx && r->last_number == number;
}

/* What rank i waits in, or has given up, and with how many. */
static void say_wait(const struct mu_hang_view *v, uint32_t i, struct mu_m_hang *out)
{
    const struct mu_hang_rank *r = &v->ranks[i];

    out->from = v->first + i;
    out->kind = r->late_kind ? r->late_kind : r->op.kind;
    out->ctx = r->late_kind ? r->late_ctx : r->op.ctx;
    out->number = r->late_kind ? r->late_number : r->op.number;
    out->wait_ns = r->late_kind ? r->late_ns : v->now - r->op.since;
    out->nwait = 1;
    for (uint32_t k = 0; k < v->n && out->kind != MU_OP_KIND_SEND && out->kind != MU_OP_KIND_RECV; k++) {
        const struct mu_slot_op *other = &v->ranks[k].op;
        bool there =
            waits(&v->ranks[k]) && other->kind == out->kind && other->ctx == out->ctx && other->number == out->number;
        out->nwait += k != i && (there || gave_up_in(&v->ranks[k], out->ctx, out->number));
    }
}

/* From rank i on, which waits itself when `first`. What is said of a wait is that of the last one here who waits. */
static void follow(const struct mu_hang_view *v, uint32_t i, bool first, struct mu_m_hang *out)
{
    uint32_t peer, low = i, last = MU_ALL;

    for (uint32_t steps = 0; steps <= 2 * v->n; steps++, first = false) {
        uint32_t what = how(v, i, first, &peer);

        if (what != MU_HANG_ELSEWHERE) {
            end(v, i, what, out);
            if (last != MU_ALL)
                say_wait(v, last, out);
            return;
        }
        last = i;
        if (peer == MU_OP_PEER_NONE) {
            end_at_init(v, out);
            say_wait(v, last, out);
            return;
        }
        if (!local(v, peer, &i)) {
            end(v, last, MU_HANG_ELSEWHERE, out);
            say_wait(v, last, out);
            out->rank = peer;
            return;
        }
        if (steps == v->n || (steps > v->n && v->ranks[i].op_seq < v->ranks[low].op_seq))
            low = i; /* by now it goes round and round */
    }
    end(v, low, MU_HANG_CYCLE, out);
    for (uint32_t k = 0; k < v->n; k++)
        if (waits(&v->ranks[k]) && v->ranks[k].op.peer == v->first + low)
            say_wait(v, k, out);
}

/* The longest stopped. A debugger is somebody's intention: it has the whole deadline. */
static bool stopped(const struct mu_hang_view *v, struct mu_m_hang *out)
{
    uint32_t who = MU_ALL;

    for (uint32_t i = 0; i < v->n; i++) {
        const struct mu_hang_rank *r = &v->ranks[i];
        uint64_t patience = r->process == 't' ? v->hang_ns : mu_hang_stopped_ns(v->hang_ns);
        if (r->alive && r->stopped_at && v->now - r->stopped_at >= patience &&
            (who == MU_ALL || r->stopped_at < v->ranks[who].stopped_at))
            who = i;
    }
    if (who == MU_ALL)
        return false;
    for (uint32_t i = 0; i < v->n; i++) { /* who waits for it, the longest */
        struct mu_m_hang m = {0};
        if (age(v, i) <= out->wait_ns)
            continue;
        follow(v, i, true, &m);
        if (m.what == MU_HANG_STOPPED && m.rank == v->first + who && m.wait_ns > out->wait_ns)
            *out = m;
    }
    end(v, who, MU_HANG_STOPPED, out);
    out->level = MU_HANG_LEVEL_OVER;
    return true;
}

void mu_hang_judge(const struct mu_hang_view *v, struct mu_m_hang *out)
{
    uint32_t longest = MU_ALL;

    *out = (struct mu_m_hang){0};
    if (!v->hang_ns || stopped(v, out))
        return;
    for (uint32_t i = 0; i < v->n; i++) {
        struct mu_m_hang m = {0};
        if (!age(v, i))
            continue;
        if (longest == MU_ALL || age(v, i) > age(v, longest))
            longest = i;
        if (age(v, i) < v->hang_ns)
            continue;
        follow(v, i, true, &m);
        if (!verdict(m.what) && m.what != MU_HANG_ELSEWHERE)
            continue;
        if (out->level && (m.what > out->what || (m.what == out->what && m.op_seq >= out->op_seq)))
            continue;
        *out = m;
        out->level = MU_HANG_LEVEL_OVER;
    }
    if (out->level || longest == MU_ALL || age(v, longest) < mu_hang_stopped_ns(v->hang_ns) / 2)
        return;
    say_wait(v, longest, out);
    out->level = MU_HANG_LEVEL_SOME;
}

void mu_hang_answer(const struct mu_hang_view *v, uint32_t rank, struct mu_m_hang *out)
{
    uint32_t i;

    *out = (struct mu_m_hang){.asked_plus1 = rank + 1, .from = rank};
    if (rank == MU_ALL) {
        out->asked_plus1 = MU_ALL;
        end_at_init(v, out);
        if (out->what == MU_HANG_ELSEWHERE)
            out->what = MU_HANG_NOBODY;
    } else if (local(v, rank, &i)) {
        follow(v, i, false, out);
    }
}

void mu_hang_late(const struct mu_hang_view *all, struct mu_m_hang *out)
{
    struct mu_hang_view v = *all;

    *out = (struct mu_m_hang){0};
    for (uint32_t i = 0; i < v.n; i++) {
        const struct mu_hang_rank *r = &v.ranks[i];
        uint32_t peer;
        if (!r->late_kind)
            continue;
        if (!v.hang_ns || r->late_ns < v.hang_ns)
            v.hang_ns = r->late_ns;
        *out = (struct mu_m_hang){0};
        if (r->late_peer == MU_OP_PEER_NONE)
            end_at_init(&v, out);
        else if (local(&v, r->late_peer, &peer))
            follow(&v, peer, false, out);
        else {
            end(&v, i, MU_HANG_ELSEWHERE, out);
            out->rank = r->late_peer;
        }
        if (!verdict(out->what) && out->what != MU_HANG_ELSEWHERE)
            continue;
        out->level = MU_HANG_LEVEL_LATE;
        if (!out->nwait)
            say_wait(&v, i, out);
        return;
    }
    out->level = MU_HANG_LEVEL_NONE;
}

bool mu_hang_news(struct mu_hang_told *t, const struct mu_m_hang *m, uint64_t now)
{
    const struct mu_m_hang *l = &t->last;
    bool same = m->level == l->level && m->what == l->what && m->rank == l->rank && m->from == l->from &&
                m->ctx == l->ctx && m->number == l->number;

    if (!m->level || (same && (m->level < MU_HANG_LEVEL_OVER || now - t->at < AGAIN)))
        return false;
    t->last = *m;
    t->at = now;
    return true;
}
