#include "runtime/ckpt/daemon/seal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"

#define FILE_MAX 8192
#define NONCE 12
#define TAG 16
#define FRONT (MU_SEAL_MORE - TAG)

static const unsigned char magic[4] = {'M', 'U', 'S', '1'};

/* --- keys --------------------------------------------------------------------------------------------------------- */

static int hex(const char *s, unsigned char key[32])
{
    for (int i = 0; i < 64; i++) {
        int c = tolower((unsigned char)s[i]), v = isdigit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (v < 0)
            return -1;
        key[i / 2] = (unsigned char)(key[i / 2] << 4 | v);
    }
    return 0;
}

static void name_key(const unsigned char key[32], unsigned char id[8])
{
    unsigned char text[7 + 32] = "muster ", md[EVP_MAX_MD_SIZE] = {0};

    memcpy(text + 7, key, 32);
    EVP_Digest(text, sizeof text, md, NULL, EVP_sha256(), NULL);
    memcpy(id, md, 8);
    OPENSSL_cleanse(text, sizeof text);
}

static int parse(char *text, const char *path, struct mu_seal_keys *keys, struct mu_err *err)
{
    char *save = NULL;
    int line = 0;

    keys->n = 0;
    for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
        size_t len = strcspn(s, " \t\r");

        line++;
        if (!len || *s == '#')
            continue;
        if (keys->n == MU_SEAL_KEYS)
            return mu_err_set(err, MUSTER_EARG, "%.200s has more than %u keys", path, MU_SEAL_KEYS);
        if (len != 64 || s[len + strspn(s + len, " \t\r")] || hex(s, keys->v[keys->n].key))
            return mu_err_set(err, MUSTER_EARG,
                              "%.200s: key %u is not 64 hexadecimal digits (openssl rand -hex 32 >>FILE makes one)",
                              path, keys->n + 1);
        name_key(keys->v[keys->n].key, keys->v[keys->n].id);
        keys->n++;
    }
    return keys->n ? 0 : mu_err_set(err, MUSTER_EARG, "%.200s has no key", path);
}

int mu_seal_load(const char *path, struct mu_seal_keys *keys, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char text[FILE_MAX + 1];
    struct stat st;
    ssize_t n;
    int rc;

    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EARG, "key file %.200s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        return mu_err_set(err, MUSTER_EARG, "%.200s is no file of keys", path);
    if (st.st_mode & 077 || (st.st_uid != geteuid() && st.st_uid != 0))
        return mu_err_set(err, MUSTER_EARG, "%.200s may be read by others: chmod 600 it", path);
    if ((n = read(fd, text, FILE_MAX)) < 0)
        return mu_err_errno(err, MUSTER_EARG, "read %.200s", path);
    text[n] = 0;
    if ((rc = parse(text, path, keys, err)))
        OPENSSL_cleanse(keys, sizeof *keys);
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

/* Of the object: what is behind the last but one '/'. */
static void derive(const unsigned char key[32], const char *object, unsigned char out[32])
{
    const char *name = object;
    unsigned char md[EVP_MAX_MD_SIZE] = {0};
    unsigned slashes = 0, len = 0;
    char text[1100];

    for (const char *p = object + strlen(object); p > object && slashes < 2; p--) {
        slashes += p[-1] == '/';
        name = slashes < 2 ? p - 1 : p;
    }
    int n = snprintf(text, sizeof text, "muster/1 %.1000s", name);
    HMAC(EVP_sha256(), key, 32, (const unsigned char *)text, (size_t)n, md, &len);
    memcpy(out, md, 32);
    OPENSSL_cleanse(md, sizeof md);
}

/* --- sizes -------------------------------------------------------------------------------------------------------- */

uint64_t mu_seal_size(uint64_t plain)
{
    return plain + (plain + MU_SEAL_PIECE - 1) / MU_SEAL_PIECE * MU_SEAL_MORE;
}

uint64_t mu_seal_plain(uint64_t sealed)
{
    uint64_t whole = sealed / (MU_SEAL_PIECE + MU_SEAL_MORE), rest = sealed % (MU_SEAL_PIECE + MU_SEAL_MORE);

    return rest && rest <= MU_SEAL_MORE ? UINT64_MAX : whole * MU_SEAL_PIECE + (rest ? rest - MU_SEAL_MORE : 0);
}

bool mu_seal_is(const void *data, size_t n)
{
    return n >= sizeof magic && !memcmp(data, magic, sizeof magic);
}

/* --- pieces ------------------------------------------------------------------------------------------------------- */

static void number(uint64_t v, unsigned char out[8])
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(v >> (8 * i));
}

