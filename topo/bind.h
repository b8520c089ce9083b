/* Putting a process where the plan says, and looking whether it is there. */
#ifndef MU_TOPO_BIND_H
#define MU_TOPO_BIND_H

#include <sys/types.h>

#include "topo/cpuset.h"

/* Ready for the kernel: filled before fork, applied between fork and exec. Holds no pointers. */
struct mu_bind {
    struct mu_cpuset cpus;
    struct mu_cpuset nodes;
    bool bind_memory;
};

/* Memory is bound (strictly, MPOL_BIND) only where that forbids something: nodes non-empty and a proper part of
 * allowed_nodes. EARG when cpus is empty. */
int mu_bind_prepare(const struct mu_cpuset *cpus, const struct mu_cpuset *nodes, const struct mu_cpuset *allowed_nodes,
                    struct mu_bind *out, struct mu_err *);

/* Binds the calling thread, which exec then keeps. Async-signal-safe. Returns 0, or -errno of the CPU binding, which
 * then is as before. *mem_errno: errno of the memory binding, 0 when it holds or was not wanted; containers without
 * CAP_SYS_NICE refuse it, and local allocation by the bound CPUs remains. */
int mu_bind_apply(const struct mu_bind *, int *mem_errno);

/* Is the mask of process pid equal to wanted? 0: yes. ENODE: no, the text names both. EJOB: the process is gone. EIO:
 * cannot be read. *found (may be NULL) is set for 0 and for ENODE. */
int mu_bind_verify(pid_t pid, const struct mu_cpuset *wanted, struct mu_cpuset *found, struct mu_err *);

#endif
