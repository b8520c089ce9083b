/* Manifests and records from any bytes. The checksums are made right first: behind them is what is put to the test.
 * sources: runtime/ckpt/format.c runtime/ckpt/tensor.c runtime/ckpt/names.c
 * sources: runtime/base/dtype.c runtime/base/crc32c.c runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include "runtime/base/crc32c.h"
#include "runtime/ckpt/format.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void seal(unsigned char *p, size_t n, const char *magic)
{
    if (n < 36)
        return;
    memcpy(p, magic, 8);
    for (int i = 0; i < 8; i++) {
        p[8 + i] = (unsigned char)(i == 0 ? 1 : i == 4 ? 32 : 0);
        p[16 + i] = (unsigned char)((uint64_t)n >> 8 * i);
    }
    for (int i = 0; i < 4; i++)
        p[28 + i] = (unsigned char)(mu_crc32c(0, p, 28) >> 8 * i);
    uint32_t tail = mu_crc32c(0, p, n - 4);
    for (int i = 0; i < 4; i++)
        p[n - 4 + (size_t)i] = (unsigned char)(tail >> 8 * i);
}

static void manifest(const unsigned char *p, size_t n)
{
    struct mu_ckpt_manifest m, again;
    unsigned char *back;

    if (mu_ckpt_manifest_decode(p, n, &m, NULL))
        return;
    for (size_t i = 0; i < m.nblocks; i++)
        for (size_t k = 0; k < m.blocks[i].n; k++) {
            const struct mu_ckpt_extent *e = &m.extents[m.blocks[i].first + k];

            if (e->at + e->bytes > m.blocks[i].shape.bytes || e->file + e->bytes > m.segment)
                abort();
        }
    /* what was accepted can be written and is accepted again */
    if (mu_ckpt_manifest_encode(&m, &back, NULL) == 0) {
        if (m.bytes != n || mu_ckpt_manifest_decode(back, m.bytes, &again, NULL))
            abort();
        mu_ckpt_manifest_free(&again);
        free(back);
    }
    mu_ckpt_manifest_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    unsigned char *p = malloc(n + 1);
    struct mu_ckpt_commit k;
    struct mu_ckpt_owner_record o;
    struct mu_ckpt_epoch e;

    if (!p)
        return 0;
    memcpy(p, data, n);
    manifest(p, n);
    seal(p, n, "MUSTERMN");
    manifest(p, n);
    seal(p, n, "MUSTERCM");
    if (mu_ckpt_commit_decode(p, n, &k, NULL) == 0)
        free(k.votes);
    seal(p, n, "MUSTEREP");
    mu_ckpt_epoch_decode(p, n, &e, NULL);
    seal(p, n, "MUSTEROW");
    mu_ckpt_owner_decode(p, n, &o, NULL);
    free(p);
    return 0;
}
