/* What the daemons share around their cores: how one becomes a daemon, how one starts another, timers at absolute
 * times, and who takes the run directory away. */
#ifndef MU_WIRE_DAEMON_H
#define MU_WIRE_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"
#include "runtime/base/path.h"

struct event_base;

/* A loop with timers finer than a millisecond; NULL: out of memory or descriptors. */
struct event_base *mu_loop_new(void);

/* One timer at a time, at mu_now() times. fn comes when it is due, never early; it is then unset. */
struct mu_alarm;
typedef void (*mu_alarm_fn)(void *arg);
struct mu_alarm *mu_alarm_new(struct event_base *, mu_alarm_fn, void *arg);
void mu_alarm_set(struct mu_alarm *, uint64_t at); /* UINT64_MAX: unset */
void mu_alarm_free(struct mu_alarm *);             /* NULL is fine */

/* What frames of some hundred KiB have used stays with the process: most of what passing one on costs is else the
 * kernel's, which clears fresh pages each time. Up to 16 MiB lie idle then. mu_daemon_setup() does it. */
void mu_daemon_heap(void);

/* The nice value of daemons that may have it, unless theirs is not 0 already; what they start, and their threads, have
 * 0. */
#define MU_DAEMON_NICE (-10)

/* Opens STATE/log/NAME.log for appending (a file past 4 MiB becomes NAME.log.1) and logs there; foreground: to stderr.
 * Then a session of its own, cwd /, umask 077, SIGPIPE ignored, standard streams on /dev/null and the log. Either way
 * the soft limits of open files, of files' sizes, CPU time and memory become the hard ones, the nice value
 * MU_DAEMON_NICE. */
int mu_daemon_setup(const struct mu_paths *, const char *name, bool foreground, struct mu_err *);

/* How many files a daemon that is set up here may have open; 0: any number. */
uint64_t mu_daemon_files(void);
/* Tells this boot of the machine, and its time namespace, from others; 0: the kernel does not say. */
uint64_t mu_daemon_boot(void);

/* Raises the soft limit of the stack to what we are built for, or as far as we may; at once in force for the first
 * thread. What it is now, in bytes. */
uint64_t mu_daemon_stack(void);

/* How a daemon is started: of our own binary or the one that has taken its place (exe.h), in a session of its own, with
 * no descriptor of ours but keep_fd (-1: none), standard streams on /dev/null, default signals, without what our
 * environment may have of a job. detach: not our child. argv[0] is a name, argv[1] the subcommand. *pid (may be NULL)
 * is that of the new process. */
int mu_daemon_spawn(char *const argv[], int keep_fd, bool detach, pid_t *pid, struct mu_err *);
/* The same for one that is a part of us and shares more than messages: always of our own binary, replaced or not. vars
 * (NAME=VALUE, may be NULL) come instead of all our variables whose names begin with `instead`. */
int mu_daemon_helper(char *const argv[], int keep_fd, const char *instead, char *const vars[], pid_t *pid,
                     struct mu_err *);

/* RUN/NAME is locked by a living process (*pid: its number as written there, may be NULL). */
bool mu_daemon_locked(const char *run, const char *name, pid_t *pid);

/* The last daemon out removes the run directory: does nothing while another one or a keeper lives or one is being
 * started. lock: the caller's own, -1 if it has none; it is given back. Takes up to 0.3 s while others still live. */
void mu_daemon_leave(const struct mu_paths *, int *lock);

/* Removes what daemons of this pool have left that died while they removed the run directory. */
void mu_daemon_sweep(const struct mu_paths *);

/* Tells whoever started us: "ok", or the exit code and one line. Closes *fd; nothing when it is -1. */
void mu_daemon_ready(int *fd, int code, const char *text);
/* The other side: waits for that line until timeout_ms. 0 when it was "ok"; otherwise its text is in err and *code (may
 * be NULL) is the exit code that it names. */
int mu_daemon_await(int fd, int timeout_ms, int *code, struct mu_err *);

#endif
