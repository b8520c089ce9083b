/* Memory: STREAM's four kernels, and patterns that are written and read back while the CPUs are busy besides. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/pairs.h"
#include "bench/rank/node.h"
#include "runtime/base/clock.h"

struct area {
    double *a, *b, *c;
    size_t n;
    int which;
};

static void part(size_t n, int me, int all, size_t *from, size_t *to)
{
    *from = n / (size_t)all * (size_t)me;
    *to = me == all - 1 ? n : n / (size_t)all * (size_t)(me + 1);
}

static void touch(int me, int all, void *arg)
{
    struct area *m = arg;
    size_t from, to;

    part(m->n, me, all, &from, &to);
    for (size_t i = from; i < to; i++) {
        m->a[i] = 1;
        m->b[i] = 2;
        m->c[i] = 0;
    }
}

static void kernel(int me, int all, void *arg)
{
    struct area *m = arg;
    size_t from, to;

    part(m->n, me, all, &from, &to);
    double *restrict a = m->a, *restrict b = m->b, *restrict c = m->c;
    switch (m->which) {
    case 0:
        memcpy(c + from, a + from, (to - from) * sizeof *a);
        return;
    case 1:
        for (size_t i = from; i < to; i++)
            b[i] = 3 * c[i];
        return;
    case 2:
        for (size_t i = from; i < to; i++)
            c[i] = a[i] + b[i];
        return;
    default:
        for (size_t i = from; i < to; i++)
            a[i] = b[i] + 3 * c[i];
    }
}

/* Of so many bytes; NULL with the text: there is no room for them. */
static void *grab(size_t bytes, struct mu_err *err)
{
    long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    void *p = MAP_FAILED;

    if (pages > 0 && bytes < (size_t)pages * (size_t)page)
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) {
        madvise(p, bytes, MADV_HUGEPAGE);
        return p;
    }
    mu_err_set(err, MUSTER_ENOMEM, "%zu MiB of memory are not free; lower --memory-size", bytes >> 20);
    return NULL;
}

/* From one test to the next, and to what is measured again: new pages cost more than the passes over them. */
static struct {
    void *p;
    size_t bytes;
} kept;

int mu_node_stream(struct mu_node *n, int which, struct mu_err *err)
{
    static const unsigned arrays[] = {2, 2, 3, 3}; /* that each kernel passes over */
    size_t len = n->o->memory / 3 / sizeof(double) / 8 * 8;

    if (!len)
        return mu_err_set(err, MUSTER_EARG, "--memory-size is too small");
    bool fresh = kept.bytes != 3 * len * sizeof(double);
    if (fresh)
        mu_node_stream_end();
    if (fresh && !(kept.p = grab(3 * len * sizeof(double), err)))
        return MUSTER_ENOMEM;
    kept.bytes = 3 * len * sizeof(double);
    struct area m = {.a = kept.p, .n = len, .which = which};
    m.b = m.a + len;
    m.c = m.b + len;
    if (fresh)
        mu_crew_run(n->crew, touch, &m);
    mu_crew_run(n->crew, kernel, &m); /* warms up */
    for (;;) {
        uint64_t ns = mu_crew_run(n->crew, kernel, &m);
        double bytes = (double)len * sizeof(double) * arrays[which];
        if (mu_series_add(&n->series, bytes / (double)(ns ? ns : 1), mu_now()) != MU_SERIES_MORE)
            break;
    }
    n->record.size = len * sizeof(double);
    return 0;
}

void mu_node_stream_end(void)
{
    if (kept.p)
        munmap(kept.p, kept.bytes);
    kept.p = NULL;
    kept.bytes = 0;
}

struct patterns {
    uint64_t *v;
    size_t n;
    uint64_t seed;
    int pass;
    atomic_long wrong;
    atomic_llong sink;
};

/* Addresses, their complement, random words, a bit that walks. */
static uint64_t pattern(const struct patterns *p, size_t i)
{
    uint64_t s = p->seed + i;

    switch (p->pass % 4) {
    case 0:
        return (uint64_t)i * 8;
    case 1:
        return ~((uint64_t)i * 8);
    case 2:
        return mu_pairs_random(&s);
    default:
        return UINT64_C(1) << ((i + (size_t)p->pass) % 64);
    }
}

static void put(int me, int all, void *arg)
{
    struct patterns *p = arg;
    size_t from, to;

    part(p->n, me, all, &from, &to);
    for (size_t i = from; i < to; i++)
        p->v[i] = pattern(p, i);
}

/* Each reads what its neighbour has written, and computes in between. */
static void look(int me, int all, void *arg)
{
    struct patterns *p = arg;
    size_t from, to;
    long wrong = 0;
    double heat = 1;

    part(p->n, (me + 1) % all, all, &from, &to);
    for (size_t i = from; i < to; i++) {
        wrong += p->v[i] != pattern(p, i);
        if (i % 16 == 0)
            for (int k = 0; k < 16; k++)
                heat = heat * 1.0000001 + 1e-9;
    }
    atomic_fetch_add(&p->wrong, wrong);
    atomic_fetch_add(&p->sink, (long long)heat);
}

int mu_node_memtest(struct mu_node *n, int which, struct mu_err *err)
{
    struct patterns p = {.n = n->o->memory / 8, .seed = n->room->seed};
    uint64_t until = mu_now() + n->o->room.budget;

    (void)which;
    mu_node_stream_end();
    p.v = p.n ? grab(p.n * 8, err) : NULL;
    if (!p.v)
        return p.n ? MUSTER_ENOMEM : mu_err_set(err, MUSTER_EARG, "--memory-size is too small");
    for (p.pass = 0; p.pass < 4 || mu_now() < until; p.pass++) {
        mu_crew_run(n->crew, put, &p);
        mu_crew_run(n->crew, look, &p);
    }
    munmap(p.v, p.n * 8);
    n->record.size = p.n * 8;
    n->record.wrong = atomic_load(&p.wrong);
    n->series.v[n->series.n++] = (double)n->record.wrong;
    return 0;
}
