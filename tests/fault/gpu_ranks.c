/* A rank that uses GPU memory through the public functions: gpu_ranks MODE.
 *   good     every way to wait, groups, and host memory beside them
 *   first    one all-reduce; prints its code and text, then whether host memory still works
 *   loop N   all-reduces until one fails, at most N; then "FAILED rank=R code=C ms=T later=L text", or "ALL WELL"
 *   ahead N  the same, and nothing is waited for between them
 *   group N  the same, in groups of eight
 *   poll N   the same, and muster_test alone asks for the end of each
 *   late R N the same, but rank R makes its N-th call five seconds late
 *   wire N   as loop, with buckets that go as 16 bits
 *   left     rank 0 frees a communicator, on which rank 1 goes on
 *   message  rank 0 receives what nobody sends
 *   narrow   one such bucket; prints its code and text
 *   differs R N  rank R makes another call as its N-th one
 * Faults of the test doubles are left to the first attempt. */
#include <muster.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/gpu/cuda.h"

enum { COUNT = 4096, LATE = 5 /* s */ };
static float *dev, host[COUNT];
static muster_comm *world;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Tensors apart, and two that lie side by side: nobody waits until the end. */
static bool buckets(float *other)
{
    size_t n[] = {COUNT / 4, COUNT / 4, COUNT / 2};
    float *at[] = {dev, dev + COUNT / 4, other};
    muster_bucket *b = NULL;
    bool ok = true;

    for (size_t most = 1; ok && most <= COUNT * 4; most += COUNT * 4 - 1) {
        for (int i = 0; i < COUNT; i++)
            host[i] = 1;
        cuda_put(dev, host, sizeof host);
        cuda_put(other, host, sizeof host);
        ok = !muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_SUM, most, &b);
        for (int i = 0; i < 3 && ok; i++)
            ok = !muster_bucket_add(b, at[i], n[i]);
        ok = ok && muster_bucket_add(b, host, 1) == MUSTER_EARG;
        for (size_t i = 3; i-- > 0 && ok;)
            ok = !muster_bucket_ready(b, i);
        ok = ok && !muster_bucket_wait(b) && !muster_comm_sync(world);
        for (int i = 0; i < 3 && ok; i++) {
            cuda_get(host, at[i], n[i] * sizeof *host);
            for (size_t k = 0; k < n[i]; k++)
                ok = ok && host[k] == (float)muster_size(world);
        }
        ok = !muster_bucket_close(b) && ok;
    }
    return ok;
}

/* The same tensors in GPU memory and in host memory go as 16 bits: the same bits. */
static bool narrow_buckets(float *other)
{
    static float mine[COUNT], got[COUNT];
    static const size_t n[] = {COUNT / 4, 0, 3, COUNT / 4 - 3, COUNT / 2 - 1};
    float *at[] = {dev, dev, dev + COUNT / 4, dev + COUNT / 4 + 3, other};
    muster_bucket *b[2] = {NULL, NULL};
    bool ok = true;

    for (unsigned turn = 0; ok && turn < 12; turn++) {
        muster_dtype type = turn % 2 ? MUSTER_FLOAT16 : MUSTER_BFLOAT16;
        muster_op op = turn / 2 % 3 == 0 ? MUSTER_SUM : turn / 2 % 3 == 1 ? MUSTER_AVG : MUSTER_MAX;
        size_t most = turn < 6 ? COUNT : 0, from = 0; /* several buckets, or one */

        for (int i = 0; i < COUNT; i++)
            mine[i] = (float)((i * 37 + muster_rank(world) * 11) % 101) / 7 - 5;
        for (int d = 0; d < 2 && ok; d++)
            ok = !muster_bucket_open(world, MUSTER_FLOAT32, op, most, &b[d]) && !muster_bucket_wire(b[d], type);
        for (int i = 0; i < 5 && ok; from += n[i++]) {
            cuda_put(at[i], mine + from, n[i] * sizeof *mine);
            ok = !muster_bucket_add(b[0], mine + from, n[i]) && !muster_bucket_add(b[1], at[i], n[i]);
        }
        for (int round = 0; round < 3 && ok; round++) {
            for (size_t i = 5; i-- > 0 && ok;)
                ok = !muster_bucket_ready(b[0], i) && !muster_bucket_ready(b[1], i);
            ok = ok && !muster_bucket_wait(b[0]) && !muster_bucket_wait(b[1]);
        }
        ok = ok && !muster_comm_sync(world);
        from = 0;
        for (int i = 0; i < 5 && ok; from += n[i++])
            cuda_get(got + from, at[i], n[i] * sizeof *got);
        ok = ok && !memcmp(got, mine, from * sizeof *got);
        for (int d = 0; d < 2; d++)
            ok = !muster_bucket_close(b[d]) && ok;
    }
    return ok;
}

