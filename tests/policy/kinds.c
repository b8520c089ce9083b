/* The kinds of traces, and the large one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/policy/trace.h"

#define HOUR (3600 * MU_SEC)
#define GIB (1ull << 30)

static uint64_t log_uniform(struct trace *t, double lo, double hi)
{
    return (uint64_t)(lo * pow(hi / lo, trace_unit(t)));
}

static void pool(struct trace *t, unsigned slots, bool alike)
{
    for (unsigned i = 0; i < t->nnodes; i++) {
        unsigned n = alike ? slots : 1 + (unsigned)trace_random(t, slots);
        t->nodes[i] = (struct mu_policy_node){.has = {n, i % 4 ? n : 0, 8 * GIB * n}, .usable = true};
        t->nodes[i].labels = i % 2 ? "big,odd" : "big,even";
    }
}

/* In an empty pool, less its spare nodes. */
static bool fits(const struct trace *t, const struct tjob *j)
{
    uint64_t sum = 0, share = j->nodes ? (j->ranks + j->nodes - 1) / j->nodes : 0, with = 0;

    if (j->nodes > j->ranks)
        return false;
    for (unsigned i = 0; i + t->set.spare_nodes < t->nnodes; i++) {
        uint64_t room = j->ppn ? j->ppn : j->ranks;
        for (unsigned r = 0; r < MU_RES_N; r++) {
            /* the profile counts memory in thousandths */
            uint64_t has = r == MU_RES_MEMORY ? t->nodes[i].has[r] / 1000 * 998 : t->nodes[i].has[r];
            uint64_t n = j->need[r] ? has / j->need[r] : room;
            room = n < room ? n : room;
        }
        if (j->label && !strstr(t->nodes[i].labels, j->label))
            continue;
        sum += room;
        with += j->nodes && room >= share;
    }
    return j->nodes ? with >= j->nodes + j->spares : sum >= j->ranks;
}

static void lengths(struct trace *t, struct tjob *j)
{
    j->length = log_uniform(t, 60, 6 * 3600) * MU_SEC;
    j->limit = trace_chance(t, 200) ? j->length : (uint64_t)((double)j->length * (1 + 3 * trace_unit(t)));
}

static void any_job(struct trace *t, struct tjob *j, uint64_t slots)
{
    static const char *const labels[] = {"odd", "even", "big"};

    do {
        j->ranks = 1 + (uint32_t)log_uniform(t, 1, (double)slots);
        j->nodes = trace_chance(t, 300) ? 1 + (uint32_t)trace_random(t, t->nnodes) : 0;
        j->ppn = trace_chance(t, 200) ? 1 + (uint32_t)trace_random(t, 4) : 0;
        j->ppn = j->nodes && j->ppn ? (j->ranks + j->nodes - 1) / j->nodes : j->ppn;
        j->spares = j->nodes && trace_chance(t, 300) ? 1 : 0;
        j->need[MU_RES_SLOTS] = trace_chance(t, 100) ? 2 : 1;
        j->need[MU_RES_GPUS] = trace_chance(t, 200) ? 1 : 0;
        j->need[MU_RES_MEMORY] = trace_chance(t, 200) ? trace_random(t, 16) * GIB + 5 : 0;
        j->label = trace_chance(t, 200) ? labels[trace_random(t, MU_COUNT(labels))] : NULL;
    } while (!fits(t, j));
    lengths(t, j);
    j->user = (uint32_t)trace_random(t, t->nusers);
}

/* Arrivals that make so much of the pool's slots busy, on average. */
static void arrivals(struct trace *t, double load)
{
    double slots = 0, work = 0, at = 0;

    for (unsigned i = 0; i < t->nnodes; i++)
        slots += (double)t->nodes[i].has[MU_RES_SLOTS];
    for (unsigned i = 0; i < t->njobs; i++)
        work += (double)t->jobs[i].ranks * (double)t->jobs[i].need[MU_RES_SLOTS] * (double)t->jobs[i].length;
    double gap = work / slots / load / t->njobs;
    for (unsigned i = 0; i < t->njobs; i++) {
        at += trace_chance(t, 300) ? 0 : gap / 0.7 * -log(1 - trace_unit(t));
        t->jobs[i].submit = 2 * MU_SEC + (uint64_t)at;
    }
}

static void sized(struct trace *t, uint64_t seed, unsigned jobs, unsigned users)
{
    struct trace rng = {.rng = seed * 31};

    trace_new(t, seed, 2 + (unsigned)trace_random(&rng, 30), jobs, users);
}

static void make_steady(struct trace *t, uint64_t seed)
{
    sized(t, seed, 150, 3);
    t->steady = true;
    t->set.share_weight_ns = 0;
    t->set.replan_ns = trace_random(t, 3) * 100 * MU_SEC;
    t->set.depth = trace_chance(t, 500) ? 64 : 1 + (uint32_t)trace_random(t, 10);
    t->set.assumed_limit_ns = 12 * HOUR;
    pool(t, 8, trace_chance(t, 500));
    for (unsigned i = 0; i < t->njobs; i++) {
        any_job(t, &t->jobs[i], t->nnodes * 8);
        if (trace_chance(t, 50))
            t->jobs[i].limit = 0;
    }
    arrivals(t, 0.7 + trace_unit(t));
}

