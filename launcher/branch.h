/* The agents that reach the controller through others: streams that share a connection (docs/formats.md, "The tree").
 * Each is a connection with a number like any other; here is which channel of which link that is. Pure. */
#ifndef MU_LAUNCHER_BRANCH_H
#define MU_LAUNCHER_BRANCH_H

#include <stdbool.h>

#include "runtime/wire/core.h"

struct mu_branch_ops {
    mu_conn (*opened)(void *arg);                   /* a new number, greater than all before; 0: refused */
    void (*up)(void *arg, mu_conn id, mu_conn via); /* it is there now; via: the connection below which it is */
    void (*frame)(void *arg, mu_conn id, const void *frame, size_t len);
    /* Forgotten already. status: MU_DOWN_; age: it was heard so long ago. */
    void (*down)(void *arg, mu_conn id, int status, uint64_t age_ns);
    /* Must not call back. frame NULL: memory ran out, the link has a gap now and must be closed. */
    void (*send)(void *arg, mu_conn link, const void *frame, size_t len);
    void *arg;
};

struct mu_branches;
struct mu_branches *mu_branches_new(const struct mu_branch_ops *); /* NULL: out of memory */
void mu_branches_free(struct mu_branches *);                       /* NULL is fine */
/* A relay message came on a link. */
void mu_branches_take(struct mu_branches *, mu_conn link, const struct mu_m_relay *);
/* The link is gone, and with it all that came through it: `down` with MU_DOWN_PARENT. */
void mu_branches_lost(struct mu_branches *, mu_conn link, uint64_t age_ns);
/* One frame to several, over links and through them: once for each link. */
void mu_branches_send(struct mu_branches *, const mu_conn *to, uint32_t n, const void *frame, size_t len);
/* True: it came through a link, was told to close, and is forgotten. */
bool mu_branches_close(struct mu_branches *, mu_conn id);

#endif
