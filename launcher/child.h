/* Processes by which the controller reaches other hosts: input fed from memory, the end of what they say on standard
 * error kept, killed with all they have started when their time is over. They end with the controller, however that
 * ends; what they had started is then killed by the next one. One thread; callbacks come from the loop. */
#ifndef MU_LAUNCHER_CHILD_H
#define MU_LAUNCHER_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"
#include "runtime/base/path.h"

struct event_base;
struct mu_children;
struct mu_child;

struct mu_child_end {
    int status;       /* as waitpid has it */
    bool late;        /* killed: its time was over */
    const char *said; /* the end of its standard error; "" for none */
};
typedef void (*mu_child_fn)(void *arg, const struct mu_child_end *);

struct mu_child_spec {
    char *const *argv; /* argv[0] is looked for in PATH */
    char *const *env;
    const void *input; /* borrowed until the end; then end of file */
    size_t ninput;
    uint64_t deadline; /* mu_now(); UINT64_MAX: none */
    mu_child_fn ended; /* the child is gone then */
    void *arg;
    const char
        *said_file; /* standard error goes there, so that nobody must read it; borrowed for the start. NULL: to us */
    bool lives_on;  /* mu_children_free leaves it alone, and so does our death */
};

/* Ends what an earlier controller's children have left, with those paths; borrowed. NULL: out of memory. */
struct mu_children *mu_children_new(struct event_base *, const struct mu_paths *);
/* Kills those that are left, with no callback. NULL is fine. */
void mu_children_free(struct mu_children *);
int mu_child_start(struct mu_children *, const struct mu_child_spec *, struct mu_child **, struct mu_err *);
pid_t mu_child_pid(const struct mu_child *); /* leads a session; 0 once it was reaped */
/* The end of what it has said so far; borrowed until the next call. */
const char *mu_child_said(struct mu_child *);
/* No callback comes. */
void mu_child_kill(struct mu_child *);
/* For the owner of SIGCHLD. False: it is none of these. */
bool mu_children_reaped(struct mu_children *, pid_t pid, int status);

/* Our environment without variables that begin with one of drop (NULL-terminated), but with set (NAME=VALUE). For
 * mu_strv_free; NULL: out of memory. */
char **mu_child_env(const char *const *drop, char *const *set);

#endif
