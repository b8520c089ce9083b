/* Ranks that do not go on. Keepers tell of ranks that have waited for the hang deadline and follow their waits as far
 * as they see (runtime/keeper/hang.h); where a wait leads to another node, that node's keeper is asked, one question at
 * a time, until there is one who is waited for and does not wait. Lost questions do no harm: keepers tell again. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "launcher/core/ctl_priv.h"
#include "runtime/base/clock.h"
#include "runtime/base/procstate.h"
#include "runtime/base/slot.h"

#define SETTLE (100 * MU_MS)    /* several may be to blame: so long for those that know of another one */
#define CONNECT (20 * MU_SEC)   /* past the deadline, for ranks that all have called muster_init to find one another */
#define ASK_AGAIN (900 * MU_MS) /* an answer that has not come by then is given up */

static uint32_t part_of_rank(const struct job *j, uint32_t rank)
{
    uint32_t first = 0;

    for (uint32_t i = 0; i < j->nparts; first += j->parts[i++].share.ranks)
        if (rank - first < j->parts[i].share.ranks)
            return i;
    return MU_ALL;
}

static uint32_t part_of_node(const struct job *j, int node)
{
    for (uint32_t i = 0; i < j->nparts; i++)
        if (j->parts[i].share.node == (uint32_t)node)
            return i;
    return MU_ALL;
}

static bool verdict(uint32_t what)
{
    return what >= MU_HANG_STOPPED && what <= MU_HANG_CYCLE;
}

/* Its ranks outlive failures; those that hang then are ended one by one. */
static bool lives_on(const struct job *j)
{
    return j->spec.on_failure == MU_FAIL_KEEP;
}

static bool is_open(const struct mu_ctl *c, const struct job *j)
{
    if (j->row.ending != MU_END_NONE || j->retry_at || mu_job_waits(j->row.state) || mu_job_over(j->row.state))
        return false;
    /* the failure that is recorded may be that of a victim */
    return !j->failed_now || lives_on(j) || (!j->hang.killed && mu_ctl_job_outweighs(c, j, MU_BLAME_SIGNAL));
}

/* --- words ---------------------------------------------------------------------------------------------------------
 */

static const char *op_name(uint32_t kind)
{
    static const char *const names[] = {
#define NAME(name, text) text,
        MU_OP_KINDS(NAME)
#undef NAME
    };
    return kind < sizeof names / sizeof names[0] ? names[kind] : "an operation";
}

struct held { /* those who wait */
    uint32_t nranks, kind, from;
    uint64_t ctx, number, ns;
};

/* The wait that the verdict is about, with all ranks known to be in it. */
static bool who_waits(const struct mu_ctl *c, const struct job *j, struct held *out)
{
    const struct hang *h = &j->hang;
    const struct mu_m_hang *own[] = {&h->best, &h->why};

    *out = (struct held){0};
    for (unsigned i = 0; i < 2 && !out->nranks; i++)
        if (own[i]->nwait)
            *out = (struct held){.nranks = own[i]->nwait,
                                 .kind = own[i]->kind,
                                 .from = own[i]->from,
                                 .ctx = own[i]->ctx,
                                 .number = own[i]->number,
                                 .ns = own[i]->wait_ns};
    bool known = out->nranks && out->kind != MU_OP_KIND_SEND && out->kind != MU_OP_KIND_RECV;
    uint32_t here = known ? part_of_rank(j, out->from) : h->best_part;
    for (uint32_t i = 0; i < j->nparts; i++) {
        const struct part *p = &j->parts[i];
        if (i == here || !p->wait.nranks || p->wait.kind == MU_OP_KIND_SEND || p->wait.kind == MU_OP_KIND_RECV)
            continue;
        /* what is told first is the wait; it is over when the one to blame has left it behind */
        if (!out->nranks && p->wait.ctx == h->best.last_ctx && p->wait.number >= h->best.last_number + !h->best.in_kind)
            *out = (struct held){.kind = p->wait.kind, .ctx = p->wait.ctx, .number = p->wait.number};
        if ((out->nranks && !known) || p->wait.kind != out->kind || p->wait.ctx != out->ctx ||
            p->wait.number != out->number)
            continue;
        known = true;
        out->nranks += p->wait.nranks;
        if (c->now > p->wait.since && c->now - p->wait.since > out->ns)
            out->ns = c->now - p->wait.since;
    }
    return out->nranks > 0;
}

/* MPI does not come up, and nobody is to blame who can be named. */
static bool at_start(const struct mu_m_hang *m)
{
    return m->what == MU_HANG_CYCLE && m->kind == MU_OP_KIND_INIT && !m->ctx && !m->last_ctx;
}

