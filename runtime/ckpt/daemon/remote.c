#include "runtime/ckpt/daemon/remote_priv.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

int mu_remote_open(const char *url, const struct mu_s3_given *given, struct mu_remote **out, struct mu_err *err)
{
    struct mu_remote *r = calloc(1, sizeof *r);
    int rc = r ? mu_s3_conf_load(url, given, &r->conf, err) : mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    if (!rc && !(rc = mu_s3_open(&r->conf, &r->s, err)))
        *out = r;
    else
        mu_remote_close(r);
    return rc;
}

void mu_remote_close(struct mu_remote *r)
{
    if (!r)
        return;
    if (r->s)
        mu_s3_close(r->s);
    mu_s3_conf_wipe(&r->conf);
    free(r);
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

struct mu_remote_key mu_remote_key(const struct mu_remote *r, uint64_t generation, uint64_t epoch, uint64_t nonce,
                                   const char *name)
{
    struct mu_remote_key k;

    snprintf(k.s, sizeof k.s, "%s%sg%08" PRIu64 ".a%" PRIu64 ".%016" PRIx64 "/%.60s", r->conf.prefix,
             r->conf.prefix[0] ? "/" : "", generation, epoch, nonce, name);
    return k;
}

/* Names are taken exactly as they are written. */
bool mu_remote_key_parse(const struct mu_remote *r, const char *key, uint64_t *generation, uint64_t *epoch,
                         uint64_t *nonce, const char **name)
{
    size_t n = strlen(r->conf.prefix);
    uint64_t g, a, x;

    if (strncmp(key, r->conf.prefix, n) || (n && key[n] != '/'))
        return false;
    n += n != 0;
    const char *slash = strchr(key + n, '/');
    if (!slash || strchr(slash + 1, '/') || strlen(slash + 1) > 60 ||
        sscanf(key + n, "g%" SCNu64 ".a%" SCNu64 ".%" SCNx64, &g, &a, &x) != 3 ||
        strcmp(mu_remote_key(r, g, a, x, slash + 1).s, key))
        return false;
    *generation = g;
    *epoch = a;
    *nonce = x;
    *name = slash + 1;
    return true;
}

static int by_key(const void *key, const void *item)
{
    return strcmp(key, ((const struct mu_s3_item *)item)->key);
}

const struct mu_s3_item *mu_remote_find(const struct mu_s3_items *l, const char *key)
{
    return l->n ? bsearch(key, l->v, l->n, sizeof *l->v, by_key) : NULL;
}

static int check_one(const struct mu_remote *r, const struct mu_ckpt_id *id, const char *kind, uint32_t rank,
                     uint64_t bytes, const struct mu_s3_items *items, struct mu_err *err)
{
    struct mu_remote_key key;
    const struct mu_s3_item *item;
    char name[24];

    snprintf(name, sizeof name, "%s.%u", kind, rank);
    key = mu_remote_key(r, id->generation, id->epoch, id->nonce, name);
    if (!(item = mu_remote_find(items, key.s)))
        return mu_err_set(err, MUSTER_ECORRUPT, "s3://%s/%.300s is missing", r->conf.bucket, key.s);
    if (item->bytes != bytes)
        return mu_err_set(err, MUSTER_ECORRUPT, "s3://%s/%.300s has %" PRIu64 " bytes instead of %" PRIu64,
                          r->conf.bucket, key.s, item->bytes, bytes);
    return 0;
}

int mu_remote_check(const struct mu_remote *r, const struct mu_ckpt_commit *k, const struct mu_s3_items *items,
                    struct mu_err *err)
{
    int rc = 0;

    for (uint32_t i = 0; !rc && i < k->id.world; i++) {
        char ref[24];

        snprintf(ref, sizeof ref, "ref.%u", i);
        if (!(rc = check_one(r, &k->id, "man", i, k->votes[i].manifest, items, err)) &&
            !mu_remote_find(items, mu_remote_key(r, k->id.generation, k->id.epoch, k->id.nonce, ref).s))
            rc = check_one(r, &k->id, "seg", i, k->votes[i].segment, items, err);
    }
    return rc;
}

/* --- what is there ------------------------------------------------------------------------------------------------ */

static int list_all(struct mu_remote *r, struct mu_s3_items *items, struct mu_err *err)
{
    char prefix[sizeof r->conf.prefix + 4];

    snprintf(prefix, sizeof prefix, "%s%sg", r->conf.prefix, r->conf.prefix[0] ? "/" : "");
    return mu_s3_list(r->s, prefix, items, err);
}

static int read_commit(struct mu_remote *r, const char *key, struct mu_remote_generation *g, struct mu_err *err)
{
    mu_auto_free unsigned char *buf = NULL;
    struct mu_ckpt_commit k;
    size_t n;
    int rc = mu_s3_get_all(r->s, key, MU_CKPT_MANIFEST_MAX, &buf, &n, err);

    if (rc)
        return rc;
    if ((rc = mu_ckpt_commit_decode(buf, n, &k, err))) {
        mu_err_prefix(err, "s3://%s/%.300s", r->conf.bucket, key);
        return rc;
    }
    if (k.id.generation != g->generation || k.id.epoch != g->epoch || k.id.nonce != g->nonce) {
        free(k.votes);
        return mu_err_set(err, MUSTER_ECORRUPT, "s3://%s/%.300s belongs to generation %" PRIu64 ", epoch %" PRIu64,
                          r->conf.bucket, key, k.id.generation, k.id.epoch);
    }
    g->commit = k;
    for (uint32_t i = 0; i < k.id.world; i++)
        g->bytes += k.votes[i].manifest + k.votes[i].segment;
    return 0;
}

/* How an object begins: whether it is encrypted, and then with which key (mu_seal_fits). */
static int peek_seal(struct mu_remote *r, const char *key, unsigned char head[MU_SEAL_ID_END], bool *sealed,
                     struct mu_err *err)
{
    size_t got = 0;
    int rc = mu_s3_peek(r->s, key, head, MU_SEAL_ID_END, &got, err);

    *sealed = !rc && got == MU_SEAL_ID_END && mu_seal_is(head, got);
    return rc;
}

int mu_remote_keys_fit(struct mu_remote *r, struct mu_err *err)
{
    __attribute__((cleanup(mu_s3_items_free))) struct mu_s3_items items = {0};
    unsigned char head[MU_SEAL_ID_END];
    const char *newest = NULL, *name;
    uint64_t most = 0, g, a, x;
    char key[20];
    size_t got = 0;
    int rc = r->fits ? 0 : list_all(r, &items, err);

    if (rc || r->fits)
        return rc;
    for (size_t i = 0; i < items.n; i++)
        if (mu_remote_key_parse(r, items.v[i].key, &g, &a, &x, &name) && !strcmp(name, "COMMIT") && g >= most) {
            most = g;
            newest = items.v[i].key;
        }
    rc = newest ? mu_s3_peek(r->s, newest, head, sizeof head, &got, err) : 0;
    if (rc && rc != MUSTER_ENOCKPT) /* else removed since */
        return rc;
    if (!rc && got == sizeof head && !mu_seal_is(head, got) && r->conf.seal.n)
        return mu_err_set(
            err, MUSTER_EARG,
            "the checkpoints in s3://%s/%.200s are not encrypted, and there is a key: take another prefix, "
            "or leave the key out",
            r->conf.bucket, r->conf.prefix);
    if (!rc && got == sizeof head && mu_seal_is(head, got) && !mu_seal_fits(&r->conf.seal, head, key))
        return r->conf.seal.n ? mu_err_set(err, MUSTER_EARG,
                                           "the checkpoints in s3://%s/%.200s are encrypted with key %s, which is not "
                                           "in the key file: add it there, or take another prefix",
                                           r->conf.bucket, r->conf.prefix, key)
                              : mu_err_set(err, MUSTER_EARG,
                                           "the checkpoints in s3://%s/%.200s are encrypted, and there is no key: name "
                                           "the key file (--key FILE, or key=FILE of a job), or take another prefix",
                                           r->conf.bucket, r->conf.prefix);
    r->fits = true;
    return 0;
}

int mu_remote_sealed_alike(struct mu_remote *r, const char *key, bool *alike, struct mu_err *err)
{
    unsigned char head[MU_SEAL_ID_END];
    bool sealed = false;
    int rc = r->conf.seal.n ? peek_seal(r, key, head, &sealed, err) : 0;

    *alike = !r->conf.seal.n || (sealed && mu_seal_current(&r->conf.seal, head));
    return rc == MUSTER_ENOCKPT ? 0 : rc;
}

static bool is_locked(struct mu_remote *r, const char *key)
{
    unsigned char head[MU_SEAL_ID_END];
    bool sealed;
    char id[20];

    return !peek_seal(r, key, head, &sealed, NULL) && sealed && !mu_seal_fits(&r->conf.seal, head, id);
}

/* What it builds on, and that this is there. */
static int read_holders(struct mu_remote *r, const struct mu_s3_items *items, struct mu_remote_generation *g,
                        struct mu_err *err)
{
    struct mu_refs_holder self = {.generation = g->generation, .epoch = g->epoch, .nonce = g->nonce};
    struct mu_refs refs;
    int rc;

    if (!mu_remote_find(items, mu_remote_key(r, g->generation, g->epoch, g->nonce, "ref.0").s))
        return 0;
    if ((rc = mu_remote_refs(r, &self, 0, &refs, err)))
        return rc == MUSTER_ENOCKPT ? MUSTER_ECORRUPT : rc;
    g->incremental = true;
    g->holders = MU_STEAL(refs.holders, NULL);
    g->nholders = refs.nholders;
    mu_refs_free(&refs);
    for (uint32_t i = 0; i < g->nholders; i++) {
        const struct mu_refs_holder *h = &g->holders[i];

        if (!mu_remote_find(items, mu_remote_key(r, h->generation, h->epoch, h->nonce, "COMMIT").s))
            return mu_err_set(err, MUSTER_ECORRUPT, "generation %" PRIu64 ", on which it builds, is gone",
                              h->generation);
    }
    return 0;
}

static bool is_holder(const struct mu_remote_generation *g, const struct mu_refs_holder *h)
{
    return g->generation == h->generation && g->epoch == h->epoch && g->nonce == h->nonce;
}

const struct mu_remote_generation *mu_remote_base(const struct mu_remote_generation *v, size_t n, uint64_t generation,
                                                  uint32_t full)
{
    for (size_t i = 0; i < n; i++) /* others may be built on it: it stays as it is laid out */
        if (v[i].generation == generation && v[i].incremental) {
            if (!v[i].nholders)
                return NULL;
            for (size_t j = 0; j < n; j++)
                if (v[j].commit.votes && is_holder(&v[j], &v[i].holders[0]))
                    return &v[j];
        }
    for (size_t i = 0; i < n; i++)
        if (v[i].complete && v[i].generation < generation)
            return v[i].incremental && v[i].nholders + 1 < full ? &v[i] : NULL;
    return NULL;
}

void mu_remote_spare(const struct mu_remote_generation *v, size_t n, bool *gone)
{
    for (size_t i = 0; i < n; i++) /* holders of holders are in the list, too */
        for (uint32_t k = 0; !gone[i] && k < v[i].nholders; k++)
            for (size_t j = 0; j < n; j++)
                if (is_holder(&v[j], &v[i].holders[k]))
                    gone[j] = false;
}

/* Newest first; of two with one number the one of the newer epoch. */
static int newest_first(const void *a, const void *b)
{
    const struct mu_remote_generation *x = a, *y = b;

    if (x->generation != y->generation)
        return x->generation < y->generation ? 1 : -1;
    return x->epoch < y->epoch ? 1 : x->epoch > y->epoch ? -1 : 0;
}

int mu_remote_list(struct mu_remote *r, struct mu_remote_generation **out, size_t *n, struct mu_err *err)
{
    __attribute__((cleanup(mu_s3_items_free))) struct mu_s3_items items = {0};
    struct mu_remote_generation *v;
    int rc = list_all(r, &items, err);
    size_t found = 0;

    if (rc)
        return rc;
    if (!(v = calloc(items.n + 1, sizeof *v)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i < items.n; i++) {
        struct mu_remote_generation g = {0};
        struct mu_err why = {0};
        const char *name;

        if (!mu_remote_key_parse(r, items.v[i].key, &g.generation, &g.epoch, &g.nonce, &name) || strcmp(name, "COMMIT"))
            continue;
        rc = read_commit(r, items.v[i].key, &g, &why);
        if (rc == MUSTER_ENOCKPT) /* removed since */
            continue;
        if (rc && rc != MUSTER_ECORRUPT && rc != MUSTER_EVERSION) {
            mu_remote_generations_free(v, found);
            return mu_err_set(err, rc, "%s", why.text);
        }
        if (!rc)
            rc = mu_remote_check(r, &g.commit, &items, &why);
        if (!rc && (rc = read_holders(r, &items, &g, &why)) && rc != MUSTER_ECORRUPT && rc != MUSTER_EVERSION) {
            free(g.commit.votes);
            mu_remote_generations_free(v, found);
            return mu_err_set(err, rc, "%s", why.text);
        }
        g.pinned = mu_remote_find(&items, mu_remote_key(r, g.generation, g.epoch, g.nonce, "PIN").s) != NULL;
        g.complete = !rc;
        g.locked = rc == MUSTER_ECORRUPT && !g.commit.votes && is_locked(r, items.v[i].key);
        g.code = rc;
        if (rc)
            snprintf(g.why, sizeof g.why, "%.299s", why.text);
        v[found++] = g;
    }
    qsort(v, found, sizeof *v, newest_first);
    *out = v;
    *n = found;
    return 0;
}

void mu_remote_generations_free(struct mu_remote_generation *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++) {
        free(v[i].commit.votes);
        free(v[i].holders);
    }
    free(v);
}

/* --- tending it --------------------------------------------------------------------------------------------------- */

int mu_remote_pin(struct mu_remote *r, const struct mu_remote_generation *g, bool on, struct mu_err *err)
{
    struct mu_remote_key key = mu_remote_key(r, g->generation, g->epoch, g->nonce, "PIN");

    return on ? mu_s3_put(r->s, key.s, "", 0, NULL, err) : mu_s3_delete(r->s, key.s, err);
}

/* All objects of one writer's generation, and uploads that it has begun. */
static int remove_objects(struct mu_remote *r, uint64_t generation, uint64_t epoch, uint64_t nonce, struct mu_err *err)
{
    __attribute__((cleanup(mu_s3_items_free))) struct mu_s3_items items = {0}, uploads = {0};
    struct mu_remote_key prefix = mu_remote_key(r, generation, epoch, nonce, "");
    int rc = mu_s3_uploads(r->s, prefix.s, &uploads, err);

    for (size_t i = 0; !rc && i < uploads.n; i++)
        if (uploads.v[i].key && uploads.v[i].upload)
            rc = mu_s3_upload_abort(r->s, uploads.v[i].key, uploads.v[i].upload, err);
    if (!rc)
        rc = mu_s3_list(r->s, prefix.s, &items, err);
    for (size_t i = 0; !rc && i < items.n; i++)
        rc = mu_s3_delete(r->s, items.v[i].key, err);
    return rc;
}

int mu_remote_remove(struct mu_remote *r, const struct mu_remote_generation *g, struct mu_err *err)
{
    struct mu_remote_key key = mu_remote_key(r, g->generation, g->epoch, g->nonce, "COMMIT");
    int rc = mu_s3_delete(r->s, key.s, err);

    return rc ? rc : remove_objects(r, g->generation, g->epoch, g->nonce, err);
}

struct stem {
    uint64_t generation, epoch, nonce;
};

static int same_or_less(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct stem));
}

