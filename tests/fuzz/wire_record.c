/* Records between drains: what is sealed opens the same, what somebody has changed on its way never does, and whatever
 * comes is stayed within.
 * sources: runtime/wire/record.c runtime/wire/key.c runtime/base/str.c runtime/base/buf.c runtime/base/path.c
 * sources: runtime/base/err.c -levent_core -lcrypto -pthread */
#include <stdlib.h>
#include <string.h>

#include "runtime/wire/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mu_key secret = {{1, 2, 3}};

/* A block of just its size, so that a byte too far is seen. */
static unsigned char *block(const void *from, size_t n)
{
    unsigned char *p = malloc(n ? n : 1);

    if (!p)
        exit(0);
    if (n)
        memcpy(p, from, n);
    return p;
}

/* The stream of a stranger. Without the key nothing of it opens. */
static void stranger(const uint8_t *data, size_t size)
{
    struct mu_record_key *key = mu_record_key_new(&secret, false, UINT64_MAX);
    uint32_t sealed, open;

    while (key && size >= MU_RECORD_HEAD) {
        mu_record_lengths(data, &sealed, &open);
        uint64_t all = (uint64_t)sealed + open + MU_RECORD_TAG;
        if (all > size - MU_RECORD_HEAD)
            break;
        unsigned char *body = block(data + MU_RECORD_HEAD, all);
        if (!mu_record_open(key, data, body))
            abort();
        free(body);
        data += MU_RECORD_HEAD + all;
        size -= MU_RECORD_HEAD + all;
    }
    mu_record_key_free(key);
}

/* Records of the input's bytes, cut where it says; the last one is changed where it says. */
static void ours(const uint8_t *data, size_t size)
{
    uint64_t rekey = 1 + size % 200;
    struct mu_record_key *to = mu_record_key_new(&secret, true, rekey),
                         *from = mu_record_key_new(&secret, false, rekey);
    bool changed = false;

    while (to && from && size > 4 && !changed) {
        size_t n = data[0] % (size - 3), m = data[1] % (size - 3 - n), open = data[2] % (size - 3 - n - m),
               at = data[3];
        size_t all = n + m + open;
        unsigned char *out = malloc(MU_RECORD_HEAD + n + m), tag[MU_RECORD_TAG];
        if (!out || mu_record_seal(to, data + 3, n, data + 3 + n, m, data + 3 + n + m, open, out, tag))
            exit(0);
        unsigned char *body = malloc(all + MU_RECORD_TAG), head[MU_RECORD_HEAD];
        if (!body)
            exit(0);
        memcpy(head, out, sizeof head);
        memcpy(body, out + MU_RECORD_HEAD, n + m);
        memcpy(body + n + m, data + 3 + n + m, open);
        memcpy(body + all, tag, sizeof tag);
        changed = at & 1;
        if (changed)
            body[(at >> 1) % (all + MU_RECORD_TAG)] ^= 1u << (at & 7);
        int rc = mu_record_open(from, head, body);
        if (changed ? rc != MUSTER_ECORRUPT : rc || memcmp(body, data + 3, all) != 0)
            abort();
        free(out);
        free(body);
        size_t used = all + 4 < size ? all + 4 : size;
        data += used;
        size -= used;
    }
    mu_record_key_free(to);
    mu_record_key_free(from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stranger(data, size);
    ours(data, size);
    return 0;
}
