/* How this node's GPUs are (runtime/wire/gpus.h). NVML can hang, so it is asked by a process of its own, `muster check
 * --gpus`, which the agent kills when it has said nothing for too long. A node without NVML has no GPU. */
#ifndef MU_AGENT_GPUS_H
#define MU_AGENT_GPUS_H

#include "runtime/wire/gpus.h"

struct event_base;
struct mu_way;

/* MUSTER_GPU_HEALTH: how often it is asked (0: never; 10 s by default). Xids are told when they happen. */
uint64_t mu_gpus_every(void);

/* gpus_nvml.c: all that NVML says. Any thread, one at a time. */
struct mu_gpus_asked;
/* *out NULL: there is no GPU; trouble says why nothing is known of those that there are, or is "". MUSTER_ENOMEM. */
int mu_gpus_open(struct mu_gpus_asked **out, char *trouble, size_t size);
/* Fills m, for mu_msg_free_body. MUSTER_ENOMEM. */
int mu_gpus_ask(struct mu_gpus_asked *, struct mu_m_gpus *m);
/* True: an Xid has come within that time. */
bool mu_gpus_wait(struct mu_gpus_asked *, uint64_t ns);
void mu_gpus_close(struct mu_gpus_asked *);

/* The child: a gpus message to fd now and then, until its other end is closed. Exit code. */
int mu_gpus_main(int fd);

/* Sends what the child says when it has changed, and on each new way. NULL: out of memory. */
struct mu_gpus_teller;
struct mu_gpus_teller *mu_gpus_teller_new(struct event_base *, struct mu_way *const *way);
void mu_gpus_teller_free(struct mu_gpus_teller *); /* NULL is fine */
/* To be called now and then. */
void mu_gpus_teller_tick(struct mu_gpus_teller *);

#endif