int mu_remote_sweep(struct mu_remote *r, uint64_t below, bool dry, size_t *n, struct mu_err *err)
{
    __attribute__((cleanup(mu_s3_items_free))) struct mu_s3_items items = {0}, uploads = {0};
    mu_auto_free struct stem *v = NULL;
    char prefix[sizeof r->conf.prefix + 4];
    size_t found = 0, count = 0;
    int rc = list_all(r, &items, err);

    snprintf(prefix, sizeof prefix, "%s%sg", r->conf.prefix, r->conf.prefix[0] ? "/" : "");
    if (rc || (rc = mu_s3_uploads(r->s, prefix, &uploads, err)))
        return rc;
    if (!(v = calloc(items.n + uploads.n + 1, sizeof *v)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i < items.n + uploads.n; i++) {
        const char *key = i < items.n ? items.v[i].key : uploads.v[i - items.n].key, *name;
        struct stem s;

        if (key && mu_remote_key_parse(r, key, &s.generation, &s.epoch, &s.nonce, &name) && s.generation < below &&
            !mu_remote_find(&items, mu_remote_key(r, s.generation, s.epoch, s.nonce, "COMMIT").s))
            v[found++] = s;
    }
    qsort(v, found, sizeof *v, same_or_less);
    for (size_t i = 0; !rc && i < found; i++) {
        if (i && !same_or_less(&v[i - 1], &v[i]))
            continue;
        count++;
        if (!dry)
            rc = remove_objects(r, v[i].generation, v[i].epoch, v[i].nonce, err);
    }
    *n = count;
    return rc;
}

/* --- progress ----------------------------------------------------------------------------------------------------- */

int mu_remote_tick(void *arg)
{
    struct mu_remote_meter *m = arg;
    uint64_t done = atomic_load(&m->done), more = done - m->told;

    m->told = done;
    return more && m->way->bytes ? m->way->bytes(m->way->arg, more) : 0;
}

static int by_place(const void *a, const void *b)
{
    const struct mu_ckpt_extent *x = a, *y = b;

    return x->file < y->file ? -1 : x->file > y->file;
}

struct mu_ckpt_extent *mu_remote_sorted(const struct mu_ckpt_manifest *m)
{
    struct mu_ckpt_extent *v = malloc((m->nextents + 1) * sizeof *v);

    if (v && m->nextents) {
        memcpy(v, m->extents, m->nextents * sizeof *v);
        qsort(v, m->nextents, sizeof *v, by_place);
    }
    return v;
}
