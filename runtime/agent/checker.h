/* A process of `muster check` that looks at what may hang, and talks over a socket. Loop thread only. */
#ifndef MU_AGENT_CHECKER_H
#define MU_AGENT_CHECKER_H

#include "runtime/base/proc.h"
#include "runtime/wire/link.h"

struct event_base;

struct mu_checker {
    struct mu_link *link; /* NULL: none runs */
    struct mu_proc proc;
};
#define MU_CHECKER_NONE ((struct mu_checker){.proc = {.fd = -1}})

/* option: what it is to look at, "--gpus"; NULL: the health checks that it is sent. */
int mu_checker_start(struct mu_checker *, struct event_base *, const char *option, mu_link_msg_fn, mu_link_down_fn,
                     void *arg, struct mu_err *);
/* Ends it, with all that it has started: it leads a session. */
void mu_checker_end(struct mu_checker *);

#endif
