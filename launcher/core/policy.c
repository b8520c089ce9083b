#include "launcher/core/policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/profile.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#ifdef MU_MUTANTS
enum mu_policy_mutation mu_policy_mutation;
#endif

#define OVERRUN_NS (10 * MU_SEC) /* what is over its time limit is taken to end so soon */
#define LATE_NS (5 * MU_SEC)     /* a start may be so late without moving what was promised behind it */
#define LABELS 16u               /* different ones of which it is remembered which nodes have them */
#define PREEMPT_HOURS 1.0        /* so far ahead of a job is one that preempts it */
#define PREEMPTORS 8u            /* jobs of one decision for which others may be preempted */

struct promise {
    uint64_t id, at, dur, need[MU_RES_N];
    struct mu_policy_share *shares;
    unsigned n, nspares;
    bool held;    /* its shares are taken from the profile */
    bool nowhere; /* no shares: no room was found for it, in the future either */
};

struct mask {
    const char *label;
    int16_t *nodes;
};

struct mu_policy {
    struct mu_profile profile;
    struct promise *old, *cur; /* old: those of the last decision, by id; cur: by view.jobs */
    unsigned nold, capold, capcur;
    struct mu_policy_act *acts;
    unsigned nacts, capacts;
    struct mu_policy_wait *waits;
    uint32_t *order; /* queued jobs that may start, in their order */
    unsigned norder, capjobs;
    uint64_t *ends; /* of the running ones */
    uint32_t *victims;
    unsigned capruns;
    struct mask masks[LABELS];
    unsigned nmasks, capmask;
    int16_t *open, *only; /* nodes: that jobs are started on; of one job */
    double *factors;      /* fair share, by user */
    unsigned capusers;
    void **kept; /* what acts refer to */
    unsigned nkept, capkept;
    uint64_t planned_at; /* all promises were looked at then */
    bool planned, freed; /* freed: since then something became free that was not to be */
    uint64_t room;       /* slots that are up and not in use, after the last decision */
    /* of the decision under way */
    const struct mu_policy_settings *set;
    const struct mu_policy_view *view;
};

struct mu_policy *mu_policy_new(void)
{
    return calloc(1, sizeof(struct mu_policy));
}

static void forget_kept(struct mu_policy *p)
{
    for (unsigned i = 0; i < p->nkept; i++)
        free(p->kept[i]);
    p->nkept = 0;
}

void mu_policy_free(struct mu_policy *p)
{
    if (!p)
        return;
    mu_profile_free(&p->profile);
    for (unsigned i = 0; i < p->nold; i++)
        free(p->old[i].shares);
    free(p->old);
    free(p->cur);
    free(p->acts);
    free(p->waits);
    free(p->order);
    free(p->ends);
    free(p->victims);
    for (unsigned i = 0; i < LABELS; i++)
        free(p->masks[i].nodes);
    free(p->open);
    free(p->only);
    free(p->factors);
    forget_kept(p);
    free(p->kept);
    free(p);
}

/* *array has room for `want` of that size. */
static bool grow(void *array, unsigned *cap, unsigned want, size_t size)
{
    unsigned more = want + want / 2 + 16;
    void *v;

    memcpy(&v, array, sizeof v);
    if (want <= *cap && v)
        return true;
    if (!(v = realloc(v, more * size)))
        return false;
    memcpy(array, &v, sizeof v);
    *cap = more;
    return true;
}

/* Memory for a decision about this view. */
static bool prepare(struct mu_policy *p, const struct mu_policy_view *view)
{
    unsigned jobs = p->capjobs, runs = p->capruns, same = p->capjobs, stride = (view->nnodes / 32 + 1) * 32;

    if (!grow(&p->waits, &jobs, view->njobs, sizeof *p->waits) ||
        !grow(&p->order, &same, view->njobs, sizeof *p->order))
        return false;
    p->capjobs = jobs < same ? jobs : same;
    if (!grow(&p->cur, &p->capcur, view->njobs, sizeof *p->cur))
        return false;
    same = runs;
    if (!grow(&p->ends, &runs, view->nruns, sizeof *p->ends) ||
        !grow(&p->victims, &same, view->nruns, sizeof *p->victims))
        return false;
    p->capruns = runs < same ? runs : same;
    if (!grow(&p->factors, &p->capusers, view->nusers, sizeof *p->factors))
        return false;
    if (stride > p->capmask) {
        int16_t *a = realloc(p->open, stride * sizeof *a);
        p->open = a ? a : p->open;
        int16_t *b = a ? realloc(p->only, stride * sizeof *b) : NULL;
        p->only = b ? b : p->only;
        for (unsigned i = 0; b && i < LABELS; i++) {
            free(p->masks[i].nodes);
            p->masks[i].nodes = NULL;
        }
        if (!b)
            return false;
        p->capmask = stride;
    }
    p->nmasks = p->nacts = p->norder = 0;
    forget_kept(p);
    return true;
}

