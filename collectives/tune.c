#include "collectives/tune.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "collectives/segment.h"
#include "collectives/shm.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"

#define FORMAT "muster-tune/4"
#define NUMBERS "\neverybody %u read %u chain %u"
#define MOST_NS (200 * MU_MS) /* beyond it the machine is busy, and what was measured says little */
#define BATCHES 6
#define CALLS 8
#define LARGE (128u << 10) /* bytes from which one call is a batch */
#define CHAIN_MOST ((size_t)1 << 20)
#define ROOM ((size_t)16 << 20) /* bytes of all blocks while it is measured */
#define CLEARLY 8               /* such a part of its time has to be won by what gets no better with the size */

bool mu_tuned_valid(const struct mu_tuned *t)
{
    return t->everybody >= MU_TUNED_MIN && t->everybody <= MU_TUNED_MAX && t->read >= MU_TUNED_MIN &&
           t->read <= MU_TUNED_NEVER && (!t->chain || t->chain >= MU_TUNED_MIN) && t->chain <= MU_TUNED_CHAIN_MAX;
}

/* --- the file --- */

static void cpu_model(char *out, size_t n)
{
    mu_auto_file FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256], *at;

    snprintf(out, n, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) && strncmp(line, "CPU part", 8))
            continue;
        at = strchr(line, ':');
        line[strcspn(line, "\n")] = 0;
        if (at)
            snprintf(out, n, "%s", at + 1 + strspn(at + 1, " \t"));
        return;
    }
}

bool mu_tune_where(const struct mu_tune_kind *kind, char *path, size_t npath, char *key, size_t nkey)
{
    const char *home = getenv("MUSTER_HOME"), *cache = getenv("XDG_CACHE_HOME"), *user = getenv("HOME");
    char model[200];
    struct utsname u;
    uint64_t h = 1469598103934665603ull;
    const char *dir = home && *home ? home : cache && *cache ? cache : user;
    int n;

    if (!dir || !*dir || uname(&u) < 0)
        return false;
    cpu_model(model, sizeof model);
    n = snprintf(key, nkey, "muster %s; %s; %s %s; %ld CPUs, L3 of %ld; %d ranks under %d of them, domains of %d%s",
                 MUSTER_VERSION, model, u.machine, u.release, sysconf(_SC_NPROCESSORS_ONLN),
                 sysconf(_SC_LEVEL3_CACHE_SIZE), kind->ranks, kind->caches, kind->lanes,
                 kind->reads ? ", read out" : "");
    if (n < 0 || (size_t)n >= nkey)
        return false;
    for (const char *c = key; *c; c++)
        h = (h ^ (unsigned char)*c) * 1099511628211ull;
    n = snprintf(path, npath, "%s/%s/tune-%016llx", dir,
                 home && *home     ? "cache"
                 : cache && *cache ? "muster"
                                   : ".cache/muster",
                 (unsigned long long)h);
    return n > 0 && (size_t)n < npath;
}

/* FORMAT, the key and the numbers, a line each, and `end`: a file that was cut off is none. */
bool mu_tune_load(const char *path, const char *key, struct mu_tuned *out)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char text[1024], want[1024];
    struct mu_tuned t;
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return false;
    n = read(fd, text, sizeof text - 1);
    if (n <= 0 || (size_t)n == sizeof text - 1)
        return false;
    text[n] = 0;
    for (int pass = 0; pass < 2; pass++) {
        const char *numbers = strstr(text, "\neverybody ");

        if (pass == 0 && (!numbers || sscanf(numbers, NUMBERS, &t.everybody, &t.read, &t.chain) != 3))
            return false;
        snprintf(want, sizeof want, "%s\n%s" NUMBERS "\nend\n", FORMAT, key, t.everybody, t.read, t.chain);
    }
    if (strcmp(text, want) || !mu_tuned_valid(&t))
        return false;
    *out = t;
    return true;
}

