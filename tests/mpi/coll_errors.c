/* What goes wrong, one way a run: coll_errors CASE. Of several disagreements each has a communicator of its own, and
 * the world goes on; one that is about the session is the last. MPI is started and ended here, not by the library, so
 * that ranks whose session has failed can still compare notes. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "muster.h"
#include "runtime/base/slot.h"
#include "tests/mpi/check.h"

#define HANG 30 /* s: what returns later than that has waited, on a busy machine, too */

static muster_comm *world, *at; /* at: where ranks disagree */
static int rank, size, several;
static float x[4096], y[4096];

static int says(const char *a, const char *b)
{
    return strstr(muster_last_error(), a) && strstr(muster_last_error(), b);
}

static void start(void)
{
    if (several && muster_world())
        return;
    int ok = muster_init(NULL, NULL) == 0;

    check(ok, "init");
    if (!ok) {
        printf("# %s\n", muster_last_error());
        exit(1);
    }
    world = muster_world();
}

/* --- ranks that disagree: every rank gets EMISMATCH, in this call or its next one, soon --- */

static int count_differs(void)
{
    return muster_allreduce(x, y, rank == 1 ? 11 : 10, MUSTER_FLOAT32, MUSTER_SUM, at);
}
static int size_class_differs(void)
{
    static float big[300000];

    return rank == 1 ? muster_allreduce(big, big, 300000, MUSTER_FLOAT32, MUSTER_SUM, at)
                     : muster_allreduce(x, y, 10, MUSTER_FLOAT32, MUSTER_SUM, at);
}
static int dtype_differs(void)
{
    return muster_allreduce(x, y, 10, rank == 1 ? MUSTER_INT32 : MUSTER_FLOAT32, MUSTER_SUM, at);
}
static int op_differs(void)
{
    return muster_allreduce(x, y, 10, MUSTER_FLOAT32, rank == 1 ? MUSTER_MAX : MUSTER_SUM, at);
}
static int root_differs(void) /* ranks 0 and 1 each wait for the other one's broadcast */
{
    return muster_broadcast(x, 10, MUSTER_FLOAT32, rank == 0 ? 1 : 0, at);
}
static int function_differs(void)
{
    return rank == 1 ? muster_barrier(at) : muster_allreduce(x, y, 10, MUSTER_FLOAT32, MUSTER_SUM, at);
}
static int bucket_differs(void) /* others start after the one that fails; the first error is its own */
{
    muster_bucket *b = NULL;
    int rc = muster_bucket_open(at, MUSTER_FLOAT32, MUSTER_SUM, 1, &b);

    for (size_t i = 0; i < 6 && rc == 0; i++)
        rc = muster_bucket_add(b, x + 20 * i, rank == 1 && i == 0 ? 11 : 10);
    for (size_t i = 0; i < 6 && rc == 0; i++) {
        rc = muster_bucket_ready(b, i);
        usleep(50000);
    }
    if (rc == 0)
        rc = muster_bucket_wait(b);
    muster_bucket_close(b);
    return rc;
}
static int leaf_differs(void) /* rank 1 only sends, and has left when the others notice */
{
    return rank == 1 ? muster_reduce(x, NULL, 10, MUSTER_FLOAT32, MUSTER_SUM, 0, at)
                     : muster_allreduce(x, y, 10, MUSTER_FLOAT32, MUSTER_SUM, at);
}
static int finalize_differs(void)
{
    return rank == 1 ? muster_finalize() : muster_barrier(world);
}

static const struct {
    const char *name;
    int (*call)(void);
    const char *who, *what;
} mismatches[] = {
    {"count", count_differs, "rank 1 on ", "count"},
    {"sizes", size_class_differs, "rank 1 on ", "count"},
    {"dtype", dtype_differs, "rank 1 on ", "dtype"},
    {"op", op_differs, "rank 1 on ", "op"},
    {"root", root_differs, "rank 0 on ", "root"},
    {"function", function_differs, "rank 1 on ", "function"},
    {"bucket", bucket_differs, "rank 1 on ", "count"},
    {"leaf", leaf_differs, "rank 1 on ", "function"},
    {"finalize", finalize_differs, "rank 1 on ", "function"},
};

