/* What checkpoints cost, beside what nothing can be faster than: the same bytes by memcpy into prefaulted memory and by
 * plain writes, in the same run. As a job of muster's with a rank a host:
 *     ckpt_cost MIB ROUNDS DIR OPTIONS   saves and restores
 *     ckpt_cost MIB lost DIR OPTIONS     the first attempt saves, says so by DIR/held and waits for hosts to be lost;
 * the next one restores from memory. DIR/lost has the moment at which they were Rank 0 prints a line a measure: median,
 * least and most over the rounds, of the slowest rank each. The first line says that what is restored is what was
 * saved; there is none without it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/stats.h"
#include "muster.h"
#include "runtime/base/clock.h"
#include "runtime/ckpt/arena.h"

enum { ROUNDS_MOST = 100 };
#define WAIT_MS 300000
#define GIB 1073741824.0

static int rank, size;
static size_t bytes;
static char *data;

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

/* --- the state ---------------------------------------------------------------------------------------------------- */

static uint64_t word(uint64_t step, size_t i)
{
    return (i + step * 7919 + (uint64_t)rank * 104729) * 0x9e3779b97f4a7c15u;
}
static void set_state(uint64_t step)
{
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t v = word(step, i);
        memcpy(data + i, &v, 8);
    }
}
static bool is_state(uint64_t step)
{
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t v = word(step, i);
        if (memcmp(data + i, &v, 8) != 0)
            return false;
    }
    return true;
}

static muster_ckpt *open_state(const char *dir, const char *more)
{
    muster_tensor tensor = {.name = "state",
                            .dtype = MUSTER_UINT8,
                            .ndim = 1,
                            .global = {(uint64_t)size * bytes},
                            .offset = {(uint64_t)rank * bytes},
                            .local = {bytes},
                            .data = data};
    char options[600];
    muster_ckpt *ck;

    snprintf(options, sizeof options, "dir=%s,keep=2,%s", dir, more);
    check(muster_ckpt_open(muster_world(), options, &ck), "open");
    check(muster_ckpt_add(ck, &tensor), "add");
    return ck;
}

/* --- measures ----------------------------------------------------------------------------------------------------- */

struct series {
    const char *name, *unit;
    double v[ROUNDS_MOST];
    size_t n;
};

static void add(struct series *s, double v)
{
    if (s->n < ROUNDS_MOST)
        s->v[s->n++] = v;
}
static double most(double mine)
{
    double all;

    check(muster_allreduce(&mine, &all, 1, MUSTER_FLOAT64, MUSTER_MAX, muster_world()), "allreduce");
    return all;
}
static double sum(double mine)
{
    double all;

    check(muster_allreduce(&mine, &all, 1, MUSTER_FLOAT64, MUSTER_SUM, muster_world()), "allreduce");
    return all;
}
/* CPU time of this thread. On a machine that others use, too, it says more than the clock on the wall. */
static double spent(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static uint64_t start(void)
{
    check(muster_barrier(muster_world()), "barrier");
    return mu_now();
}
static double since(uint64_t then)
{
    return most((double)(mu_now() - then) / 1e9);
}

static double show(struct series *s, double of)
{
    struct mu_stats st;

    if (!s->n)
        return 0;
    mu_stats_of(s->v, s->n, &st);
    if (rank == 0 && s->unit)
        printf("%-40s %8.3f %-14s (%.3f to %.3f)\n", s->name, st.p50, s->unit, st.min, st.max);
    else if (rank == 0)
        printf("%-40s %8.3f s  %6.2f GB/s a rank  %5.2f x memcpy  (%.3f to %.3f)\n", s->name, st.p50,
               (double)bytes / 1e9 / st.p50, of > 0 ? st.p50 / of : 1, st.min, st.max);
    fflush(stdout);
    return st.p50;
}

static void plain_write(const char *path, int flags)
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
    unlink(path);
}

/* The CPU time so far of the drain's threads by what they do. */
struct background {
    double peers, writing;
};

static bool is_drain(long pid)
{
    char path[64], line[200] = "";
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    if (!(f = fopen(path, "r")))
        return false;
    n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    return n > strlen(line) + 1 && !strcmp(line + strlen(line) + 1, "drain");
}

