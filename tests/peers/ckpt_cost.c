/* What a checkpoint costs the training loop, beside what nothing can be faster than: the same bytes by memcpy into
 * prefaulted memory, and by plain writes, in the same run. As a job of muster's:
 *     ckpt_cost MIB ROUNDS DIR OPTIONS
 * Rank 0 prints one line a measure: medians over the rounds of the slowest rank. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "muster.h"
#include "runtime/base/clock.h"

enum { ROUNDS_MOST = 100 };
static int rank, size, rounds;

static void check(int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "rank %d: %s: %s\n", rank, what, muster_last_error());
    exit(1);
}

static void *room(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct series {
    const char *name;
    double v[ROUNDS_MOST];
    int n;
};

/* The slowest rank's seconds since then. */
static double since(uint64_t then)
{
    double mine = (double)(mu_now() - then) / 1e9, worst;

    check(muster_allreduce(&mine, &worst, 1, MUSTER_FLOAT64, MUSTER_MAX, muster_world()), "allreduce");
    return worst;
}
static void add(struct series *s, double v)
{
    s->v[s->n++] = v;
}
static uint64_t start(void)
{
    check(muster_barrier(muster_world()), "barrier");
    return mu_now();
}

static void plain_write(const char *path, const char *data, size_t bytes, int flags)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

    for (size_t at = 0; fd >= 0 && at < bytes;) {
        ssize_t w = write(fd, data + at, bytes - at < (4u << 20) ? bytes - at : (4u << 20));

        if (w <= 0)
            break;
        at += (size_t)w;
    }
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    static struct series copy = {"memcpy, prefaulted"}, tmpfs = {"write to tmpfs"},
                         disk = {"write to the directory, O_DIRECT"}, stall = {"save: the loop waits"},
                         peers = {"save: protected after"}, store = {"save: durable after"};
    struct series *const all[] = {&copy, &tmpfs, &disk, &stall, &peers, &store};
    char options[600], path[600];
    uint64_t step = 0, t;
    muster_ckpt *ck;
    double again;

    check(muster_init(&argc, &argv), "init");
    rank = muster_rank(muster_world());
    size = muster_size(muster_world());
    if (argc < 5)
        return 2;
    size_t bytes = strtoull(argv[1], NULL, 10) << 20;
    rounds = atoi(argv[2]) < ROUNDS_MOST ? atoi(argv[2]) : ROUNDS_MOST;
    char *data = room(bytes), *other = room(bytes);
    for (size_t i = 0; i < bytes; i += 8)
        memcpy(data + i, &(uint64_t){i * 0x9e3779b97f4a7c15u + (uint64_t)rank}, 8);
    snprintf(options, sizeof options, "dir=%s,keep=2,%s", argv[3], argv[4]);
    check(muster_ckpt_open(muster_world(), options, &ck), "open");
    muster_tensor tensor = {.name = "state",
                            .dtype = MUSTER_UINT8,
                            .ndim = 1,
                            .global = {(uint64_t)size * bytes},
                            .offset = {(uint64_t)rank * bytes},
                            .local = {bytes},
                            .data = data};
    check(muster_ckpt_add(ck, &tensor), "add");
    for (int i = -1; i < rounds; i++) { /* the first one warms up */
        double v[6] = {0};

        t = start();
        memcpy(other, data, bytes);
        v[0] = since(t);
        if (i == 0) {
            snprintf(path, sizeof path, "/dev/shm/muster-cost.%d", rank);
            t = start();
            plain_write(path, data, bytes, O_TRUNC);
            v[1] = since(t);
            unlink(path);
            snprintf(path, sizeof path, "%s/cost.%d", argv[3], rank);
            t = start();
            plain_write(path, data, bytes, O_TRUNC | O_DIRECT);
            v[2] = since(t);
            unlink(path);
        }
        data[(size_t)(i + 1) * 4096 % bytes]++;
        t = start();
        check(muster_ckpt_save(ck, ++step), "save");
        v[3] = since(t);
        int rc = muster_ckpt_wait(ck, MUSTER_LEVEL_PEERS, 300000);
        v[4] = rc == MUSTER_ENOSYS ? -1 : since(t);
        if (rc && rc != MUSTER_ENOSYS)
            check(rc, "wait for the peers");
        check(muster_ckpt_wait(ck, MUSTER_LEVEL_STORE, 300000), "wait for the store");
        v[5] = since(t);
        for (int k = 0; k < 6 && i >= 0; k++)
            if (v[k] > 0)
                add(all[k], v[k]);
    }
    memset(data, 0, bytes);
    t = start();
    check(muster_ckpt_restore(ck, &step), "restore");
    again = since(t);
    for (int k = 0; k < 6 && rank == 0; k++) {
        struct series *s = all[k];

        if (!s->n)
            continue;
        qsort(s->v, (size_t)s->n, sizeof s->v[0], by_value);
        printf("%-34s %8.3f s %8.2f GB/s a rank  %5.2f x memcpy\n", s->name, s->v[s->n / 2],
               (double)bytes / 1e9 / s->v[s->n / 2], s->v[s->n / 2] / copy.v[copy.n / 2]);
    }
    if (rank == 0)
        printf("%-34s %8.3f s %8.2f GB/s a rank  %5.2f x memcpy\n", "restore from memory", again,
               (double)bytes / 1e9 / again, again / copy.v[copy.n / 2]);
    check(muster_ckpt_close(ck), "close");
    return muster_finalize() ? 1 : 0;
}
