#include "runtime/ckpt/store.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define GENERATION_MAX 999999999999999ull
#define LOCK_WAIT (2 * MU_SEC)
#define JOIN_WAIT (3 * MU_SEC)

struct mu_ckpt_path mu_ckpt_final(const struct mu_ckpt_place *p, uint64_t generation)
{
    return mu_ckpt_path("%s/g%08" PRIu64, p->dir, generation);
}

struct mu_ckpt_path mu_ckpt_tmp(const struct mu_ckpt_place *p, uint64_t generation)
{
    return mu_ckpt_path("%s/g%08" PRIu64 ".a%" PRIu64 ".tmp", p->dir, generation, p->epoch);
}

enum entry { OTHER, FINAL, UNFINISHED, REMOVED };

/* Names are taken exactly as they are written, so that no two of them mean the same generation. */
static enum entry entry_of(const char *name, uint64_t *generation, uint64_t *epoch)
{
    uint64_t g, a = 0;
    char back[80];

    if (strlen(name) >= sizeof back || sscanf(name, "g%" SCNu64, &g) != 1 || g > GENERATION_MAX)
        return OTHER;
    *generation = g;
    snprintf(back, sizeof back, "g%08" PRIu64, g);
    if (!strcmp(back, name))
        return FINAL;
    snprintf(back, sizeof back, "g%08" PRIu64 ".del", g);
    if (!strcmp(back, name))
        return REMOVED;
    if (sscanf(name, "g%*[0-9].a%" SCNu64 ".tmp", &a) == 1) {
        snprintf(back, sizeof back, "g%08" PRIu64 ".a%" PRIu64 ".tmp", g, a);
        if (!strcmp(back, name)) {
            *epoch = a;
            return UNFINISHED;
        }
    }
    return OTHER;
}

static void pause_ns(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / MU_SEC), .tv_nsec = (long)(ns % MU_SEC)};

    nanosleep(&t, NULL);
}

/* The lock closes the moment between looking at EPOCH and renaming. Where it cannot be had (a file system without
 * locks, a stopped holder) the epoch alone decides: -1, go on. */
static int take_lock(const char *dir)
{
    struct mu_ckpt_path p = mu_ckpt_path("%s/LOCK", dir);
    int fd = open(p.s, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    uint64_t end = mu_now() + LOCK_WAIT;

    if (fd < 0)
        return -1;
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || mu_now() > end) {
            close(fd);
            return -1;
        }
        pause_ns(2 * MU_MS);
    }
    return fd;
}

static int read_epoch(const char *dir, struct mu_ckpt_epoch *e, struct mu_err *err)
{
    struct mu_ckpt_path p = mu_ckpt_path("%s/EPOCH", dir);
    mu_auto_free unsigned char *buf = NULL;
    size_t n;
    int rc = mu_ckpt_get_file(p.s, MU_CKPT_EPOCH_BYTES, &buf, &n, err);

    if (rc)
        return rc;
    if ((rc = mu_ckpt_epoch_decode(buf, n, e, err)))
        mu_err_prefix(err, "%s", p.s);
    return rc;
}

/* Calls `visit` for every entry that is ours. */
static int each_entry(const char *dir,
                      int (*visit)(void *, enum entry, uint64_t generation, uint64_t epoch, const char *), void *arg,
                      struct mu_err *err)
{
    mu_auto_dir DIR *d = opendir(dir);
    int rc = 0;

    if (!d)
        return mu_err_errno(err, 0, "open directory %s", dir);
    errno = 0;
    for (struct dirent *e; !rc && (e = readdir(d)); errno = 0) {
        uint64_t g = 0, a = 0;
        enum entry kind = entry_of(e->d_name, &g, &a);

        if (kind != OTHER)
            rc = visit(arg, kind, g, a, e->d_name);
    }
    if (!rc && errno)
        rc = mu_err_errno(err, MUSTER_EIO, "read directory %s", dir);
    return rc;
}

struct survey {
    const struct mu_ckpt_place *place;
    uint64_t top_generation, top_epoch;
    bool others;    /* remove what other epochs left unfinished */
    uint64_t below; /* remove our own unfinished ones before this */
};

