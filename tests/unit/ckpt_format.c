#include "runtime/base/crc32c.h"
#include "tests/unit/ckpt_help.h"

/* Makes both checksums right again, so that what follows them is put to the test. */
static void reseal(unsigned char *p, size_t n)
{
    uint32_t head = mu_crc32c(0, p, 28), tail;

    for (int i = 0; i < 4; i++)
        p[28 + i] = (unsigned char)(head >> (8 * i));
    tail = mu_crc32c(0, p, n - 4);
    for (int i = 0; i < 4; i++)
        p[n - 4 + (size_t)i] = (unsigned char)(tail >> (8 * i));
}

/* Any accepted manifest is consistent in itself. */
static int sane(const struct mu_ckpt_manifest *m)
{
    for (size_t i = 0; i < m->nblocks; i++) {
        const struct mu_ckpt_block *b = &m->blocks[i];
        struct mu_ckpt_shape s = b->shape;

        if (mu_ckpt_shape_check(&s, NULL) || s.bytes != b->shape.bytes || b->first + b->n > m->nextents)
            return 0;
        for (size_t k = b->first; k < b->first + b->n; k++)
            if (m->extents[k].at + m->extents[k].bytes > s.bytes ||
                m->extents[k].file + m->extents[k].bytes > m->segment || m->extents[k].bytes > MU_CKPT_EXTENT_MAX)
                return 0;
    }
    return 1;
}

