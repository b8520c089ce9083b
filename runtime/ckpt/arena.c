#include "runtime/ckpt/arena.h"

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int mu_arena_open(const char *path, struct mu_arena_head **out, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
    struct mu_arena_head *h;
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EJOB, "%s=%s", MU_ARENA_ENV, path);
    if ((uint64_t)st.st_size != MU_ARENA_BYTES)
        return mu_err_set(err, MUSTER_EJOB, "%s=%s is not an arena of this release", MU_ARENA_ENV, path);
    h = mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED)
        return mu_err_errno(err, MUSTER_ENOMEM, "map %s", path);
    if (h->magic != MU_ARENA_MAGIC || h->version != MU_ARENA_VERSION || h->cell_bytes != sizeof h->cells[0]) {
        munmap(h, MU_ARENA_BYTES);
        return mu_err_set(err, MUSTER_EJOB, "%s=%s is not an arena of this release", MU_ARENA_ENV, path);
    }
    *out = h;
    return 0;
}

int mu_arena_open_fd(const struct mu_arena_head *h, int keepers, uint64_t bytes, bool write, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("/proc/%u/fd/%d", h->keeper, keepers);
    struct stat st;

    if (keepers < 0)
        return mu_err_set(err, MUSTER_ENOMEM, "the keeper has no memory for this rank");
    mu_auto_fd int fd = open(path.s, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EIO, "open %s", path.s);
    if (!bytes || bytes > INT64_MAX)
        return mu_err_set(err, MUSTER_ECORRUPT, "a copy in memory of %llu bytes", (unsigned long long)bytes);
    if ((uint64_t)st.st_size < bytes) {
        if (!write)
            return mu_err_set(err, MUSTER_ECORRUPT, "the copy in memory is cut short");
        if (ftruncate(fd, (off_t)bytes))
            return mu_err_errno(err, MUSTER_ENOMEM, "%llu bytes of memory", (unsigned long long)bytes);
    }
    return MU_STEAL(fd, -1);
}

int mu_arena_map_fd(const struct mu_arena_head *h, int keepers, uint64_t bytes, bool write, unsigned char **out,
                    struct mu_err *err)
{
    mu_auto_fd int fd = mu_arena_open_fd(h, keepers, bytes, write, err);
    void *map;

    if (fd < 0)
        return fd;
    map = mmap(NULL, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return mu_err_errno(err, MUSTER_ENOMEM, "map %llu bytes", (unsigned long long)bytes);
    madvise(map, bytes, MADV_DONTDUMP);
    madvise(map, bytes, MADV_DONTFORK);
    *out = map;
    return 0;
}

int mu_arena_map(const struct mu_arena_head *h, const struct mu_arena_cell *c, uint64_t bytes, bool write,
                 unsigned char **out, struct mu_err *err)
{
    return mu_arena_map_fd(h, c->fd, bytes, write, out, err);
}

int mu_arena_check_map(const struct mu_arena_cell *c, const unsigned char *map, struct mu_err *err)
{
    struct mu_ckpt_manifest m;
    bool summed;
    int rc = mu_arena_manifest(c, map, &m, &summed, err);

    if (rc)
        return rc;
    for (size_t i = 0; !rc && summed && i < m.nextents; i++)
        if (mu_crc32c(0, map + m.extents[i].file, m.extents[i].bytes) != m.extents[i].crc)
            rc = mu_err_set(err, MUSTER_ECORRUPT, "rank %u's copy in memory is damaged at byte %llu", c->rank,
                            (unsigned long long)m.extents[i].file);
    mu_ckpt_manifest_free(&m);
    return rc;
}

int mu_arena_check(const struct mu_arena_head *h, const struct mu_arena_cell *c, struct mu_err *err)
{
    uint64_t bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
    unsigned char *map;
    int rc = mu_arena_map(h, c, bytes, false, &map, err);

    if (rc)
        return rc;
    rc = mu_arena_check_map(c, map, err);
    munmap(map, bytes);
    return rc;
}

int mu_arena_manifest(const struct mu_arena_cell *c, const unsigned char *map, struct mu_ckpt_manifest *out,
                      bool *summed, struct mu_err *err)
{
    const unsigned char *sums = map + mu_arena_sums_at(c->segment, c->manifest);
    struct mu_ckpt_manifest m;
    int rc = mu_ckpt_manifest_decode(map + c->segment, c->manifest, &m, err);

    if (rc) {
        mu_err_prefix(err, "rank %u's copy in memory", c->rank);
        return rc;
    }
    if (m.segment != c->segment || m.nextents != c->extents || m.rank != c->rank || m.id.world != c->id.world) {
        mu_ckpt_manifest_free(&m);
        return mu_err_set(err, MUSTER_ECORRUPT, "rank %u's copy in memory does not fit its description", c->rank);
    }
    m.id = c->id;
    *summed = atomic_load_explicit(&c->summed, memory_order_acquire);
    for (size_t i = 0; *summed && i < m.nextents; i++)
        memcpy(&m.extents[i].crc, sums + 4 * i, 4);
    *out = m;
    return 0;
}

void mu_arena_order(struct mu_arena_head *h, struct mu_arena_cell *c)
{
    atomic_store(&c->drain, MU_DRAIN_WANTED);
    atomic_fetch_add(&h->bell, 1);
    mu_futex_wake(&h->bell);
}
