/* Clocks of all hosts against that of rank 0's: in a tree of hosts, each against one that knows it already; the ranks
 * of a host share its clock. */
#include <string.h>

#include "bench/rank/mpi_wire.h"
#include "bench/rank/rank.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

enum { PINGS = 32, FIRST_BURSTS = 6, MORE_BURSTS = 3, SOON_BURSTS = 1 };
#define BETWEEN_NS (4 * MU_MS)
#define SOON_NS MU_SEC /* after the last time */

/* How many bursts is for the one that answers to say. */
static int answer(struct mu_room *r, int child, int bursts, struct mu_err *err)
{
    uint64_t now = (uint64_t)bursts;
    int rc = mu_wire_send(&now, sizeof now, child, err);

    for (int i = 0; i < bursts * PINGS && !rc; i++) {
        rc = i % PINGS ? mu_wire_recv(&now, sizeof now, child, err) : mu_wire_recv_lazily(&now, sizeof now, child, err);
        now = mu_room_common(r, mu_now());
        if (!rc)
            rc = mu_wire_send(&now, sizeof now, child, err);
    }
    return rc;
}

static int ask(struct mu_room *r, int parent, struct mu_err *err)
{
    struct mu_clockping p[PINGS];
    uint64_t bursts = 0;
    int rc = mu_wire_recv_lazily(&bursts, sizeof bursts, parent, err);

    for (uint64_t b = 0; b < bursts && !rc; b++) {
        for (int i = 0; i < PINGS && !rc; i++) {
            p[i].sent = mu_now();
            if ((rc = mu_wire_send(&p[i].sent, sizeof p[i].sent, parent, err)) ||
                (rc = mu_wire_recv(&p[i].theirs, sizeof p[i].theirs, parent, err)))
                return rc;
            p[i].back = mu_now();
        }
        mu_clockfit_burst(&r->clock, p, PINGS);
        if (b + 1 < bursts)
            nanosleep(&(struct timespec){.tv_nsec = BETWEEN_NS}, NULL);
    }
    mu_clockfit_make(&r->clock);
    return rc;
}

void mu_room_clock(struct mu_room *r, const char *when)
{
    const struct mu_clockfit *f = &r->clock;

    if (!f->n)
        return;
    mu_buf_appendf(&r->lines, "{\"kind\":\"clock\",\"when\":\"%s\",\"rank\":%d,\"host\":", when, r->rank);
    mu_record_text(&r->lines, r->host);
    mu_buf_appendf(&r->lines, ",\"n\":%u,\"offset_us\":%.3f,\"drift_ppm\":%.3f,\"residual_us\":%.3f,\"rtt_us\":%.3f}\n",
                   f->n, mu_clockfit_offset(f, mu_now()) / 1e3, f->drift * 1e6, f->residual / 1e3, f->rtt / 1e3);
}

int mu_room_sync(struct mu_room *r, struct mu_err *err)
{
    bool soon = r->synced && mu_now() - r->synced < SOON_NS;
    int here = r->host_of[r->rank], rc = 0, bursts = soon ? SOON_BURSTS : r->synced ? MORE_BURSTS : FIRST_BURSTS;

    if (!r->clock.base)
        mu_clockfit_begin(&r->clock, mu_now());
    if (r->leader[here] == r->rank) {
        for (int step = 1; step < r->nhosts && !rc; step *= 2) {
            if (here >= step && here < 2 * step)
                rc = ask(r, r->leader[here - step], err);
            else if (here < step && here + step < r->nhosts)
                rc = answer(r, r->leader[here + step], bursts, err);
        }
        for (int i = 0; i < r->size && !rc; i++)
            if (i != r->rank && r->host_of[i] == here)
                rc = mu_wire_send(&r->clock, sizeof r->clock, i, err);
        if (here && !r->synced)
            mu_room_clock(r, "begin");
    } else {
        rc = mu_wire_recv_lazily(&r->clock, sizeof r->clock, r->leader[here], err);
    }
    r->synced = mu_now();
    return rc ? rc : mu_wire_rest(err);
}
