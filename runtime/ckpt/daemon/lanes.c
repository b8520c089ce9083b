#include "runtime/ckpt/daemon/lanes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

#define TICK (100 * MU_MS)

struct lane {
    struct mu_lanes *all;
    struct mu_s3 *s;
    pthread_t thread;
    unsigned char *buf;
    mu_lane_work *work;
    bool busy, begun;
    _Alignas(16) unsigned char arg[MU_LANE_ARG_MAX];
};

struct mu_lanes {
    pthread_mutex_t lock;
    pthread_cond_t asked, done;
    struct lane *v;
    unsigned n, taken;
    bool stop;
    int (*tick)(void *);
    void *tick_arg;
    struct mu_err err; /* of the first failure */
};

static void *run(void *arg)
{
    struct lane *l = arg;
    struct mu_lanes *a = l->all;

    pthread_mutex_lock(&a->lock);
    for (;;) {
        struct mu_err err = {0};

        while (!l->work && !a->stop)
            pthread_cond_wait(&a->asked, &a->lock);
        if (!l->work)
            break;
        pthread_mutex_unlock(&a->lock);
        int rc = l->work(l->s, l->buf, l->arg, &err);
        pthread_mutex_lock(&a->lock);
        if (rc && !a->err.code)
            a->err = err;
        l->work = NULL;
        l->busy = false;
        pthread_cond_signal(&a->done);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

int mu_lanes_open(const struct mu_s3_conf *conf, unsigned n, size_t buffer, int (*tick)(void *), void *arg,
                  struct mu_lanes **out, struct mu_err *err)
{
    struct mu_lanes *a = calloc(1, sizeof *a);
    int rc = 0;

    if (!a || !(a->v = calloc(n, sizeof *a->v))) {
        free(a);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for connections");
    }
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->asked, NULL);
    pthread_cond_init(&a->done, NULL);
    a->tick = tick;
    a->tick_arg = arg;
    for (; a->n < n; a->n++) {
        struct lane *l = &a->v[a->n];

        l->all = a;
        if ((rc = mu_s3_open(conf, &l->s, err)))
            break;
        if (!(l->buf = malloc(buffer))) {
            rc = mu_err_set(err, MUSTER_ENOMEM, "no memory for %u connections", n);
        } else if ((errno = pthread_create(&l->thread, NULL, run, l))) {
            rc = mu_err_errno(err, 0, "start a thread");
        }
        if (rc) {
            mu_s3_close(l->s);
            free(l->buf);
            break;
        }
        l->begun = true;
    }
    if (rc) {
        mu_lanes_close(a);
        return rc;
    }
    *out = a;
    return 0;
}

/* Called with the lock; drops it while it waits and ticks. Counts what is idle and the first of it. */
static unsigned idle_of(const struct mu_lanes *a, unsigned *first)
{
    unsigned idle = 0;

    for (unsigned i = a->n; i-- > 0;)
        if (!a->v[i].busy) {
            idle++;
            *first = i;
        }
    return idle;
}

static void wait_a_tick(struct mu_lanes *a)
{
    uint64_t at = mu_wall() + TICK;
    struct timespec until = {.tv_sec = (time_t)(at / MU_SEC), .tv_nsec = (long)(at % MU_SEC)};

    pthread_cond_timedwait(&a->done, &a->lock, &until);
    if (!a->tick)
        return;
    pthread_mutex_unlock(&a->lock);
    int rc = a->tick(a->tick_arg);
    pthread_mutex_lock(&a->lock);
    if (rc && !a->err.code)
        mu_err_set(&a->err, MUSTER_EABORTED, "given up");
}

static int failure(const struct mu_lanes *a, struct mu_err *err)
{
    return a->err.code ? mu_err_set(err, a->err.code, "%s", a->err.text) : 0;
}

int mu_lanes_take(struct mu_lanes *a, unsigned char **buf, struct mu_err *err)
{
    int rc;

    pthread_mutex_lock(&a->lock);
    while (!idle_of(a, &a->taken) && !a->err.code)
        wait_a_tick(a);
    rc = failure(a, err);
    *buf = a->v[a->taken].buf;
    pthread_mutex_unlock(&a->lock);
    return rc;
}

void mu_lanes_give(struct mu_lanes *a, mu_lane_work *work, const void *arg, size_t n)
{
    struct lane *l = &a->v[a->taken];

    pthread_mutex_lock(&a->lock);
    memcpy(l->arg, arg, n < sizeof l->arg ? n : sizeof l->arg);
    l->work = work;
    l->busy = true;
    pthread_cond_broadcast(&a->asked);
    pthread_mutex_unlock(&a->lock);
}

int mu_lanes_wait(struct mu_lanes *a, struct mu_err *err)
{
    unsigned first;
    int rc;

    pthread_mutex_lock(&a->lock);
    while (idle_of(a, &first) < a->n)
        wait_a_tick(a);
    rc = failure(a, err);
    pthread_mutex_unlock(&a->lock);
    if (!rc && a->tick && a->tick(a->tick_arg))
        rc = mu_err_set(err, MUSTER_EABORTED, "given up");
    return rc;
}

uint64_t mu_lanes_retries(struct mu_lanes *a)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < a->n; i++)
        sum += mu_s3_retries(a->v[i].s);
    return sum;
}

void mu_lanes_close(struct mu_lanes *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_broadcast(&a->asked);
    pthread_mutex_unlock(&a->lock);
    for (unsigned i = 0; i < a->n; i++) {
        if (a->v[i].begun)
            pthread_join(a->v[i].thread, NULL);
        mu_s3_close(a->v[i].s);
        free(a->v[i].buf);
    }
    pthread_cond_destroy(&a->done);
    pthread_cond_destroy(&a->asked);
    pthread_mutex_destroy(&a->lock);
    free(a->v);
    free(a);
}