static void mismatch(int (*call)(void), const char *who, const char *what)
{
    bool own;
    double t0, t;
    int rc, named;

    start();
    at = world;
    own = several && call != finalize_differs;
    if (own)
        check(muster_comm_split(world, 0, 0, &at) == 0, "a communicator");
    MPI_Barrier(MPI_COMM_WORLD);
    t0 = seconds();
    rc = call();
    if (rc == 0)
        rc = muster_barrier(at); /* had nobody to wait for */
    t = seconds() - t0;
    if (rc != MUSTER_EMISMATCH)
        printf("# rank %d: %d %s\n", rank, rc, muster_last_error());
    check(rc == MUSTER_EMISMATCH, "every rank gets EMISMATCH");
    named = says(who, "different: ") && strstr(strstr(muster_last_error(), "different: "), what) != NULL;
    check(named, "the text names the odd one and what differs: %s", what);
    check(t < HANG, "within a moment");
    if (muster_world()) {
        t0 = seconds();
        rc = muster_barrier(at);
        check((rc == MUSTER_EABORTED || !muster_world()) && seconds() - t0 < HANG, "later calls fail at once");
    } else {
        check(1, "later calls fail at once");
    }
    if (own)
        check(muster_comm_free(at) == 0 && muster_barrier(world) == 0, "the world goes on");
}

static void elsewhere(void)
{
    muster_comm *half = NULL;
    int ok, rc;

    start();
    ok = muster_comm_split(world, rank % 2, 0, &half) == 0;
    rc = muster_allreduce(x, y, rank == 2 ? 5 : 4, MUSTER_FLOAT32, MUSTER_SUM, half);
    check(ok && rc == (rank % 2 ? 0 : MUSTER_EMISMATCH), "a disagreement in one half fails there alone");
    check(muster_barrier(world) == 0, "the world goes on");
    check(muster_comm_free(half) == 0, "a failed communicator can be freed");
    check(muster_finalize() == 0, "and the session ends well");
}

static void p2p(void)
{
    static float big[400000];
    int ok = 1;

    start();
    if (rank == 0)
        ok = muster_send(big, 400000, MUSTER_FLOAT32, 1, 4, world) == MUSTER_EMISMATCH && says("400000", "tag 4");
    if (rank == 1)
        ok = muster_recv(big, 399999, MUSTER_FLOAT32, 0, 4, world) == MUSTER_EMISMATCH && says("399999", "rank 0 on");
    check(ok, "a receive of another count fails on both sides");
    if (rank == 0)
        ok = muster_send(x, 7, MUSTER_FLOAT32, 1, 4, world) == 0;
    if (rank == 1)
        ok = muster_recv(y, 7, MUSTER_INT32, 0, 4, world) == MUSTER_EMISMATCH && says("int32", "float32");
    check(ok, "a receive of another type fails");
    if (rank == 0)
        ok = muster_send(x, 7, MUSTER_FLOAT32, 1, 4, world) == 0;
    if (rank == 1)
        ok = muster_recv(y, 7, MUSTER_FLOAT32, 0, 4, world) == 0;
    check(ok, "the next message is fine");
    check(muster_barrier(world) == 0 && muster_finalize() == 0, "and so is everything else");
}

/* --- deadlines --- */

/* How many ranks have gone on: rank 0's memory, seen by all. Nobody makes progress in MPI who waits here. */
static _Atomic int *gone_on(void)
{
    int where[2] = {getpid(), rank == 0 ? memfd_create("gone-on", MFD_CLOEXEC) : 0}, fd;
    char path[64];
    void *p;

    if (rank == 0 && ftruncate(where[1], 4096))
        exit(99);
    MPI_Bcast(where, 2, MPI_INT, 0, MPI_COMM_WORLD);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", where[0], where[1]);
    fd = open(path, O_RDWR | O_CLOEXEC);
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || p == MAP_FAILED)
        exit(99);
    close(fd);
    return p;
}