/* --- the order -----------------------------------------------------------------------------------------------------
 */

static double hours(uint64_t ns)
{
    return (double)ns / (3600.0 * (double)MU_SEC);
}

/* 1: nothing used; 0.5: just its share; towards 0: much more. */
static void fair_shares(struct mu_policy *p)
{
    const struct mu_policy_view *view = p->view;
    double used = 0, shares = 0;

    for (unsigned u = 0; u < view->nusers; u++) {
        used += view->users[u].usage;
        shares += view->users[u].share;
    }
    for (unsigned u = 0; u < view->nusers; u++) {
        const struct mu_policy_user *user = &view->users[u];
        if (used <= 0 || user->usage <= 0)
            p->factors[u] = 1;
        else
            p->factors[u] = user->share > 0 ? exp2(-(user->usage / used) / (user->share / shares)) : 0;
    }
}

static void score(struct mu_policy *p, unsigned q)
{
    const struct mu_policy_job *j = &p->view->jobs[q];
    struct mu_policy_wait *w = &p->waits[q];

    w->age = j->since < p->view->now && !MU_POLICY_MUTANT(AGE_IGNORED) ? hours(p->view->now - j->since) : 0;
    w->priority = j->priority * hours(p->set->priority_step_ns);
    w->share = j->user < p->view->nusers && !MU_POLICY_MUTANT(SHARE_IGNORED)
                   ? p->factors[j->user] * hours(p->set->share_weight_ns)
                   : 0;
    w->factor = j->user < p->view->nusers ? p->factors[j->user] : 1;
    w->score = w->age + w->priority + w->share;
}

static bool before(const struct mu_policy *p, uint32_t a, uint32_t b)
{
    if (p->waits[a].score != p->waits[b].score)
        return p->waits[a].score > p->waits[b].score;
    return a < b;
}

/* A heap: no memory, and no order of equals to worry about, for there are none. */
static void sort_order(struct mu_policy *p)
{
    uint32_t *v = p->order;
    unsigned n = p->norder;

    for (unsigned start = n / 2, end = n; end > 1;) {
        if (start) {
            start--;
        } else {
            uint32_t top = v[0];
            v[0] = v[--end];
            v[end] = top;
        }
        for (unsigned at = start, kid; (kid = 2 * at + 1) < end; at = kid) {
            if (kid + 1 < end && before(p, v[kid], v[kid + 1]))
                kid++;
            if (!before(p, v[at], v[kid]))
                break;
            uint32_t t = v[at];
            v[at] = v[kid];
            v[kid] = t;
        }
    }
}

static bool act(struct mu_policy *p, struct mu_policy_act a)
{
    if (!grow(&p->acts, &p->capacts, p->nacts + 1, sizeof *p->acts))
        return false;
    p->acts[p->nacts++] = a;
    return true;
}