static int survey(void *arg, enum entry kind, uint64_t generation, uint64_t epoch, const char *name)
{
    struct survey *s = arg;

    (void)name;
    (void)kind;
    if (generation > s->top_generation)
        s->top_generation = generation;
    if (epoch > s->top_epoch)
        s->top_epoch = epoch;
    return 0;
}

/* Failing to remove rubbish is no reason to fail. */
static int clear(void *arg, enum entry kind, uint64_t generation, uint64_t epoch, const char *name)
{
    struct survey *s = arg;
    struct mu_ckpt_path p = mu_ckpt_path("%s/%s", s->place->dir, name);

    if (kind == REMOVED || (kind == UNFINISHED && (epoch == s->place->epoch ? generation < s->below : s->others)))
        mu_ckpt_remove_dir(s->place->io, p.s, NULL, NULL);
    return 0;
}

/* Within one sector: torn by a power cut at worst, which the next opening sees. */
static int write_over(const struct mu_ckpt_io *io, const char *path, const void *buf, size_t n)
{
    mu_auto_fd int fd = io->open(io, path, O_WRONLY | O_NONBLOCK, 0);

    return fd < 0 || mu_ckpt_write_all(io, fd, buf, n, 0, path, NULL) || io->fsync(io, fd) ? MUSTER_ENOSPC : 0;
}

int mu_ckpt_store_open(struct mu_ckpt_place *p, uint64_t *next, struct mu_err *err)
{
    struct mu_ckpt_epoch e = {0};
    struct survey s = {.place = p, .others = true};
    struct mu_ckpt_path tmp, path = mu_ckpt_path("%s/EPOCH", p->dir);
    unsigned char buf[MU_CKPT_EPOCH_BYTES];
    struct mu_err why;
    int rc = mu_ckpt_make_dirs(p->io, p->dir, err);

    if (rc)
        return rc;
    mu_auto_fd __attribute__((unused)) int lock = take_lock(p->dir);
    if ((rc = each_entry(p->dir, survey, &s, err)))
        return rc;
    /* A damaged EPOCH must not cost the checkpoints: the random mark fences as well as the number does. */
    rc = read_epoch(p->dir, &e, &why);
    if (rc && rc != MUSTER_ENOCKPT && rc != MUSTER_ECORRUPT)
        return mu_err_set(err, rc, "%s", why.text);
    if (rc || e.epoch < s.top_epoch)
        e.epoch = s.top_epoch;
    p->epoch = e.epoch + 1;
    do {
        if (getrandom(&p->nonce, sizeof p->nonce, 0) != (ssize_t)sizeof p->nonce)
            p->nonce = mu_wall() * 0x9e3779b97f4a7c15ull ^ (uint64_t)getpid() << 40 ^ mu_now();
    } while (!p->nonce);

    e = (struct mu_ckpt_epoch){.epoch = p->epoch, .nonce = p->nonce, .wall = mu_wall(), .attempt = p->attempt};
    memcpy(e.job, p->job, sizeof e.job);
    mu_ckpt_epoch_encode(&e, buf);
    tmp = mu_ckpt_path("%s/EPOCH.new", p->dir);
    rc = mu_ckpt_put_file(p->io, tmp.s, path.s, buf, sizeof buf, &why);
    if (rc == MUSTER_ENOSPC) { /* a full disk keeps nobody from its checkpoints */
        p->io->unlink(p->io, tmp.s);
        each_entry(p->dir, clear, &s, NULL);
        if ((rc = mu_ckpt_put_file(p->io, tmp.s, path.s, buf, sizeof buf, &why)) == MUSTER_ENOSPC &&
            write_over(p->io, path.s, buf, sizeof buf) == 0)
            rc = 0;
    }
    if (rc) {
        p->io->unlink(p->io, tmp.s);
        return mu_err_set(err, rc, "%s", why.text);
    }
    if ((rc = mu_ckpt_sync_dir(p->io, p->dir, err)) || (rc = mu_ckpt_store_fence(p, err)))
        return rc;
    each_entry(p->dir, clear, &s, NULL);
    *next = s.top_generation + 1;
    return 0;
}

