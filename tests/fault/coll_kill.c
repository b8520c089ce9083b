/* A rank that does collectives until one fails, and one rank that is killed or stopped at some moment inside one:
 * coll_kill FILE SEED kill|stop|halt VICTIM DELAY_US. One that was stopped is continued by another rank, unless it is
 * halt. What everybody saw is in FILE, for coll_kill.t. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "muster.h"
#include "runtime/base/clock.h"

#define RANKS 16
#define MOST ((size_t)1 << 20) /* elements */

struct seen { /* 640 bytes; the layout is known to coll_kill.t */
    _Atomic uint64_t done;
    uint64_t ns; /* from the hit until the call returned */
    int64_t code, later;
    uint64_t later_ns, intact, calls;
    char text[584];
};

static struct shared {
    _Atomic uint64_t hit, victim;
    struct seen rank[RANKS];
} * shared;

static uint64_t state;
static int how;
static bool in_domains; /* then all memory is mapped */

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void hit(int sig)
{
    (void)sig;
    atomic_store(&shared->hit, mu_now());
    kill(getpid(), how);
}

static int call(float *a[2], float *b[2])
{
    muster_comm *w = muster_world();
    uint64_t what = next(), m = next() % 4 ? in_domains : 1, k = next();
    size_t p = (size_t)muster_size(w), n = 1 + next() % ((size_t)1 << (k % 20)), each = n / p + 1;
    int root = (int)(next() % p);
    muster_request *req = NULL;
    int rc;

    switch (what % 8) {
    case 0:
    case 1:
        return muster_allreduce(a[m], what & 8 ? b[m] : a[m], n, MUSTER_FLOAT32, MUSTER_MAX, w);
    case 2:
        return muster_reduce(a[m], b[m], n, MUSTER_BFLOAT16, MUSTER_SUM, root, w);
    case 3:
        return muster_reduce_scatter(a[m], b[m], each, MUSTER_INT32, MUSTER_SUM, w);
    case 4:
        return muster_allgather(a[m], b[m], each, MUSTER_FLOAT32, w);
    case 5:
        return muster_alltoall(a[m], b[m], each, MUSTER_FLOAT32, w);
    case 6:
        return what & 8 ? muster_broadcast(a[m], n, MUSTER_FLOAT32, root, w) : muster_barrier(w);
    default:
        rc = muster_iallreduce(a[m], b[m], n, MUSTER_FLOAT64, MUSTER_MIN, w, &req);
        return rc < 0 ? rc : muster_wait(&req);
    }
}

/* Memory that is new after the failure is nobody else's. */
static bool intact(void)
{
    enum { N = 4 };
    unsigned char *v[N];
    size_t bytes = MOST * 8;
    bool ok = true;

    for (int i = 0; i < N; i++) {
        v[i] = i % 2 ? muster_mem_alloc(bytes) : malloc(bytes);
        if (!v[i])
            return false;
        memset(v[i], 0x5a, bytes);
    }
    usleep(20000);
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < bytes; k++)
            ok &= v[i][k] == 0x5a;
    return ok;
}

static void wait_for_all(int me, int victim, int size)
{
    for (int i = 0; i < 1000; i++) {
        int missing = 0;

        for (int r = 0; r < size; r++)
            missing += r != victim && r != me && !atomic_load(&shared->rank[r].done);
        if (!missing)
            return;
        usleep(10000);
    }
}

int main(int argc, char **argv)
{
    bool continues;
    int fd = argc == 6 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1, victim, me, rc = 0;
    float *a[2], *b[2];
    struct seen *s;

    if (fd < 0 || muster_init(&argc, &argv) < 0) {
        fprintf(stderr, "coll_kill: %s\n", muster_last_error());
        return 99;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    state = strtoull(argv[2], NULL, 10) * 2654435761u + 1;
    how = strcmp(argv[3], "kill") ? SIGSTOP : SIGKILL;
    continues = !strcmp(argv[3], "stop");
    victim = atoi(argv[4]);
    in_domains = getenv("COLL_DOMAINS") != NULL;
    me = muster_rank(muster_world());
    s = &shared->rank[me];
    for (int i = 0; i < 2; i++) {
        a[i] = i ? muster_mem_alloc(MOST * 8) : calloc(MOST, 8);
        b[i] = i ? muster_mem_alloc(MOST * 8) : calloc(MOST, 8);
    }
    rc = muster_barrier(muster_world()); /* some may still be in it when the victim dies */
    if (me == victim) {
        long us = atol(argv[5]);
        struct itimerval t = {.it_value = {us / 1000000, us % 1000000}};

        atomic_store(&shared->victim, (uint64_t)getpid());
        signal(SIGALRM, hit);
        setitimer(ITIMER_REAL, &t, NULL);
    }
    for (uint64_t end = mu_now() + 20 * MU_SEC; rc == 0 && mu_now() < end;) {
        rc = call(a, b);
        s->calls++;
    }
    s->ns = mu_now() - atomic_load(&shared->hit);
    s->code = rc;
    snprintf(s->text, sizeof s->text, "%s", muster_last_error());
    for (int i = 0; i < 2; i++) {
        if (i) {
            muster_mem_free(a[i]);
            muster_mem_free(b[i]);
        } else {
            free(a[i]);
            free(b[i]);
        }
    }
    s->later_ns = mu_now();
    s->later = muster_barrier(muster_world());
    s->later_ns = mu_now() - s->later_ns;
    s->intact = intact();
    atomic_store(&s->done, 1);
    if (continues && me == (victim ? 0 : 1)) {
        wait_for_all(me, victim, muster_size(muster_world()));
        kill((pid_t)atomic_load(&shared->victim), SIGCONT);
    }
    /* MPI ends a process that goes on and writes to one that is gone. */
    for (int i = 0; !continues && how == SIGSTOP && i < 1000 && !atomic_load(&shared->rank[victim].done); i++)
        usleep(10000);
    muster_finalize();
    return 0;
}
