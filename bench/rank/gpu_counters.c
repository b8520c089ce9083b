#include "bench/rank/gpu_counters.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/nvlib.h"
#include "runtime/base/nvml.h"

enum { GPUS_MOST = 64, EVENT_MS = 10, EVENTS_MOST = 1000, ANSWER_S = 10 };

/* A new counter is a row here, and its source in ask_one. */
enum { CORRECTED, UNCORRECTED, XIDS, REPLAYS, ROWS, COUNTERS };
static const char *const names[COUNTERS] = {
    "counter.gpu.ecc.corrected", "counter.gpu.ecc.uncorrected", "counter.gpu.xid",
    "counter.gpu.pcie.replays",  "counter.gpu.remapped_rows",
};

struct answer {
    unsigned n;
    struct {
        char uuid[96];
        int64_t v[COUNTERS]; /* -1: there is no such thing here */
    } gpu[GPUS_MOST];
};

/* Who asks holds it; when that takes too long it is left to the thread for ever. */
struct asked {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool wanted, hangs;
    struct mu_nvml nvml;
    void *device[GPUS_MOST], *set;
    int64_t xids[GPUS_MOST];
    struct answer now;
    struct mu_err err;
};

static struct asked *nvml; /* NULL: there are no GPUs, or not yet asked */
static struct answer before;
static bool tried;

static void open_all(struct asked *a)
{
    const struct mu_nvml *m = &a->nvml;
    unsigned n = 0;

    if (mu_nvml_load(&a->nvml, &a->err) || m->init() || m->count(&n))
        return;
    n = n < GPUS_MOST ? n : GPUS_MOST;
    if (!n || !m->set_new || !m->watch || !m->wait || m->set_new(&a->set))
        a->set = NULL;
    for (unsigned i = 0; i < n; i++) {
        snprintf(a->now.gpu[i].uuid, sizeof a->now.gpu[i].uuid, "GPU %u", i);
        if (m->handle(i, &a->device[i]))
            a->device[i] = NULL;
        if (!a->device[i])
            continue;
        if (m->uuid)
            (void)m->uuid(a->device[i], a->now.gpu[i].uuid, sizeof a->now.gpu[i].uuid - 1);
        if (a->set && m->watch(a->device[i], MU_NVML_XID, a->set))
            a->xids[i] = -1; /* not all have events */
    }
    a->now.n = n;
}

/* The driver keeps events until they are asked for. */
static void count_events(struct asked *a)
{
    struct mu_nvml_event e = {0};

    for (int k = 0; a->set && k < EVENTS_MOST && !a->nvml.wait(a->set, &e, EVENT_MS); k++)
        for (unsigned i = 0; i < a->now.n; i++)
            if (a->device[i] && a->device[i] == e.device && e.type == MU_NVML_XID && a->xids[i] >= 0)
                a->xids[i]++;
}

static void ask_one(const struct asked *a, unsigned i, int64_t v[COUNTERS])
{
    const struct mu_nvml *m = &a->nvml;
    unsigned long long n;
    unsigned good, bad, waits, failed, replays;
    void *d = a->device[i];

    for (int k = 0; k < COUNTERS; k++)
        v[k] = -1;
    if (!d)
        return;
    if (m->ecc && !m->ecc(d, MU_NVML_CORRECTED, MU_NVML_SINCE_DRIVER, &n))
        v[CORRECTED] = (int64_t)n;
    if (m->ecc && !m->ecc(d, MU_NVML_UNCORRECTED, MU_NVML_SINCE_DRIVER, &n))
        v[UNCORRECTED] = (int64_t)n;
    if (a->set)
        v[XIDS] = a->xids[i];
    if (m->replays && !m->replays(d, &replays))
        v[REPLAYS] = replays;
    if (m->rows && !m->rows(d, &good, &bad, &waits, &failed))
        v[ROWS] = (int64_t)good + bad;
}

static void *serve(void *arg)
{
    struct asked *a = arg;

    open_all(a);
    pthread_mutex_lock(&a->lock);
    while (!a->hangs) {
        if (!a->wanted) {
            pthread_cond_wait(&a->answered, &a->lock);
            continue;
        }
        pthread_mutex_unlock(&a->lock);
        count_events(a);
        for (unsigned i = 0; i < a->now.n; i++)
            ask_one(a, i, a->now.gpu[i].v);
        pthread_mutex_lock(&a->lock);
        a->wanted = false;
        pthread_cond_broadcast(&a->answered);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

static struct asked *begin(void)
{
    struct asked *a = calloc(1, sizeof *a);
    pthread_t thread;

    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->answered, NULL);
    if (pthread_create(&thread, NULL, serve, a)) {
        free(a);
        return NULL;
    }
    pthread_detach(thread);
    return a;
}

/* False: there is nothing to know. */
static bool ask(struct answer *out)
{
    struct timespec until;
    int rc = 0;

    *out = (struct answer){0};
    if (!nvml || nvml->hangs)
        return false;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_S;
    pthread_mutex_lock(&nvml->lock);
    nvml->wanted = true;
    pthread_cond_broadcast(&nvml->answered);
    while (nvml->wanted && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&nvml->answered, &nvml->lock, &until);
    nvml->hangs = nvml->wanted;
    if (!nvml->hangs)
        *out = nvml->now;
    pthread_mutex_unlock(&nvml->lock);
    return out->n > 0;
}

void mu_gpu_counters_begin(void)
{
    void *handle;

    if (!tried && !mu_nvlib_open(MU_NVLIB_NVML, &handle, NULL))
        nvml = begin();
    tried = true;
    ask(&before);
}

int mu_gpu_counters_end(struct mu_room *r, struct mu_err *err)
{
    struct answer now;
    int rc = 0;
    bool known = ask(&now);

    if (nvml && nvml->hangs)
        mu_room_skip(r, "counter.gpu", "NVML has not answered for 10 s: the driver hangs");
    for (unsigned i = 0; known && i < now.n && i < before.n && !rc; i++)
        for (int k = 0; k < COUNTERS && !rc; k++)
            rc = mu_room_grown(r, names[k], (int)i, now.gpu[i].uuid, before.gpu[i].v[k], now.gpu[i].v[k], err);
    return rc;
}
