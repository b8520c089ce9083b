/* An agent's core with a stub in place of its only keeper, which answers at once. For the programs in tests/scale. */
#ifndef TESTS_SCALE_STUB_H
#define TESTS_SCALE_STUB_H

#include "runtime/agent/core.h"

#define STUB_FENCE_MAX 4096u

struct stub_pending;
struct stub {
    char name[16];
    struct mu_agent *core;
    struct mu_acts acts;
    void (*send)(void *arg, const void *frame, size_t len); /* to the controller */
    void *arg;
    uint64_t now;
    struct stub_pending *pending, **tail;
    mu_conn last;
    struct { /* the keeper */
        uint64_t job, seq, started, fenced;
        uint32_t attempt, pid, place, fence_bytes;
        mu_conn conn;
        uint32_t phase;
        bool fencing;
    } keeper;
};

bool stub_begin(struct stub *, const char *name, uint64_t incarnation); /* false: out of memory */
void stub_end(struct stub *);                                           /* its process dies */
void stub_step(struct stub *, struct mu_ev *, uint64_t now);
/* The ranks want a fence, with so many bytes from this node. */
void stub_fence(struct stub *, uint32_t bytes, uint64_t now);

#endif
