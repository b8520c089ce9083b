/* The records of bulk connections (bulk.h), each a whole message, sealed by OpenSSL's AES-128-GCM:
 *     bytes that are encrypted (4, little-endian) | bytes that are open (4) | the former | the latter | tag (16)
 * What is open is authenticated like the rest, and can be read on the way. Keys come from a secret of the connection's,
 * one a direction; the nonce of a record is its number, so records can neither be left out nor come twice. */
#ifndef MU_WIRE_RECORD_H
#define MU_WIRE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/key.h"

#define MU_RECORD_HEAD 8u
#define MU_RECORD_TAG 16u

/* One direction. */
struct mu_record_key;
/* seals: our end of it is the one that sends. rekey: bytes after which both ends go on with the next key. NULL: out of
 * memory, or OpenSSL does not have the cipher. */
struct mu_record_key *mu_record_key_new(const struct mu_key *secret, bool seals, uint64_t rekey);
void mu_record_key_free(struct mu_record_key *); /* NULL is fine */

/* A record of what is encrypted, in two parts, and of what is not. out has room for MU_RECORD_HEAD + n + m: the record
 * up to `open`, which lies behind it on the way, before the tag. < 0: it is broken, and the connection with it. */
int mu_record_seal(struct mu_record_key *, const void *a, size_t n, const void *b, size_t m, const void *open,
                   size_t nopen, unsigned char *out, unsigned char tag[MU_RECORD_TAG]);
/* body: all behind the head, which is decrypted where it lies. ECORRUPT: it is not the record that was sent. */
int mu_record_open(struct mu_record_key *, const unsigned char head[MU_RECORD_HEAD], unsigned char *body);
/* Of a head. */
void mu_record_lengths(const unsigned char head[MU_RECORD_HEAD], uint32_t *sealed, uint32_t *open);

#endif