/* What is said of the rank behind its name. */
static void describe(const struct mu_ctl *c, const struct job *j, char *text, size_t n)
{
    const struct mu_m_hang *m = &j->hang.best;
    const char *state = mu_proc_state_text((char)m->process);
    char op[80], ranks[40];
    struct held held;

    if (at_start(m)) {
        snprintf(text, n,
                 "has waited in %s for %.1f s, which all ranks have called: do the job's hosts reach one another?",
                 op_name(m->kind), (double)m->wait_ns / 1e9);
        return;
    }
    if (!who_waits(c, j, &held)) {
        snprintf(text, n, "does not go on for %.1f s now: %s", (double)m->still_ns / 1e9, state);
        return;
    }
    double waited = (double)held.ns / 1e9;
    snprintf(ranks, sizeof ranks, "%u rank%s", held.nranks, held.nranks == 1 ? " has" : "s have");
    if (held.number)
        snprintf(op, sizeof op, "%s #%llu", op_name(held.kind), (unsigned long long)held.number);
    else
        snprintf(op, sizeof op, "%s", op_name(held.kind));
    bool there = m->last_ctx == held.ctx && m->last_number >= held.number && held.number;
    if (held.kind == MU_OP_KIND_RECV)
        snprintf(text, n, "has not sent what rank %u has waited for for %.1f s; %s", held.from, waited, state);
    else if (held.kind == MU_OP_KIND_SEND)
        snprintf(text, n, "has not received what rank %u has tried to send for %.1f s; %s", held.from, waited, state);
    else if (m->what == MU_HANG_CYCLE)
        snprintf(text, n, "is in %s while %s waited for it in %s for %.1f s: ranks wait for one another",
                 op_name(m->in_kind), ranks, op, waited);
    else if (m->what == MU_HANG_STUCK)
        snprintf(text, n, "is stuck inside %s, which %s waited in for %.1f s; %s", op, ranks, waited, state);
    else if (there)
        snprintf(text, n, "does not go on with %s, which %s waited in for %.1f s; %s", op, ranks, waited, state);
    else
        snprintf(text, n, "has not %s %s, which %s waited in for %.1f s; %s",
                 held.kind == MU_OP_KIND_INIT ? "called" : "entered", op, ranks, waited, state);
}

/* --- decision ------------------------------------------------------------------------------------------------------
 */

/* Ranks on several nodes that wait for one another: maybe two of these do not reach each other. When the next attempt
 * does not even come up, the node that was named then makes room for another one, if there is one. */
static void avoid(struct mu_ctl *c, struct job *j)
{
    const struct hang *h = &j->hang;
    uint32_t node = j->parts[h->best_part].share.node;

    if (h->best.what != MU_HANG_CYCLE || j->nparts < 2)
        return;
    if (at_start(&h->best)) {
        j->avoid_plus1 = j->doubted_plus1 ? j->doubted_plus1 : node + 1;
        mu_ctl_node_strike(c, (int)j->avoid_plus1 - 1);
        j->doubted_plus1 = 0;
    } else {
        j->doubted_plus1 = node + 1;
    }
}

static void decide(struct mu_ctl *c, struct job *j)
{
    struct hang *h = &j->hang;
    const struct mu_node *node = &c->pool.v[j->parts[h->best_part].share.node];
    char text[300];
    uint64_t since = h->best.what == MU_HANG_STOPPED ? h->best.still_ns : h->best.wait_ns;

    h->decide_at = 0;
    if (!node->conn) /* its keeper tells again */
        return;
    describe(c, j, text, sizeof text);
    mu_ctl_event(c, j, "hang", (int)h->best.rank, node->name, "rank %u on %s %s", h->best.rank, node->name, text);
    h->killed = true;
    avoid(c, j);
    /* it goes first: then nobody can be taken for the cause who only felt the effect */
    struct mu_m_kill kill = {
        .job = j->row.id, .attempt = j->row.attempt, .signo = SIGKILL, .why = text, .rank_plus1 = h->best.rank + 1};
    mu_acts_send(c->acts, node->conn, MU_MSG_kill, &kill);
    if (j->failed_now && lives_on(j))
        return;
    struct mu_m_report failure = {.first_rank_plus1 = h->best.rank + 1,
                                  .first_status = SIGKILL,
                                  .first_wall = c->wall > since ? c->wall - since : c->wall,
                                  .detected_wall = c->wall,
                                  .first_blame = MU_BLAME_SIGNAL,
                                  .first_text = text,
                                  .node = (char *)(uintptr_t)node->name};
    mu_ctl_job_failure(c, j, &failure);
    mu_ctl_put(c, j, false);
}

static void propose(struct mu_ctl *c, struct job *j, uint32_t part, const struct mu_m_hang *m)
{
    struct hang *h = &j->hang;

    if (h->decide_at && (m->what > h->best.what || (m->what == h->best.what && m->op_seq >= h->best.op_seq)))
        return;
    h->best = *m;
    h->best_part = part;
    if (h->why.level == MU_HANG_LEVEL_LATE) /* the attempt is ending already */
        decide(c, j);
    else if (!h->decide_at)
        h->decide_at = c->now + SETTLE;
}

