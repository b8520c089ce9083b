/* A world of ranks inside one process: a place, a tensor list and a writer for each. */
#ifndef TESTS_CKPT_HELP_H
#define TESTS_CKPT_HELP_H

#include "runtime/base/clock.h"
#include "runtime/ckpt/put.h"
#include "runtime/ckpt/reader.h"
#include "runtime/ckpt/writer.h"
#include "tests/unit/tap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RANKS 8

struct world {
    int n;
    uint64_t next;
    struct mu_ckpt_place place[RANKS];
    struct mu_ckpt_tensors tensors[RANKS];
    struct mu_ckpt_writer *writer[RANKS];
    struct mu_err err[RANKS];
    int rc[RANKS];
};

static inline char *scratch(void)
{
    const char *tmp = getenv("TMPDIR");
    static char dir[300];

    snprintf(dir, sizeof dir, "%.250s/muster-ckpt-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        abort();
    return dir;
}

static inline void scratch_remove(const char *dir)
{
    char cmd[400];

    snprintf(cmd, sizeof cmd, "rm -rf '%.300s'", dir);
    if (system(cmd))
        printf("# cannot remove %s\n", dir);
}

static inline int world_open(struct world *w, const char *dir, int n, unsigned keep, uint64_t timeout,
                             const struct mu_ckpt_io *io, struct mu_err *err)
{
    int rc;

    *w = (struct world){.n = n};
    for (int r = 0; r < n; r++) {
        struct mu_ckpt_place *p = &w->place[r];

        if (r)
            *p = w->place[0];
        else
            snprintf(p->dir, sizeof p->dir, "%s", dir);
        p->rank = (uint32_t)r;
        p->world = (uint32_t)n;
        p->keep = keep;
        p->attempt = 1;
        p->timeout = timeout;
        p->io = io;
        snprintf(p->job, sizeof p->job, "unit");
        if (r == 0 && (rc = mu_ckpt_store_open(p, &w->next, err)))
            return rc;
    }
    for (int r = 0; r < n; r++)
        if ((rc = mu_ckpt_writer_start(&w->place[r], NULL, NULL, 0, &w->writer[r], err)))
            return rc;
    return 0;
}

/* Saves on all ranks, waits for all; w->rc has the results, the first bad one is returned. */
static inline int world_save(struct world *w, uint64_t step)
{
    int bad = 0;

    for (int r = 0; r < w->n; r++) {
        mu_ckpt_writer_idle(w->writer[r], 60 * MU_SEC);
        w->rc[r] = mu_ckpt_writer_layout(w->writer[r], &w->tensors[r], &w->err[r]);
        mu_ckpt_writer_idle(w->writer[r], 60 * MU_SEC);
        if (!w->rc[r])
            w->rc[r] = mu_ckpt_writer_save(w->writer[r], w->next, step, &w->err[r]);
    }
    w->next++;
    for (int r = 0; r < w->n; r++) {
        if (!w->rc[r])
            w->rc[r] = mu_ckpt_writer_durable(w->writer[r], 60 * MU_SEC, &w->err[r]);
        if (w->rc[r] && !bad)
            bad = w->rc[r];
    }
    for (int r = 0; r < w->n; r++)
        mu_ckpt_writer_idle(w->writer[r], 60 * MU_SEC);
    return bad;
}

/* A generation as releases have made it that did not compare what the ranks say: the same files, and COMMIT. */
static inline int world_force(struct world *w, uint64_t step, struct mu_err *err)
{
    struct mu_ckpt_path tmp = mu_ckpt_tmp(&w->place[0], w->next), path = mu_ckpt_path("%s/COMMIT", tmp.s);
    struct mu_ckpt_vote votes[RANKS];
    struct mu_ckpt_commit k = {.wall = 1, .votes = votes, .job = "unit"};
    unsigned char *buf = NULL;
    size_t n;
    int rc = 0;

    for (int r = 0; r < w->n && !rc; r++) {
        const struct mu_ckpt_tensors *t = &w->tensors[r];
        struct mu_ckpt_manifest plan;
        _Atomic uint32_t cancel = 0;

        if ((rc = mu_ckpt_manifest_plan(t, (uint32_t)r, (uint32_t)w->n, &plan, err)))
            break;
        unsigned char *image = calloc(1, plan.segment);
        for (size_t i = 0; i < plan.nblocks; i++)
            for (size_t e = plan.blocks[i].first; e < plan.blocks[i].first + plan.blocks[i].n; e++)
                memcpy(image + plan.extents[e].file, (unsigned char *)t->v[i].data + plan.extents[e].at,
                       plan.extents[e].bytes);
        struct mu_ckpt_put put = {.place = w->place[r],
                                  .plan = &plan,
                                  .image = image,
                                  .generation = w->next,
                                  .step = step,
                                  .cancel = &cancel};
        rc = mu_ckpt_put_begin(&put, err);
        votes[r] = (struct mu_ckpt_vote){.manifest = plan.bytes, .segment = plan.segment, .crc = plan.crc};
        k.id = plan.id;
        free(image);
        mu_ckpt_manifest_free(&plan);
    }
    if (!rc && !(rc = mu_ckpt_commit_encode(&k, &buf, &n, err))) {
        FILE *f = fopen(path.s, "wb");

        rc = f && fwrite(buf, 1, n, f) == n && fclose(f) == 0 ? mu_ckpt_store_publish(&w->place[0], w->next, err) : -1;
    }
    free(buf);
    w->next++;
    return rc;
}

/* As a process that is killed leaves its writer. */
static inline void world_leave(struct world *w)
{
    for (int r = 0; r < w->n; r++)
        mu_ckpt_tensors_free(&w->tensors[r]);
    w->n = 0;
}

static inline void world_close(struct world *w)
{
    for (int r = 0; r < w->n; r++)
        if (w->writer[r])
            mu_ckpt_writer_stop(w->writer[r], 60 * MU_SEC, NULL);
    world_leave(w);
}

/* The way restore goes: newest first, only what every rank can load. Returns the step, or a negative code. */
static inline int64_t world_restore(struct world *w, struct mu_err *first)
{
    struct mu_ckpt_loaded got[RANKS];
    uint64_t *list = NULL;
    int64_t step = MUSTER_ENOCKPT;
    size_t n = 0;

    if (mu_ckpt_store_scan(w->place[0].dir, &list, &n, first))
        return MUSTER_EIO;
    for (size_t i = 0; i < n && step < 0; i++) {
        int rc = 0, r;

        for (r = 0; r < w->n && !rc; r++) {
            struct mu_err err = {0};

            rc = mu_ckpt_load(w->place[0].dir, list[i], &w->tensors[r], &got[r], &err);
            if (rc && first && step == MUSTER_ENOCKPT)
                *first = err;
        }
        step = rc;
        for (int k = 0; k < (rc ? r - 1 : r); k++) {
            if (!rc) {
                mu_ckpt_loaded_apply(&got[k], &w->tensors[k], NULL);
                step = (int64_t)got[k].id.step;
            }
            mu_ckpt_loaded_free(&got[k]);
        }
        if (rc == MUSTER_EVERSION || rc == MUSTER_ENOMEM)
            break;
    }
    free(list);
    return step;
}

static inline int add(struct mu_ckpt_tensors *list, const char *name, muster_dtype dtype, int ndim,
                      const uint64_t *global, const uint64_t *offset, const uint64_t *local, void *data, unsigned flags,
                      struct mu_err *err)
{
    muster_tensor t = {.name = name, .dtype = dtype, .ndim = ndim, .data = data, .flags = flags};

    for (int d = 0; d < ndim && d < 8; d++) {
        t.global[d] = global[d];
        t.offset[d] = offset ? offset[d] : 0;
        t.local[d] = local ? local[d] : global[d];
    }
    return mu_ckpt_tensors_add(list, &t, err);
}

static inline uint64_t rnd(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15ull;
    uint64_t z = *seed;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

#endif