/* Jobs that may start, in their order; and those that never will. */
static bool find_order(struct mu_policy *p)
{
    const struct mu_policy_view *view = p->view;

    fair_shares(p);
    for (unsigned q = 0; q < view->njobs; q++) {
        const struct mu_policy_job *j = &view->jobs[q];
        struct mu_policy_wait *w = &p->waits[q];
        *w = (struct mu_policy_wait){.why = MU_WHY_ROOM};
        score(p, q);
        for (unsigned i = 0; i < j->nafter && !MU_POLICY_MUTANT(AFTER_IGNORED); i++) {
            if (j->after[i].state == MU_AFTER_OK || (w->why == MU_WHY_AFTER && j->after[i].state != MU_AFTER_FAILED))
                continue;
            w->why = MU_WHY_AFTER;
            w->other = j->after[i].id;
            if (j->after[i].state == MU_AFTER_FAILED) {
                w->why = MU_WHY_NOT;
                if (!act(p, (struct mu_policy_act){.what = MU_POLICY_DROP, .job = q, .other = w->other}))
                    return false;
                break;
            }
        }
        if (w->why != MU_WHY_NOT && j->held && !MU_POLICY_MUTANT(HELD_IGNORED))
            w->why = MU_WHY_HELD;
        if (w->why == MU_WHY_ROOM)
            p->order[p->norder++] = q;
    }
    sort_order(p);
    for (unsigned k = 0; k < p->norder; k++)
        p->waits[p->order[k]].place = k + 1;
    return true;
}

/* --- which nodes ---------------------------------------------------------------------------------------------------
 */

static bool has_label(const char *labels, const char *label)
{
    size_t n = strlen(label);

    for (const char *at = labels; at && (at = strstr(at, label)); at += n)
        if ((at == labels || at[-1] == ',') && (!at[n] || at[n] == ','))
            return true;
    return false;
}

/* Nodes on which jobs are started: all but the spare ones, which are the last that are idle. */
static void find_open(struct mu_policy *p)
{
    const struct mu_policy_view *view = p->view;
    uint32_t spares = MU_POLICY_MUTANT(SPARES_USED) ? 0 : p->set->spare_nodes;

    memset(p->open, 0, p->capmask * sizeof *p->open);
    for (unsigned i = 0; i < view->nnodes; i++)
        p->open[i] = view->nodes[i].usable ? -1 : 0;
    for (unsigned i = 0; spares && i < view->nruns; i++) /* 1: in use */
        for (unsigned k = 0; k < view->runs[i].nshares; k++)
            p->open[view->runs[i].shares[k].node] &= 1;
    for (unsigned i = view->nnodes; i-- > 0 && spares;)
        if (p->open[i] == -1) {
            p->open[i] = 0;
            spares--;
        }
    for (unsigned i = 0; i < view->nnodes; i++)
        p->open[i] = p->open[i] ? -1 : 0;
}

static const int16_t *label_mask(struct mu_policy *p, const char *label)
{
    unsigned m = 0;

    while (m < p->nmasks && strcmp(p->masks[m].label, label) != 0)
        m++;
    if (m < p->nmasks)
        return p->masks[m].nodes;
    m = m < LABELS ? p->nmasks++ : LABELS - 1;
    if (!p->masks[m].nodes && !(p->masks[m].nodes = malloc(p->capmask * sizeof *p->masks[m].nodes))) {
        p->profile.failed = true;
        return p->open;
    }
    p->masks[m].label = label;
    memcpy(p->masks[m].nodes, p->open, p->capmask * sizeof *p->open);
    for (unsigned i = 0; i < p->view->nnodes; i++)
        if (!has_label(p->view->nodes[i].labels, label))
            p->masks[m].nodes[i] = 0;
    return p->masks[m].nodes;
}

static const int16_t *mask_of(struct mu_policy *p, const struct mu_policy_job *j)
{
    const int16_t *mask = j->label && !MU_POLICY_MUTANT(LABEL_IGNORED) ? label_mask(p, j->label) : p->open;

    if (!j->only)
        return mask;
    memset(p->only, 0, p->capmask * sizeof *p->only);
    for (unsigned i = 0; i < j->nonly; i++)
        if (j->only[i] < p->view->nnodes)
            p->only[j->only[i]] = mask[j->only[i]];
    return p->only;
}

/* --- promises ------------------------------------------------------------------------------------------------------
 */

static uint64_t duration(const struct mu_policy *p, const struct mu_policy_job *j)
{
    uint64_t d = j->limit_ns ? j->limit_ns : p->set->assumed_limit_ns;

    d = d < UINT64_MAX / 4 ? d : UINT64_MAX / 4;
    return MU_POLICY_MUTANT(SHORT_WINDOW) ? d / 2 : d + LATE_NS;
}