void mu_ctl_hang_tick(struct mu_ctl *c, struct job *j)
{
    if (j->hang.decide_at && c->now >= j->hang.decide_at) {
        j->hang.decide_at = 0;
        if (is_open(c, j) && (!j->failed_now || lives_on(j)))
            decide(c, j);
    }
}

/* --- questions -----------------------------------------------------------------------------------------------------
 */

static void ask(struct mu_ctl *c, struct job *j, uint32_t rank, uint32_t except)
{
    struct mu_m_look look = {.job = j->row.id, .attempt = j->row.attempt, .rank = rank};
    uint32_t to = rank == MU_ALL ? MU_ALL : part_of_rank(j, rank);

    j->hang.asking = rank == MU_ALL || to != MU_ALL;
    j->hang.asked = rank;
    j->hang.asked_at = c->now;
    for (uint32_t i = 0; i < j->nparts && j->hang.asking; i++)
        if (i == to || (rank == MU_ALL && i != except))
            mu_acts_send(c->acts, c->pool.v[j->parts[i].share.node].conn, MU_MSG_look, &look);
}

/* All ranks have called muster_init, and one has waited in it for too long. */
static void all_called(struct mu_ctl *c, struct job *j)
{
    struct hang *h = &j->hang;

    for (uint32_t i = 0; i < j->nparts; i++)
        if (i != h->low_part && j->parts[i].called_at != h->asked_at)
            return;
    if (h->asked != MU_ALL || h->low.kind != MU_OP_KIND_INIT || h->low.ctx ||
        h->low.wait_ns < mu_hang_ns(j->spec.hang_ns_plus1) + CONNECT)
        return;
    h->asking = false;
    h->low.what = MU_HANG_CYCLE;
    h->low.rank = h->low.from;
    h->low.last_ctx = 0;
    if (part_of_rank(j, h->low.rank) == h->low_part)
        propose(c, j, h->low_part, &h->low);
}

/* A wait goes on elsewhere. */
static void follow(struct mu_ctl *c, struct job *j, uint32_t part, const struct mu_m_hang *m)
{
    struct hang *h = &j->hang;

    if (m->asked_plus1 && m->nwait) { /* nearer to the one to blame */
        uint32_t level = h->why.level;
        h->why = *m;
        h->why.level = level;
    }
    if (!h->hops || m->op_seq < h->low.op_seq) {
        h->low = *m;
        h->low_part = part;
    }
    if (++h->hops > 2 * j->nparts + 2) {
        h->asking = false;
        h->low.what = MU_HANG_CYCLE;
        h->low.rank = h->low.from;
        h->low.nwait = 0;
        if (part_of_rank(j, h->low.rank) == h->low_part)
            propose(c, j, h->low_part, &h->low);
        return;
    }
    ask(c, j, m->rank, part);
    all_called(c, j);
}

void mu_ctl_hang(struct mu_ctl *c, int node, const struct mu_m_hang *m)
{
    struct job *j = mu_ctl_find(c, m->job);
    uint32_t part = j ? part_of_node(j, node) : MU_ALL;

    if (part == MU_ALL || m->attempt != j->row.attempt || !is_open(c, j) || MU_MUTANT(RANK_HANGS_ON))
        return;
    struct hang *h = &j->hang;
    /* only what a node says of its own ranks is believed */
    if (verdict(m->what) && part_of_rank(j, m->rank) != part)
        return;
    if (m->asked_plus1) {
        uint32_t asked = m->asked_plus1 == MU_ALL ? MU_ALL : m->asked_plus1 - 1;
        if (!h->asking || asked != h->asked)
            return;
        h->asking = h->asked == MU_ALL && !verdict(m->what); /* the others answer, too */
    } else {
        if (m->nwait) {
            j->parts[part].wait.nranks = m->nwait;
            j->parts[part].wait.kind = m->kind;
            j->parts[part].wait.ctx = m->ctx;
            j->parts[part].wait.number = m->number;
            j->parts[part].wait.since = c->now > m->wait_ns ? c->now - m->wait_ns : 0;
        }
        bool late = m->level == MU_HANG_LEVEL_LATE;
        if (m->level < MU_HANG_LEVEL_OVER || (lives_on(j) ? late : j->failed_now && !late))
            return;
        if (h->asking && c->now < h->asked_at + ASK_AGAIN && !verdict(m->what))
            return;
        if (!h->decide_at)
            h->why = *m;
        h->hops = 0;
        h->asking = false;
    }
    if (verdict(m->what))
        propose(c, j, part, m);
    else if (m->what == MU_HANG_ELSEWHERE)
        follow(c, j, part, m);
    else if (m->what == MU_HANG_NOBODY && m->asked_plus1 == MU_ALL) {
        j->parts[part].called_at = h->asked_at;
        all_called(c, j);
    }
}