static void make_mixed(struct trace *t, uint64_t seed)
{
    sized(t, seed, 150, 5);
    t->set.share_weight_ns = trace_random(t, 100) * HOUR;
    t->set.priority_step_ns = trace_random(t, 20) * HOUR;
    t->set.depth = trace_chance(t, 500) ? 64 : 1 + (uint32_t)trace_random(t, 10);
    t->set.spare_nodes = t->nnodes > 3 ? (uint32_t)trace_random(t, 3) : 0;
    t->set.preempt = (uint32_t)trace_random(t, 3);
    t->set.preempt_after_ns = trace_random(t, 600) * MU_SEC;
    pool(t, 8, trace_chance(t, 500));
    for (unsigned u = 0; u < t->nusers; u++)
        t->users[u].share = (double)trace_random(t, 4);
    for (unsigned i = 0; i < t->njobs; i++) {
        struct tjob *j = &t->jobs[i];
        any_job(t, j, t->nnodes * 8);
        j->priority = trace_chance(t, 300) ? (int32_t)trace_random(t, 7) - 3 : 0;
        j->fails = trace_chance(t, 100);
        j->ckpt_every = trace_chance(t, 500) ? (60 + trace_random(t, 1800)) * MU_SEC : 0;
        j->after = i && trace_chance(t, 150) ? 1 + trace_random(t, i) : 0;
    }
    arrivals(t, 0.5 + trace_unit(t));
    for (unsigned i = 0; i < t->njobs; i++)
        if (trace_chance(t, 50))
            t->jobs[i].held_until = t->jobs[i].submit + trace_random(t, 20) * HOUR;
}

static void make_flaky(struct trace *t, uint64_t seed)
{
    make_mixed(t, seed);
    t->flaky = true;
}

/* --- fair share ----------------------------------------------------------------------------------------------------
 */

/* Users differ in their jobs: many small and short ones, or few wide and long ones. */
static void share_job(struct trace *t, struct tjob *j)
{
    uint64_t slots = t->nnodes * 8;

    j->ranks = 1 + (uint32_t)trace_random(t, j->user % 2 ? slots / 2 : slots / 16 + 1);
    j->need[MU_RES_SLOTS] = 1;
    j->length = log_uniform(t, j->user % 3 ? 600 : 3600, j->user % 3 ? 3600 : 4 * 3600) * MU_SEC;
    j->limit = (uint64_t)((double)j->length * (1 + trace_unit(t)));
}

static void make_shares(struct trace *t, uint64_t seed)
{
    trace_new(t, seed, 16, 20000, 5);
    pool(t, 8, true);
    t->backlog = 12;
    t->more = share_job;
    t->until = 20 * 24 * HOUR;
    t->set.half_life_ns = 48 * HOUR;
    for (unsigned u = 0; u < t->nusers; u++)
        t->users[u].share = 1 + (double)trace_random(t, 4);
}

static const char *judge_shares(struct trace *t)
{
    double shares = 0, used = 0;

    for (unsigned u = 0; u < t->nusers; u++) {
        shares += t->users[u].share;
        used += t->used[u];
    }
    for (unsigned u = 0; u < t->nusers; u++) {
        double is = t->used[u] / used, want = t->users[u].share / shares;
        if (fabs(is - want) > 0.05) {
            snprintf(t->text, sizeof t->text, "user %u has had %.1f %% of the pool, the fair share is %.1f %%", u,
                     100 * is, 100 * want);
            return t->text;
        }
    }
    if (used < 0.85 * 128 * (double)t->until / (double)MU_SEC)
        return "the pool was not busy";
    return NULL;
}

/* --- starvation ----------------------------------------------------------------------------------------------------
 */

#define CROWD_DAYS 10
#define WIDE 128 /* all slots of the pool */

/* Small jobs of a higher priority without end, and now and then one that needs the whole pool. */
static void crowd_job(struct trace *t, struct tjob *j)
{
    bool wide = j->id % 997 == 7;

    j->ranks = wide ? WIDE : 1 + (uint32_t)trace_random(t, 16);
    j->priority = wide ? -1 : 1;
    j->need[MU_RES_SLOTS] = 1;
    j->length = log_uniform(t, 600, wide ? 7200 : 3600) * MU_SEC;
    j->limit = (uint64_t)((double)j->length * (1 + trace_unit(t)));
}

static void make_crowd(struct trace *t, uint64_t seed)
{
    trace_new(t, seed, WIDE / 8, 20000, 4);
    pool(t, 8, true);
    t->backlog = 8;
    t->more = crowd_job;
    t->until = CROWD_DAYS * 24 * HOUR;
    t->set.half_life_ns = 48 * HOUR;
    t->set.share_weight_ns = 24 * HOUR;
    t->set.priority_step_ns = 24 * HOUR;
}

