/* The store of the simulated controllers, and what it loses. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/priv.h"

int sim_stored(struct world *w, uint64_t id)
{
    for (unsigned i = 0; i < w->nstore; i++)
        if (w->store[i].id == id)
            return (int)i;
    return -1;
}

/* A job is known by its token: the client may not have heard its number yet. */
struct truth *sim_truth_of(struct world *w, uint64_t id)
{
    int s = sim_stored(w, id);

    for (unsigned i = 0; s >= 0 && i < w->njobs; i++)
        if (w->store[s].row.token && !strcmp(w->job[i].token, w->store[s].row.token))
            return &w->job[i];
    for (unsigned i = 0; s < 0 && id && i < w->njobs; i++) /* the store has lost it */
        if (w->job[i].id == id)
            return &w->job[i];
    return NULL;
}

/* A newer attempt was stored, and the store has lost it: when who knew of it has died or does not come, this one is the
 * newest that anybody knows. It had been given up, but it has ended well, too. A controller that was told of the newer
 * one by a node does know. */
static bool newest_known(const struct world *w, const struct truth *t, const struct mu_m_jobrow *row)
{
    bool told = t->told_gen == w->ctl_gen && t->told > row->attempt;

    return w->losses && !told && row->attempt < t->stored && row->attempt < MAX_ATTEMPTS &&
           t->ended_well[row->attempt] == row->ranks;
}

/* What has happened to the job that was handed in with its token before. */
static void forget(struct truth *t)
{
    memset(t->lost, 0, sizeof t->lost);
    memset(t->put_back, 0, sizeof t->put_back);
    memset(t->spawned, 0, sizeof t->spawned);
    memset(t->ended_well, 0, sizeof t->ended_well);
    t->stored = t->newest = t->given_up = t->told = t->unknown = 0;
    t->ok_ranks = t->ok_attempt = t->ok_world = 0;
    t->ok_lost = false;
}

void sim_put_row(struct world *w, const struct mu_buf *frame)
{
    struct mu_msg m;

    if (mu_msg_decode(frame->data, frame->len, &m, NULL)) {
        sim_violated(w, "a row cannot be decoded");
        return;
    }
    int i = sim_stored(w, m.jobrow.id);
    if (i < 0 && w->nstore < MAX_JOBS)
        i = (int)w->nstore++;
    if (i < 0) {
        sim_violated(w, "more jobs in the store than were ever submitted");
    } else {
        if (w->store[i].id && w->store[i].row.attempt > m.jobrow.attempt)
            sim_violated(w, "job %llu: the stored attempt went back", (unsigned long long)m.jobrow.id);
        if (w->store[i].id && mu_job_over(w->store[i].row.state) && w->store[i].row.state != m.jobrow.state)
            sim_violated(w, "job %llu left the state %s", (unsigned long long)m.jobrow.id,
                         mu_job_state_name(w->store[i].row.state));
        if (w->store[i].id && m.jobrow.attempt > w->store[i].row.attempt) {
            mu_msg_free_body(MU_MSG_jobrow, &w->store[i].before);
            w->store[i].before = w->store[i].row;
            w->store[i].had_before = true;
        } else {
            mu_msg_free_body(MU_MSG_jobrow, &w->store[i].row);
        }
        w->last = m.jobrow.id > w->last ? m.jobrow.id : w->last;
        w->store[i].id = m.jobrow.id;
        w->store[i].row = m.jobrow;
        memset(&m, 0, sizeof m);
        struct truth *t = sim_truth_of(w, w->store[i].id);
        if (t && t->id && t->id != w->store[i].id) /* handed in anew, as nobody knows of the first one any more */
            forget(t);
        if (t) {
            t->id = w->store[i].id;
            t->row_lost = t->forgotten = false;
            t->unknown = w->store[i].row.attempt == t->unknown ? 0 : t->unknown;
            t->stored = w->store[i].row.attempt > t->stored ? w->store[i].row.attempt : t->stored;
        }
        uint32_t ending = w->store[i].row.ending;
        uint32_t attempt = w->store[i].row.attempt;
        if (t && (ending == MU_END_REQUEUE || ending == MU_END_PREEMPT) && attempt < MAX_ATTEMPTS)
            t->put_back[attempt / 64] |= 1ull << (attempt % 64);
        if (t && w->store[i].row.state == MU_JOB_COMPLETED &&
            (t->ok_attempt != w->store[i].row.attempt || t->ok_ranks != t->ok_world) &&
            !newest_known(w, t, &w->store[i].row))
            sim_violated(w, "job %llu is stored as completed, but only %u of %u ranks of attempt %u ended well",
                         (unsigned long long)w->store[i].id, t->ok_ranks, t->ok_world, t->ok_attempt);
        if (t && (w->store[i].row.ranks < (t->min_ranks ? t->min_ranks : t->ranks) || w->store[i].row.ranks > t->ranks))
            sim_violated(w, "job %llu runs with %u ranks: asked for were %u, at least %u",
                         (unsigned long long)w->store[i].id, w->store[i].row.ranks, t->ranks, t->min_ranks);
    }
    mu_msg_free(&m);
}

