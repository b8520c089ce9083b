/* What a keeper makes of the flight recorder of a rank that is dead: what it had called, whatever else it has written
 * there. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/slot.h"
#include "runtime/keeper/flight.h"
#include "tests/unit/tap.h"

static struct mu_flight *f;

static char *print(uint64_t ticks)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    mu_flight_print(f, 3, MU_FLIGHT_RING, atomic_load(&f->tick) + ticks, atomic_load(&f->mono) + ticks, 1000000000,
                    out);
    fclose(out);
    return text;
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void test_rings(void)
{
    struct mu_flight_ring *r[MU_FLIGHT_COMMS + 1];
    struct mu_flight_record what = {.number = 7, .count = 5, .peer = -1, .kind = MU_OP_KIND_BARRIER};

    TAP_OK(!mu_flight_open(NULL, 1, 2), "without a keeper there is no ring");
    for (unsigned i = 0; i < MU_FLIGHT_COMMS; i++)
        r[i] = mu_flight_open(f, 100 + i, 2);
    TAP_OK(r[0] && r[MU_FLIGHT_COMMS - 1] && !mu_flight_open(f, 1, 2) && atomic_load(&f->unrecorded) == 1,
           "one communicator too many is counted");
    mu_flight_enter(r[3], &what, true);
    mu_flight_close(f, r[5]);
    mu_flight_close(f, r[3]);
    TAP_OK(mu_flight_open(f, 200, 4) == r[5] && mu_flight_open(f, 201, 4) == r[3],
           "freed ones are given again, those of long ago first");
    char *text = print(1000);
    TAP_OK(!*text, "what the former one called is gone");
    free(text);
}

static void test_records(void)
{
    struct mu_flight_ring *r = mu_flight_open(f, 0xabcull, 2);
    struct mu_flight_record what = {.count = 5, .peer = 1, .kind = MU_OP_KIND_REDUCE, .dtype = 8, .op = 4};
    struct mu_flight_record *v = NULL;

    for (unsigned i = 0; i < MU_FLIGHT_RING + 10; i++) {
        what.number = i + 1;
        v = mu_flight_enter(r, &what, i % 2);
        if (i != MU_FLIGHT_RING)
            mu_flight_leave(v, mu_tick(), i == MU_FLIGHT_RING + 5);
    }
    char *text = print(1ull << 40);
    TAP_OK(count(text, "\n") == MU_FLIGHT_RING && strstr(text, "\"seq\":11,") == strstr(text, "\"seq\":"),
           "the newest calls, oldest first");
    TAP_OK(count(text, "\"state\":\"completed\"") == MU_FLIGHT_RING - 2 && count(text, "\"failed\"") == 1 &&
               count(text, "\"enqueued\"}") == 1 && count(text, "\"ended\":null") == 1,
           "each with its state");
    TAP_OK(strstr(text,
                  "{\"rank\":3,\"comm\":\"0000000000000abc\",\"size\":2,\"seq\":11,\"number\":11,\"op\":\"reduce\","
                  "\"dtype\":\"float32\",\"count\":5,\"reduce\":\"avg\",\"peer\":1,\"enqueued\":") == text,
           "and what it was");
    free(text);
    atomic_store(&r->v[3].seq, 0);
    text = print(1ull << 40);
    TAP_OK(count(text, "\n") == MU_FLIGHT_RING - 1, "one that is being written is left out");
    free(text);
    text = print(0);
    TAP_OK(count(text, "\"enqueued\":null") == MU_FLIGHT_RING - 1, "times that cannot be are not told");
    free(text);
}

/* As it is told while the rank is at work. */
static void test_text(void)
{
    struct mu_flight_ring *r = &f->ring[0];
    struct mu_err err;
    char *text = NULL;
    size_t len = 0;

    atomic_store(&r->v[4].seq, 0);
    TAP_OK(mu_flight_text(f, 3, 5, &text, &len, &err) == 0 && count(text, "\n") == 5 &&
               count(text, "\"enqueued\":null") == 0 && strstr(text, "\"seq\":262,") == strstr(text, "\"seq\":"),
           "the newest of each communicator");
    free(text);
    TAP_OK(mu_flight_text(f, 3, UINT32_MAX, &text, &len, &err) == 0 && count(text, "\n") == MU_FLIGHT_RING - 2,
           "and all of them, but those that are being written");
    free(text);
}

static void test_scribble(void)
{
    unsigned char *bytes = (unsigned char *)f;
    bool good = true;

    srand(5);
    for (unsigned turn = 0; turn < 20; turn++) {
        for (size_t i = 0; i < sizeof *f; i++)
            bytes[i] = (unsigned char)rand();
        for (unsigned i = 0; i < MU_FLIGHT_COMMS * MU_FLIGHT_RING; i++) {
            struct mu_flight_ring *r = &f->ring[i / MU_FLIGHT_RING];
            atomic_store(&r->last, turn % 2 ? UINT64_MAX : 300);
            atomic_store(&r->v[i % MU_FLIGHT_RING].seq, i % MU_FLIGHT_RING + 1);
        }
        char *text = print((uint64_t)rand());
        for (const char *p = text; *p && good; p++)
            good = *p == '\n' || (*p >= 0x20 && *p < 0x7f);
        free(text);
    }
    TAP_OK(good, "whatever is there, what is printed is text");
}

int main(void)
{
    f = aligned_alloc(64, sizeof *f);
    if (!f)
        return 99;
    memset(f, 0, sizeof *f);
    mu_flight_begin(f);
    test_records();
    test_text();
    memset(f->ring, 0, sizeof f->ring);
    test_rings();
    test_scribble();
    free(f);
    return tap_done();
}
