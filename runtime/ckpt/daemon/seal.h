/* Encryption of what lies in an object store: AES-256-GCM (OpenSSL's) in pieces, so that any range can be read. Each
 * piece of MU_SEAL_PIECE bytes, the last one maybe shorter, becomes
 *   "MUS1" | key id (8) | nonce (12) | ciphertext | tag (16)
 * under a key of the object's own, HMAC-SHA256(key, "muster/1 " and the last two parts of the object's name), with the
 * number of the piece (8, little-endian) as additional data: pieces neither move within an object nor between objects.
 * Nonces are random. Under one object's key there are never so many that two of them could meet. */
#ifndef MU_CKPT_SEAL_H
#define MU_CKPT_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define MU_SEAL_PIECE (1u << 20)
#define MU_SEAL_MORE 40u /* bytes that a piece grows by */
#define MU_SEAL_KEYS 16u

struct mu_seal_keys {
    uint32_t n; /* 0: nothing is encrypted. The first one is used for writing, all for reading */
    struct {
        unsigned char id[8], key[32];
    } v[MU_SEAL_KEYS];
};

/* A file with a key of 64 hexadecimal digits a line; empty lines and those with # are skipped. EARG when others may
 * read it. */
int mu_seal_load(const char *path, struct mu_seal_keys *, struct mu_err *);

uint64_t mu_seal_size(uint64_t plain);
/* UINT64_MAX: nothing sealed is so long. */
uint64_t mu_seal_plain(uint64_t sealed);
/* Of something sealed, from its first MU_SEAL_ID_END bytes on: whether one of the keys opens it. key: as texts name it.
 */
#define MU_SEAL_ID_END 12u
bool mu_seal_fits(const struct mu_seal_keys *, const void *data, char key[20]);
bool mu_seal_is(const void *data, size_t n);
/* The same of the one that writes. */
bool mu_seal_current(const struct mu_seal_keys *, const void *data);

/* data are pieces from the first-th on; out has room for mu_seal_size(n). EIO: no random numbers. */
int mu_seal(const struct mu_seal_keys *, const char *object, uint64_t first, const unsigned char *data, size_t n,
            unsigned char *out, struct mu_err *);
/* The other way; out has room for n. *got: bytes. ECORRUPT: damaged, cut off within a piece, or of another key. */
int mu_unseal(const struct mu_seal_keys *, const char *object, uint64_t first, const unsigned char *data, size_t n,
              unsigned char *out, size_t *got, struct mu_err *);

#endif