static double thread_time(long pid, const char *tid, bool *peers)
{
    unsigned long long ns = 0;
    char path[400], name[32] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/%ld/task/%.20s/comm", pid, tid);
    if ((f = fopen(path, "r"))) {
        *peers = fgets(name, sizeof name, f) && !strcmp(name, "peers\n");
        fclose(f);
    }
    snprintf(path, sizeof path, "/proc/%ld/task/%.20s/schedstat", pid, tid);
    if ((f = fopen(path, "r"))) {
        if (fscanf(f, "%llu", &ns) != 1)
            ns = 0;
        fclose(f);
    }
    return (double)ns / 1e9;
}

static struct background background(void)
{
    struct background b = {0};
    DIR *proc = opendir("/proc");

    for (struct dirent *d; proc && (d = readdir(proc));) {
        char path[64];
        long pid = atol(d->d_name);
        DIR *tasks;

        if (pid <= 0 || !is_drain(pid))
            continue;
        snprintf(path, sizeof path, "/proc/%ld/task", pid);
        tasks = opendir(path);
        for (struct dirent *t; tasks && (t = readdir(tasks));) {
            bool peers = false;
            double s = t->d_name[0] == '.' ? 0 : thread_time(pid, t->d_name, &peers);

            *(peers ? &b.peers : &b.writing) += s;
        }
        if (tasks)
            closedir(tasks);
    }
    if (proc)
        closedir(proc);
    return b;
}

/* Bytes that this host has sent, with all that is around them. */
static double sent(void)
{
    char line[400];
    double all = 0;
    FILE *f = fopen("/proc/net/dev", "r");

    while (f && fgets(line, sizeof line, f)) {
        unsigned long long tx;
        char name[40];

        if (sscanf(line, " %39[^:]: %*u %*u %*u %*u %*u %*u %*u %*u %llu", name, &tx) == 2 && strcmp(name, "lo") != 0)
            all += (double)tx;
    }
    if (f)
        fclose(f);
    return all;
}

/* --- saves and restores ------------------------------------------------------------------------------------------- */

static struct mu_arena_head *arena(void)
{
    static struct mu_arena_head *head;

    return head || !mu_arena_open(getenv(MU_ARENA_ENV), &head, NULL) ? head : NULL;
}

/* Until the peers have what they need, and not only the directory, which would do for muster_ckpt_wait. False: there
 * are no peers. */
