/* Checks of `muster doctor`. Each runs in a process of its own, so a library that crashes or a driver that hangs costs
 * one row of the report. */
#ifndef MU_LAUNCHER_DOCTOR_H
#define MU_LAUNCHER_DOCTOR_H

#include "runtime/base/err.h"

enum mu_health {
    MU_HEALTH_OK,
    MU_HEALTH_NONE, /* not there, which is fine for what is optional */
    MU_HEALTH_BAD   /* there and broken, or insufficient */
};
/* Small enough for one atomic write into a pipe. */
struct mu_finding {
    enum mu_health health;
    char found[600]; /* version and path, or why not */
    char fix[300];   /* what to do; "" nothing */
};

void mu_found(struct mu_finding *, enum mu_health, const char *fmt, ...) MU_PRINTF(3, 4);
void mu_found_fix(struct mu_finding *, const char *fmt, ...) MU_PRINTF(2, 3);

/* Probes of software (doctor_soft.c) and of the machine (doctor_node.c). sys is "/sys", or a test's copy of one. */
void mu_doctor_mpi(struct mu_finding *, const char *sys);
void mu_doctor_pmix(struct mu_finding *, const char *sys);
void mu_doctor_hwloc(struct mu_finding *, const char *sys);
void mu_doctor_ucx(struct mu_finding *, const char *sys);
void mu_doctor_nccl(struct mu_finding *, const char *sys);
void mu_doctor_cuda(struct mu_finding *, const char *sys);
void mu_doctor_kernels(struct mu_finding *, const char *sys);
void mu_doctor_gpus(struct mu_finding *, const char *sys);
void mu_doctor_infiniband(struct mu_finding *, const char *sys);
void mu_doctor_limits(struct mu_finding *, const char *sys);
void mu_doctor_shm(struct mu_finding *, const char *sys);
void mu_doctor_tmp(struct mu_finding *, const char *sys);
void mu_doctor_state(struct mu_finding *, const char *sys);
void mu_doctor_access(struct mu_finding *, const char *sys);
void mu_doctor_cgroup(struct mu_finding *, const char *sys);
void mu_doctor_ptrace(struct mu_finding *, const char *sys);
void mu_doctor_governor(struct mu_finding *, const char *sys);

#endif
