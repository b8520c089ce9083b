/* Restoring: at other numbers of ranks, from other partitions, and never from damage. */
#include "runtime/base/crc32c.h"
#include "tests/unit/ckpt_state.h"

#include <fcntl.h>

/* --- partitions -------------------------------------------------------------------------------------------------- */

/* Part i of n of a grid over the shape; parts may be empty. */
static void grid_part(uint64_t *seed, int ndim, const uint64_t *shape, int n, int i, uint64_t *off, uint64_t *len)
{
    int cuts[8];
    int left = n;

    for (int d = 0; d < ndim; d++)
        cuts[d] = 1;
    for (int f = 2; left > 1;) {
        if (left % f) {
            f++;
            continue;
        }
        cuts[rnd(seed) % (uint64_t)ndim] *= f;
        left /= f;
    }
    for (int d = 0; d < ndim; d++) {
        int k = i % cuts[d];

        i /= cuts[d];
        off[d] = shape[d] * (uint64_t)k / (uint64_t)cuts[d];
        len[d] = shape[d] * (uint64_t)(k + 1) / (uint64_t)cuts[d] - off[d];
    }
}

static uint64_t volume(int ndim, const uint64_t *v)
{
    uint64_t p = 1;

    for (int d = 0; d < ndim; d++)
        p *= v[d];
    return p;
}

/* Fills or checks a block: an element's value is its global row-major index. */
static bool walk(uint32_t *data, int ndim, const uint64_t *shape, const uint64_t *off, const uint64_t *len, bool fill)
{
    uint64_t n = volume(ndim, len);

    for (uint64_t i = 0; i < n; i++) {
        uint64_t rest = i, at = 0, unit = 1;

        for (int d = ndim - 1; d >= 0; d--) {
            at += (off[d] + rest % len[d]) * unit;
            rest /= len[d];
            unit *= shape[d];
        }
        if (fill)
            data[i] = (uint32_t)(at * 2246822519u + 3);
        else if (data[i] != (uint32_t)(at * 2246822519u + 3))
            return false;
    }
    return true;
}

static void reshard(uint64_t seed, bool large)
{
    int ndim = 1 + (int)(rnd(&seed) % 4), from = 1 + (int)(rnd(&seed) % RANKS), to = 1 + (int)(rnd(&seed) % RANKS);
    uint64_t shape[8], off[2][RANKS][8], len[2][RANKS][8], layout[2] = {rnd(&seed), rnd(&seed)};
    bool replicate[2] = {rnd(&seed) % 4 == 0, rnd(&seed) % 4 == 0};
    char *dir = scratch();
    struct mu_err err = {0};
    uint32_t *data[RANKS];
    struct world w;
    bool good = true;
    int64_t step;

    for (int d = 0; d < ndim; d++)
        shape[d] = 1 + rnd(&seed) % (ndim == 1 ? 5000 : ndim == 2 ? 120 : ndim == 3 ? 30 : 11);
    if (large) {
        ndim = 2;
        shape[0] = 1021;
        shape[1] = 1500;
    }
    for (int side = 0; side < 2; side++)
        for (int r = 0; r < (side ? to : from); r++) {
            uint64_t same = layout[side];

            if (replicate[side])
                for (int d = 0; d < ndim; d++)
                    off[side][r][d] = 0, len[side][r][d] = shape[d];
            else
                grid_part(&same, ndim, shape, side ? to : from, r, off[side][r], len[side][r]);
        }
    for (int side = 0; side < 2; side++) {
        int n = side ? to : from;

        if (world_open(&w, dir, n, 2, 20 * MU_SEC, &mu_ckpt_io_posix, &err))
            abort();
        for (int r = 0; r < n; r++) {
            data[r] = malloc(4 * volume(ndim, len[side][r]) + 4);
            memset(data[r], 0x5a, 4 * volume(ndim, len[side][r]) + 4);
            if (!side)
                walk(data[r], ndim, shape, off[0][r], len[0][r], true);
            if (add(&w.tensors[r], "x", MUSTER_UINT32, ndim, shape, off[side][r], len[side][r], data[r],
                    replicate[side] ? MUSTER_REPLICATED : 0, &err))
                abort();
        }
        if (!side) {
            if (world_save(&w, seed % 1000))
                abort();
        } else {
            step = world_restore(&w, &err);
            good = step == (int64_t)(seed % 1000);
            for (int r = 0; r < n; r++)
                good &= walk(data[r], ndim, shape, off[1][r], len[1][r], false) &&
                        data[r][volume(ndim, len[1][r])] == 0x5a5a5a5a;
        }
        for (int r = 0; r < n; r++)
            free(data[r]);
        world_close(&w);
    }
    if (!good || large)
        TAP_OK(good, "%d dimensions%s, from %d%s to %d%s ranks %s", ndim, large ? " and several extents" : "", from,
               replicate[0] ? " replicated" : "", to, replicate[1] ? " replicated" : "", err.text);
    scratch_remove(dir);
}