/* Not by way of another name, under which a rank that is killed would leave it: what is cut off is none. */
static bool write_anew(const char *path, const char *text, size_t n)
{
    unlink(path);
    mu_auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    if (write(fd, text, n) == (ssize_t)n)
        return true;
    unlink(path);
    return false;
}

bool mu_tune_store(const char *path, const char *key, const struct mu_tuned *t)
{
    const char *slash = strrchr(path, '/');
    char text[1024], *dir = NULL;
    struct mu_err err;
    bool ok;
    int n;

    if (!slash || !(dir = strndup(path, (size_t)(slash - path))))
        return false;
    ok = mu_path_mkdirs(dir, 0700, &err) == 0 && access(dir, W_OK) == 0;
    free(dir);
    if (!t || !ok)
        return ok;
    n = snprintf(text, sizeof text, "%s\n%s" NUMBERS "\nend\n", FORMAT, key, t->everybody, t->read, t->chain);
    return n > 0 && (size_t)n < sizeof text && write_anew(path, text, (size_t)n);
}

/* --- measuring --- */

struct trial {
    struct muster_comm *comm;
    char *send, *recv;
    size_t block; /* bytes of send, a power of two */
    uint64_t begin;
    double took[3]; /* the slowest rank's one way, the other, of the last race; above 0: somebody has to stop */
};

static bool busy(const struct trial *t)
{
    return t->took[2] > 0;
}

/* The fastest of some batches, ns a call: what disturbs only makes it slower. */
static int best(const struct trial *t, const struct mu_call *call, double *out, struct mu_err *err)
{
    int calls = call->count > LARGE ? 1 : CALLS;
    double least = 0;
    int rc = mu_coll_run(t->comm, call, err);

    for (int b = 0; b < BATCHES && rc == 0; b++) {
        uint64_t t0 = mu_now();
        double took;

        for (int i = 0; i < calls && rc == 0; i++)
            rc = mu_coll_run(t->comm, call, err);
        took = (double)(mu_now() - t0);
        if (b == 0 || took < least)
            least = took;
    }
    *out = least;
    return rc;
}

/* What is said by then is the same on all ranks, so that they go on alike. */
static int compare(struct trial *t, struct mu_err *err)
{
    return mu_coll_run(t->comm,
                       &(struct mu_call){.kind = MU_OP_KIND_ALLREDUCE,
                                         .dtype = MUSTER_FLOAT64,
                                         .op = MUSTER_MAX,
                                         .count = MU_COUNT(t->took),
                                         .send = t->took,
                                         .recv = t->took},
                       err);
}

/* A call with *threshold at one value and at the other. */
static int race(struct trial *t, const struct mu_call *call, size_t *threshold, size_t one, size_t other,
                struct mu_err *err)
{
    int rc;

    *threshold = one;
    rc = best(t, call, &t->took[0], err);
    *threshold = other;
    if (rc == 0)
        rc = best(t, call, &t->took[1], err);
    t->took[2] = mu_now() - t->begin > MOST_NS;
    return rc ? rc : compare(t, err);
}

static struct mu_call sum(void *buffer, uint32_t bytes)
{
    return (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE,
                            .dtype = MUSTER_FLOAT32,
                            .op = MUSTER_SUM,
                            .count = bytes / sizeof(float),
                            .send = buffer,
                            .recv = buffer};
}

/* The largest size up to which everybody's reducing everything is not slower than sharing it out. */
static int try_everybody(struct trial *t, struct mu_tuned *out, struct mu_err *err)
{
    bool wins = true;
    int rc = 0;

    out->everybody = 512;
    for (uint32_t s = 512; s <= 32768 && rc == 0 && wins && !busy(t); s *= 2) {
        struct mu_call c = sum(t->recv, s);

        rc = race(t, &c, &t->comm->shm->shm->small_reduction, s, 0, err);
        wins = rc == 0 && t->took[0] <= t->took[1];
        if (wins)
            out->everybody = s;
    }
    return rc;
}

