/* How the node is: load, CPU time, memory, disks, network, told to the controller every 10 s; and what it is
 * (inventory.h), and how its GPUs are (gpus.h). Nothing in it waits: it reads /proc, and asks file systems only where
 * they are the node's own. Loop thread only. */
#ifndef MU_AGENT_VITALS_H
#define MU_AGENT_VITALS_H

#include "runtime/base/path.h"
#include "runtime/wire/msg.h"

struct event_base;
struct mu_way;
struct mu_vitals;

/* NULL: out of memory. Paths are borrowed, and *way is looked at each time: NULL, there is none yet. */
struct mu_vitals *mu_vitals_new(struct event_base *, const struct mu_paths *, struct mu_way *const *way);
void mu_vitals_free(struct mu_vitals *); /* NULL is fine */

/* What there is below `root` ("" but in tests). */
void mu_vitals_read(const char *root, const struct mu_paths *, struct mu_m_vitals *);
/* Into m, which borrows them: interfaces that have hardware; where none has, as in containers, all but loopback. */
struct mu_nics {
    char names[MU_NICS][MU_NIC_NAME], *list[MU_NICS + 1];
    uint32_t counts[MU_NICS * MU_NIC_COUNTS * 2];
};
void mu_vitals_nics(const char *root, struct mu_nics *, struct mu_m_vitals *m);
/* The same of disks: those that have hardware; where none has, all but what is made of memory or of files. */
struct mu_disks {
    char names[MU_DISKS][MU_DISK_NAME], *list[MU_DISKS + 1];
    uint32_t counts[MU_DISKS * MU_DISK_COUNTS * 2];
};
void mu_vitals_disks(const char *root, struct mu_disks *, struct mu_m_vitals *m);
/* By a text as /proc/self/mountinfo: whether asking about the file system of path cannot take for ever. */
bool mu_vitals_local(const char *mountinfo, const char *path);

#endif
