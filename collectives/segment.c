#include "collectives/segment.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collectives/channel.h"
#include "collectives/domain.h"
#include "runtime/base/clean.h"

#define HUGE ((size_t)2 << 20)
#define ALL_HEAPS ((size_t)48 << 40) /* address space that the heaps of a node may take */
#define LEAST_HEAP ((size_t)64 << 20)
#define HEAP_AT ((MU_SEG_HEAD + MU_CHANNELS * sizeof(struct mu_channel) + HUGE - 1) / HUGE * HUGE)

struct block {
    struct block *next;
    size_t at, size; /* in the heap */
    bool dead;       /* freed under quarantine */
};

static struct {
    pthread_mutex_t lock;
    struct mu_seg seg;
    pid_t pid; /* 0: none */
    size_t heap_size;
    struct block *blocks; /* by address */
    bool quarantine;
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t most_heap(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), cpus = sysconf(_SC_NPROCESSORS_CONF);
    size_t ram = pages > 0 ? (size_t)pages * page_size() : LEAST_HEAP;
    size_t share = ALL_HEAPS / (size_t)(cpus > 0 ? cpus : 1);

    ram = ram < share ? ram : share;
    return (ram + HUGE - 1) / HUGE * HUGE;
}

/* Reserved without access, so that what is not used is neither backed nor locked; where huge pages fit. */
static void *reserve(int fd, size_t size)
{
    char *p = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *at;
    size_t skip;

    if (p == MAP_FAILED)
        return p;
    skip = -(uintptr_t)p & (HUGE - 1);
    at = p + skip;
    if (skip)
        munmap(p, skip);
    munmap(at + size, HUGE - skip);
    if (mmap(at, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
        munmap(at, size);
        return MAP_FAILED;
    }
    return at;
}

/* On the memory next to this process, also what a peer is the first to write. A container may refuse it: then it comes
 * where it is first touched. */
static void keep_near(void *p, size_t size)
{
    unsigned long mask[16] = {0};
    const uint32_t bits = 8 * sizeof mask[0];
    uint32_t memory = mu_domain_memory();

    if (!memory || memory > sizeof mask * 8)
        return;
    mask[(memory - 1) / bits] = 1ul << (memory - 1) % bits;
    syscall(SYS_mbind, p, size, MPOL_PREFERRED, mask, sizeof mask * 8 + 1, 0);
}

static int make(struct mu_err *err)
{
    mu_auto_fd int fd = memfd_create("muster", MFD_CLOEXEC);
    size_t heap = most_heap();
    struct mu_seg_head *h = MAP_FAILED;
    uint64_t nonce;

    if (fd < 0)
        return mu_err_errno(err, MUSTER_ENOSYS, "memory for peers cannot be made");
    while (h == MAP_FAILED && heap >= LEAST_HEAP) { /* a limit of address space may refuse */
        if (ftruncate(fd, (off_t)(HEAP_AT + heap)) == 0)
            h = reserve(fd, HEAP_AT + heap);
        if (h == MAP_FAILED)
            heap = heap / 4 / HUGE * HUGE;
    }
    if (h == MAP_FAILED)
        return mu_err_set(err, MUSTER_ENOMEM, "no address space for memory that peers map");
    if (mprotect(h, HEAP_AT, PROT_READ | PROT_WRITE) < 0 || getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) {
        munmap(h, HEAP_AT + heap);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for peers");
    }
    keep_near(h, HEAP_AT + heap);
    madvise((char *)h + HEAP_AT, heap, MADV_DONTDUMP);
    *h = (struct mu_seg_head){.magic = MU_SEG_MAGIC,
                              .version = MU_SEG_VERSION,
                              .pid = (uint32_t)getpid(),
                              .nonce = nonce,
                              .heap_at = HEAP_AT,
                              .heap_size = heap};
    own.seg = (struct mu_seg){.fd = MU_STEAL(fd, -1), .head = h};
    own.heap_size = heap;
    own.pid = getpid();
    return 0;
}

static int have(struct mu_err *err)
{
    if (!own.pid)
        return make(err);
    return own.pid == getpid() ? 0 : mu_err_set(err, MUSTER_EJOB, "the memory belongs to the parent of this process");
}

int mu_seg_own(struct mu_seg *out, struct mu_err *err)
{
    int rc;

    pthread_mutex_lock(&own.lock);
    rc = have(err);
    if (rc == 0)
        *out = own.seg;
    pthread_mutex_unlock(&own.lock);
    return rc;
}

static char *heap_base(void)
{
    return (char *)own.seg.head + HEAP_AT;
}

/* The first gap that is large enough. */
static void *take(size_t size)
{
    size_t align = size >= HUGE ? HUGE : page_size(), at = 0;
    struct block **link = &own.blocks, *b;

    for (; *link; at = (*link)->at + (*link)->size, link = &(*link)->next) {
        at = (at + align - 1) / align * align;
        if (at <= (*link)->at && (*link)->at - at >= size)
            break;
    }
    at = (at + align - 1) / align * align;
    if (at > own.heap_size || own.heap_size - at < size)
        return NULL;
    if (mprotect(heap_base() + at, size, PROT_READ | PROT_WRITE) < 0)
        return NULL;
    b = malloc(sizeof *b);
    if (!b)
        return NULL;
    if (size >= HUGE)
        madvise(heap_base() + at, size, MADV_HUGEPAGE);
    *b = (struct block){.next = *link, .at = at, .size = size};
    *link = b;
    return heap_base() + at;
}

void *mu_seg_alloc(size_t bytes)
{
    size_t page = page_size();
    void *p = NULL;
    struct mu_err err;

    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return NULL;
    pthread_mutex_lock(&own.lock);
    if (have(&err) == 0)
        p = take((bytes + page - 1) / page * page);
    pthread_mutex_unlock(&own.lock);
    return p;
}

static bool inside(const void *p, size_t bytes)
{
    uintptr_t base = own.pid ? (uintptr_t)heap_base() : 0, x = (uintptr_t)p;

    return own.pid && x >= base && x - base <= own.heap_size && own.heap_size - (x - base) >= bytes;
}

bool mu_seg_free(void *p)
{
    struct block **link = &own.blocks, *b;
    bool found;

    pthread_mutex_lock(&own.lock);
    while (*link && (!inside(p, 1) || (*link)->dead || heap_base() + (*link)->at != (char *)p))
        link = &(*link)->next;
    b = *link;
    found = b || (inside(p, 1) && own.pid != getpid());
    if (b && own.pid == getpid()) {
        /* Given back, and zeroed for the next one. */
        if (fallocate(own.seg.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(HEAP_AT + b->at),
                      (off_t)b->size) < 0)
            for (size_t i = 0; i < b->size; i++)
                ((volatile char *)p)[i] = 0;
        mprotect(p, b->size, PROT_NONE);
        if (own.quarantine) {
            b->dead = true;
        } else {
            *link = b->next;
            free(b);
        }
    }
    pthread_mutex_unlock(&own.lock);
    return found;
}

void mu_seg_quarantine(void)
{
    pthread_mutex_lock(&own.lock);
    own.quarantine = true;
    pthread_mutex_unlock(&own.lock);
}

uint64_t mu_seg_offset(const void *p, size_t bytes)
{
    return inside(p, bytes) ? (uint64_t)((const char *)p - heap_base()) + 1 : 0;
}

int mu_seg_map(int fd, uint64_t nonce, struct mu_seg_peer *out, struct mu_err *err)
{
    mu_auto_fd int taken = fd;
    struct mu_seg_head *h;
    struct mu_seg_head seen;
    struct stat st;
    size_t size;

    if (fstat(taken, &st) < 0 || (size_t)st.st_size < HEAP_AT)
        return mu_err_set(err, MUSTER_EVERSION, "a peer's memory is too short");
    size = (size_t)st.st_size;
    h = reserve(taken, size);
    if (h == MAP_FAILED)
        return mu_err_errno(err, MUSTER_ENOMEM, "a peer's memory cannot be mapped");
    if (mprotect(h, HEAP_AT, PROT_READ | PROT_WRITE) < 0) {
        munmap(h, size);
        return mu_err_errno(err, MUSTER_ENOMEM, "a peer's memory cannot be mapped");
    }
    madvise(h, size, MADV_DONTDUMP);
    seen = *h;
    if (seen.magic != MU_SEG_MAGIC || seen.version != MU_SEG_VERSION || seen.nonce != nonce ||
        seen.heap_at != HEAP_AT || seen.heap_size != size - HEAP_AT) {
        munmap(h, size);
        return mu_err_set(err, MUSTER_EVERSION, "what a peer sent is not its memory");
    }
    *out = (struct mu_seg_peer){.base = (char *)h, .heap_at = seen.heap_at, .heap_size = seen.heap_size};
    return 0;
}

void mu_seg_unmap(struct mu_seg_peer *peer)
{
    if (peer->base)
        munmap(peer->base, peer->heap_at + peer->heap_size);
    peer->base = NULL;
}

void *mu_seg_at(struct mu_seg_peer *peer, uint64_t offset, size_t bytes)
{
    uint64_t at = offset - 1, end = at + bytes;

    if (at > peer->heap_size || peer->heap_size - at < bytes)
        return NULL;
    if (end > peer->open) {
        uint64_t to = (end + HUGE - 1) / HUGE * HUGE;

        if (mprotect(peer->base + peer->heap_at + peer->open, to - peer->open, PROT_READ | PROT_WRITE) < 0)
            return NULL;
        madvise(peer->base + peer->heap_at + peer->open, to - peer->open, MADV_HUGEPAGE);
        peer->open = to;
    }
    return peer->base + peer->heap_at + at;
}
