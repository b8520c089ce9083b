/* How a process of this host is doing, from /proc: whether it runs, sleeps, or is stopped by somebody. */
#ifndef MU_BASE_PROCSTATE_H
#define MU_BASE_PROCSTATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mu_proc_state {
    char letter;  /* as ps shows it: R S D T t Z ... */
    pid_t group;  /* its process group */
    uint64_t cpu; /* clock ticks of CPU time so far */
};

/* MUSTER_EARG when there is no such process. */
int mu_proc_state(pid_t pid, struct mu_proc_state *out);
/* Its cgroup is frozen (the freezer of either version). A frozen process looks asleep otherwise. */
bool mu_proc_frozen(pid_t pid);
/* The same from the text of a /proc/PID/cgroup and directories like those below /sys/fs/cgroup. */
bool mu_proc_frozen_at(const char *cgroups, const char *root);
/* Its letter, 'F' when it is frozen, 0 when there is no such process. */
char mu_proc_letter(pid_t pid);
/* Does not run until somebody lets it: 'T' (stopped), 't' (by a debugger), 'F'; 0 otherwise. */
char mu_proc_stopped(pid_t pid);
/* "it is stopped (state T)", for the letters above and those of ps. */
const char *mu_proc_state_text(char letter);

#endif
