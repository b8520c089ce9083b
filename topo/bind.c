#include "topo/bind.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/clean.h"

/* Raw system calls: what libc puts around them is not promised to be safe between fork and exec, and its cpu_set_t
 * ends at 1024. The kernel takes arrays of unsigned long, which ours are. */
_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "64-bit Linux");
enum { MODE_BIND = 2 /* MPOL_BIND, without libnuma's header */ };

int mu_bind_prepare(const struct mu_cpuset *cpus, const struct mu_cpuset *nodes, const struct mu_cpuset *allowed_nodes,
                    struct mu_bind *out, struct mu_err *err)
{
    if (mu_cpuset_empty(cpus))
        return mu_err_set(err, MUSTER_EARG, "nothing to bind to: the set of CPUs is empty");
    out->cpus = *cpus;
    out->nodes = *nodes;
    out->bind_memory =
        !mu_cpuset_empty(nodes) && mu_cpuset_inside(nodes, allowed_nodes) && !mu_cpuset_equal(nodes, allowed_nodes);
    return 0;
}

int mu_bind_apply(const struct mu_bind *b, int *mem_errno)
{
    *mem_errno = 0;
    if (syscall(SYS_sched_setaffinity, 0, sizeof b->cpus.w, b->cpus.w) < 0)
        return -errno;
    if (b->bind_memory && syscall(SYS_set_mempolicy, MODE_BIND, b->nodes.w, (unsigned long)MU_CPUSET_MAX) < 0)
        *mem_errno = errno;
    return 0;
}

int mu_bind_verify(pid_t pid, const struct mu_cpuset *wanted, struct mu_cpuset *found, struct mu_err *err)
{
    struct mu_cpuset is = {{0}};

    if (syscall(SYS_sched_getaffinity, pid, sizeof is.w, is.w) < 0)
        return mu_err_errno(err, errno == ESRCH ? MUSTER_EJOB : MUSTER_EIO, "affinity of process %d", (int)pid);
    if (found)
        *found = is;
    if (mu_cpuset_equal(&is, wanted))
        return 0;
    mu_auto_free char *a = mu_cpuset_str(&is), *w = mu_cpuset_str(wanted);
    return mu_err_set(err, MUSTER_ENODE, "process %d runs on CPUs %.200s instead of %.200s", (int)pid, a ? a : "?",
                      w ? w : "?");
}
