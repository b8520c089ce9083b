#include "collectives/frame.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    size_t room;
    unsigned keep;
} classes[2] = {{4096 - sizeof(struct mu_frame), 256}, {MU_CHUNK, 96}};

struct mu_frame *mu_frame_new(struct mu_pool *pool, size_t bytes)
{
    int c = bytes > classes[0].room;
    struct mu_frame *f = pool->size[c].free;

    if (f) {
        pool->size[c].free = f->next;
        pool->size[c].nfree--;
    } else {
        f = aligned_alloc(64, sizeof *f + classes[c].room);
        if (!f)
            return NULL;
    }
    memset(f, 0, sizeof *f);
    f->room = classes[c].room;
    f->head.magic = MU_FRAME_MAGIC;
    return f;
}

void mu_frame_free(struct mu_pool *pool, struct mu_frame *f)
{
    int c;

    if (!f)
        return;
    c = f->room > classes[0].room;
    if (pool->size[c].nfree >= classes[c].keep) {
        free(f);
        return;
    }
    f->next = pool->size[c].free;
    pool->size[c].free = f;
    pool->size[c].nfree++;
}

struct mu_frame *mu_frame_compact(struct mu_pool *pool, struct mu_frame *f)
{
    struct mu_frame *small;

    if (f->room <= classes[0].room || f->head.bytes > classes[0].room)
        return f;
    small = mu_frame_new(pool, f->head.bytes);
    if (!small)
        return f;
    small->head = f->head;
    memcpy(small->data, f->data, f->head.bytes);
    mu_frame_free(pool, f);
    return small;
}

void mu_pool_clear(struct mu_pool *pool)
{
    for (int c = 0; c < 2; c++) {
        for (struct mu_frame *f = pool->size[c].free, *next; f; f = next) {
            next = f->next;
            free(f);
        }
        pool->size[c].free = NULL;
        pool->size[c].nfree = 0;
    }
}

void mu_frames_push(struct mu_frames *q, struct mu_frame *f)
{
    f->next = NULL;
    if (q->first)
        q->last->next = f;
    else
        q->first = f;
    q->last = f;
}

struct mu_frame *mu_frames_pop(struct mu_frames *q)
{
    struct mu_frame *f = q->first;

    if (f)
        q->first = f->next;
    return f;
}

void mu_frames_clear(struct mu_frames *q, struct mu_pool *pool)
{
    for (struct mu_frame *f; (f = mu_frames_pop(q));)
        mu_frame_free(pool, f);
}
