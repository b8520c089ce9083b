#include "runtime/ckpt/daemon/refs.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/crc32c.h"

#define VERSION 1u
#define HEAD 64u
#define HOLDER 24u
#define ENTRY 48u

static const unsigned char magic[8] = {'M', 'U', 'R', 'E', 'F', 'S', '1', 0};

static unsigned char *put(unsigned char *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *p++ = (unsigned char)(v >> (8 * i));
    return p;
}

static uint64_t get(const unsigned char **p, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t) * (*p)++ << (8 * i);
    return v;
}

int mu_refs_encode(const struct mu_refs *r, unsigned char **out, size_t *n, struct mu_err *err)
{
    size_t bytes = HEAD + (size_t)r->nholders * HOLDER + r->n * ENTRY + 4;
    unsigned char *buf = malloc(bytes), *p = buf;

    if (!buf)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu references", r->n);
    memcpy(p, magic, sizeof magic);
    p = put(p + sizeof magic, VERSION, 4);
    p = put(p, r->rank, 4);
    p = put(p, r->self.generation, 8);
    p = put(p, r->self.epoch, 8);
    p = put(p, r->self.nonce, 8);
    p = put(p, r->manifest, 4);
    p = put(p, r->nholders, 4);
    p = put(p, r->n, 8);
    p = put(p, r->own, 8);
    for (uint32_t i = 0; i < r->nholders; i++) {
        p = put(p, r->holders[i].generation, 8);
        p = put(p, r->holders[i].epoch, 8);
        p = put(p, r->holders[i].nonce, 8);
    }
    for (size_t i = 0; i < r->n; i++) {
        memcpy(p, r->v[i].sha, MU_REFS_SHA);
        p = put(p + MU_REFS_SHA, r->v[i].at, 8);
        p = put(p, r->v[i].bytes, 4);
        p = put(p, r->v[i].holder, 4);
    }
    put(p, mu_crc32c(0, buf, bytes - 4), 4);
    *out = buf;
    *n = bytes;
    return 0;
}

static int broken(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ECORRUPT, "not a list of references, or damaged");
}

int mu_refs_decode(const unsigned char *buf, size_t n, struct mu_refs *out, struct mu_err *err)
{
    const unsigned char *p = buf + sizeof magic, *end = buf + n - 4;
    struct mu_refs r = {0};
    uint32_t version;
    uint64_t count;

    if (n < HEAD + 4 || memcmp(buf, magic, sizeof magic) || get(&end, 4) != mu_crc32c(0, buf, n - 4))
        return broken(err);
    if ((version = (uint32_t)get(&p, 4)) > VERSION)
        return mu_err_set(err, MUSTER_EVERSION,
                          "references of format version %u; this muster reads up to %u: use a newer one", version,
                          VERSION);
    if (version < 1)
        return mu_err_set(err, MUSTER_ECORRUPT, "references of format version 0, which no muster has ever written");
    r.rank = (uint32_t)get(&p, 4);
    r.self.generation = get(&p, 8);
    r.self.epoch = get(&p, 8);
    r.self.nonce = get(&p, 8);
    r.manifest = (uint32_t)get(&p, 4);
    r.nholders = (uint32_t)get(&p, 4);
    count = get(&p, 8);
    r.own = get(&p, 8);
    if (r.nholders > MU_REFS_HOLDERS || count > n / ENTRY ||
        n != HEAD + (size_t)r.nholders * HOLDER + (size_t)count * ENTRY + 4)
        return broken(err);
    r.n = (size_t)count;
    r.holders = calloc(r.nholders + 1u, sizeof *r.holders);
    r.v = calloc(r.n + 1, sizeof *r.v);
    if (!r.holders || !r.v) {
        mu_refs_free(&r);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu references", r.n);
    }
    for (uint32_t i = 0; i < r.nholders; i++) {
        r.holders[i].generation = get(&p, 8);
        r.holders[i].epoch = get(&p, 8);
        r.holders[i].nonce = get(&p, 8);
    }
    for (size_t i = 0; i < r.n; i++) {
        struct mu_refs_extent *e = &r.v[i];

        memcpy(e->sha, p, MU_REFS_SHA);
        p += MU_REFS_SHA;
        e->at = get(&p, 8);
        e->bytes = (uint32_t)get(&p, 4);
        e->holder = (uint32_t)get(&p, 4);
        if (e->holder > r.nholders || e->bytes > MU_CKPT_EXTENT_MAX || e->at > UINT64_MAX / 2 ||
            (!e->holder && e->at + e->bytes > r.own)) {
            mu_refs_free(&r);
            return broken(err);
        }
    }
    *out = r;
    return 0;
}

void mu_refs_free(struct mu_refs *r)
{
    free(r->holders);
    free(r->v);
    *r = (struct mu_refs){0};
}

void mu_refs_sum(const void *data, size_t n, unsigned char sha[MU_REFS_SHA])
{
    EVP_Digest(data, n, sha, NULL, EVP_sha256(), NULL);
}

static int by_content(const void *a, const void *b)
{
    const struct mu_refs_extent *x = a, *y = b;
    int c = memcmp(x->sha, y->sha, MU_REFS_SHA);

    return c ? c : x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

void mu_refs_sort(struct mu_refs *r)
{
    if (r->n)
        qsort(r->v, r->n, sizeof *r->v, by_content);
}

const struct mu_refs_extent *mu_refs_find(const struct mu_refs *r, const unsigned char sha[MU_REFS_SHA], uint32_t bytes)
{
    struct mu_refs_extent key = {.bytes = bytes};

    memcpy(key.sha, sha, MU_REFS_SHA);
    return r->n ? bsearch(&key, r->v, r->n, sizeof *r->v, by_content) : NULL;
}