static uint64_t run_end(const struct mu_policy *p, const struct mu_policy_run *r)
{
    uint64_t now = p->view->now, more = now > r->started ? (now - r->started) / 4 : 0;
    uint64_t end = r->ends ? r->ends : r->started + p->set->assumed_limit_ns;

    if (r->ending || (r->ends && end <= now))
        return now + OVERRUN_NS;
    return end > now ? end : now + (more > 60 * MU_SEC ? more : 60 * MU_SEC);
}

static void unpromise(struct mu_policy *p, struct promise *m)
{
    if (m->held)
        mu_profile_take(&p->profile, m->need, m->shares, m->n, m->at, mu_profile_end(&p->profile, m->at, m->dur), -1);
    free(m->shares);
    *m = (struct promise){.id = m->id};
}

static void hold(struct mu_policy *p, struct promise *m)
{
    mu_profile_take(&p->profile, m->need, m->shares, m->n, m->at, mu_profile_end(&p->profile, m->at, m->dur), 1);
    m->held = true;
}

/* The shares that the profile has picked, from slice i on. */
static bool promise(struct mu_policy *p, unsigned q, int slice)
{
    const struct mu_policy_job *j = &p->view->jobs[q];
    struct mu_profile *f = &p->profile;
    struct mu_policy_share *v = malloc(f->npick * sizeof *v);

    if (!v) {
        f->failed = true;
        return false;
    }
    memcpy(v, f->pick, f->npick * sizeof *v);
    p->cur[q] = (struct promise){
        .id = j->id, .at = f->v[slice].at, .dur = duration(p, j), .shares = v, .n = f->npick, .nspares = f->nspares};
    memcpy(p->cur[q].need, j->need, sizeof j->need);
    if (MU_POLICY_MUTANT(PROMISE_IGNORED) && p->cur[q].at > p->view->now)
        return true;
    hold(p, &p->cur[q]);
    return true;
}

/* What was promised before stands, in the order of the jobs, up to the first that has no promise and is to get one:
 * that one goes before those behind it, which are promised anew. */
/* true: some job is promised a start that had none. */
static bool hold_promises(struct mu_policy *p, bool again)
{
    unsigned o = 0;
    bool anew = false;

    for (unsigned q = 0; q < p->view->njobs; q++) {
        uint64_t id = p->view->jobs[q].id;
        for (; o < p->nold && p->old[o].id < id; o++)
            free(p->old[o].shares);
        p->cur[q] = o < p->nold && p->old[o].id == id ? p->old[o++] : (struct promise){.id = id};
        p->cur[q].held = false;
        if (!p->waits[q].place) /* held by its user now, for example */
            unpromise(p, &p->cur[q]);
    }
    for (; o < p->nold; o++)
        free(p->old[o].shares);
    p->nold = 0;
    for (unsigned k = 0; k < p->norder; k++) {
        const struct mu_policy_job *j = &p->view->jobs[p->order[k]];
        struct promise *m = &p->cur[p->order[k]];
        if (m->shares && !anew) {
            uint64_t dur = duration(p, j);
            m->at = m->at + LATE_NS < p->view->now ? p->view->now : m->at;
            if (m->dur == dur && mu_profile_fits(&p->profile, m->need, m->shares, m->n, m->at,
                                                 mu_profile_end(&p->profile, m->at, dur), mask_of(p, j))) {
                if (MU_POLICY_MUTANT(PROMISE_IGNORED) && m->at > p->view->now)
                    continue;
                hold(p, m);
                continue;
            }
        }
        if (m->shares)
            unpromise(p, m);
        if (k < p->set->depth && (again || !m->nowhere))
            anew = true;
    }
    return anew;
}

static bool keep(struct mu_policy *p, void *v)
{
    if (!v || !grow(&p->kept, &p->capkept, p->nkept + 1, sizeof *p->kept)) {
        free(v);
        return false;
    }
    p->kept[p->nkept++] = v;
    return true;
}