/* --- damage ------------------------------------------------------------------------------------------------------ */

static unsigned char *slurp(const char *path, size_t *n)
{
    unsigned char *p = NULL;

    if (mu_ckpt_get_file(path, 1 << 26, &p, n, NULL))
        abort();
    return p;
}
static void spit(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    if (fd < 0 || write(fd, p, n) != (ssize_t)n || close(fd))
        abort();
}

static void damage(void)
{
    static const char *files[] = {"COMMIT", "man.0", "man.1", "seg.0", "seg.1"};
    char *dir = scratch();
    struct world w;
    struct mu_err err;
    uint64_t seed = 42;

    if (world_open(&w, dir, 2, 3, 20 * MU_SEC, &mu_ckpt_io_posix, &err))
        abort();
    add_state(&w);
    for (uint32_t s = 1; s <= 2; s++) {
        set_state(s);
        if (world_save(&w, s))
            abort();
    }
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        struct mu_ckpt_path path = mu_ckpt_path("%s/g00000002/%s", dir, files[f]);
        size_t n, step;
        unsigned char *was = slurp(path.s, &n), *now = malloc(n);
        int tried = 0, wrong = 0, newest = 0;

        step = f < 3 ? 1 : 1 + n / 400;
        for (size_t at = 0; at < n; at += step, tried++) {
            int64_t got;

            memcpy(now, was, n);
            now[at] ^= (unsigned char)(1u << rnd(&seed) % 8);
            spit(path.s, now, n);
            set_state(99);
            got = world_restore(&w, &err);
            wrong += !(got == 1 && is_state(1)) && !(got == 2 && is_state(2));
            newest += got == 2;
        }
        /* only padding of a segment does not matter */
        TAP_OK(wrong == 0 && (f >= 3 || newest == 0), "%s: %d flipped bits: never wrong data (%d met no data)",
               files[f], tried, newest);

        wrong = tried = 0;
        for (size_t cut = 0; cut < n; cut += f < 3 ? 7 : 1 + n / 40, tried++) {
            spit(path.s, was, cut);
            set_state(99);
            wrong += world_restore(&w, &err) != 1 || !is_state(1);
        }
        unlink(path.s);
        wrong += world_restore(&w, &err) != 1 || !is_state(1);
        TAP_OK(wrong == 0, "%s: cut to %d lengths, or gone: the older one is restored (%s)", files[f], tried, err.text);

        memcpy(now, was, n);
        now[8]++;
        uint32_t head = mu_crc32c(0, now, 28);
        for (int i = 0; i < 4; i++)
            now[28 + i] = (unsigned char)(head >> 8 * i);
        spit(path.s, now, n);
        set_state(99);
        TAP_OK(world_restore(&w, &err) == MUSTER_EVERSION && is_state(99) && strstr(err.text, "version 2"),
               "%s of a newer version: refused, not skipped (%s)", files[f], err.text);
        spit(path.s, was, n);
        free(was);
        free(now);
    }
    set_state(99);
    TAP_OK(world_restore(&w, &err) == 2 && is_state(2), "mended, the newest is back");

    /* parts of another checkpoint with valid checksums are not parts of this one */
    static const char *mixed[] = {"man.0", "seg.1"};
    for (size_t i = 0; i < 2; i++) {
        struct mu_ckpt_path a = mu_ckpt_path("%s/g00000001/%s", dir, mixed[i]);
        struct mu_ckpt_path b = mu_ckpt_path("%s/g00000002/%s", dir, mixed[i]);
        size_t an, bn;
        unsigned char *ap = slurp(a.s, &an), *bp = slurp(b.s, &bn);

        spit(b.s, ap, an);
        TAP_OK(world_restore(&w, &err) == 1 && is_state(1), "%s of another generation: %s", mixed[i], err.text);
        spit(b.s, bp, bn);
        free(ap);
        free(bp);
    }

    struct mu_ckpt_path a = mu_ckpt_path("%s/g00000001/seg.0", dir), b = mu_ckpt_path("%s/g00000002/seg.0", dir);
    size_t an, bn;
    unsigned char *ap = slurp(a.s, &an), *bp = slurp(b.s, &bn), page[MU_CKPT_PAGE];
    memcpy(page, bp, sizeof page);
    memcpy(bp, ap, sizeof page);
    spit(b.s, bp, bn);
    TAP_OK(world_restore(&w, &err) == 1 && is_state(1), "the right data behind another superblock: %s", err.text);
    memcpy(bp, page, sizeof page);
    spit(b.s, bp, bn);
    free(ap);
    free(bp);

    /* intact, of this very save, and still not what was committed */
    struct mu_ckpt_manifest m;
    b = mu_ckpt_path("%s/g00000002/man.1", dir);
    bp = slurp(b.s, &bn);
    if (mu_ckpt_manifest_decode(bp, bn, &m, &err))
        abort();
    m.extents[0].file += MU_CKPT_PAGE;
    m.extents[0].crc ^= 1;
    m.segment += MU_CKPT_PAGE;
    if (mu_ckpt_manifest_encode(&m, &ap, &err))
        abort();
    spit(b.s, ap, m.bytes);
    TAP_OK(world_restore(&w, &err) == 1 && strstr(err.text, "not the one that was committed"),
           "a manifest that was not voted for: %s", err.text);
    spit(b.s, bp, bn);
    mu_ckpt_manifest_free(&m);
    free(ap);
    free(bp);

    /* retention does not count what is known to be bad, and never what it cannot read */
    struct mu_ckpt_path commit = mu_ckpt_path("%s/g00000002/COMMIT", dir);
    size_t n;
    unsigned char *was = slurp(commit.s, &n);
    uint64_t *list;
    size_t left;
    spit(commit.s, was, n / 2);
    for (uint32_t s = 3; s <= 4; s++) {
        set_state(s);
        world_save(&w, s);
    }
    mu_ckpt_store_scan(dir, &list, &left, NULL);
    TAP_OK(left == 4, "keep=3: a damaged one does not push a good one out");
    free(list);
    mu_ckpt_writer_bad(w.writer[0], 3, 4);
    set_state(5);
    world_save(&w, 5);
    mu_ckpt_store_scan(dir, &list, &left, NULL);
    TAP_OK(left == 5 && list[4] == 1, "nor does one that did not restore");
    free(list);
    was[8]++;
    uint32_t head = mu_crc32c(0, was, 28);
    for (int i = 0; i < 4; i++)
        was[28 + i] = (unsigned char)(head >> 8 * i);
    spit(commit.s, was, n);
    for (uint32_t s = 6; s <= 9; s++) {
        set_state(s);
        world_save(&w, s);
    }
    mu_ckpt_store_scan(dir, &list, &left, NULL);
    TAP_OK(left == 4 && list[3] == 2, "one of a newer version is not removed");
    free(list);
    free(was);
    world_close(&w);
    scratch_remove(dir);
}