static void late(void) /* MUSTER_TIMEOUT=1 */
{
    _Atomic int *gone;
    const char *who;
    double t0, t;
    int rc = 0, ok;

    start();
    gone = gone_on();
    MPI_Barrier(MPI_COMM_WORLD);
    t0 = seconds();
    while (rank == 1 && *gone < size - 1 && seconds() - t0 < HANG)
        usleep(10000);
    rc = muster_allreduce(x, y, 10, MUSTER_FLOAT32, MUSTER_SUM, world);
    t = seconds() - t0;
    *gone += rank != 1;
    if (rc != MUSTER_ETIMEOUT)
        printf("# rank %d: %d %s\n", rank, rc, muster_last_error());
    check(rc == MUSTER_ETIMEOUT, "every rank gets ETIMEOUT, the late one too");
    check(rank == 1 || (t > 0.9 && t < HANG), "after MUSTER_TIMEOUT seconds");
    who = strstr(muster_last_error(), "without hearing from rank 1 on ");
    ok = who && !strstr(who, ", rank ") && says("hearing from", "muster_allreduce, operation 2");
    if (!ok)
        printf("# rank %d: %s\n", rank, muster_last_error());
    check(ok, "the text names the late rank, and no other one, the operation and its number");
    t0 = seconds();
    rc = muster_barrier(world);
    check(rc == MUSTER_EABORTED && says("aborted", "rank 1 on "), "then EABORTED, with the cause");
    check(seconds() - t0 < HANG, "at once");
    rc = muster_finalize();
    check(rc == MUSTER_EABORTED && seconds() - t0 < HANG, "finalize does not wait either");
}

static void late_request(void) /* MUSTER_TIMEOUT=1 */
{
    muster_request *req = NULL;
    int done = 0, ok = 1;
    double t0;

    start();
    MPI_Barrier(MPI_COMM_WORLD);
    t0 = seconds();
    if (rank != 1) {
        ok = muster_iallreduce(x, y, 4096, MUSTER_FLOAT32, MUSTER_SUM, world, &req) == 0;
        while (ok && !done && seconds() - t0 < HANG)
            ok = muster_test(req, &done) == 0;
        ok = ok && done && muster_finalize() == MUSTER_EARG && muster_wait(&req) == MUSTER_ETIMEOUT && !req &&
             says("rank 1 on ", "allreduce");
    }
    check(ok, "a request that nobody answers ends, too");
    ok = 1;
    if (rank == 0)
        ok = muster_recv(x, 1, MUSTER_FLOAT32, 1, 0, world) == MUSTER_EABORTED;
    check(ok, "its communicator is gone");
}

static void late_recv(void) /* MUSTER_TIMEOUT=1 */
{
    int ok = 1;

    start();
    if (rank == 0)
        ok = muster_recv(x, 1, MUSTER_FLOAT32, 1, 0, world) == MUSTER_ETIMEOUT && says("muster_recv", "rank 1 on ");
    MPI_Barrier(MPI_COMM_WORLD);
    check(ok, "a receive without a sender ends");
    check(muster_barrier(world) == 0 && muster_finalize() == 0, "it concerns nobody else");
}

/* --- the abort word --- */

static struct mu_slot_head *slots;

static void make_slots(void)
{
    char env[64];
    int fd = memfd_create("slots", MFD_CLOEXEC);
    size_t n = mu_slot_bytes(1);

    if (fd < 0 || ftruncate(fd, (off_t)n) < 0)
        exit(99);
    slots = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    slots->magic = MU_SLOT_MAGIC;
    slots->version = MU_SLOT_VERSION;
    slots->nslots = 1;
    slots->attempt = 3;
    snprintf(env, sizeof env, "/proc/%d/fd/%d", (int)getpid(), fd);
    setenv("MUSTER_SLOTS", env, 1);
    setenv("MUSTER_SLOT_INDEX", "0", 1);
    setenv("MUSTER_ATTEMPT", "3", 1);
}