int mu_ckpt_store_fence(const struct mu_ckpt_place *p, struct mu_err *err)
{
    struct mu_ckpt_epoch e;
    int rc = read_epoch(p->dir, &e, err);

    if (rc)
        return rc == MUSTER_ENOCKPT ? mu_err_set(err, MUSTER_EIO, "%s/EPOCH has been removed", p->dir) : rc;
    if (e.epoch != p->epoch || e.nonce != p->nonce)
        return mu_err_set(err, MUSTER_EEPOCH,
                          "%s has been opened by %s%s%sattempt %u since (epoch %" PRIu64 ", this is %" PRIu64 ")",
                          p->dir, e.job[0] ? "job " : "", e.job, e.job[0] ? ", " : "", e.attempt, e.epoch, p->epoch);
    return 0;
}

int mu_ckpt_store_join(const struct mu_ckpt_place *p, struct mu_err *err)
{
    uint64_t end = mu_now() + JOIN_WAIT;
    struct mu_err why;

    while (mu_ckpt_store_fence(p, &why)) {
        if (mu_now() > end)
            return mu_err_set(err, MUSTER_ENODE,
                              "%s here is not the directory that rank 0 opened; hosts must share it (%.200s)", p->dir,
                              why.text);
        pause_ns(10 * MU_MS);
    }
    if (access(p->dir, W_OK | X_OK))
        return mu_err_errno(err, MUSTER_EIO, "directory %s is not writable", p->dir);
    return 0;
}

int mu_ckpt_store_publish(const struct mu_ckpt_place *p, uint64_t generation, struct mu_err *err)
{
    struct mu_ckpt_path from = mu_ckpt_tmp(p, generation), to = mu_ckpt_final(p, generation);
    mu_auto_fd __attribute__((unused)) int lock = take_lock(p->dir);
    int rc = mu_ckpt_store_fence(p, err);

    if (rc)
        return rc;
    if (p->io->rename(p->io, from.s, to.s))
        return mu_err_errno(err, 0, "rename %s to %s", from.s, to.s);
    return mu_ckpt_sync_dir(p->io, p->dir, err);
}

void mu_ckpt_store_sweep(const struct mu_ckpt_place *p, uint64_t below)
{
    struct survey s = {.place = p, .below = below};

    each_entry(p->dir, clear, &s, NULL);
}

void mu_ckpt_store_abandon(const struct mu_ckpt_place *p, uint64_t generation)
{
    static const char *const parts[] = {"seg.", "man.", "COMMIT"};
    struct mu_ckpt_path tmp = mu_ckpt_tmp(p, generation);
    mu_auto_dir DIR *d = opendir(tmp.s);

    for (struct dirent *e; d && (e = readdir(d));)
        for (size_t i = 0; i < MU_COUNT(parts); i++)
            if (!strncmp(e->d_name, parts[i], strlen(parts[i]))) {
                struct mu_ckpt_path part = mu_ckpt_path("%s/%s", tmp.s, e->d_name);

                p->io->unlink(p->io, part.s);
            }
}

struct listing {
    uint64_t *v;
    size_t n, room;
    struct mu_err *err;
};

static int collect(void *arg, enum entry kind, uint64_t generation, uint64_t epoch, const char *name)
{
    struct listing *l = arg;

    (void)epoch;
    (void)name;
    if (kind != FINAL)
        return 0;
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        uint64_t *v = realloc(l->v, room * sizeof *v);

        if (!v)
            return mu_err_set(l->err, MUSTER_ENOMEM, "no memory to list checkpoints");
        l->v = v;
        l->room = room;
    }
    l->v[l->n++] = generation;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0;
}

int mu_ckpt_store_scan(const char *dir, uint64_t **list, size_t *n, struct mu_err *err)
{
    struct listing l = {.err = err};
    int rc = each_entry(dir, collect, &l, err);

    if (rc) {
        free(l.v);
        return rc;
    }
    if (l.n)
        qsort(l.v, l.n, sizeof *l.v, newest_first);
    *list = l.v;
    *n = l.n;
    return 0;
}

