/* Processes of this host by identity, not by number alone, and the marker by which a job's processes are found again:
 * every process that a keeper starts has MUSTER_TAG=POOL.JOB.ATTEMPT (%08x.%llu.%u) in its environment, and so has what
 * it starts in turn. Looks at processes of our own account only; root looks at everybody's. */
#ifndef MU_BASE_PROC_H
#define MU_BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"

#define MU_PROC_TAG "MUSTER_TAG"
enum { MU_PROC_TAG_SIZE = 56 };

struct mu_proc_tag {
    uint32_t pool;
    uint64_t job;
    uint32_t attempt;
};

/* "MUSTER_TAG=..." for an environment. Returns buf. */
char *mu_proc_tag_format(char buf[MU_PROC_TAG_SIZE], const struct mu_proc_tag *tag);
/* The value behind "MUSTER_TAG=", whole string. */
int mu_proc_tag_parse(const char *value, struct mu_proc_tag *out);

/* A reference that a reused pid cannot mislead. */
struct mu_proc {
    pid_t pid;
    uint64_t start; /* /proc/PID/stat, clock ticks since boot */
    int fd;         /* pidfd, polls readable at the end; -1 where the kernel has none */
};

/* Descriptor from pidfd_open (CLOEXEC), or MUSTER_ENOSYS where the kernel has none, MUSTER_EARG: no such process. */
int mu_proc_pidfd(pid_t pid, struct mu_err *err);
/* Start time; MUSTER_EARG when there is no such process. A zombie still has one. */
int mu_proc_start(pid_t pid, uint64_t *ticks);
int mu_proc_open(pid_t pid, struct mu_proc *out, struct mu_err *err);
void mu_proc_close(struct mu_proc *p);
/* Running: the same process, and no zombie. */
bool mu_proc_alive(const struct mu_proc *p);
/* 0, also when it has already ended. */
int mu_proc_signal(const struct mu_proc *p, int sig, struct mu_err *err);

/* Calls fn for each tagged process until it returns nonzero, which is then returned. */
int mu_proc_scan(int (*fn)(pid_t pid, const struct mu_proc_tag *tag, void *arg), void *arg, struct mu_err *err);

/* What mu_proc_kill_tagged is to kill: job 0 and attempt 0 mean all; never ourselves, never a pid of spare. */
struct mu_proc_sweep {
    uint32_t pool;
    uint64_t job;
    uint32_t attempt;
    const pid_t *spare;
    size_t nspare;
    pid_t below; /* also what descends from this process, whatever became of its tag, but muster's daemons and theirs */
};

/* What it met. denied: how many are another account's, which ours may not signal; they run on. The first of them. */
struct mu_proc_toll {
    int killed, denied;
    pid_t pid;
    uid_t uid;
    char name[32];
};

/* SIGKILLs until no such process is left, also when they fork meanwhile. toll (may be NULL) is filled in any case.
 * MUSTER_ETIMEOUT after deadline_ms, naming one that is left. */
int mu_proc_kill_tagged(const struct mu_proc_sweep *sweep, int deadline_ms, struct mu_proc_toll *toll,
                        struct mu_err *err);
/* How many there are now, or an error. */
int mu_proc_count_tagged(const struct mu_proc_sweep *sweep, struct mu_err *err);

#endif