/* What the job may have for all of its time, its own shares among it. */
static const int16_t *room_for(struct mu_policy *p, unsigned q)
{
    struct promise *m = &p->cur[q];
    uint64_t end = mu_profile_end(&p->profile, m->at, m->dur);
    const int16_t *mask = mask_of(p, &p->view->jobs[q]);
    int16_t *room = malloc((p->view->nnodes + 1u) * sizeof *room);

    mu_profile_take(&p->profile, m->need, m->shares, m->n, m->at, end, -1);
    for (unsigned i = 0; room && i < p->view->nnodes; i++)
        room[i] = MU_POLICY_MUTANT(PROMISE_IGNORED) ? p->profile.v[0].free[i] : INT16_MAX;
    for (unsigned k = 0; room && k < p->profile.n && p->profile.v[k].at < end; k++)
        for (unsigned i = 0; i < p->view->nnodes; i++) {
            int16_t slots = mu_profile_slots(&p->profile, k, i, m->need);
            room[i] = slots < room[i] ? slots : room[i];
        }
    for (unsigned i = 0; room && i < p->view->nnodes; i++)
        room[i] = (int16_t)(room[i] > 0 ? room[i] & mask[i] : 0);
    mu_profile_take(&p->profile, m->need, m->shares, m->n, m->at, end, 1);
    return keep(p, room) ? room : NULL;
}

/* A promise becomes the start. */
static bool start(struct mu_policy *p, unsigned q)
{
    struct promise *m = &p->cur[q];
    const int16_t *room = room_for(p, q);

    if (MU_POLICY_MUTANT(TWICE))
        mu_profile_take(&p->profile, m->need, m->shares, m->n, m->at, mu_profile_end(&p->profile, m->at, m->dur), -1);
    if (!room || !act(p, (struct mu_policy_act){.what = MU_POLICY_START,
                                                .job = q,
                                                .shares = m->shares,
                                                .nshares = m->n,
                                                .nspares = m->nspares,
                                                .room = room}))
        return false;
    struct mu_policy_share *shares = m->shares;
    m->shares = NULL;
    m->held = false;
    p->waits[q].why = MU_WHY_NOT;
    p->waits[q].promised = p->view->now;
    return keep(p, shares);
}

/* The k-th of the order: whether it starts, or when it will. again: promises are looked at for earlier starts. */
static bool plan_job(struct mu_policy *p, unsigned k, bool again)
{
    unsigned q = p->order[k];
    const struct mu_policy_job *j = &p->view->jobs[q];
    struct promise *m = &p->cur[q], kept = *m;
    struct mu_profile *f = &p->profile;
    bool now_only = m->shares || m->nowhere ? !again : k >= p->set->depth;

    if (m->shares && m->at <= p->view->now)
        return start(p, q);
    if (now_only && !mu_profile_may(f, 0, j)) /* which is most of them, most of the time */
        return true;
    if (m->shares && m->held)
        mu_profile_take(f, m->need, m->shares, m->n, m->at, mu_profile_end(f, m->at, m->dur), -1);
    int slice = mu_profile_find(f, j, mask_of(p, j), duration(p, j), now_only);
    if (slice < 0 || (m->shares && f->v[slice].at >= m->at)) {
        if (m->shares && m->held)
            hold(p, m);
        m->nowhere = !m->shares && (m->nowhere || !now_only);
        return !f->failed;
    }
    if (!promise(p, q, slice))
        return false;
    free(kept.shares);
    return p->cur[q].at > p->view->now || start(p, q);
}

/* --- preemption ----------------------------------------------------------------------------------------------------
 */

/* It has a lower priority, and comes behind the job when it begins to wait anew. */
static bool may_preempt(const struct mu_policy *p, unsigned q, const struct mu_policy_run *r)
{
    uint64_t now = p->view->now;
    bool recent = r->ckpt_at && (now <= r->ckpt_at || now - r->ckpt_at <= p->set->preempt_ckpt_ns);
    double score = (r->priority * hours(p->set->priority_step_ns)) +
                   (r->user < p->view->nusers ? p->factors[r->user] : 1) * hours(p->set->share_weight_ns);

    return r->preemptible && !r->ending && r->priority < p->view->jobs[q].priority &&
           score + PREEMPT_HOURS < p->waits[q].score &&
           (recent || p->set->preempt == MU_PREEMPT_FORCE || MU_POLICY_MUTANT(OLD_CKPT));
}

