#include "runtime/ckpt/verify.h"

#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/ckpt/agree.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

static int verify_segment(const char *gendir, const struct mu_ckpt_manifest *m, const struct mu_ckpt_id *id,
                          unsigned char *buf, int (*bytes)(void *arg, uint64_t n), void *arg, struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("%s/seg.%u", gendir, m->rank);
    mu_auto_fd int fd = mu_ckpt_open_file(path.s, err);
    struct mu_ckpt_super s;
    struct stat st;
    int rc;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EIO, "open %s", path.s);
    if ((uint64_t)st.st_size != m->segment)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s has %lld bytes instead of %" PRIu64, path.s, (long long)st.st_size,
                          m->segment);
    if ((rc = mu_ckpt_read_all(fd, buf, MU_CKPT_PAGE, 0, path.s, err)))
        return rc;
    if ((rc = mu_ckpt_super_decode(buf, &s, err))) {
        mu_err_prefix(err, "%s", path.s);
        return rc;
    }
    if (s.rank != m->rank || s.segment != m->segment || !mu_ckpt_same_id(&s.id, id))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s belongs to another checkpoint", path.s);
    for (size_t i = 0; i < m->nextents; i++) {
        const struct mu_ckpt_extent *e = &m->extents[i];

        if ((rc = mu_ckpt_read_all(fd, buf, e->bytes, e->file, path.s, err)))
            return rc;
        if (mu_crc32c(0, buf, e->bytes) != e->crc)
            return mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged at byte %" PRIu64, path.s, e->file);
        if (bytes && bytes(arg, e->bytes))
            return mu_err_set(err, MUSTER_EABORTED, "given up");
    }
    return 0;
}

/* What ranks have stored in different ways nobody can restore, whole as the files may be. */
int mu_ckpt_verify_agrees(int rc, struct mu_err *err)
{
    if (rc != MUSTER_EMISMATCH)
        return rc;
    if (err)
        err->code = MUSTER_ECORRUPT;
    return MUSTER_ECORRUPT;
}

int mu_ckpt_verify_in(const char *gendir, uint64_t generation, int (*bytes)(void *arg, uint64_t n), void *arg,
                      struct mu_err *err)
{
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    mu_auto_free unsigned char *buf = malloc(MU_CKPT_EXTENT_MAX);
    struct mu_ckpt_commit k;
    int rc = buf ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory to read %s", gendir);

    if (rc || (rc = mu_ckpt_store_commit(gendir, generation, &k, err)))
        return rc;
    for (uint32_t r = 0; !rc && r < k.id.world; r++) {
        struct mu_ckpt_manifest m;

        if ((rc = mu_ckpt_store_manifest(gendir, &k.id, r, &k.votes[r], &m, err)))
            break;
        if (!(rc = mu_ckpt_agree_add(&agree, &m, err)))
            rc = verify_segment(gendir, &m, &k.id, buf, bytes, arg, err);
        mu_ckpt_manifest_free(&m);
    }
    free(k.votes);
    return mu_ckpt_verify_agrees(rc ? rc : mu_ckpt_agree_end(&agree, err), err);
}

int mu_ckpt_verify(const char *dir, uint64_t generation, int (*bytes)(void *arg, uint64_t n), void *arg,
                   struct mu_err *err)
{
    struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, generation);

    return mu_ckpt_verify_in(gendir.s, generation, bytes, arg, err);
}

int mu_ckpt_whole(const char *dir, uint64_t generation, struct mu_ckpt_commit *commit, struct mu_ckpt_tensors *out,
                  struct mu_err *err)
{
    struct mu_ckpt_path gendir = mu_ckpt_path("%s/g%08" PRIu64, dir, generation);
    __attribute__((cleanup(mu_ckpt_agree_free))) struct mu_ckpt_agree agree = {0};
    struct mu_ckpt_commit k;
    int rc = mu_ckpt_store_commit(gendir.s, generation, &k, err);

    if (rc)
        return rc;
    for (uint32_t r = 0; !rc && r < k.id.world; r++) {
        struct mu_ckpt_manifest m;

        if ((rc = mu_ckpt_store_manifest(gendir.s, &k.id, r, &k.votes[r], &m, err)))
            break;
        rc = mu_ckpt_agree_add(&agree, &m, err);
        mu_ckpt_manifest_free(&m);
    }
    if ((rc = mu_ckpt_verify_agrees(rc ? rc : mu_ckpt_agree_end(&agree, err), err))) {
        free(k.votes);
        return rc;
    }
    *commit = k;
    mu_ckpt_agree_take(&agree, out);
    return 0;
}