/* Nobody is overtaken for longer than priority and fair share are worth, and what runs then has ended in 10 h. */
static const char *judge_crowd(struct trace *t)
{
    uint64_t bound = 2 * t->set.priority_step_ns + t->set.share_weight_ns + 10 * HOUR, wides = 0;

    for (unsigned i = 0; i < t->njobs; i++) {
        const struct tjob *j = &t->jobs[i];
        if (j->state == T_COMING || j->since + bound > t->until)
            continue;
        uint64_t waited = (j->state == T_QUEUED ? t->now : j->started) - j->since;
        wides += j->ranks == WIDE;
        if (waited > bound) {
            snprintf(t->text, sizeof t->text, "job %u of %u ranks has waited %.1f h, %.1f h is the most", i + 1,
                     j->ranks, (double)waited / (double)HOUR, (double)bound / (double)HOUR);
            return t->text;
        }
    }
    return wides ? NULL : "no wide job has come";
}

const struct trace_kind trace_kinds[] = {
    {"steady", 1, make_steady, NULL},           {"mixed", 1, make_mixed, NULL},         {"flaky", 1, make_flaky, NULL},
    {"shares", 100, make_shares, judge_shares}, {"crowd", 50, make_crowd, judge_crowd},
};
const unsigned trace_nkinds = MU_COUNT(trace_kinds);

/* --- the large one -------------------------------------------------------------------------------------------------
 */

static void make_large(struct trace *t, uint64_t seed)
{
    trace_new(t, seed, 1000, 10000, 50);
    pool(t, 8, true);
    for (unsigned i = 0; i < t->njobs; i++) {
        struct tjob *j = &t->jobs[i];
        uint64_t kind = trace_random(t, 100);
        j->nodes = kind < 35   ? 0
                   : kind < 80 ? 1 + (uint32_t)trace_random(t, 16)
                   : kind < 96 ? 16 + (uint32_t)trace_random(t, 112)
                               : 128 + (uint32_t)trace_random(t, 385);
        j->ranks = j->nodes ? j->nodes * 8 : 1 + (uint32_t)trace_random(t, 8);
        j->need[MU_RES_SLOTS] = 1;
        j->length = log_uniform(t, 120, 24 * 3600) * MU_SEC;
        j->limit = (uint64_t)((double)j->length * (1.1 + 2 * trace_unit(t)));
        double u = trace_unit(t);
        j->user = (uint32_t)(u * u * t->nusers);
    }
    arrivals(t, 0.95);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static bool report(const char *name, struct trace *t)
{
    double *waits = calloc(t->njobs, sizeof *waits), sum = 0, last = 0;
    uint64_t from = trace_clock();

    if (!waits || !trace_run(t)) {
        printf("%s: %s\n", name, t->wrong ? t->wrong : "out of memory");
        free(waits);
        return false;
    }
    double took = (double)(trace_clock() - from) / 1e9;
    for (unsigned i = 0; i < t->njobs; i++) {
        waits[i] = (double)(t->jobs[i].started - t->jobs[i].submit) / (double)HOUR;
        sum += waits[i];
        last = (double)t->jobs[i].ends > last ? (double)t->jobs[i].ends : last;
    }
    qsort(waits, t->njobs, sizeof *waits, by_size);
    printf("%-8s %6.2f s  utilisation %4.1f %%  wait mean %5.2f h  median %5.2f h  p95 %6.2f h  longest %6.2f h", name,
           took, 100 * t->busy / (8.0 * t->nnodes * last / 1e9), sum / t->njobs, waits[t->njobs / 2],
           waits[t->njobs * 95 / 100], waits[t->njobs - 1]);
    if (t->decisions)
        printf("  %llu decisions, %.3f ms each, longest %.2f ms at %u queued, %u queued at most",
               (unsigned long long)t->decisions, (double)t->spent_ns / 1e6 / (double)t->decisions,
               (double)t->longest_ns / 1e6, t->most_at_longest, t->most_queued);
    printf("\n");
    free(waits);
    return true;
}

/* A thousand jobs queued, in a full pool: the decision when one of those that run ends. */
static bool deep(uint64_t seed)
{
    struct trace t;

    make_large(&t, seed);
    for (unsigned i = 0; i < t.njobs; i++)
        t.jobs[i].submit = i < 1500 ? MU_SEC : 1000000 * HOUR;
    t.njobs = 1500;
    bool ok = report("1500", &t);
    t.njobs = 10000;
    trace_free(&t);
    return ok;
}

int trace_bench(uint64_t seed)
{
    struct trace t;
    bool ok = true;

    printf("10,000 jobs on 1,000 nodes of 8 slots, seed %llu:\n", (unsigned long long)seed);
    make_large(&t, seed);
    ok = report("policy", &t);
    trace_free(&t);
    make_large(&t, seed);
    t.fifo = true;
    ok = report("in turn", &t) && ok;
    trace_free(&t);
    printf("1,500 jobs at once:\n");
    return deep(seed) && ok ? 0 : 1;
}