static bool ranks_live(const struct world *w, const struct mu_m_jobrow *row)
{
    for (unsigned i = 0; i < w->nkeepers; i++)
        if (w->keeper[i].alive && !w->keeper[i].hung && w->keeper[i].job == row->id && w->keeper[i].nlive &&
            w->keeper[i].attempt == row->attempt)
            return true;
    return false;
}

static int newest(const struct world *w, uint64_t below)
{
    int at = -1;

    for (unsigned i = 0; i < w->nstore; i++)
        if (w->store[i].id < below && (at < 0 || w->store[i].id > w->store[at].id))
            at = (int)i;
    return at;
}

static bool may_lose(struct world *w, int i)
{
    const struct mu_m_jobrow *row = i < 0 ? NULL : &w->store[i].row;

    return row && !mu_job_over(row->state) && !mu_job_waits(row->state) && ranks_live(w, row) && sim_chance(w, 600);
}

/* The store is an older copy: it has lost the newest jobs, or their newest attempts. Only what runs, as nobody else
 * knows what does not; ranks of what waits again may live, but their keeper has been told to go. */
void sim_lose_rows(struct world *w)
{
    int i;

    while ((i = newest(w, UINT64_MAX)) >= 0 && may_lose(w, i)) {
        sim_trace(w, "LOST job %llu", (unsigned long long)w->store[i].id);
        w->lossy = true;
        struct truth *t = sim_truth_of(w, w->store[i].id);
        t->row_lost = true;
        t->unknown = w->store[i].row.attempt;
        mu_msg_free_body(MU_MSG_jobrow, &w->store[i].row);
        mu_msg_free_body(MU_MSG_jobrow, &w->store[i].before);
        w->store[i] = w->store[--w->nstore];
        memset(&w->store[w->nstore], 0, sizeof w->store[0]);
    }
    uint64_t above = i < 0 ? 0 : w->store[i].id;
    for (uint64_t below = UINT64_MAX; (i = newest(w, below)) >= 0; below = w->store[i].id) {
        if (!w->store[i].had_before || !may_lose(w, i))
            continue;
        sim_trace(w, "LOST attempt %u of job %llu", w->store[i].row.attempt, (unsigned long long)w->store[i].id);
        sim_truth_of(w, w->store[i].id)->unknown = w->store[i].row.attempt;
        w->lossy = true;
        mu_msg_free_body(MU_MSG_jobrow, &w->store[i].row);
        w->store[i].row = MU_STEAL(w->store[i].before, (struct mu_m_jobrow){0});
        w->store[i].had_before = false;
    }
    if (!w->lossy)
        return;
    w->losses++;
    w->lost_above = !w->lost_last || above < w->lost_above ? above : w->lost_above;
    w->lost_last = w->last;
}