int mu_ckpt_store_commit(const char *gendir, uint64_t generation, struct mu_ckpt_commit *out, struct mu_err *err)
{
    struct mu_ckpt_path p = mu_ckpt_path("%s/COMMIT", gendir);
    mu_auto_free unsigned char *buf = NULL;
    struct mu_ckpt_commit k;
    size_t n;
    int rc = mu_ckpt_get_file(p.s, MU_CKPT_MANIFEST_MAX, &buf, &n, err);

    if (rc)
        return rc == MUSTER_ENOCKPT ? mu_err_set(err, MUSTER_ECORRUPT, "%s is missing", p.s) : rc;
    if ((rc = mu_ckpt_commit_decode(buf, n, &k, err))) {
        mu_err_prefix(err, "%s", p.s);
        return rc;
    }
    if (k.id.generation != generation) {
        free(k.votes);
        return mu_err_set(err, MUSTER_ECORRUPT, "%s belongs to generation %" PRIu64, p.s, k.id.generation);
    }
    *out = k;
    return 0;
}

bool mu_ckpt_same_id(const struct mu_ckpt_id *a, const struct mu_ckpt_id *b)
{
    return a->generation == b->generation && a->epoch == b->epoch && a->nonce == b->nonce && a->step == b->step &&
           a->world == b->world && a->attempt == b->attempt;
}

int mu_ckpt_manifest_take(const unsigned char *buf, size_t n, const char *name, const struct mu_ckpt_id *id,
                          uint32_t rank, const struct mu_ckpt_vote *vote, struct mu_ckpt_manifest *out,
                          struct mu_err *err)
{
    struct mu_ckpt_manifest m;
    int rc = mu_ckpt_manifest_decode(buf, n, &m, err);

    if (rc) {
        mu_err_prefix(err, "%s", name);
        return rc;
    }
    if (!mu_ckpt_same_id(&m.id, id) || m.rank != rank)
        rc = mu_err_set(err, MUSTER_ECORRUPT,
                        "%s belongs to another checkpoint (generation %" PRIu64 ", epoch %" PRIu64 ", rank %u)", name,
                        m.id.generation, m.id.epoch, m.rank);
    else if (vote && (vote->manifest != m.bytes || vote->crc != m.crc || vote->segment != m.segment))
        rc = mu_err_set(err, MUSTER_ECORRUPT, "%s is not the one that was committed", name);
    if (rc) {
        mu_ckpt_manifest_free(&m);
        return rc;
    }
    *out = m;
    return 0;
}

int mu_ckpt_store_manifest(const char *gendir, const struct mu_ckpt_id *id, uint32_t rank,
                           const struct mu_ckpt_vote *vote, struct mu_ckpt_manifest *out, struct mu_err *err)
{
    struct mu_ckpt_path p = mu_ckpt_path("%s/man.%u", gendir, rank);
    mu_auto_free unsigned char *buf = NULL;
    size_t n;
    int rc = mu_ckpt_get_file(p.s, MU_CKPT_MANIFEST_MAX, &buf, &n, err);

    if (rc)
        return rc == MUSTER_ENOCKPT && vote ? mu_err_set(err, MUSTER_ECORRUPT, "%s is missing", p.s) : rc;
    return mu_ckpt_manifest_take(buf, n, p.s, id, rank, vote, out, err);
}

int mu_ckpt_store_check(const char *dir, uint64_t generation, struct mu_err *err)
{
    struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, generation);
    struct mu_ckpt_commit k;
    int rc = mu_ckpt_store_commit(gendir.s, generation, &k, err);

    if (rc)
        return rc;
    for (uint32_t r = 0; !rc && r < k.id.world; r++) {
        struct mu_ckpt_path seg = mu_ckpt_path("%s/seg.%u", gendir.s, r);
        struct mu_ckpt_manifest m;
        struct stat st;

        if ((rc = mu_ckpt_store_manifest(gendir.s, &k.id, r, &k.votes[r], &m, err)))
            break;
        mu_ckpt_manifest_free(&m);
        if (stat(seg.s, &st))
            rc = mu_err_errno(err, MUSTER_ECORRUPT, "%s", seg.s);
        else if ((uint64_t)st.st_size != k.votes[r].segment)
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%s has %lld bytes instead of %" PRIu64, seg.s, (long long)st.st_size,
                            k.votes[r].segment);
    }
    free(k.votes);
    return rc;
}