static _Atomic double aborted_at;

static void *keeper(void *arg)
{
    (void)arg;
    usleep(300000);
    slots->abort_rank = 1;
    slots->abort_status = SIGKILL;
    strcpy(slots->abort_node, "node-b");
    aborted_at = seconds();
    atomic_store_explicit(&slots->abort, 1, memory_order_release);
    return NULL;
}

static void abort_word(void)
{
    struct mu_slot *s;
    muster_comm *half = NULL;
    pthread_t t;
    int ok, rc = 0;
    double took = 0;

    make_slots();
    s = mu_slot_at(slots, 0);
    start();
    ok = s->state == MU_RANK_READY && s->pid == (uint32_t)getpid() && s->mpi_rank == (uint32_t)rank &&
         s->mpi_size == (uint32_t)size;
    check(ok, "the slot says who and how many");
    ok = muster_step(7) == 0 && s->steps == 1 && s->step == 7 && s->first_step_wall &&
         s->first_step_wall == s->step_wall;
    usleep(2000);
    ok = ok && muster_step(9) == 0 && s->steps == 2 && s->step == 9 && s->first_step_wall < s->step_wall;
    check(ok, "and counts steps");
    ok = muster_comm_split(world, 0, 0, &half) == 0 && s->op_seq >= 2 && s->op_kind == MU_OP_KIND_NONE && s->beat > 0;
    check(ok, "and operations");
    if (rank == 1) { /* the dead one */
        usleep(800000);
    } else {
        pthread_create(&t, NULL, keeper, NULL);
        rc = muster_allreduce(x, y, 4096, MUSTER_FLOAT32, MUSTER_SUM, half);
        took = aborted_at > 0 ? seconds() - aborted_at : 0; /* the other survivor may be first and say so */
        pthread_join(t, NULL);
        ok = rc == MUSTER_EPEER && says("rank 1 on node-b was killed by signal 9", "muster_allreduce");
    }
    if (!ok)
        printf("# rank %d: %d %s\n", rank, rc, muster_last_error());
    check(ok, "EPEER names the culprit, its node and the operation");
    check(took < HANG, "soon after the abort word");
    if (rank != 1) {
        ok = s->user_error == (uint32_t)-MUSTER_EPEER;
        ok = ok && muster_barrier(world) == MUSTER_EABORTED && says("node-b", "aborted");
        ok = ok && muster_finalize() == MUSTER_EABORTED && s->state == MU_RANK_FINALIZED && muster_world() == NULL;
    }
    check(ok, "all communicators are gone, finalize does not hang");
}

static void abort_later(void) /* seen by the call that follows */
{
    pthread_t t;
    int ok;

    make_slots();
    start();
    pthread_create(&t, NULL, keeper, NULL);
    pthread_join(t, NULL);
    ok = muster_barrier(world) == MUSTER_EPEER && says("muster_barrier", "rank 1 on node-b");
    check(ok, "an abort between two calls is the next one's error");
    check(muster_barrier(world) == MUSTER_EABORTED, "once");
}

/* --- arguments, order of calls, children --- */

