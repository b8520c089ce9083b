#include "runtime/keeper/flight.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/dtype.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/slot.h"

#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define SET(field, value) atomic_store_explicit(&(field), value, memory_order_relaxed)
#define TOLD_MOST 32768u /* records in the answers to one question: the loop does nothing else meanwhile */

static const char *const kinds[] = {
#define NAME(name, text) text,
    MU_OP_KINDS(NAME)};
static const char *const states[] = {MU_FLIGHT_STATES(NAME)
#undef NAME
};
static const char *name_of(const char *const *names, size_t n, unsigned i)
{
    return i < n ? names[i] : "unknown";
}

struct clock { /* both of a moment when the recorder began and of now */
    uint64_t tick0, mono0, tick1, mono1;
    int64_t wall;
};

/* Seconds of the day's clock; what lies outside of what was recorded is a rank's scribble. */
static void put_time(FILE *out, const char *key, uint64_t tick, const struct clock *c)
{
    if (!tick || tick < c->tick0 || tick > c->tick1 || c->tick1 <= c->tick0 || c->mono1 < c->mono0) {
        fprintf(out, ",\"%s\":null", key);
        return;
    }
    double mono =
        (double)c->mono0 + (double)(tick - c->tick0) / (double)(c->tick1 - c->tick0) * (double)(c->mono1 - c->mono0);
    fprintf(out, ",\"%s\":%.6f", key, (mono + (double)c->wall) / 1e9);
}

static void put_record(FILE *out, const struct mu_flight_ring *r, const struct mu_flight_record *v, uint32_t rank,
                       const struct clock *c)
{
    uint8_t kind = v->kind;
    bool has_op = kind == MU_OP_KIND_ALLREDUCE || kind == MU_OP_KIND_REDUCE || kind == MU_OP_KIND_REDUCE_SCATTER;

    fprintf(out, "{\"rank\":%u,\"comm\":\"%016llx\",\"size\":%u,\"seq\":%llu", rank, (unsigned long long)GET(r->ctx),
            GET(r->size), (unsigned long long)GET(v->seq));
    fprintf(out, v->number ? ",\"number\":%llu" : ",\"number\":null", (unsigned long long)v->number);
    fprintf(out, ",\"op\":\"%s\"", name_of(kinds, MU_COUNT(kinds), kind));
    if (kind == MU_OP_KIND_BARRIER)
        fprintf(out, ",\"dtype\":null,\"count\":0");
    else
        fprintf(out, ",\"dtype\":\"%s\",\"count\":%llu", mu_dtype_name(v->dtype), (unsigned long long)v->count);
    fprintf(out, has_op ? ",\"reduce\":\"%s\"" : ",\"reduce\":null", mu_op_name(v->op));
    fprintf(out, v->peer >= 0 ? ",\"peer\":%d" : ",\"peer\":null", v->peer);
    put_time(out, "enqueued", v->enqueued, c);
    put_time(out, "started", v->started, c);
    put_time(out, "ended", GET(v->ended), c);
    fprintf(out, ",\"state\":\"%s\"}\n", name_of(states, MU_COUNT(states), GET(v->state)));
}

void mu_flight_print(const struct mu_flight *f, uint32_t rank, unsigned last, uint64_t tick, uint64_t mono,
                     int64_t wall, FILE *out)
{
    struct clock c = {.tick0 = GET(f->tick), .mono0 = GET(f->mono), .tick1 = tick, .mono1 = mono, .wall = wall};

    last = last < MU_FLIGHT_RING ? last : MU_FLIGHT_RING;
    for (unsigned i = 0; i < MU_FLIGHT_COMMS && c.tick0; i++) {
        const struct mu_flight_ring *r = &f->ring[i];
        uint64_t newest = GET(r->last), seq = newest > last ? newest - last : 0;

        while (seq++ < newest) {
            const struct mu_flight_record *from = &r->v[(seq - 1) % MU_FLIGHT_RING];
            struct mu_flight_record v;

            memcpy(&v, from, sizeof v);
            atomic_thread_fence(memory_order_acquire);
            if (GET(v.seq) == seq && GET(from->seq) == seq) /* else it is being written */
                put_record(out, r, &v, rank, &c);
        }
    }
}

/* What is written while it is copied has no seq there. Rings are taken from the first one on, and what nobody has
 * written is not touched: it has no memory yet. */
