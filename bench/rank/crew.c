#include "bench/rank/crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/clock.h"

struct hand {
    struct mu_crew *crew;
    pthread_t thread;
    int me, cpu;
    uint64_t began, ended;
};
struct mu_crew {
    int n;
    pthread_barrier_t begin, end;
    mu_crew_fn fn;
    void *arg;
    struct hand hands[];
};

static void *work(void *arg)
{
    struct hand *h = arg;
    struct mu_crew *c = h->crew;
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET((unsigned)h->cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    for (;;) {
        pthread_barrier_wait(&c->begin);
        if (!c->fn)
            return NULL;
        h->began = mu_now();
        c->fn(h->me, c->n, c->arg);
        h->ended = mu_now();
        pthread_barrier_wait(&c->end);
    }
}

int mu_crew_new(struct mu_crew **out, struct mu_err *err)
{
    cpu_set_t may;
    int n = 0;

    if (sched_getaffinity(0, sizeof may, &may) || CPU_COUNT(&may) < 1) {
        CPU_ZERO(&may);
        CPU_SET(0, &may);
    }
    struct mu_crew *c = calloc(1, sizeof *c + (size_t)CPU_COUNT(&may) * sizeof *c->hands);
    if (!c)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for threads");
    c->n = CPU_COUNT(&may);
    pthread_barrier_init(&c->begin, NULL, (unsigned)c->n + 1);
    pthread_barrier_init(&c->end, NULL, (unsigned)c->n + 1);
    for (int cpu = 0; cpu < CPU_SETSIZE && n < c->n; cpu++) {
        if (!CPU_ISSET((unsigned)cpu, &may))
            continue;
        struct hand *h = &c->hands[n];
        *h = (struct hand){.crew = c, .me = n, .cpu = cpu};
        int rc = pthread_create(&h->thread, NULL, work, h);
        if (rc) /* those that wait at the barrier wait until the process ends */
            return mu_err_set(err, MUSTER_ENODE, "%d threads cannot be had: raise the limit on processes (ulimit -u)",
                              c->n);
        n++;
    }
    *out = c;
    return 0;
}

void mu_crew_free(struct mu_crew *c)
{
    if (!c)
        return;
    c->fn = NULL;
    pthread_barrier_wait(&c->begin);
    for (int i = 0; i < c->n; i++)
        pthread_join(c->hands[i].thread, NULL);
    pthread_barrier_destroy(&c->begin);
    pthread_barrier_destroy(&c->end);
    free(c);
}

int mu_crew_size(const struct mu_crew *c)
{
    return c->n;
}

uint64_t mu_crew_run(struct mu_crew *c, mu_crew_fn fn, void *arg)
{
    uint64_t first = UINT64_MAX, last = 0;

    c->fn = fn;
    c->arg = arg;
    pthread_barrier_wait(&c->begin);
    pthread_barrier_wait(&c->end);
    for (int i = 0; i < c->n; i++) {
        first = c->hands[i].began < first ? c->hands[i].began : first;
        last = c->hands[i].ended > last ? c->hands[i].ended : last;
    }
    return last - first;
}