static void arguments(void)
{
    muster_request *req = (muster_request *)&rank;
    muster_comm *c = (muster_comm *)&rank;
    int done = 5, ok, st;
    pid_t child;

    check(muster_barrier(NULL) == MUSTER_EJOB && says("muster_init has not been called", "barrier"),
          "before init: EJOB");
    check(muster_step(1) == MUSTER_EJOB && muster_finalize() == MUSTER_EJOB && !muster_world(),
          "the same for the rest");
    start();
    check(muster_init(NULL, NULL) == MUSTER_EARG, "init twice");
    check(muster_rank(NULL) == MUSTER_EARG && muster_size(NULL) == MUSTER_EARG, "rank and size of nothing");

#define REFUSED(call) check((call) == MUSTER_EARG && muster_last_error()[0], "%s", #call)
    y[0] = 77;
    REFUSED(muster_barrier(NULL));
    REFUSED(muster_barrier((muster_comm *)&rank));
    REFUSED(muster_allreduce(NULL, y, 1, MUSTER_FLOAT32, MUSTER_SUM, world));
    REFUSED(muster_allreduce(x, NULL, 1, MUSTER_FLOAT32, MUSTER_SUM, world));
    REFUSED(muster_allreduce(x, y, 1, (muster_dtype)(MUSTER_FLOAT8_E5M2 + 1), MUSTER_SUM, world));
    REFUSED(muster_allreduce(x, y, 1, (muster_dtype)-1, MUSTER_SUM, world));
    REFUSED(muster_allreduce(x, y, 1, MUSTER_FLOAT32, (muster_op)5, world));
    REFUSED(muster_allreduce(x, x + 1, 2, MUSTER_FLOAT32, MUSTER_SUM, world));
    REFUSED(muster_allreduce(x, y, SIZE_MAX / 2, MUSTER_FLOAT32, MUSTER_SUM, world));
    REFUSED(muster_reduce(x, y, 1, MUSTER_FLOAT32, MUSTER_SUM, size, world));
    REFUSED(muster_reduce(x, y, 1, MUSTER_FLOAT32, MUSTER_SUM, -1, world));
    REFUSED(muster_broadcast(y, 1, MUSTER_FLOAT32, size, world));
    REFUSED(muster_reduce_scatter(x, x + 1, 4, MUSTER_FLOAT32, MUSTER_SUM, world));
    REFUSED(muster_allgather(y + 1, y, 4, MUSTER_FLOAT32, world));
    REFUSED(muster_alltoall(y, y + 1, 4, MUSTER_FLOAT32, world));
    REFUSED(muster_send(x, 1, MUSTER_FLOAT32, rank, 0, world));
    REFUSED(muster_send(x, 1, MUSTER_FLOAT32, (rank + 1) % size, -1, world));
    REFUSED(muster_recv(y, 1, MUSTER_FLOAT32, (rank + 1) % size, 32768, world));
    REFUSED(muster_recv(y, 1, MUSTER_FLOAT32, size, 0, world));
    REFUSED(muster_iallreduce(x, y, 1, MUSTER_FLOAT32, (muster_op)9, world, &req));
    REFUSED(muster_iallreduce(x, y, 1, MUSTER_FLOAT32, MUSTER_SUM, world, NULL));
    REFUSED(muster_test(NULL, &done));
    REFUSED(muster_wait(NULL));
    REFUSED(muster_comm_split(world, 0, 0, NULL));
    REFUSED(muster_comm_split(NULL, 0, 0, &c));
    REFUSED(muster_comm_free(world));
    REFUSED(muster_comm_free(NULL));
    check(y[0] == 77 && done == 5 && req == (void *)&rank && c == (void *)&rank, "and no output was written");
    check(muster_comm_set_stream(world, NULL) == 0 || says("CUDA driver: not found", "stream"), "no GPU: ENOSYS");
    check(muster_allreduce(NULL, NULL, 0, MUSTER_FLOAT32, MUSTER_SUM, world) == 0, "nothing to reduce is fine");

    child = fork();
    if (child == 0) {
        ok = muster_barrier(world) == MUSTER_EJOB && says("forked", "barrier") && muster_step(1) == MUSTER_EJOB &&
             muster_init(NULL, NULL) == MUSTER_EJOB && muster_finalize() == MUSTER_EJOB && !muster_world();
        _exit(ok ? 0 : 1);
    }
    check(waitpid(child, &st, 0) == child && st == 0, "a forked child is no rank");
    check(muster_finalize() == 0 && muster_finalize() == MUSTER_EJOB, "finalize once");
    start();
    check(muster_barrier(world) == 0 && muster_step(1) == 0 && muster_finalize() == 0,
          "a second session on the same MPI");
}

/* --- launches that are broken: one rank, no mpirun --- */

