/* A generation of an object store into a directory; and reading one to compare it. */
#include "runtime/ckpt/daemon/remote_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/crc32c.h"
#include "runtime/ckpt/agree.h"
#include "runtime/ckpt/owner.h"
#include "runtime/ckpt/verify.h"

#define TRIES 3 /* of a range that comes with other bytes than were stored */

/* A range of a segment: extents first..first+n-1 of the sorted ones; the first range begins with the superblock. */
struct range {
    struct mu_remote_meter *meter;
    const char *key, *path;
    const struct mu_ckpt_manifest *man;
    const struct mu_ckpt_extent *v;
    size_t n;
    uint64_t from;
    size_t bytes;
    int fd; /* -1: nothing is kept */
};

/* 0, or 1 with the place of the damage. */
static int compare(const struct range *g, const unsigned char *buf, uint64_t *damage)
{
    struct mu_ckpt_super s;

    *damage = 0;
    if (!g->from && (mu_ckpt_super_decode(buf, &s, NULL) || s.rank != g->man->rank || s.segment != g->man->segment ||
                     !mu_ckpt_same_id(&s.id, &g->man->id)))
        return 1;
    for (size_t i = 0; i < g->n; i++)
        if (mu_crc32c(0, buf + (g->v[i].file - g->from), g->v[i].bytes) != g->v[i].crc) {
            *damage = g->v[i].file;
            return 1;
        }
    return 0;
}

static int read_range(struct mu_s3 *s, unsigned char *buf, void *arg, struct mu_err *err)
{
    struct range *g = arg;
    uint64_t damage;
    int rc, tries = 0;

    if (g->fd >= 0 && mu_ckpt_read_all(g->fd, buf, g->bytes, g->from, g->path, NULL) == 0 &&
        !compare(g, buf, &damage)) {
        atomic_fetch_add(&g->meter->there, g->bytes);
        atomic_fetch_add(&g->meter->done, g->bytes);
        return 0;
    }
    do {
        if ((rc = mu_s3_get(s, g->key, g->from, buf, g->bytes, err)))
            return rc == MUSTER_ENOCKPT ? MUSTER_ECORRUPT : rc;
        atomic_fetch_add(&g->meter->moved, g->bytes);
    } while (compare(g, buf, &damage) && ++tries < TRIES);
    if (tries == TRIES)
        return mu_err_set(err, MUSTER_ECORRUPT, "%.300s in the store is damaged at byte %" PRIu64, g->key, damage);
    if (g->fd >= 0)
        rc = mu_ckpt_write_all(&mu_ckpt_io_posix, g->fd, buf, g->bytes, (off_t)g->from, g->path, err);
    if (!rc)
        atomic_fetch_add(&g->meter->done, g->bytes);
    return rc;
}

int mu_remote_read_segment(struct mu_lanes *lanes, struct mu_remote_meter *meter, const char *key,
                           const struct mu_ckpt_manifest *m, int fd, const char *path, struct mu_err *err)
{
    mu_auto_free struct mu_ckpt_extent *v = mu_remote_sorted(m);
    struct range g = {.meter = meter, .key = key, .path = path, .man = m, .v = v, .fd = fd, .bytes = MU_CKPT_PAGE};
    int rc = 0;

    if (!v)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i <= m->nextents && !rc; i++) {
        uint64_t end = i < m->nextents ? v[i].file + v[i].bytes : UINT64_MAX;
        unsigned char *buf;

        if (i < m->nextents && end - g.from <= MU_REMOTE_CHUNK) {
            g.bytes = end - g.from > g.bytes ? (size_t)(end - g.from) : g.bytes;
            g.n++;
            continue;
        }
        if ((rc = mu_lanes_take(lanes, &buf, err)))
            break;
        mu_lanes_give(lanes, read_range, &g, sizeof g);
        if (i < m->nextents) {
            g.v = &v[i];
            g.n = 1;
            g.from = v[i].file;
            g.bytes = v[i].bytes;
        }
    }
    int late = mu_lanes_wait(lanes, rc ? NULL : err);
    return rc ? rc : late;
}

/* --- without keeping ---------------------------------------------------------------------------------------------- */

int mu_remote_read_all(struct mu_remote *r, const struct mu_ckpt_commit *k, bool incremental, struct mu_lanes *lanes,
                       struct mu_remote_meter *meter, struct mu_err *err)
{
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    int rc = 0;