static bool wait_for_peers(muster_ckpt *ck, uint64_t step)
{
    struct mu_arena_head *head = arena();
    uint64_t until = mu_now() + WAIT_MS * MU_MS;
    uint32_t is = MU_PEERS_WANTED;
    const char *why = "";
    int rc = muster_ckpt_wait(ck, MUSTER_LEVEL_PEERS, WAIT_MS);

    if (rc != MUSTER_ENOSYS)
        check(rc, "wait for the peers");
    if (!head)
        return false;
    while (is == MU_PEERS_WANTED && mu_now() < until) {
        is = MU_PEERS_NONE;
        for (uint32_t i = 0; i < atomic_load(&head->nranks) * MU_ARENA_SLOTS; i++)
            if (head->cells[i].id.step == step && atomic_load(&head->cells[i].state) == MU_ARENA_FULL) {
                is = atomic_load(&head->cells[i].peers);
                why = is == MU_PEERS_FAILED ? head->cells[i].peers_error.text : "";
            }
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    if (is == MU_PEERS_FAILED || is == MU_PEERS_WANTED) {
        fprintf(stderr, "rank %d: the peers have not got step %llu: %s\n", rank, (unsigned long long)step, why);
        exit(1);
    }
    return is == MU_PEERS_DONE;
}

static struct series copy = {.name = "memcpy, prefaulted"}, tmpfs = {.name = "write to tmpfs"},
                     disk = {.name = "write to the directory, O_DIRECT"}, stall = {.name = "save: the loop waits"},
                     peers = {.name = "save: protected after"}, store = {.name = "save: durable after"},
                     against = {.name = "durable, against that O_DIRECT", .unit = "x its speed"},
                     back = {.name = "restore from memory, verified"},
                     cpu_copy = {.name = "memcpy, its CPU time", .unit = "CPU-s per GiB"},
                     cpu_stall = {.name = "save, the ranks' CPU time", .unit = "CPU-s per GiB"},
                     cpu_back = {.name = "restore, the ranks' CPU time", .unit = "CPU-s per GiB"},
                     cpu = {.name = "background, copies on peers", .unit = "CPU-s per GiB"},
                     cpu_put = {.name = "background, sums and writing", .unit = "CPU-s per GiB"},
                     wire = {.name = "on the wire, a rank", .unit = "B per B saved"};

static void one_round(muster_ckpt *ck, char *other, uint64_t step, const char *dir, bool writes, bool counts)
{
    struct background was, is;
    char path[600];
    double v[6] = {0}, own[2], tx;
    uint64_t t;
    bool guarded;

    t = start();
    own[0] = spent();
    memcpy(other, data, bytes);
    own[0] = spent() - own[0];
    v[0] = since(t);
    if (writes && counts) {
        snprintf(path, sizeof path, "/dev/shm/muster-cost.%d", rank);
        t = start();
        plain_write(path, O_TRUNC);
        v[1] = since(t);
        snprintf(path, sizeof path, "%s/cost.%d", dir, rank);
        t = start();
        plain_write(path, O_TRUNC | O_DIRECT);
        v[2] = since(t);
    }
    set_state(step);
    was = background();
    tx = sent();
    t = start();
    own[1] = spent();
    check(muster_ckpt_save(ck, step), "save");
    own[1] = spent() - own[1];
    v[3] = since(t);
    guarded = wait_for_peers(ck, step);
    v[4] = since(t);
    if (!guarded)
        v[4] = 0;
    tx = most(sent() - tx) / (double)bytes;
    check(muster_ckpt_wait(ck, MUSTER_LEVEL_STORE, WAIT_MS), "wait for the store");
    v[5] = since(t);
    is = background();
    own[0] = sum(own[0]) / ((double)bytes * size / GIB);
    own[1] = sum(own[1]) / ((double)bytes * size / GIB);
    is.peers = sum(is.peers - was.peers) / ((double)bytes * size / GIB);
    is.writing = sum(is.writing - was.writing) / ((double)bytes * size / GIB);
    if (!counts)
        return;
    struct series *const all[] = {&copy, &tmpfs, &disk, &stall, &peers, &store};
    for (int k = 0; k < 6; k++)
        if (v[k] > 0)
            add(all[k], v[k]);
    add(&cpu_copy, own[0]);
    add(&cpu_stall, own[1]);
    add(&cpu_put, is.writing);
    if (guarded) {
        add(&cpu, is.peers);
        add(&wire, tx);
    }
}

/* A save that has been waited for has work behind it, older generations that go: that is not what a restore costs. */
static void settle(void)
{
    uint64_t until = mu_now() + WAIT_MS * MU_MS;
    double was, is = -1;

    do {
        was = is;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        struct background b = background();
        is = b.peers + b.writing;
    } while (most(is - was) > 0.002 && most((double)(mu_now() > until)) == 0);
}

/* *own: CPU-s of all ranks; *drains (NULL: not asked for): of the drains, for one another's parts. */
static double restore(muster_ckpt *ck, uint64_t expect, bool look, double *own, double *drains)
{
    uint64_t step = 0, t;
    double took, was, theirs = drains ? background().peers : 0;

    memset(data, 0, bytes);
    t = start();
    was = spent();
    check(muster_ckpt_restore(ck, &step), "restore");
    was = spent() - was;
    took = since(t);
    if (drains) /* at once: they go on, and protect what was restored */
        theirs = background().peers - theirs;
    if (drains)
        *drains = sum(theirs);
    *own = sum(was);
    if (most(step != expect || (look && !is_state(step))) > 0) {
        if (rank == 0)
            printf("WRONG: step %llu of %llu came back: %s\n", (unsigned long long)step, (unsigned long long)expect,
                   muster_last_error());
        exit(1);
    }
    return took;
}

static void cost(int rounds, const char *dir, const char *options)
{
    bool writes = strstr(options, "protect=none") != NULL;
    char *other = room(bytes);
    uint64_t step = 0;
    muster_ckpt *ck;
    double unit, own;

    ck = open_state(dir, options);
    for (int i = 0; i < 2; i++) { /* both cells are warm then */
        one_round(ck, other, ++step, dir, writes, false);
        restore(ck, step, true, &own, NULL);
    }
    if (rank == 0)
        printf("%-40s right, bit by bit\n", "what is restored");
    for (int i = 0; i < rounds; i++) {
        one_round(ck, other, ++step, dir, writes, true);
        settle();
        add(&back, restore(ck, step, i == rounds - 1, &own, NULL));
        add(&cpu_back, own / ((double)bytes * size / GIB));
    }
    unit = show(&copy, 0);
    struct series *const all[] = {&tmpfs,    &disk,      &stall,    &peers, &store,   &back,
                                  &cpu_copy, &cpu_stall, &cpu_back, &cpu,   &cpu_put, &wire};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
        show(all[k], unit);
    for (size_t k = 0; k < disk.n && k < store.n; k++)
        add(&against, disk.v[k] / store.v[k]);
    show(&against, unit);
    check(muster_ckpt_close(ck), "close");
    munmap(other, bytes);
}

/* --- lost hosts --------------------------------------------------------------------------------------------------- */

static double lost_ago(const char *dir)
{
    struct timespec now;
    char path[600];
    double then = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/lost", dir);
    if ((f = fopen(path, "r"))) {
        if (fscanf(f, "%lf", &then) != 1)
            then = 0;
        fclose(f);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    return then > 0 ? (double)now.tv_sec + (double)now.tv_nsec / 1e9 - then : 0;
}

static void lost(const char *dir, const char *options, double init)
{
    const char *attempt = getenv("MUSTER_ATTEMPT");
    char text[700];
    muster_ckpt *ck;
    uint64_t t = start();
    FILE *f;

    ck = open_state(dir, options);
    if (attempt && atoi(attempt) > 1) {
        struct mu_arena_head *head = arena();
        double opened = since(t), own, theirs, gave = head ? (double)atomic_load(&head->given) : 0;
        double took = restore(ck, 2, true, &own, &theirs), ago = lost_ago(dir);

        gave = sum((head ? (double)atomic_load(&head->given) : 0) - gave);
        if (rank == 0)
            printf("lost: init %.3f s, open %.3f s, restored and verified %.3f s (CPU: ranks %.2f s, drains %.2f s; "
                   "%.2f GiB sent), %.2f s since the power was lost\n",
                   init, opened, took, own, theirs, gave / GIB, ago);
        check(muster_ckpt_close(ck), "close");
        return;
    }
    for (uint64_t step = 1; step <= 2; step++) {
        set_state(step);
        check(muster_ckpt_save(ck, step), "save");
        check(muster_ckpt_wait(ck, MUSTER_LEVEL_STORE, WAIT_MS), "wait for the store");
        wait_for_peers(ck, step);
    }
    check(muster_barrier(muster_world()), "barrier");
    if (rank == 0) { /* from memory or not at all */
        snprintf(text, sizeof text, "rm -rf '%s'/g*", dir);
        if (system(text))
            exit(1);
        snprintf(text, sizeof text, "%s/held", dir);
        if ((f = fopen(text, "w")))
            fclose(f);
    }
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    uint64_t t = mu_now();
    double init;

    check(muster_init(&argc, &argv), "init");
    rank = muster_rank(muster_world());
    size = muster_size(muster_world());
    if (argc < 5)
        return 2;
    init = since(t);
    bytes = strtoull(argv[1], NULL, 10) << 20;
    data = room(bytes);
    if (!strcmp(argv[2], "lost"))
        lost(argv[3], argv[4], init);
    else
        cost(atoi(argv[2]) < ROUNDS_MOST ? atoi(argv[2]) : ROUNDS_MOST, argv[3], argv[4]);
    return muster_finalize() ? 1 : 0;
}
