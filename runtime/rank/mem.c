/* Memory of the segment that peers map. Where there is none, shared anonymous memory: a page in front of it holds what
 * muster_mem_free has to know. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collectives/segment.h"
#include "runtime/rank/session.h"

#define MEM_MAGIC 0x6d656d7265747375ull

struct mem_head {
    uint64_t magic;
    void *self;
    size_t mapped;
};

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void *muster_mem_alloc(size_t bytes)
{
    size_t page = page_size(), total;
    struct mem_head *h;
    void *p;

    if (bytes == 0 || bytes > (size_t)PTRDIFF_MAX - 2 * page) {
        mu_rank_fail(bytes ? MUSTER_ENOMEM : MUSTER_EARG, "muster_mem_alloc: %zu bytes cannot be had", bytes);
        return NULL;
    }
    p = mu_seg_alloc(bytes);
    if (p)
        return p;
    total = (bytes + page - 1) / page * page + page;
    h = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (h == MAP_FAILED) {
        mu_rank_fail(MUSTER_ENOMEM, "muster_mem_alloc: %zu bytes cannot be mapped", bytes);
        return NULL;
    }
    *h = (struct mem_head){.magic = MEM_MAGIC, .self = h, .mapped = total};
    return (char *)h + page;
}

void muster_mem_free(void *p)
{
    size_t page = page_size();
    struct mem_head *h = p ? (struct mem_head *)(void *)((char *)p - page) : NULL;

    if (!p || mu_seg_free(p))
        return;
    if ((uintptr_t)p % page || h->magic != MEM_MAGIC || h->self != h) {
        mu_rank_fail(MUSTER_EARG, "muster_mem_free: %p is not from muster_mem_alloc", p);
        return;
    }
    munmap(h, h->mapped);
}
