/* What this node is made of (runtime/wire/inventory.h). It is gathered by a process of its own, `muster check
 * --inventory`, which reads files and loads nothing, and which is killed when something that it reads hangs. */
#ifndef MU_AGENT_INVENTORY_H
#define MU_AGENT_INVENTORY_H

#include "runtime/wire/inventory.h"

struct event_base;
struct mu_way;

/* Beside MUSTER_INVENTORY, how often it is gathered (0: never; MU_INVENTORY_EVERY_S by default). */
enum { MU_INVENTORY_EVERY_S = 600 };
/* For tests: gathered from below this directory in place of /. */
#define MU_INVENTORY_ROOT "MUSTER_INVENTORY_ROOT"

/* root: "" but in tests. What cannot be read is left out. MUSTER_ENOMEM. */
int mu_inventory_gather(const char *root, struct mu_m_inventory *out);
/* A part of it: libraries and packages (inventory_soft.c). */
void mu_inventory_soft(const char *root, struct mu_inventory_pairs *);
/* The child: one inventory message to fd. Exit code. */
int mu_inventory_main(int fd);

/* Has it gathered now and then, and sends it when it has changed, or when the way is another one than that on which it
 * was sent. *way: NULL, there is none yet. NULL: out of memory. */
struct mu_inventory_teller;
struct mu_inventory_teller *mu_inventory_teller_new(struct event_base *, struct mu_way *const *way);
void mu_inventory_teller_free(struct mu_inventory_teller *); /* NULL is fine */
/* To be called now and then. */
void mu_inventory_teller_tick(struct mu_inventory_teller *);

#endif