static void copy(struct mu_flight *to, const struct mu_flight *from)
{
    SET(to->tick, GET(from->tick));
    SET(to->mono, GET(from->mono));
    for (unsigned i = 0; i < MU_FLIGHT_COMMS; i++) {
        const struct mu_flight_ring *r = &from->ring[i];
        struct mu_flight_ring *mine = &to->ring[i];
        uint64_t ctx = atomic_load_explicit(&r->ctx, memory_order_acquire);
        uint64_t last = atomic_load_explicit(&r->last, memory_order_acquire);

        if (!ctx)
            break;
        for (uint64_t k = 0; k < MU_FLIGHT_RING && k < last; k++) {
            const struct mu_flight_record *v = &r->v[(last - 1 - k) % MU_FLIGHT_RING];
            struct mu_flight_record *kept = &mine->v[(last - 1 - k) % MU_FLIGHT_RING];

            memcpy(kept, v, sizeof *kept);
            atomic_thread_fence(memory_order_acquire);
            if (GET(v->seq) != GET(kept->seq))
                SET(kept->seq, 0);
        }
        SET(mine->ctx, ctx);
        SET(mine->size, GET(r->size));
        atomic_thread_fence(memory_order_acquire);
        SET(mine->last, GET(r->ctx) == ctx ? last : 0); /* else it has become another communicator's */
    }
}

int mu_flight_text(const struct mu_flight *f, uint32_t rank, unsigned last, char **text, size_t *len,
                   struct mu_err *err)
{
    mu_auto_free struct mu_flight *kept = aligned_alloc(_Alignof(struct mu_flight), sizeof *kept);
    FILE *out = kept ? open_memstream(text, len) : NULL;

    if (out) {
        memset(kept, 0, sizeof *kept);
        copy(kept, f);
        uint64_t mono = mu_now(); /* later than all that was copied */
        mu_flight_print(kept, rank, last, mu_tick(), mono, (int64_t)(mu_wall() - mono), out);
        if (fclose(out) == 0)
            return 0;
        free(MU_STEAL(*text, NULL));
    }
    return mu_err_set(err, MUSTER_ENOMEM, "no memory for what rank %u has called", rank);
}

static int save(const struct mu_flight *f, uint32_t rank, const char *dir, struct mu_err *err)
{
    mu_auto_free char *text = NULL;
    char path[PATH_MAX], name[32];
    size_t len = 0;

    snprintf(name, sizeof name, "rank-%u.flight", rank);
    int rc = mu_path_join(path, sizeof path, dir, name, err);
    if (rc || (rc = mu_flight_text(f, rank, MU_FLIGHT_RING, &text, &len, err)))
        return rc;
    return len ? mu_path_write_atomic(path, text, len, 0600, err) : 0;
}

void mu_flights_save(const struct mu_flights *fs, const char *log_dir, uint32_t attempt)
{
    char dir[PATH_MAX], name[32];
    struct mu_err err;

    snprintf(name, sizeof name, "attempt-%u", attempt);
    if (!log_dir || mu_path_join(dir, sizeof dir, log_dir, name, &err))
        return;
    for (uint32_t i = 0; i < fs->n; i++)
        if (save(mu_slots_flight(fs->slots, i), fs->first + i, dir, &err))
            mu_log(MU_LOG_WARN, "keeper", "%s", err.text);
}

void mu_flights_tell(const struct mu_flights *fs, const struct mu_m_flight *ask, struct mu_link *link)
{
    struct mu_m_flown m = {.job = ask->job, .attempt = ask->attempt, .asker = ask->asker};
    unsigned most = fs->n ? TOLD_MOST / MU_FLIGHT_COMMS / fs->n : 0;
    unsigned last = ask->last < (most ? most : 1) ? ask->last : most ? most : 1;
    struct mu_err err;

    if (!fs->slots || !fs->n) {
        mu_link_send_msg(link, MU_MSG_flown, &m);
        return;
    }
    for (uint32_t i = 0; i < fs->n; i++) {
        mu_auto_free char *text = NULL;
        size_t len = 0;

        if (mu_flight_text(mu_slots_flight(fs->slots, i), fs->first + i, last, &text, &len, &err))
            mu_log(MU_LOG_WARN, "keeper", "%s", err.text);
        m.rank = fs->first + i;
        m.left = fs->n - 1 - i;
        mu_link_send_tail(link, MU_MSG_flown, &m, text, len);
    }
}