static int seal_piece(EVP_CIPHER_CTX *c, const unsigned char key[32], const unsigned char id[8], uint64_t piece,
                      const unsigned char *data, size_t n, unsigned char *out)
{
    unsigned char aad[8], *nonce = out + sizeof magic + 8;
    int len;

    memcpy(out, magic, sizeof magic);
    memcpy(out + sizeof magic, id, 8);
    number(piece, aad);
    return RAND_bytes(nonce, NONCE) == 1 && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
           EVP_EncryptUpdate(c, NULL, &len, aad, sizeof aad) == 1 &&
           EVP_EncryptUpdate(c, out + FRONT, &len, data, (int)n) == 1 &&
           EVP_EncryptFinal_ex(c, out + FRONT + len, &len) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, out + FRONT + n) == 1;
}

static int open_piece(EVP_CIPHER_CTX *c, const unsigned char key[32], uint64_t piece, const unsigned char *data,
                      size_t n, unsigned char *out)
{
    unsigned char aad[8], tag[TAG];
    const unsigned char *nonce = data + sizeof magic + 8;
    int len;

    number(piece, aad);
    memcpy(tag, data + n - TAG, TAG);
    return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
           EVP_DecryptUpdate(c, NULL, &len, aad, sizeof aad) == 1 &&
           EVP_DecryptUpdate(c, out, &len, data + FRONT, (int)(n - MU_SEAL_MORE)) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 && EVP_DecryptFinal_ex(c, out + len, &len) == 1;
}

int mu_seal(const struct mu_seal_keys *keys, const char *object, uint64_t first, const unsigned char *data, size_t n,
            unsigned char *out, struct mu_err *err)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    unsigned char key[32];
    int good = c != NULL;

    derive(keys->v[0].key, object, key);
    for (size_t take; good && n; n -= take) {
        take = n < MU_SEAL_PIECE ? n : MU_SEAL_PIECE;
        good = seal_piece(c, key, keys->v[0].id, first++, data, take, out);
        data += take;
        out += take + MU_SEAL_MORE;
    }
    OPENSSL_cleanse(key, sizeof key);
    EVP_CIPHER_CTX_free(c);
    return good ? 0 : mu_err_set(err, MUSTER_EIO, "OpenSSL cannot encrypt %.200s", object);
}

/* -1: there is none. */
static int key_of(const struct mu_seal_keys *keys, const unsigned char id[8])
{
    for (uint32_t i = 0; i < keys->n; i++)
        if (!memcmp(keys->v[i].id, id, 8))
            return (int)i;
    return -1;
}

bool mu_seal_fits(const struct mu_seal_keys *keys, const void *data, char key[20])
{
    const unsigned char *id = (const unsigned char *)data + sizeof magic;

    snprintf(key, 20, "%02x%02x%02x%02x...", id[0], id[1], id[2], id[3]);
    return key_of(keys, id) >= 0;
}

bool mu_seal_current(const struct mu_seal_keys *keys, const void *data)
{
    return !key_of(keys, (const unsigned char *)data + sizeof magic);
}

int mu_unseal(const struct mu_seal_keys *keys, const char *object, uint64_t first, const unsigned char *data, size_t n,
              unsigned char *out, size_t *got, struct mu_err *err)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    size_t done = 0;
    int rc = c ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    for (size_t take; !rc && n; n -= take) {
        unsigned char key[32];
        char named[20];

        take = n < MU_SEAL_PIECE + MU_SEAL_MORE ? n : MU_SEAL_PIECE + MU_SEAL_MORE;
        if (!mu_seal_is(data, take)) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%.200s is not encrypted, or damaged", object);
        } else if (take <= MU_SEAL_MORE) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%.200s is cut off", object);
        } else if (!mu_seal_fits(keys, data, named)) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%.200s is encrypted with key %s, which is not in the key file",
                            object, named);
        } else {
            derive(keys->v[key_of(keys, data + sizeof magic)].key, object, key);
            if (!open_piece(c, key, first++, data, take, out + done))
                rc = mu_err_set(err, MUSTER_ECORRUPT, "%.200s is damaged: piece %" PRIu64 " is not what was encrypted",
                                object, first - 1);
            OPENSSL_cleanse(key, sizeof key);
            done += take - MU_SEAL_MORE;
            data += take;
        }
    }
    EVP_CIPHER_CTX_free(c);
    if (!rc)
        *got = done;
    return rc;
}
