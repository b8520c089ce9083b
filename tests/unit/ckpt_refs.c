/* References of incremental generations: to bytes and back, damage of every kind, looking up by content. */
#include "runtime/ckpt/daemon/refs.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/crc32c.h"
#include "tests/unit/tap.h"

int main(void)
{
    struct mu_refs_holder holders[2] = {{.generation = 7, .epoch = 2, .nonce = 0xabc}, {.generation = 5}};
    struct mu_refs_extent v[3] = {
        {.bytes = 100, .at = 20}, {.bytes = 4096, .at = 1ull << 33, .holder = 2}, {.bytes = 20, .at = 0}};
    struct mu_refs r = {.self = {.generation = 9, .epoch = 3, .nonce = 1},
                        .rank = 4,
                        .manifest = 0x1234,
                        .holders = holders,
                        .nholders = 2,
                        .v = v,
                        .n = 3,
                        .own = 120},
                   back = {0};
    unsigned char *buf, sha[MU_REFS_SHA];
    struct mu_err err = {0};
    unsigned bad = 0;
    size_t n;

    for (size_t i = 0; i < 3; i++)
        mu_refs_sum(&v[i].bytes, 4, v[i].sha);
    TAP_OK(!mu_refs_encode(&r, &buf, &n, &err) && !mu_refs_decode(buf, n, &back, &err), "there and back %s", err.text);
    TAP_OK(back.rank == 4 && back.self.generation == 9 && back.self.nonce == 1 && back.manifest == 0x1234 &&
               back.nholders == 2 && !memcmp(back.holders, holders, sizeof holders) && back.n == 3 && back.own == 120 &&
               back.v[1].at == 1ull << 33 && back.v[1].holder == 2 && !memcmp(back.v[2].sha, v[2].sha, MU_REFS_SHA),
           "all of it");
    mu_refs_sort(&back);
    mu_refs_sum(&v[1].bytes, 4, sha);
    const struct mu_refs_extent *e = mu_refs_find(&back, sha, 4096);
    TAP_OK(e && e->holder == 2 && !mu_refs_find(&back, sha, 100), "found by content and length");
    mu_refs_free(&back);
    for (size_t i = 0; i < n; i++) {
        bad += !mu_refs_decode(buf, i, &back, NULL); /* cut off */
        buf[i] ^= 0x10;
        bad += !mu_refs_decode(buf, n, &back, NULL);
        buf[i] ^= 0x10;
    }
    TAP_OK(!bad, "no damage is taken (%u)", bad);
    /* sound by its sum, and nonsense */
    buf[8] = 2;
    uint32_t crc = mu_crc32c(0, buf, n - 4);
    memcpy(buf + n - 4, &crc, 4);
    TAP_OK(mu_refs_decode(buf, n, &back, &err) == MUSTER_EVERSION, "a newer version: %s", err.text);
    buf[8] = 0;
    crc = mu_crc32c(0, buf, n - 4);
    memcpy(buf + n - 4, &crc, 4);
    TAP_OK(mu_refs_decode(buf, n, &back, &err) == MUSTER_ECORRUPT && strstr(err.text, "format version 0"),
           "version 0: %s", err.text);
    free(buf);
    v[1].holder = 3;
    TAP_OK(!mu_refs_encode(&r, &buf, &n, &err) && mu_refs_decode(buf, n, &back, &err) == MUSTER_ECORRUPT,
           "a holder that is not listed");
    free(buf);
    v[1].holder = 1;
    r.own = 119;
    TAP_OK(!mu_refs_encode(&r, &buf, &n, &err) && mu_refs_decode(buf, n, &back, &err) == MUSTER_ECORRUPT,
           "an extent behind the end of what it has");
    free(buf);
    return tap_done();
}
