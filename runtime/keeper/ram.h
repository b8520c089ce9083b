/* The RAM arena of the job on this node (runtime/ckpt/arena.h), which is the keeper's, and the process that drains it
 * into the checkpoint directory. Both are there from one attempt to the next and go with the keeper; the process is
 * started for the first rank that asks for checkpoints, and again when it dies. */
#ifndef MU_KEEPER_RAM_H
#define MU_KEEPER_RAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/wire/msg.h"

struct mu_ram;

struct mu_ram *mu_ram_new(void); /* NULL: not to be had; ranks then write by themselves. NULL is fine below. */
void mu_ram_free(struct mu_ram *);

/* Before an attempt's ranks are started. mask: their umask; env: the job's environment. */
void mu_ram_begin(struct mu_ram *, uint32_t attempt, uint32_t nranks, mode_t mask, char *const *env);
const char *mu_ram_path(const struct mu_ram *); /* what ranks open; NULL: nothing */
/* Now and then: starts the process when it is to run and does not. */
void mu_ram_tick(struct mu_ram *);
bool mu_ram_reap(struct mu_ram *, pid_t pid, int status); /* false: it was not ours */
pid_t mu_ram_pid(const struct mu_ram *);                  /* of the process; 0: none */
uint64_t mu_ram_durable_plus1(const struct mu_ram *);     /* newest step that it has made durable; 0: none */
/* What the attempt has written so far, and what is said of the object store, into a report (store_trouble is borrowed
 * until the next call); true: there is something new of the store. */
bool mu_ram_stored(struct mu_ram *, struct mu_m_report *);
/* Nothing more will be saved: whether something is still on its way into the directory. After the first such question
 * nobody waits long for other nodes any more. */
bool mu_ram_ending(struct mu_ram *);

/* The process itself: `muster drain`. */
int mu_drain_main(int argc, char **argv);

#endif