int main(void)
{
    static unsigned char w[5 << 20], b[40000];
    const uint64_t shape[] = {5, 1 << 20}, bshape[] = {20000, 4}, boff[] = {100, 1}, blocal[] = {10000, 2}, one = 1;
    struct mu_ckpt_tensors t = {0};
    struct mu_ckpt_manifest m, back;
    unsigned char *buf, *copy;
    struct mu_err err;
    uint64_t seed = 1;
    int bad;

    add(&t, "weights", MUSTER_UINT8, 2, shape, NULL, NULL, w, MUSTER_REPLICATED, NULL);
    add(&t, "block", MUSTER_FLOAT16, 2, bshape, boff, blocal, b, 0, NULL);
    add(&t, "step", MUSTER_UINT8, 1, &one, NULL, NULL, w, MUSTER_REPLICATED, NULL);

    /* shares of replicated tensors: for any number of ranks each byte exactly once */
    bad = 0;
    for (uint32_t world = 1; world <= 40; world++) {
        uint64_t at[3] = {0}, most = 0, total = 0;

        for (uint32_t r = 0; r < world; r++) {
            uint64_t bytes = 0;

            if (mu_ckpt_manifest_plan(&t, r, world, &m, &err))
                abort();
            for (size_t i = 0; i < m.nblocks; i++)
                for (size_t k = m.blocks[i].first; k < m.blocks[i].first + m.blocks[i].n; k++) {
                    if (i == 1)
                        continue;
                    bad += m.extents[k].at != at[i] || m.extents[k].bytes > MU_CKPT_EXTENT;
                    at[i] += m.extents[k].bytes;
                    bytes += m.extents[k].bytes;
                }
            most = bytes > most ? bytes : most;
            total += bytes;
            mu_ckpt_manifest_free(&m);
        }
        bad += at[0] != 5 << 20 || at[2] != 1 || most > total / world + 2 * MU_CKPT_PAGE;
    }
    TAP_OK(bad == 0, "1 to 40 ranks share replicated tensors: every byte once, evenly");

    mu_ckpt_manifest_plan(&t, 1, 3, &m, &err);
    m.id = (struct mu_ckpt_id){.generation = 7, .epoch = 3, .nonce = 99, .step = 1000, .world = 3, .attempt = 2};
    for (size_t i = 0; i < m.nextents; i++)
        m.extents[i].crc = (uint32_t)rnd(&seed);
    TAP_OK(mu_ckpt_manifest_encode(&m, &buf, &err) == 0, "encode");
    TAP_OK(mu_ckpt_manifest_decode(buf, m.bytes, &back, &err) == 0 && back.nblocks == 3 &&
               back.nextents == m.nextents && back.id.generation == 7 && back.id.nonce == 99 && back.rank == 1 &&
               back.segment == m.segment && back.crc == m.crc && !strcmp(back.blocks[1].name, "block") &&
               back.blocks[1].shape.box.offset[0] == 100 &&
               !memcmp(back.extents, m.extents, m.nextents * sizeof *m.extents),
           "decode gives back what was encoded");
    mu_ckpt_manifest_free(&back);

    copy = malloc(m.bytes);
    bad = 0;
    for (size_t i = 0; i < m.bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, buf, m.bytes);
            copy[i] ^= (unsigned char)(1 << bit);
            bad += mu_ckpt_manifest_decode(copy, m.bytes, &back, &err) != MUSTER_ECORRUPT;
        }
    TAP_OK(bad == 0, "every single flipped bit is damage, the version's too");
    bad = 0;
    for (size_t n = 0; n < m.bytes; n++) {
        unsigned char *cut = malloc(n + 1); /* exact, so that a sanitizer sees a read past the end */

        memcpy(cut, buf, n);
        bad += mu_ckpt_manifest_decode(cut, n, &back, &err) != MUSTER_ECORRUPT;
        free(cut);
    }
    TAP_OK(bad == 0, "every shorter file is damage");
    memcpy(copy, buf, m.bytes);
    copy[8]++;
    reseal(copy, m.bytes);
    TAP_OK(mu_ckpt_manifest_decode(copy, m.bytes, &back, &err) == MUSTER_EVERSION && strstr(err.text, "version 2"),
           "a newer version: %s", err.text);
    copy[8] = 0;
    reseal(copy, m.bytes);
    TAP_OK(mu_ckpt_manifest_decode(copy, m.bytes, &back, &err) == MUSTER_ECORRUPT &&
               strstr(err.text, "format version 0"),
           "version 0: %s", err.text);

    /* right checksums around wrong contents */
    int accepted = 0, refused = 0;
    bad = 0;
    for (int k = 0; k < 20000; k++) {
        int edits = 1 + (int)(rnd(&seed) % 3), rc;

        memcpy(copy, buf, m.bytes);
        for (int e = 0; e < edits; e++) {
            size_t at = 32 + rnd(&seed) % (m.bytes - 36);
            static const unsigned char odd[] = {0, 1, 0x7f, 0x80, 0xff};

            copy[at] = rnd(&seed) % 2 ? odd[rnd(&seed) % sizeof odd] : (unsigned char)rnd(&seed);
        }
        reseal(copy, m.bytes);
        rc = mu_ckpt_manifest_decode(copy, m.bytes, &back, &err);
        if (!rc) {
            accepted++;
            bad += !sane(&back);
            mu_ckpt_manifest_free(&back);
        } else {
            refused++;
            bad += rc != MUSTER_ECORRUPT;
        }
    }
    TAP_OK(bad == 0 && refused > 1000, "forged manifests: %d refused, %d accepted and consistent", refused, accepted);
    free(buf);
    free(copy);
    mu_ckpt_manifest_free(&m);
    mu_ckpt_tensors_free(&t);

    struct mu_ckpt_vote votes[3] = {{100, 8192, 1}, {101, 4096, 2}, {102, 4096, 3}};
    struct mu_ckpt_commit k = {.id = {.generation = 9, .step = 4, .world = 3}, .wall = 5, .job = "j1", .votes = votes},
                          kb;
    size_t n;
    mu_ckpt_commit_encode(&k, &buf, &n, &err);
    TAP_OK(mu_ckpt_commit_decode(buf, n, &kb, &err) == 0 && kb.id.generation == 9 && kb.votes[2].manifest == 102 &&
               kb.votes[0].segment == 8192 && !strcmp(kb.job, "j1"),
           "commit record there and back");
    free(kb.votes);
    bad = 0;
    for (size_t i = 0; i < n * 8; i++) {
        buf[i / 8] ^= (unsigned char)(1 << i % 8);
        bad += mu_ckpt_commit_decode(buf, n, &kb, &err) != MUSTER_ECORRUPT;
        buf[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    for (size_t i = 0; i < n; i++)
        bad += mu_ckpt_commit_decode(buf, i, &kb, &err) != MUSTER_ECORRUPT;
    buf[32 + 32] = 0xff, buf[32 + 33] = 0xff, buf[32 + 34] = 0xff; /* 16,777,215 ranks in a small file */
    reseal(buf, n);
    bad += mu_ckpt_commit_decode(buf, n, &kb, &err) != MUSTER_ECORRUPT;
    TAP_OK(bad == 0, "a damaged commit record is damage");
    free(buf);

    unsigned char page[MU_CKPT_PAGE];
    struct mu_ckpt_super s = {.id = {.generation = 3, .world = 2}, .rank = 1, .segment = 12288}, sb;
    mu_ckpt_super_encode(&s, page);
    TAP_OK(mu_ckpt_super_decode(page, &sb, &err) == 0 && sb.rank == 1 && sb.segment == 12288,
           "superblock there and back");
    bad = 0;
    for (size_t i = 0; i < sizeof page; i++) {
        page[i] ^= 0x10;
        bad += mu_ckpt_super_decode(page, &sb, &err) != MUSTER_ECORRUPT;
        page[i] ^= 0x10;
    }
    TAP_OK(bad == 0, "a damaged superblock is damage");

    unsigned char eb[MU_CKPT_EPOCH_BYTES];
    struct mu_ckpt_epoch e = {.epoch = 5, .nonce = 6, .attempt = 7}, e2;
    memset(e.job, 'j', MU_CKPT_JOB_MAX);
    mu_ckpt_epoch_encode(&e, eb);
    TAP_OK(mu_ckpt_epoch_decode(eb, sizeof eb, &e2, &err) == 0 && e2.epoch == 5 && e2.nonce == 6 &&
               strlen(e2.job) == MU_CKPT_JOB_MAX,
           "epoch record there and back");

    unsigned char ob[MU_CKPT_OWNER_BYTES];
    struct mu_ckpt_owner_record
        o = {.job_mark = 1, .mark = 2, .beat = 3, .wall = 4, .device = 5, .pid = 6, .attempt = 7},
        o2;
    memset(o.job, 'j', MU_CKPT_JOB_MAX);
    memset(o.host, 'h', MU_CKPT_HOST_MAX);
    o.boot[15] = 8;
    o.locked = true;
    mu_ckpt_owner_encode(&o, ob);
    TAP_OK(mu_ckpt_owner_decode(ob, sizeof ob, &o2, &err) == 0 && o2.job_mark == 1 && o2.mark == 2 && o2.beat == 3 &&
               o2.wall == 4 && o2.device == 5 && o2.pid == 6 && o2.attempt == 7 && o2.boot[15] == 8 && !o2.open &&
               o2.locked && !strcmp(o2.job, o.job) && !strcmp(o2.host, o.host),
           "owner record there and back");
    bad = 0;
    for (size_t i = 0; i < sizeof ob; i++) {
        ob[i] ^= 0x10;
        bad += mu_ckpt_owner_decode(ob, sizeof ob, &o2, &err) != MUSTER_ECORRUPT;
        ob[i] ^= 0x10;
    }
    TAP_OK(bad == 0, "a damaged owner record is damage");
    return tap_done();
}