/* By rename first: a removal that is cut off leaves no generation with parts missing. */
static int discard(const struct mu_ckpt_place *p, const char *gendir, struct mu_err *err)
{
    struct mu_ckpt_path del = mu_ckpt_path("%s.del", gendir);

    mu_ckpt_remove_dir(p->io, del.s, NULL, NULL);
    if (p->io->rename(p->io, gendir, del.s))
        return errno == ENOENT ? 0 : mu_err_errno(err, 0, "rename %s", gendir);
    return mu_ckpt_remove_dir(p->io, del.s, "COMMIT", err);
}

bool mu_ckpt_kept_for_ever(uint64_t generation, uint32_t every)
{
    return every && generation % every == 0;
}

int mu_ckpt_store_hold(const struct mu_ckpt_place *p, uint64_t generation, bool on, struct mu_err *err)
{
    struct mu_ckpt_path gendir = mu_ckpt_final(p, generation), hold = mu_ckpt_path("%s/" MU_CKPT_HOLD, gendir.s);
    char text[64];
    int fd, n = snprintf(text, sizeof text, "%" PRIu64 " %016" PRIx64 "\n", p->epoch, p->nonce), rc;

    if (!on) {
        p->io->unlink(p->io, hold.s);
        return 0;
    }
    if ((fd = p->io->open(p->io, hold.s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
        return mu_err_errno(err, 0, "%s", hold.s);
    rc = mu_ckpt_write_all(p->io, fd, text, (size_t)n, 0, hold.s, err);
    close(fd);
    return rc;
}

static bool is_held(const struct mu_ckpt_place *p, const char *gendir)
{
    struct mu_ckpt_path hold = mu_ckpt_path("%s/" MU_CKPT_HOLD, gendir);
    mu_auto_free unsigned char *text = NULL;
    uint64_t epoch = 0, nonce = 0;
    size_t n;

    return mu_ckpt_get_file(hold.s, 64, &text, &n, NULL) == 0 && n &&
           sscanf((char *)text, "%" SCNu64 " %" SCNx64, &epoch, &nonce) == 2 && epoch == p->epoch && nonce == p->nonce;
}

int mu_ckpt_store_retain(const struct mu_ckpt_place *p, uint64_t bad_after, uint64_t bad_upto, struct mu_err *err)
{
    mu_auto_free uint64_t *list = NULL;
    size_t n = 0;
    uint32_t good = 0;
    int rc = mu_ckpt_store_scan(p->dir, &list, &n, err), first = 0;

    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++) {
        struct mu_ckpt_path gendir = mu_ckpt_final(p, list[i]), pin = mu_ckpt_path("%s/PIN", gendir.s);
        struct mu_ckpt_commit k = {0};
        struct stat st;

        if (stat(pin.s, &st) == 0 || errno != ENOENT)
            continue;
        if (good >= p->keep && (mu_ckpt_kept_for_ever(list[i], p->every) || is_held(p, gendir.s)))
            continue;
        rc = mu_ckpt_store_commit(gendir.s, list[i], &k, NULL);
        free(k.votes);
        if (rc && rc != MUSTER_ECORRUPT) /* a newer version's, or not readable just now */
            continue;
        if (good >= p->keep) {
            rc = discard(p, gendir.s, first ? NULL : err);
            first = first ? first : rc;
        } else if (!rc && !(list[i] > bad_after && list[i] <= bad_upto)) {
            good++;
        }
    }
    return first;
}

void mu_ckpt_store_reclaim(const struct mu_ckpt_place *p, uint64_t bad_after, uint64_t bad_upto)
{
    mu_auto_free uint64_t *list = NULL;
    size_t n = 0;

    mu_ckpt_store_sweep(p, 0);
    if (mu_ckpt_store_scan(p->dir, &list, &n, NULL) == 0 && n && mu_ckpt_store_check(p->dir, list[0], NULL) == 0)
        mu_ckpt_store_retain(p, bad_after, bad_upto, NULL);
}
