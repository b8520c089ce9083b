#include "runtime/keeper/flight.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/slot.h"

#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)

static const char *const kinds[] = {
#define NAME(name, text) text,
    MU_OP_KINDS(NAME)};
static const char *const states[] = {MU_FLIGHT_STATES(NAME)
#undef NAME
};
/* By muster_dtype and muster_op. */
static const char *const dtypes[] = {"int8",   "uint8",   "int32",    "uint32",  "int64",
                                     "uint64", "float16", "bfloat16", "float32", "float64"};
static const char *const ops[] = {"sum", "prod", "min", "max", "avg"};

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
        fprintf(out, ",\"dtype\":\"%s\",\"count\":%llu", name_of(dtypes, MU_COUNT(dtypes), v->dtype),
                (unsigned long long)v->count);
    fprintf(out, has_op ? ",\"reduce\":\"%s\"" : ",\"reduce\":null", name_of(ops, MU_COUNT(ops), v->op));
    fprintf(out, v->peer >= 0 ? ",\"peer\":%d" : ",\"peer\":null", v->peer);
    put_time(out, "enqueued", v->enqueued, c);
    put_time(out, "started", v->started, c);
    put_time(out, "ended", GET(v->ended), c);
    fprintf(out, ",\"state\":\"%s\"}\n", name_of(states, MU_COUNT(states), GET(v->state)));
}

void mu_flight_print(const struct mu_flight *f, uint32_t rank, uint64_t tick, uint64_t mono, int64_t wall, FILE *out)
{
    struct clock c = {.tick0 = GET(f->tick), .mono0 = GET(f->mono), .tick1 = tick, .mono1 = mono, .wall = wall};

    for (unsigned i = 0; i < MU_FLIGHT_COMMS && c.tick0; i++) {
        const struct mu_flight_ring *r = &f->ring[i];
        uint64_t last = GET(r->last), seq = last > MU_FLIGHT_RING ? last - MU_FLIGHT_RING : 0;

        while (seq++ < last) {
            const struct mu_flight_record *from = &r->v[(seq - 1) % MU_FLIGHT_RING];
            struct mu_flight_record v;

            memcpy(&v, from, sizeof v);
            atomic_thread_fence(memory_order_acquire);
            if (GET(v.seq) == seq && GET(from->seq) == seq) /* else it is being written */
                put_record(out, r, &v, rank, &c);
        }
    }
}

int mu_flight_save(const struct mu_flight *f, uint32_t rank, const char *dir, mode_t mode, struct mu_err *err)
{
    mu_auto_free char *text = NULL;
    char path[PATH_MAX], name[32];
    size_t len = 0;

    snprintf(name, sizeof name, "rank-%u.flight", rank);
    int rc = mu_path_join(path, sizeof path, dir, name, err);
    if (rc)
        return rc;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for what rank %u has called", rank);
    uint64_t mono = mu_now();
    mu_flight_print(f, rank, mu_tick(), mono, (int64_t)(mu_wall() - mono), out);
    if (fclose(out))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for what rank %u has called", rank);
    return len ? mu_path_write_atomic(path, text, len, mode, err) : 0;
}