/* A request whose group was refused does not end with what comes in its place. */
static bool refused_group(void)
{
    muster_request *req = NULL;
    int me = muster_rank(world), n = muster_size(world);

    return !muster_group_start(world) && !muster_iallreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world, &req) &&
           !muster_send(dev, COUNT, MUSTER_FLOAT32, (me + 1) % n, 5, world) && muster_group_end(world) == MUSTER_EARG &&
           !muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world) && !muster_comm_sync(world) &&
           muster_wait(&req) == MUSTER_EARG && strstr(muster_last_error(), "was not enqueued");
}

/* What is in an open group would be lost with its communicator. */
static bool freed_in_group(void)
{
    muster_comm *c = NULL;

    return !muster_comm_split(world, 0, 0, &c) && !muster_group_start(c) &&
           !muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, c) && muster_comm_free(c) == MUSTER_EARG &&
           strstr(muster_last_error(), "muster_group_end") && !muster_group_end(c) && !muster_comm_sync(c) &&
           !muster_comm_free(c);
}

/* A request of a group ends after it. */
static bool grouped(void)
{
    muster_request *req = NULL;
    int done = 1;

    return !muster_group_start(world) && !muster_iallreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world, &req) &&
           !muster_test(req, &done) && !done && !muster_group_end(world) && !muster_wait(&req) &&
           !muster_group_start(world) && !muster_iallreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world, &req) &&
           muster_wait(&req) == MUSTER_EARG && strstr(muster_last_error(), "group is still open") &&
           !muster_group_end(world) && !muster_comm_sync(world);
}

/* One of them has no element: ranks that go through buckets on the GPU and on the host in another order may do so. */
static bool empty_buckets(float *other)
{
    muster_bucket *b[2] = {NULL, NULL};
    bool ok = true;

    for (int d = 0; d < 2 && ok; d++)
        ok = !muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_MAX, 4, &b[d]) &&
             !muster_bucket_add(b[d], d ? other : host, 0) && !muster_bucket_add(b[d], d ? other : host, 2);
    for (int k = 0; k < 2 && ok; k++) {
        muster_bucket *one = b[(k + muster_rank(world)) % 2];

        ok = !muster_bucket_ready(one, 0) && !muster_bucket_ready(one, 1);
    }
    for (int d = 0; d < 2; d++)
        ok = ok && !muster_bucket_wait(b[d]) && !muster_bucket_close(b[d]);
    return ok && !muster_comm_sync(world);
}