/* The least important first, of those the one that has run for the shortest time. */
static bool victim_before(const struct mu_policy_run *a, const struct mu_policy_run *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority;
    return a->started != b->started ? a->started > b->started : a->id > b->id;
}

static void victim(struct mu_policy *p, unsigned run, int sign)
{
    const struct mu_policy_run *r = &p->view->runs[run];

    mu_profile_take(&p->profile, r->need, r->shares, r->nshares, p->view->now,
                    mu_profile_end(&p->profile, p->view->now, p->ends[run] - p->view->now), sign);
}

/* Ends as few running jobs as it takes for the job to start, if that is possible at all. */
static bool preempt_for(struct mu_policy *p, unsigned q)
{
    const struct mu_policy_job *j = &p->view->jobs[q];
    struct promise *m = &p->cur[q];
    const int16_t *mask = mask_of(p, j);
    struct mu_profile *f = &p->profile;
    unsigned n = 0, taken = 0;
    int slice = -1;

    for (unsigned i = 0; i < p->view->nruns; i++) {
        if (!may_preempt(p, q, &p->view->runs[i]))
            continue;
        unsigned at = n++;
        for (; at && victim_before(&p->view->runs[i], &p->view->runs[p->victims[at - 1]]); at--)
            p->victims[at] = p->victims[at - 1];
        p->victims[at] = i;
    }
    if (m->shares && m->held)
        mu_profile_take(f, m->need, m->shares, m->n, m->at, mu_profile_end(f, m->at, m->dur), -1);
    for (; taken < n && slice < 0; taken++) {
        victim(p, p->victims[taken], -1);
        if (mu_profile_may(f, 0, j))
            slice = mu_profile_find(f, j, mask, duration(p, j), true);
    }
    for (unsigned i = taken; slice >= 0 && i-- > 0;) { /* those whose end does not help */
        victim(p, p->victims[i], 1);
        if (mu_profile_find(f, j, mask, duration(p, j), true) < 0) {
            victim(p, p->victims[i], -1);
        } else {
            memmove(&p->victims[i], &p->victims[i + 1], (--taken - i) * sizeof *p->victims);
        }
    }
    if (slice < 0 || (slice = mu_profile_find(f, j, mask, duration(p, j), true)) < 0) {
        while (taken)
            victim(p, p->victims[--taken], 1);
        if (m->shares && m->held)
            hold(p, m);
        return !f->failed;
    }
    free(m->shares);
    if (!promise(p, q, slice))
        return false;
    for (unsigned i = 0; i < taken; i++)
        if (!act(p, (struct mu_policy_act){.what = MU_POLICY_PREEMPT, .job = q, .run = p->victims[i]}))
            return false;
    p->waits[q].why = MU_WHY_PREEMPTING;
    m->at = p->view->now + OVERRUN_NS; /* for people */
    m->held = false;
    return true;
}

static bool preempt(struct mu_policy *p)
{
    unsigned tried = 0;
    bool ending = false;

    for (unsigned i = 0; i < p->view->nruns; i++) /* first it is seen what room those leave that are ending */
        ending = ending || p->view->runs[i].ending;
    if (p->set->preempt == MU_PREEMPT_OFF || ending)
        return true;
    for (unsigned k = 0; k < p->norder && tried < PREEMPTORS; k++) {
        unsigned q = p->order[k];
        bool any = false;
        if (p->waits[q].why == MU_WHY_NOT ||
            (p->cur[q].shares && p->cur[q].at <= p->view->now + p->set->preempt_after_ns))
            continue;
        for (unsigned i = 0; i < p->view->nruns && !any; i++)
            any = may_preempt(p, q, &p->view->runs[i]);
        if (!any)
            continue;
        unsigned acts = p->nacts;
        if (!preempt_for(p, q))
            return false;
        if (p->nacts > acts) /* the view is not what it was: the next one waits for the next decision */
            return true;
        tried++;
    }
    return true;
}

/* --- the decision --------------------------------------------------------------------------------------------------
 */

