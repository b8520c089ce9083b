/* The memory of this process that ranks on the same node can map: one memfd, made when it is first needed and kept
 * until the process ends, so that nothing is left behind however it ends. Channels come first (channel.h), then a heap
 * for muster_mem_alloc. It is sparse: what is not written costs nothing. */
#ifndef MU_COLLECTIVES_SEGMENT_H
#define MU_COLLECTIVES_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define MU_SEG_MAGIC 0x3147455355554d55ull
#define MU_SEG_VERSION 2u
#define MU_SEG_HEAD ((size_t)4096)

struct mu_seg_head {
    uint64_t magic;
    uint32_t version, pid;
    uint64_t nonce; /* proof that a mapping is of the segment that was spoken of */
    uint64_t heap_at, heap_size;
    _Alignas(128) _Atomic uint64_t beat; /* grows while its process waits in an operation of any communicator */
    _Atomic uint32_t waits;              /* world rank that it waits for, + 1; 0: for nobody, or not known */
};
_Static_assert(sizeof(struct mu_seg_head) <= MU_SEG_HEAD, "channels come behind it");

struct mu_seg {
    int fd;
    struct mu_seg_head *head; /* the mapping */
};

/* The segment of this process. ENOSYS, ENOMEM: there can be none; EJOB: it is a forked child's parent's. */
int mu_seg_own(struct mu_seg *out, struct mu_err *err);

/* Page-aligned zeroed memory of its heap; NULL: none. Thread-safe. */
void *mu_seg_alloc(size_t bytes);
/* False: not from mu_seg_alloc. A forked child's call does nothing. */
bool mu_seg_free(void *p);
/* From now on what is freed is not used again: peers that were given up may still write there. */
void mu_seg_quarantine(void);
/* Where [p, p + bytes) lies in the heap, + 1; 0: not in it. */
uint64_t mu_seg_offset(const void *p, size_t bytes);

/* A peer's segment, mapped. */
struct mu_seg_peer {
    char *base;
    uint64_t heap_at, heap_size, open; /* open: bytes of the heap that can be used so far */
};

/* Maps it if it is what nonce says; takes fd. */
int mu_seg_map(int fd, uint64_t nonce, struct mu_seg_peer *out, struct mu_err *err);
void mu_seg_unmap(struct mu_seg_peer *peer);
/* offset as mu_seg_offset gives it, > 0; NULL: outside, or no memory to map it. */
void *mu_seg_at(struct mu_seg_peer *peer, uint64_t offset, size_t bytes);

#endif
