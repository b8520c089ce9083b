#include "bench/rank/start.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bench/rank/load.h"
#include "bench/rank/mpi_wire.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

/* Of the first start; longer when somebody hears of it too late. Data is colder after a longer one, by 7 % of an
 * all-reduce of 1 MiB from 0.5 to 2 ms: who comes 1 ms late must not make it longer. */
#define AHEAD_NS 2000000u
#define AHEAD_MOST_NS (20 * MU_MS)
#define LATE_NS 20000u

struct turn {
    bool late;
    uint64_t start, began, ended; /* start: in common time */
    uint64_t at;                  /* the same in ours */
};

/* What is no more than a small part of what is measured does no harm; where ranks share CPUs they cannot do better. */
static uint64_t slack(const struct mu_start *s, double least)
{
    double ns = fmax(least / 20, s->room->shared ? 1e6 : LATE_NS);

    return (uint64_t)fmin(ns, 1e9);
}

static int one(struct mu_start *s, uint64_t ahead, double least, struct turn *t, struct mu_err *err)
{
    const struct mu_room *r = s->room;
    int rc = s->ready ? s->ready(s->arg, err) : 0;

    if (rc)
        return rc;
    for (uint64_t until = mu_now() + (uint64_t)s->planted_late_us * 1000; r->rank == 1 && mu_now() < until;)
        ; /* at work: a processor that has slept is slower for a while */
    t->start = mu_room_common(r, mu_now()) + ahead;
    if ((rc = mu_wire_tell(&t->start, sizeof t->start, 0, err)))
        return rc;
    t->at = mu_room_ours(r, t->start);
    t->began = mu_now();
    /* Who sleeps gets its turn at once, who spins has used it up by then. */
    if (r->shared && t->began < t->at)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME,
                        &(struct timespec){.tv_sec = (time_t)(t->at / MU_SEC), .tv_nsec = (long)(t->at % MU_SEC)},
                        NULL);
    while ((t->began = mu_now()) < t->at)
        ;
    t->late = t->began > t->at + slack(s, least);
    rc = s->act(s->arg, err);
    t->ended = mu_now();
    return rc;
}

static double median(double *v, size_t n)
{
    struct mu_stats st = {0};

    if (n)
        mu_stats_of(v, n, &st);
    return st.p50;
}

int mu_start_series(struct mu_start *s, struct mu_err *err)
{
    const struct mu_room *r = s->room;
    size_t n = 0, most = s->rule.most < 6 ? 6 : s->rule.most;
    mu_auto_free double *took = malloc(most * sizeof *took), *came = malloc(most * sizeof *came);
    mu_auto_free double *all = malloc((size_t)r->size * 2 * sizeof *all);
    uint64_t ahead = AHEAD_NS, begin = mu_now();
    double last, least = 0; /* ns; least: of all turns */
    struct mu_load load;
    int rc = mu_series_begin(&s->series, &s->rule, err);

    if (!rc && (!took || !came || !all))
        rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu samples", most);
    mu_load_begin(&load);
    for (unsigned i = 0; !rc; i++) {
        struct turn t;
        bool drop = !i, enough = false;
        double stop;

        if ((rc = one(s, ahead, least, &t, err)))
            break;
        double mine[2] = {(double)(int64_t)(mu_room_common(r, t.ended) - t.start), t.late};
        if ((rc = mu_wire_all(mine, 2, all, err)))
            break;
        last = 0;
        for (int k = 0; k < r->size; k++) {
            last = fmax(last, all[2 * k]);
            drop = drop || all[2 * k + 1] > 0;
        }
        least = i ? fmin(least, last) : last;
        if (drop) {
            s->dropped += i > 0;
            if (i > 2 && s->dropped > 2 * n && ahead < AHEAD_MOST_NS)
                ahead *= 2;
        } else if (n < most) {
            came[n] = (double)(t.began - t.at) / 1e3;
            took[n++] = (double)(t.ended - t.began) / 1e3;
            enough = mu_series_add(&s->series, s->per_sample > 0 ? s->per_sample / last : last / 1e3, mu_now()) !=
                     MU_SERIES_MORE;
        }
        /* Somebody may be late always. Rank 0's clock decides for all. */
        stop = enough || mu_now() - begin >= (n < 6 ? 5 : 2) * s->rule.budget_ns;
        if ((rc = mu_wire_tell(&stop, sizeof stop, 0, err)) || stop > 0)
            break;
    }
    s->mine[0] = rc ? 0 : median(came, n);
    s->mine[1] = rc ? 0 : median(took, n);
    s->mine[2] = mu_load_end(&load, 1);
    return rc;
}

double mu_start_late(const struct mu_start *s)
{
    size_t n = s->series.n + s->dropped;

    return n ? (double)s->dropped / (double)n : 0;
}