static void explain(struct mu_policy *p)
{
    uint64_t first = 0; /* of the order that is promised something */
    const struct mu_slice *s = &p->profile.v[0];
    uint64_t slots = 0;

    for (unsigned i = 0; i < p->view->nnodes; i++)
        slots += p->view->nodes[i].usable ? p->view->nodes[i].has[MU_RES_SLOTS] : 0;
    for (unsigned k = 0; k < p->norder; k++) {
        unsigned q = p->order[k];
        struct mu_policy_wait *w = &p->waits[q];
        const struct mu_policy_job *j = &p->view->jobs[q];
        w->free_slots = s->sum > 0 ? (uint64_t)s->sum : 0;
        w->slots = slots;
        if (w->why == MU_WHY_NOT)
            continue;
        w->promised = p->cur[q].shares ? p->cur[q].at : 0;
        if (w->why == MU_WHY_ROOM && !p->cur[q].shares && k < p->set->depth)
            w->why = MU_WHY_NODES;
        else if (w->why == MU_WHY_ROOM && j->ranks * j->need[MU_RES_SLOTS] <= w->free_slots)
            w->why = first ? MU_WHY_BEHIND : MU_WHY_SHAPE;
        if (w->why == MU_WHY_BEHIND)
            w->other = first;
        first = first || !p->cur[q].shares ? first : j->id;
    }
}

/* Before and, less what it has started, after a decision. */
static uint64_t free_slots(const struct mu_policy *p)
{
    uint64_t has = 0, used = 0;

    for (unsigned i = 0; i < p->view->nnodes; i++)
        if (p->view->nodes[i].usable)
            has += p->view->nodes[i].has[MU_RES_SLOTS];
    for (unsigned i = 0; i < p->view->nruns; i++)
        for (unsigned k = 0; k < p->view->runs[i].nshares; k++)
            used += p->view->runs[i].shares[k].n * p->view->runs[i].need[MU_RES_SLOTS];
    for (unsigned i = 0; i < p->nacts; i++)
        for (unsigned k = 0; p->acts[i].what == MU_POLICY_START && k < p->acts[i].nshares; k++)
            used += p->acts[i].shares[k].n * p->view->jobs[p->acts[i].job].need[MU_RES_SLOTS];
    return has > used ? has - used : 0;
}

static bool keep_promises(struct mu_policy *p)
{
    bool ok = grow(&p->old, &p->capold, p->view->njobs, sizeof *p->old);

    for (unsigned q = 0; q < p->view->njobs; q++) {
        if ((p->cur[q].shares || p->cur[q].nowhere) && ok)
            p->old[p->nold++] = p->cur[q];
        else
            free(p->cur[q].shares);
    }
    return ok;
}

int mu_policy_decide(struct mu_policy *p, const struct mu_policy_settings *set, const struct mu_policy_view *view,
                     struct mu_policy_plan *out)
{
    p->set = set;
    p->view = view;
    if (!prepare(p, view) || !find_order(p))
        return MUSTER_ENOMEM;
    for (unsigned i = 0; i < view->nruns; i++)
        p->ends[i] = run_end(p, &view->runs[i]);
    find_open(p);
    bool again = !p->planned || view->now >= p->planned_at + set->replan_ns;
    bool ok = mu_profile_build(&p->profile, view, p->ends);
    if (!ok)
        return MUSTER_ENOMEM;
    /* a job that is new must not get what one before it has not been looked at for */
    p->freed = p->freed || free_slots(p) > p->room;
    again = (hold_promises(p, again) && p->freed) || again;
    for (unsigned k = 0; ok && k < p->norder; k++)
        ok = plan_job(p, k, again) && !p->profile.failed;
    ok = ok && preempt(p) && !p->profile.failed;
    if (ok)
        explain(p);
    ok = keep_promises(p) && ok;
    if (!ok)
        return MUSTER_ENOMEM;
    if (again) {
        p->planned = true;
        p->planned_at = view->now;
        p->freed = false;
    }
    p->room = free_slots(p);
    *out = (struct mu_policy_plan){.acts = p->acts, .nacts = p->nacts, .waits = p->waits, .next = UINT64_MAX};
    for (unsigned i = 0; i < p->nold; i++) {
        uint64_t at = p->old[i].nowhere ? p->planned_at + set->replan_ns : p->old[i].at;
        if (at > view->now && at < out->next)
            out->next = at;
    }
    return 0;
}