/* --- other shapes ------------------------------------------------------------------------------------------------ */

static void shapes(void)
{
    const uint64_t n = 100, m = 101, two[2] = {10, 10}, off = 50, half = 50, quarter = 25;
    static float data[RANKS][101];
    const struct {
        const char *what, *name;
        muster_dtype dtype;
        int ndim;
        const uint64_t *global;
        unsigned flags;
        int rc;
        const char *text;
    } rows[] = {
        {"the same", "w", MUSTER_FLOAT32, 1, &n, 0, 0, ""},
        {"the same, replicated", "w", MUSTER_FLOAT32, 1, &n, MUSTER_REPLICATED, 0, ""},
        {"another type", "w", MUSTER_INT32, 1, &n, 0, MUSTER_ECORRUPT, "stored as float32, wanted as int32"},
        {"another size", "w", MUSTER_FLOAT32, 1, &m, 0, MUSTER_ECORRUPT, "stored with 100 elements, wanted with 101"},
        {"another shape", "w", MUSTER_FLOAT32, 2, two, 0, MUSTER_ECORRUPT, "1 dimensions, wanted with 2"},
        {"another name", "v", MUSTER_FLOAT32, 1, &n, 0, MUSTER_ECORRUPT, "\"v\" is not stored"},
        {"one with a hole", "hole", MUSTER_FLOAT32, 1, &n, 0, MUSTER_ECORRUPT,
         "no rank saves the block of [25] at [25]"},
        {"one stored twice", "twice", MUSTER_FLOAT32, 1, &n, 0, MUSTER_ECORRUPT, "overlap"},
        {"an empty one", "empty", MUSTER_FLOAT32, 1, &n, 0, MUSTER_ECORRUPT, "\"empty\""},
        {"another one than that with a hole", "w", MUSTER_FLOAT32, 1, &n, 0, MUSTER_ECORRUPT, "\"hole\""},
    };
    struct mu_err err;
    struct world w;

    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 100; i++)
            data[r][i] = (float)(i + (r ? (int)off : 0));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *more = strstr(rows[i].what, "hole") ? "hole" : rows[i].name;
        char *dir = scratch();
        int64_t step;

        world_open(&w, dir, 2, 2, 20 * MU_SEC, &mu_ckpt_io_posix, &err);
        for (int r = 0; r < 2; r++) {
            uint64_t o = r ? off : 0, zero = 0;

            add(&w.tensors[r], "w", MUSTER_FLOAT32, 1, &n, &o, &half, data[r], 0, &err);
            if (!strcmp(more, "hole"))
                add(&w.tensors[r], more, MUSTER_FLOAT32, 1, &n, &o, r ? &half : &quarter, data[r], 0, &err);
            if (!strcmp(more, "twice")) /* 0..99 on rank 0, 50..99 on rank 1 */
                add(&w.tensors[r], more, MUSTER_FLOAT32, 1, &n, &o, r ? &half : &n, data[r], 0, &err);
            if (!strcmp(more, "empty"))
                add(&w.tensors[r], more, MUSTER_FLOAT32, 1, &n, &zero, &zero, NULL, 0, &err);
        }
        if (world_force(&w, 1, &err)) /* no commit takes those any more */
            abort();
        world_close(&w);
        world_open(&w, dir, 1, 2, 20 * MU_SEC, &mu_ckpt_io_posix, &err);
        add(&w.tensors[0], rows[i].name, rows[i].dtype, rows[i].ndim, rows[i].global, NULL, NULL, data[2],
            rows[i].flags, &err);
        memset(data[2], 0, sizeof data[2]);
        err.text[0] = 0;
        step = world_restore(&w, &err);
        TAP_OK(rows[i].rc ? step == rows[i].rc && strstr(err.text, rows[i].text) && data[2][99] == 0
                          : step == 1 && data[2][99] == 99 && data[2][1] == 1,
               "%s: %s", rows[i].what, err.text);
        world_close(&w);
        scratch_remove(dir);
    }
}

int main(void)
{
    for (uint64_t seed = 1; seed <= 150; seed++)
        reshard(seed, false);
    TAP_OK(tap_bad == 0, "150 random partitions restored as 150 others");
    for (uint64_t seed = 1001; seed <= 1006; seed++)
        reshard(seed, true);
    damage();
    shapes();
    return tap_done();
}