static void broken_slots(void)
{
    static const char *const wrong[] = {"magic", "version", "short", "index", "attempt", "taken", "missing"};
    int bad = 0;

    make_slots();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int rc, fd;

        make_slots();
        if (i == 0)
            slots->magic++;
        if (i == 1)
            slots->version++;
        if (i == 2)
            slots->nslots = 1000;
        if (i == 3)
            setenv("MUSTER_SLOT_INDEX", "1", 1);
        if (i == 4)
            slots->attempt = 4;
        if (i == 5) {
            mu_slot_at(slots, 0)->pid = (uint32_t)getppid();
            mu_slot_at(slots, 0)->state = MU_RANK_READY;
        }
        if (i == 6)
            setenv("MUSTER_SLOTS", "/proc/1/fd/987654", 1);
        rc = muster_init(NULL, NULL);
        printf("# %s: %d %s\n", wrong[i], rc, muster_last_error());
        bad += rc != (i == 4 ? MUSTER_EEPOCH : MUSTER_EJOB) || !says("muster_init: ", "");
        if (i == 6) { /* not a file of slots at all */
            fd = memfd_create("empty", MFD_CLOEXEC);
            snprintf((char *)x, sizeof x, "/proc/self/fd/%d", fd);
            setenv("MUSTER_SLOTS", (char *)x, 1);
            bad += muster_init(NULL, NULL) != MUSTER_EJOB || !says("short", "");
        }
    }
    check(!bad, "slots that are not ours are refused, with a reason");
    unsetenv("MUSTER_SLOTS");
    setenv("MUSTER_TIMEOUT", "soon", 1);
    check(muster_init(NULL, NULL) == MUSTER_EARG && says("MUSTER_TIMEOUT=soon", "seconds"),
          "a deadline that is no number");
    unsetenv("MUSTER_TIMEOUT");
    setenv("MUSTER_TUNE", "131073,64", 1);
    check(muster_init(NULL, NULL) == MUSTER_EARG && says("MUSTER_TUNE=131073,64", "131072"),
          "a threshold that no machine has");
    unsetenv("MUSTER_TUNE");
    setenv("MUSTER_JOB", "1", 1);
    setenv("WORLD_SIZE", "4", 1);
    setenv("RANK", "2", 1);
    unsetenv("PMIX_NAMESPACE");
    check(muster_init(NULL, NULL) == MUSTER_EJOB && says("rank 2 came up alone", "PMIX_ variables"),
          "a singleton without PMIX_ variables is explained");
    setenv("PMIX_NAMESPACE", "job.1", 1);
    check(muster_init(NULL, NULL) == MUSTER_EJOB && says("rank 2 came up alone", "did not use the PMIx server"),
          "a singleton of a foreign MPI is explained");
    setenv("WORLD_SIZE", "1", 1);
    check(muster_init(NULL, NULL) == MUSTER_EJOB && says("this is rank 0", "the job says 2"), "ranks in another order");
    setenv("RANK", "0", 1);
    check(muster_init(NULL, NULL) == 0 && muster_finalize() == 0, "after all that, a good launch");
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"elsewhere", elsewhere},
    {"p2p", p2p},
    {"late", late},
    {"late-request", late_request},
    {"late-recv", late_recv},
    {"abort", abort_word},
    {"abort-later", abort_later},
    {"arguments", arguments},
    {"launch", broken_slots},
};

/* False: there is no such case. */
static int run_case(const char *name)
{
    for (size_t i = 0; i < sizeof mismatches / sizeof mismatches[0]; i++)
        if (!strcmp(name, mismatches[i].name)) {
            mismatch(mismatches[i].call, mismatches[i].who, mismatches[i].what);
            return 1;
        }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (!strcmp(name, cases[i].name)) {
            cases[i].run();
            return 1;
        }
    return 0;
}

int main(int argc, char **argv)
{
    int known = argc > 1, level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    several = argc > 2;
    for (int i = 1; known && i < argc; i++) {
        if (rank == 0 && several)
            printf("# %s\n", argv[i]);
        known = run_case(argv[i]);
    }
    if (!known) {
        fprintf(stderr, "usage: coll_errors CASE...\n");
        return 2;
    }
    level = check_done();
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return level;
}
