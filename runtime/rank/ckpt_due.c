/* muster_ckpt_due: one decision for all ranks, which is rank 0's. */
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/slot.h"
#include "runtime/ckpt/interval.h"
#include "runtime/rank/ckpt_priv.h"
#include "runtime/rank/session.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#define HALT_EVERY MU_SEC /* between two looks for the halt file */
#define LIMIT_MARGIN (5 * MU_SEC)
#define COPY_SPEED 2e9        /* bytes a second, the same */
#define SLOW_STORE 200000000u /* bytes a second, until a save has been measured */

static bool time_limit_near(muster_ckpt *c, uint64_t deadline_ns)
{
    uint64_t cost = mu_ckpt_writer_cost(c->writer);

    if (!deadline_ns)
        return false;
    if (!cost)
        cost = c->tensors.bytes / SLOW_STORE * MU_SEC;
    return mu_now() + LIMIT_MARGIN + 2 * cost >= deadline_ns;
}

static bool halt_file(muster_ckpt *c)
{
    struct mu_ckpt_path halt = mu_ckpt_path("%s/HALT", c->place.dir);
    uint64_t now = mu_now();
    struct stat st;

    if (!c->halt_looked || now - c->halt_looked >= HALT_EVERY) {
        c->halt_looked = now;
        c->halt_file = stat(halt.s, &st) == 0;
    }
    return c->halt_file;
}

void mu_rank_pace_open(muster_ckpt *c, const struct mu_ckpt_options *o)
{
    const char *seen = getenv("MUSTER_FAILURES"), *world = getenv("WORLD_SIZE"), *local = getenv("LOCAL_WORLD_SIZE");
    unsigned long ranks = world ? strtoul(world, NULL, 10) : 0, here = local ? strtoul(local, NULL, 10) : 0;
    char *end = NULL;

    c->pace.on = o->interval_auto;
    c->pace.node_mtbf = o->mtbf_ns ? (double)o->mtbf_ns / 1e9 : MU_CKPT_NODE_MTBF;
    c->pace.nodes = here && ranks > here ? (uint32_t)((ranks + here - 1) / here) : 1;
    c->pace.failures = seen ? (uint32_t)strtoul(seen, &end, 10) : 0;
    c->pace.ran = end && *end == '/' ? strtod(end + 1, NULL) : 0;
    c->pace.cost = -1;
    c->pace.opened = mu_now();
}

/* Costs change with the state's size and the machine's load: newer ones count more. */
void mu_rank_pace_saved(muster_ckpt *c, uint64_t cost_ns)
{
    double s = (double)cost_ns / 1e9;

    c->pace.cost = c->pace.cost < 0 ? s : 0.7 * c->pace.cost + 0.3 * s;
}

static uint64_t pace(const muster_ckpt *c)
{
    double cost = c->pace.cost < 0 ? (double)c->tensors.bytes / COPY_SPEED : c->pace.cost;
    double ran = c->pace.ran + (double)(mu_now() - c->pace.opened) / 1e9;

    return (uint64_t)(mu_ckpt_interval(cost, mu_ckpt_mtbf(c->pace.node_mtbf, c->pace.nodes, c->pace.failures, ran)) *
                      1e9);
}

/* Rank 0's view. A cause that stays (a signal, the end of the time) is met by one save and then left alone until it
 * goes away: a program that goes on training is not made to save at every step. */
static int decide(muster_ckpt *c)
{
    const struct mu_slot_head *head = mu_rank_slots();
    unsigned notice = head ? atomic_load_explicit((_Atomic uint32_t *)&head->notice, memory_order_acquire) : 0;
    const struct {
        int why;
        bool now;
    } causes[] = {
        {MUSTER_DUE_EVICTION, notice & MU_NOTICE_EVICTION},
        {MUSTER_DUE_SIGNAL, notice & MU_NOTICE_SIGNAL},
        {MUSTER_DUE_HALT, notice & MU_NOTICE_HALT || halt_file(c)},
        {MUSTER_DUE_TIME_LIMIT, head && time_limit_near(c, head->deadline_ns)},
    };

    c->seen = 0;
    for (size_t i = 0; i < MU_COUNT(causes); i++)
        c->seen |= causes[i].now ? 1u << causes[i].why : 0;
    c->answered &= c->seen;
    for (size_t i = 0; i < MU_COUNT(causes); i++)
        if (causes[i].now && !(c->answered & 1u << causes[i].why))
            return causes[i].why;
    if (c->hasten && !mu_ckpt_writer_busy(c->writer))
        return MUSTER_DUE_INTERVAL;
    if (c->interval_steps)
        return c->calls >= c->interval_steps ? MUSTER_DUE_INTERVAL : MUSTER_DUE_NO;
    /* a store slower than the interval sets the pace */
    return mu_now() - c->last_save >= (c->pace.on ? pace(c) : c->interval_ns) && !mu_ckpt_writer_busy(c->writer)
               ? MUSTER_DUE_INTERVAL
               : MUSTER_DUE_NO;
}

int muster_ckpt_due(muster_ckpt *c, int *why)
{
    int32_t decision = MUSTER_DUE_NO;
    int rc = mu_rank_ckpt_check(c, "muster_ckpt_due");

    if (rc)
        return rc;
    c->calls++;
    if (c->rank == 0)
        decision = decide(c);
    if ((rc = muster_broadcast(&decision, 1, MUSTER_INT32, 0, c->comm)))
        return rc;
    if (why)
        *why = decision;
    return decision != MUSTER_DUE_NO;
}