static bool good(void)
{
    muster_request *req[3];
    float *other = cuda_alloc(sizeof host);
    int n = muster_size(world), me = muster_rank(world), done = 0;
    void *stream = NULL;

    for (int i = 0; i < COUNT; i++)
        host[i] = 1;
    cuda_put(dev, host, sizeof host);
    if (muster_comm_sync(world) || cuda.cuStreamCreate(&stream, 1) || muster_comm_set_stream(world, stream))
        return false;
    for (int i = 0; i < 3; i++)
        if (muster_iallreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_SUM, world, &req[i]))
            return false;
    while (!done)
        if (muster_test(req[0], &done))
            return false;
    for (int i = 2; i >= 0; i--)
        if (muster_wait(&req[i]) || req[i])
            return false;
    cuda_get(host, dev, sizeof host);
    if (host[0] != (float)(n * n * n) || host[COUNT - 1] != host[0])
        return false;
    if (muster_allreduce(host, host, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world) || host[5] != (float)(n * n * n))
        return false;
    if (muster_group_start(world) || muster_send(dev, COUNT, MUSTER_FLOAT32, (me + 1) % n, 0, world) ||
        muster_recv(other, COUNT, MUSTER_FLOAT32, (me + n - 1) % n, 0, world) || muster_group_end(world) ||
        muster_comm_sync(world))
        return false;
    memset(host, 0, sizeof host);
    cuda_get(host, other, sizeof host);
    if (muster_allreduce(dev, host, COUNT, MUSTER_FLOAT32, MUSTER_SUM, world) != MUSTER_EARG)
        return false;
    if (host[7] != (float)(n * n * n) || !buckets(other) || !narrow_buckets(other) || !grouped() || !refused_group() ||
        !freed_in_group() || !empty_buckets(other))
        return false;
    return muster_comm_set_stream(world, NULL) == 0 && muster_barrier(world) == 0;
}

static int first(void)
{
    int rc = muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_SUM, world), one = 1;

    printf("%d %s\n", rc, rc ? muster_last_error() : "");
    printf("host %d\n", muster_allreduce(&one, &one, 1, MUSTER_INT32, MUSTER_SUM, world));
    return 0;
}

static int narrow(void)
{
    muster_bucket *b = NULL;
    int rc = muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_SUM, 0, &b);

    if (rc == 0)
        rc = muster_bucket_wire(b, MUSTER_BFLOAT16);
    if (rc == 0)
        rc = muster_bucket_add(b, dev, COUNT);
    printf("%d %s\n", rc, rc ? muster_last_error() : "");
    return muster_bucket_close(b);
}

/* Who leaves at once is a peer lost to those whose next call is still to come: GPU_RANKS_DONE=FILE:N is where N ranks
 * say that theirs is over. */
static void linger(void)
{
    char *path = getenv("GPU_RANKS_DONE"), *colon = path ? strrchr(path, ':') : NULL;
    struct stat st = {0};
    int fd = -1;

    if (colon) {
        *colon = 0;
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    }
    if (fd < 0 || write(fd, "x", 1) != 1) {
        usleep(300000);
        return;
    }
    for (int i = 0; i < 2000 && !fstat(fd, &st) && st.st_size < atoi(colon + 1); i++)
        usleep(10000);
    close(fd);
}

/* One step of a bucket that goes as 16 bits; opened with the first one. */
static int step(void)
{
    static muster_bucket *b;
    int rc = 0;

    if (!b) {
        rc = muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_MAX, 0, &b);
        if (rc == 0)
            rc = muster_bucket_wire(b, MUSTER_BFLOAT16);
        if (rc == 0)
            rc = muster_bucket_add(b, dev, COUNT);
    }
    if (rc == 0)
        rc = muster_bucket_ready(b, 0);
    return rc == 0 ? muster_bucket_wait(b) : rc;
}

static int message(void)
{
    int rc = muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_SUM, world);

    if (rc == 0)
        rc = muster_comm_sync(world);
    if (rc == 0 && muster_rank(world) == 0) {
        rc = muster_recv(dev, COUNT, MUSTER_FLOAT32, 1, 0, world);
        if (rc == 0)
            rc = muster_comm_sync(world);
        printf("0: %d %s\n", rc, rc ? muster_last_error() : "");
    }
    sleep(muster_rank(world) ? LATE : 0); /* its end is not to come before the deadline */
    return 0;
}

static int left(void)
{
    muster_comm *c = NULL;
    int rc = muster_comm_split(world, 0, 0, &c);

    for (int i = 0; i <= muster_rank(world) && rc == 0; i++) {
        rc = muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_SUM, c);
        if (rc == 0)
            rc = muster_comm_sync(c);
    }
    if (muster_rank(world))
        printf("1: %d %s\n", rc, rc ? muster_last_error() : "");
    rc = muster_comm_free(c);
    sleep(muster_rank(world) ? 0 : LATE);
    return rc;
}

