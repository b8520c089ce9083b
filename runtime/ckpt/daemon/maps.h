/* Mappings of a keeper's memory that outlive what they were made for: to map and touch a cell costs as much as to copy
 * it, and each save meets the same cells. Shared by the threads of a drain. */
#ifndef MU_CKPT_DAEMON_MAPS_H
#define MU_CKPT_DAEMON_MAPS_H

#include "runtime/ckpt/arena.h"

/* The first bytes of a memfd of the keeper's, to be read and written. grow: it is to be at least so long; else ECORRUPT
 * when it is not. */
int mu_maps_take(const struct mu_arena_head *, int fd, uint64_t bytes, bool grow, unsigned char **, struct mu_err *);
void mu_maps_give(unsigned char *); /* back; NULL is fine */
void mu_maps_clear(void);           /* unmaps what nobody has */

#endif
