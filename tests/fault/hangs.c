/* hangs CASE SECONDS: ranks that hang in one way or another, in their first attempt only. */
#include <muster.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static muster_comm *world;
static int rank, size;
static double seconds;
static float x[1000], y[1000];

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void spin(double s)
{
    for (double end = now() + s; now() < end;)
        ;
}

static void nap(double s)
{
    usleep((useconds_t)(s * 1e6));
}

static void check(int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "rank %d: %s\n", rank, muster_last_error());
    exit(1);
}

static void sum(void)
{
    check(muster_allreduce(x, y, 1000, MUSTER_FLOAT32, MUSTER_SUM, world));
}

/* Nobody waits for the one that computes. */
static void alone(void)
{
    if (rank == 1)
        spin(seconds);
    else
        nap(seconds);
}

static void late(void) /* asleep */
{
    if (rank == 1)
        nap(seconds);
}

static void busy(void)
{
    if (rank == 1)
        spin(seconds);
}

static void receive(void)
{
    if (rank == 1)
        nap(seconds);
    if (rank == 0)
        check(muster_recv(y, 10, MUSTER_FLOAT32, 1, 5, world));
    if (rank == 1)
        check(muster_send(x, 10, MUSTER_FLOAT32, 0, 5, world));
}

static void send(void)
{
    static float big[150000];

    if (rank == 1)
        nap(seconds);
    if (rank == 0)
        check(muster_send(big, 150000, MUSTER_FLOAT32, 1, 5, world));
    if (rank == 1)
        check(muster_recv(big, 150000, MUSTER_FLOAT32, 0, 5, world));
}

/* 0 waits for 1, 1 for 3, and 3 does not come; the operations are not the same ones. */
static void chain(void)
{
    if (rank == 3)
        nap(seconds);
    if (rank == 1)
        check(muster_recv(y, 10, MUSTER_FLOAT32, 3, 5, world));
    if (rank == 3)
        check(muster_send(x, 10, MUSTER_FLOAT32, 1, 5, world));
    if (rank == 0)
        check(muster_recv(y, 10, MUSTER_FLOAT32, 1, 6, world));
    if (rank == 1)
        check(muster_send(x, 10, MUSTER_FLOAT32, 0, 6, world));
}

/* The one that is waited for by muster_test waits itself. */
static void polled(void)
{
    muster_comm *pair = NULL;
    muster_request *req = NULL;
    int done = 0;

    check(muster_comm_split(world, rank < 2 ? 0 : 1, 0, &pair));
    if (rank == 3) /* the culprit; its pair is rank 2, for whom ranks 0 and 1 wait in the world */
        nap(seconds);
    if (rank == 2) {
        check(muster_iallreduce(x, y, 10, MUSTER_FLOAT32, MUSTER_SUM, pair, &req));
        while (!done)
            check(muster_test(req, &done));
        check(muster_wait(&req));
    } else if (rank == 3) {
        check(muster_allreduce(x, y, 10, MUSTER_FLOAT32, MUSTER_SUM, pair));
    }
}

/* Two communicators in different orders. */
static void circle(void)
{
    muster_comm *other = NULL;

    check(muster_comm_split(world, 0, 0, &other));
    if (getenv("MUSTER_ATTEMPT")[0] == '1' && rank == 1) {
        check(muster_barrier(other));
        return;
    }
    sum();
    check(muster_barrier(other));
}

static void nothing(void)
{
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"chain", chain},     {"send", send},     {"alone", alone},   {"late", late},      {"busy", busy},
    {"receive", receive}, {"polled", polled}, {"circle", circle}, {"starts", nothing}, {"stops", nothing},
};

/* A value that every step changes, and that any lost or doubled one would show. */
static void steps(unsigned n)
{
    uint64_t mine, all = 1;

    for (unsigned i = 2; i <= n; i++) {
        mine = all * 6364136223846793005ull + (uint64_t)rank + i;
        check(muster_allreduce(&mine, &all, 1, MUSTER_UINT64, MUSTER_SUM, world));
        check(muster_step(i));
        nap(0.015);
    }
    if (rank == 0)
        printf("value %016llx\n", (unsigned long long)all);
}

int main(int argc, char **argv)
{
    const char *attempt = getenv("MUSTER_ATTEMPT");
    bool first = attempt && !strcmp(attempt, "1");

    if (argc != 3)
        return 2;
    seconds = atof(argv[2]);
    if (first && !strcmp(argv[1], "starts") && !strcmp(getenv("RANK"), "1"))
        nap(seconds);
    check(muster_init(NULL, NULL));
    world = muster_world();
    rank = muster_rank(world);
    size = muster_size(world);
    sum();
    check(muster_step(1));
    if (!strcmp(argv[1], "steps"))
        steps((unsigned)seconds);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (!strcmp(cases[i].name, argv[1]) && (first || cases[i].run == circle))
            cases[i].run();
    sum();
    if (first && !strcmp(argv[1], "stops") && rank == 1) {
        if (fork() == 0) {
            nap(seconds);
            kill(getppid(), SIGCONT);
            _exit(0);
        }
        kill(getpid(), SIGSTOP);
    }
    check(muster_finalize());
    return 0;
}