/* Asks as long as there is no answer. */
static int poll_one(void)
{
    muster_request *req = NULL;
    int done = 0, rc = muster_iallreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world, &req);

    while (rc == 0 && !done)
        rc = muster_test(req, &done);
    return rc == 0 ? muster_wait(&req) : rc;
}

/* The first one brings NCCL up. */
static int eight(void)
{
    static int n;
    int rc = muster_group_start(world), end;

    n = n ? 8 : 1;
    for (int i = 0; i < n && rc == 0; i++)
        rc = muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world);
    end = muster_group_end(world);
    return rc ? rc : end;
}

static int loop(int times, int odd, int at, bool differs, bool wire, bool ahead, int (*one)(void))
{
    int rc = 0, later;
    char text[600];
    double began = now();

    for (int i = 0; i < COUNT; i++)
        host[i] = (float)muster_rank(world);
    cuda_put(dev, host, sizeof host);
    for (int i = 1; i <= times && rc == 0; i++) {
        if (muster_rank(world) == odd && i == at && !differs)
            sleep(LATE);
        began = now();
        rc = differs && muster_rank(world) == odd && i == at
                 ? muster_broadcast(dev, COUNT / 2, MUSTER_FLOAT32, 0, world)
             : wire ? step()
             : one  ? one()
                    : muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world);
        if (rc == 0 && (!ahead || i == 1 || i == times))
            rc = muster_comm_sync(world);
    }
    if (rc == 0) {
        cuda_get(host, dev, sizeof host);
        for (int i = 0; i < COUNT; i++)
            rc |= host[i] != (float)(muster_size(world) - 1);
        printf("%s\n", rc ? "WRONG" : "ALL WELL");
        return muster_finalize() ? 1 : 0;
    }
    snprintf(text, sizeof text, "%s", muster_last_error());
    later = muster_allreduce(dev, dev, COUNT, MUSTER_FLOAT32, MUSTER_MAX, world);
    printf("FAILED rank=%d code=%d ms=%.0f later=%d %s\n", muster_rank(world), rc, (now() - began) * 1e3, later, text);
    fflush(stdout);
    linger();
    return 0;
}

int main(int argc, char **argv)
{
    const char *why, *mode = argc > 1 ? argv[1] : "good";
    const char *attempt = getenv("MUSTER_ATTEMPT");
    int rc;

    if (attempt && strcmp(attempt, "1"))
        unsetenv("MUSTER_DOUBLE");
    if (muster_init(&argc, &argv)) {
        fprintf(stderr, "%s\n", muster_last_error());
        return 1;
    }
    world = muster_world();
    why = cuda_up(muster_rank(world));
    if (why || !(dev = cuda_alloc(sizeof host))) {
        fprintf(stderr, "%s\n", why ? why : "no memory on the GPU");
        return 1;
    }
    if (!strcmp(mode, "first")) {
        rc = first();
    } else if (!strcmp(mode, "narrow")) {
        rc = narrow();
    } else if (!strcmp(mode, "message")) {
        rc = message();
    } else if (!strcmp(mode, "left")) {
        rc = left();
    } else if (!strcmp(mode, "good")) {
        bool ok = good();

        printf("%s\n", ok ? "good" : muster_last_error());
        rc = !ok;
    } else {
        int r = argc > 3 ? atoi(argv[2]) : -1, n = argc > 3 ? atoi(argv[3]) : 0;

        return loop(argc == 3 ? atoi(argv[2]) : 50, r, n, !strcmp(mode, "differs"), !strcmp(mode, "wire"),
                    !strcmp(mode, "ahead"),
                    !strcmp(mode, "poll")    ? poll_one
                    : !strcmp(mode, "group") ? eight
                                             : NULL);
    }
    return muster_finalize() ? 1 : rc;
}