/* The smallest size from which reading out of a process is clearly faster than its slots, there and at all larger ones.
 * The kernel copies through the caches; slots are emptied past them, which pays the more the larger it is. */
static int try_read(struct trial *t, struct mu_tuned *out, struct mu_err *err)
{
    struct mu_shm *shm = t->comm->shm->shm;
    bool wins = true;
    int rc = 0;

    out->read = MU_TUNED_NEVER;
    for (uint32_t s = (uint32_t)t->block; s >= MU_TUNED_READ_MIN && shm->reads && rc == 0 && wins && !busy(t); s /= 2) {
        struct mu_call c = {
            .kind = MU_OP_KIND_ALLGATHER, .dtype = MUSTER_UINT8, .count = s, .send = t->send, .recv = t->recv};

        rc = race(t, &c, &shm->read_from, s, SIZE_MAX, err);
        wins = rc == 0 && t->took[0] + t->took[0] / CLEARLY <= t->took[1];
        if (wins)
            out->read = s;
    }
    return rc;
}

/* The smallest size from which domain after domain is faster than all at once, there and at all larger ones. */
static int try_chain(struct trial *t, struct mu_tuned *out, struct mu_err *err)
{
    size_t most = t->block < CHAIN_MOST ? t->block : CHAIN_MOST;
    void *buffer = t->comm->shm->lanes ? mu_seg_alloc(most) : NULL;
    bool wins = true;
    int rc = 0;

    out->chain = 0;
    t->begin = mu_now(); /* a time of its own */
    for (uint32_t s = (uint32_t)most; t->comm->shm->lanes && s >= MU_TUNED_CHAIN_MIN && rc == 0 && wins && !busy(t);
         s /= 2) {
        struct mu_call c = sum(buffer ? buffer : t->recv, s);

        rc = race(t, &c, &t->comm->shm->shm->chain_from, s, 0, err);
        wins = rc == 0 && t->took[0] < t->took[1];
        if (wins)
            out->chain = s;
    }
    mu_seg_free(buffer);
    return rc;
}

int mu_tune_measure(struct muster_comm *comm, struct mu_tuned *out, bool *sure, struct mu_err *err)
{
    struct mu_shm *shm = comm->shm->shm;
    size_t small = shm->small_reduction, from = shm->read_from;
    struct trial t = {.comm = comm, .begin = mu_now()};
    struct mu_tuned found = {(uint32_t)small, (uint32_t)from, 0};
    uint64_t entered = comm->engine->entered;
    uint64_t bytes = comm->flight ? atomic_load_explicit(&comm->flight->bytes, memory_order_relaxed) : 0;
    int rc;

    for (t.block = ROOM; t.block > MU_TUNED_READ_MIN && t.block * (size_t)comm->size > ROOM; t.block /= 2)
        ;
    t.send = aligned_alloc(64, t.block * ((size_t)comm->size + 1));
    t.recv = t.send ? t.send + t.block : NULL;
    t.took[2] = !t.send;
    rc = compare(&t, err);
    if (rc == 0 && !busy(&t)) {
        memset(t.send, 1, t.block); /* pages that nobody has written to are one page, which is always in the cache */
        memset(t.recv, 0, t.block * (size_t)comm->size);
        rc = try_everybody(&t, &found, err);
        if (rc == 0)
            rc = try_read(&t, &found, err);
        if (rc == 0)
            rc = try_chain(&t, &found, err);
    }
    free(t.send);
    comm->engine->entered = entered; /* people count their own calls */
    if (comm->flight)
        atomic_store_explicit(&comm->flight->bytes, bytes, memory_order_relaxed);
    shm->small_reduction = small;
    shm->read_from = from;
    shm->chain_from = 0;
    *sure = !busy(&t);
    if (rc == 0)
        *out = found;
    return rc;
}