    for (uint32_t i = 0; !rc && i < k->id.world; i++) {
        struct mu_remote_key key;
        mu_auto_free unsigned char *buf = NULL;
        struct mu_ckpt_manifest m;
        char name[24];
        size_t n;

        snprintf(name, sizeof name, "man.%u", i);
        key = mu_remote_key(r, k->id.generation, k->id.epoch, k->id.nonce, name);
        if ((rc = mu_s3_get_all(r->s, key.s, MU_CKPT_MANIFEST_MAX, &buf, &n, err)) ||
            (rc = mu_ckpt_manifest_take(buf, n, key.s, &k->id, i, &k->votes[i], &m, err)))
            break;
        atomic_fetch_add(&meter->done, n);
        snprintf(name, sizeof name, "seg.%u", i);
        key = mu_remote_key(r, k->id.generation, k->id.epoch, k->id.nonce, name);
        if (!(rc = mu_ckpt_agree_add(&agree, &m, err)))
            rc = incremental ? mu_remote_inc_read(r, lanes, meter, &m, -1, key.s, err)
                             : mu_remote_read_segment(lanes, meter, key.s, &m, -1, key.s, err);
        mu_ckpt_manifest_free(&m);
    }
    if (!rc)
        rc = mu_ckpt_agree_end(&agree, err);
    return rc == MUSTER_ENOCKPT ? MUSTER_ECORRUPT : mu_ckpt_verify_agrees(rc, err);
}

/* What the list knows already. */
static int usable(const struct mu_remote_generation *g, struct mu_err *err)
{
    return g->complete ? 0 : mu_err_set(err, g->code, "%s", g->why);
}

int mu_remote_verify(struct mu_remote *r, const struct mu_remote_generation *g, const struct mu_remote_way *way,
                     struct mu_err *err)
{
    struct mu_remote_meter meter = {.way = way};
    struct mu_lanes *lanes;
    int rc = usable(g, err);

    if (rc || (rc = mu_lanes_open(&r->conf, way->lanes, MU_REMOTE_CHUNK, mu_remote_tick, &meter, &lanes, err)))
        return rc;
    rc = mu_remote_read_all(r, &g->commit, g->incremental, lanes, &meter, err);
    mu_lanes_close(lanes);
    return rc;
}

/* --- into a directory --------------------------------------------------------------------------------------------- */

struct pull {
    struct mu_remote *r;
    const struct mu_remote_generation *g;
    const char *dir;
    struct mu_ckpt_path tmp, final;
    struct mu_remote_meter meter;
    struct mu_lanes *lanes;
};

static struct mu_remote_key key_of(const struct pull *p, const char *name)
{
    return mu_remote_key(p->r, p->g->generation, p->g->epoch, p->g->nonce, name);
}

static int pull_file(struct pull *p, const char *name, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/%s", p->tmp.s, name), tmp = mu_ckpt_path("%s.new", path.s);
    mu_auto_free unsigned char *buf = NULL;
    size_t n;
    int rc = mu_s3_get_all(p->r->s, key_of(p, name).s, MU_CKPT_MANIFEST_MAX, &buf, &n, err);

    if (rc)
        return rc == MUSTER_ENOCKPT ? MUSTER_ECORRUPT : rc;
    atomic_fetch_add(&p->meter.moved, n);
    return mu_ckpt_put_file(&mu_ckpt_io_posix, tmp.s, path.s, buf, n, err);
}

/* From an earlier pull, or the store's. */
static int pull_manifest(struct pull *p, uint32_t rank, struct mu_ckpt_manifest *m, struct mu_err *err)
{
    const struct mu_ckpt_commit *k = &p->g->commit;
    char name[24];
    int rc;

    if (mu_ckpt_store_manifest(p->tmp.s, &k->id, rank, &k->votes[rank], m, NULL) == 0) {
        atomic_fetch_add(&p->meter.there, m->bytes);
    } else {
        snprintf(name, sizeof name, "man.%u", rank);
        if ((rc = pull_file(p, name, err)) ||
            (rc = mu_ckpt_store_manifest(p->tmp.s, &k->id, rank, &k->votes[rank], m, err)))
            return rc;
    }
    atomic_fetch_add(&p->meter.done, m->bytes);
    return 0;
}

static int pull_segment(struct pull *p, const struct mu_ckpt_manifest *m, struct mu_err *err)
{
    const struct mu_ckpt_io *io = &mu_ckpt_io_posix;
    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", p->tmp.s, m->rank);
    mu_auto_fd int fd = io->open(io, path.s, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct stat st;
    char name[24];
    int rc;

    snprintf(name, sizeof name, "seg.%u", m->rank);
    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, 0, "create %s", path.s);
    if ((uint64_t)st.st_size != m->segment) {
        if (ftruncate(fd, (off_t)m->segment))
            return mu_err_errno(err, 0, "make %s as long as its segment", path.s);
        if (io->reserve(io, fd, (off_t)m->segment) && errno == ENOSPC)
            return mu_err_errno(err, MUSTER_ENOSPC, "reserve %" PRIu64 " bytes for %s", m->segment, path.s);
    }
    rc = p->g->incremental ? mu_remote_inc_read(p->r, p->lanes, &p->meter, m, fd, path.s, err)
                           : mu_remote_read_segment(p->lanes, &p->meter, key_of(p, name).s, m, fd, path.s, err);
    if (rc)
        return rc;
    return io->fsync(io, fd) ? mu_err_errno(err, 0, "sync %s", path.s) : 0;
}

