#include "runtime/wire/record.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

#define THIS "muster bulk key 1"
#define NEXT "muster bulk next 1"
#define KEY 16u
#define NONCE 12u

struct mu_record_key {
    EVP_CIPHER_CTX *cipher;
    struct mu_key secret;
    uint8_t base[NONCE];
    uint64_t number, bytes, rekey;
    bool seals, broken;
};

/* The key of the secret, and the secret of the key behind it: who gets hold of one cannot go back. */
static int turn(struct mu_record_key *k)
{
    mu_auto_key struct mu_key key = {0}, next = {0};
    int rc = mu_key_derive(&k->secret, THIS, key.bytes, NULL);

    if (rc || (rc = mu_key_derive(&k->secret, NEXT, next.bytes, NULL)))
        return rc;
    memcpy(k->base, key.bytes + KEY, NONCE);
    k->secret = next;
    k->number = k->bytes = 0;
    return EVP_CipherInit_ex(k->cipher, EVP_aes_128_gcm(), NULL, key.bytes, NULL, k->seals) == 1 ? 0 : MUSTER_ENOSYS;
}

struct mu_record_key *mu_record_key_new(const struct mu_key *secret, bool seals, uint64_t rekey)
{
    struct mu_record_key *k = calloc(1, sizeof *k);

    if (!k)
        return NULL;
    *k = (struct mu_record_key){.cipher = EVP_CIPHER_CTX_new(), .secret = *secret, .rekey = rekey, .seals = seals};
    if (k->cipher && !turn(k))
        return k;
    mu_record_key_free(k);
    return NULL;
}

void mu_record_key_free(struct mu_record_key *k)
{
    if (!k)
        return;
    EVP_CIPHER_CTX_free(k->cipher);
    OPENSSL_cleanse(k, sizeof *k);
    free(k);
}

void mu_record_lengths(const unsigned char head[MU_RECORD_HEAD], uint32_t *sealed, uint32_t *open)
{
    uint32_t n[2] = {0};

    for (unsigned i = 0; i < MU_RECORD_HEAD; i++)
        n[i / 4] |= (uint32_t)head[i] << 8 * (i % 4);
    *sealed = n[0];
    *open = n[1];
}

/* The head, and what is open, are authenticated before the rest comes. */
static bool begin(struct mu_record_key *k, const unsigned char *head, const void *open, size_t n)
{
    uint8_t nonce[NONCE];
    int len;

    memcpy(nonce, k->base, sizeof nonce);
    for (unsigned i = 0; i < 8; i++)
        nonce[NONCE - 1 - i] ^= (uint8_t)(k->number >> 8 * i);
    return EVP_CipherInit_ex(k->cipher, NULL, NULL, NULL, nonce, k->seals) == 1 &&
           EVP_CipherUpdate(k->cipher, NULL, &len, head, MU_RECORD_HEAD) == 1 &&
           (!n || EVP_CipherUpdate(k->cipher, NULL, &len, open, (int)n) == 1);
}

static int end(struct mu_record_key *k, bool fine, size_t bytes, int otherwise)
{
    k->number++;
    k->bytes += bytes;
    if (fine && k->bytes >= k->rekey)
        fine = turn(k) == 0;
    k->broken = !fine;
    return fine ? 0 : otherwise;
}

int mu_record_seal(struct mu_record_key *k, const void *a, size_t n, const void *b, size_t m, const void *open,
                   size_t nopen, unsigned char *out, unsigned char tag[MU_RECORD_TAG])
{
    unsigned char *at = out + MU_RECORD_HEAD;
    bool fine;
    int len;

    if (k->broken || n + m > INT32_MAX || nopen > INT32_MAX)
        return MUSTER_ENOMEM;
    for (unsigned i = 0; i < 4; i++) {
        out[i] = (unsigned char)((n + m) >> 8 * i);
        out[4 + i] = (unsigned char)(nopen >> 8 * i);
    }
    fine = begin(k, out, open, nopen) && (!n || EVP_CipherUpdate(k->cipher, at, &len, a, (int)n) == 1) &&
           (!m || EVP_CipherUpdate(k->cipher, at + n, &len, b, (int)m) == 1) &&
           EVP_CipherFinal_ex(k->cipher, at + n + m, &len) == 1 &&
           EVP_CIPHER_CTX_ctrl(k->cipher, EVP_CTRL_AEAD_GET_TAG, MU_RECORD_TAG, tag) == 1;
    return end(k, fine, n + m + nopen, MUSTER_ENOMEM);
}

int mu_record_open(struct mu_record_key *k, const unsigned char head[MU_RECORD_HEAD], unsigned char *body)
{
    uint32_t sealed, open;
    bool fine;
    int len;

    mu_record_lengths(head, &sealed, &open);
    if (k->broken || sealed > INT32_MAX || open > INT32_MAX)
        return MUSTER_ECORRUPT;
    fine = begin(k, head, body + sealed, open) &&
           (!sealed || EVP_CipherUpdate(k->cipher, body, &len, body, (int)sealed) == 1) &&
           EVP_CIPHER_CTX_ctrl(k->cipher, EVP_CTRL_AEAD_SET_TAG, MU_RECORD_TAG, body + sealed + open) == 1 &&
           EVP_CipherFinal_ex(k->cipher, body + sealed, &len) == 1;
    return end(k, fine, (size_t)sealed + open, MUSTER_ECORRUPT);
}