static int pull_all(struct pull *p, struct mu_err *err)
{
    const struct mu_ckpt_io *io = &mu_ckpt_io_posix;
    int rc = mu_ckpt_make_dirs(io, p->tmp.s, err);

    for (uint32_t i = 0; !rc && i < p->g->commit.id.world; i++) {
        struct mu_ckpt_manifest m;

        if ((rc = pull_manifest(p, i, &m, err)))
            break;
        rc = pull_segment(p, &m, err);
        mu_ckpt_manifest_free(&m);
    }
    if (rc || (rc = pull_file(p, "COMMIT", err)) || (rc = mu_ckpt_sync_dir(io, p->tmp.s, err)) ||
        (rc = mu_ckpt_verify_in(p->tmp.s, p->g->generation, NULL, NULL, err)))
        return rc;
    if (io->rename(io, p->tmp.s, p->final.s))
        return mu_err_errno(err, 0, "rename %s to %s", p->tmp.s, p->final.s);
    return mu_ckpt_sync_dir(io, p->dir, err);
}

/* 1: it is there; 0: nothing has that name. */
static int there_already(const struct pull *p, struct mu_err *err)
{
    struct mu_ckpt_commit k;
    struct stat st;
    int rc;

    if (lstat(p->final.s, &st))
        return errno == ENOENT ? 0 : mu_err_errno(err, MUSTER_EIO, "%s", p->final.s);
    if ((rc = mu_ckpt_store_commit(p->final.s, p->g->generation, &k, err)))
        return rc;
    free(k.votes);
    if (!mu_ckpt_same_id(&k.id, &p->g->commit.id))
        return mu_err_set(err, MUSTER_EEPOCH, "%s is another checkpoint; pull into a directory of its own", p->final.s);
    return (rc = mu_ckpt_verify(p->dir, p->g->generation, NULL, NULL, err)) ? rc : 1;
}

int mu_remote_fetch(struct mu_remote *r, const struct mu_remote_generation *g, const char *dir,
                    const struct mu_remote_way *way, struct mu_remote_done *done, struct mu_err *err)
{
    struct pull p = {.r = r, .g = g, .dir = dir, .meter.way = way};
    uint64_t before = mu_s3_retries(r->s);
    int rc = usable(g, err);

    if (rc)
        return rc;
    p.final = mu_ckpt_path("%s/g%08" PRIu64, dir, g->generation);
    p.tmp = mu_ckpt_path("%s.a%" PRIu64 ".%016" PRIx64 ".pull", p.final.s, g->epoch, g->nonce);
    if ((rc = there_already(&p, err)) == 1) {
        atomic_fetch_add(&p.meter.there, g->bytes);
        rc = 0;
    } else if (!rc &&
               !(rc = mu_lanes_open(&r->conf, way->lanes, MU_REMOTE_CHUNK, mu_remote_tick, &p.meter, &p.lanes, err))) {
        rc = pull_all(&p, err);
        done->retries += mu_lanes_retries(p.lanes) + mu_s3_retries(r->s) - before;
        mu_lanes_close(p.lanes);
    }
    done->moved += atomic_load(&p.meter.moved);
    done->there += atomic_load(&p.meter.there);
    return rc;
}

static bool is_left(const char *name)
{
    uint64_t g, a, x;
    char back[120];

    if (sscanf(name, "g%" SCNu64 ".a%" SCNu64 ".%" SCNx64 ".pull", &g, &a, &x) != 3)
        return false;
    snprintf(back, sizeof back, "g%08" PRIu64 ".a%" PRIu64 ".%016" PRIx64 ".pull", g, a, x);
    return !strcmp(back, name);
}

static int own(const char *dir, struct mu_ckpt_owner **owner, struct mu_err *err)
{
    struct mu_ckpt_place place = {.timeout = 60 * MU_SEC, .job = "muster ckpt pull", .io = &mu_ckpt_io_posix};

    snprintf(place.dir, sizeof place.dir, "%s", dir);
    gethostname(place.host, sizeof place.host - 1);
    return mu_ckpt_owner_take(&place, &mu_ckpt_patience, owner, err);
}

void mu_remote_pull_tidy(const char *dir)
{
    struct mu_ckpt_owner *owner = NULL;
    mu_auto_dir DIR *d = own(dir, &owner, NULL) ? NULL : opendir(dir);

    for (struct dirent *e; d && (e = readdir(d));)
        if (is_left(e->d_name)) {
            struct mu_ckpt_path left = mu_ckpt_path("%s/%s", dir, e->d_name);

            mu_ckpt_remove_dir(&mu_ckpt_io_posix, left.s, NULL, NULL);
        }
    mu_ckpt_owner_release(owner);
}

int mu_remote_pull(struct mu_remote *r, const struct mu_remote_generation *g, const char *dir,
                   const struct mu_remote_way *way, struct mu_remote_done *done, struct mu_err *err)
{
    struct mu_ckpt_owner *owner = NULL;
    int rc = usable(g, err);

    if (rc || (rc = own(dir, &owner, err)))
        return rc;
    rc = mu_remote_fetch(r, g, dir, way, done, err);
    mu_ckpt_owner_release(owner);
    return rc;
}
