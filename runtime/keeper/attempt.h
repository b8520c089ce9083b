/* One attempt of the job on this node, from its directories and its slots to the last of its processes. Belongs to the
 * keeper's event loop; what happens is told through struct mu_attempt_host, out of the loop only, never out of a call
 * of the keeper's (but mu_attempt_deliver, _pmix and _inspect). */
#ifndef MU_KEEPER_ATTEMPT_H
#define MU_KEEPER_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/path.h"
#include "runtime/keeper/feed.h"
#include "runtime/keeper/logs.h"
#include "runtime/keeper/pmix.h"
#include "runtime/keeper/ram.h"
#include "runtime/wire/msg.h"

struct event_base;
struct mu_link;

struct mu_rank_end {
    uint32_t index;
    int status;    /* of wait */
    bool abnormal; /* ended with 0, without MPI_Finalize */
    bool aborted;  /* has called MPI_Abort with abort_code */
    int32_t abort_code;
    uint32_t blame;   /* MU_BLAME_ */
    uint32_t vain;    /* MU_VAIN_ */
    const char *tail; /* its last lines of stderr */
};

struct mu_attempt_host {
    struct event_base *base;
    const struct mu_paths *paths;
    struct mu_pmix *pmix;
    struct mu_ram *ram; /* may be NULL */
    struct mu_logs *logs;
    struct mu_feed *feed;
    void *arg;
    /* Once: all ranks run (status 0), or none does (exit code, culprit, reason). */
    void (*spawned)(void *arg, int status, uint32_t index, const char *text);
    /* A rank is dead; after spawned, in the order of plausibility. */
    void (*ended)(void *arg, const struct mu_rank_end *);
    void (*output)(void *arg); /* the logs have grown */
    /* hang: before ended, when a rank has given up waiting for another one. misbound: a rank (the local one) does not
     * run where it was bound to. */
    void (*say)(void *arg, const struct mu_msg *);
};

struct mu_attempt;

/* The start message is copied. On failure nothing is left of it. */
int mu_attempt_new(const struct mu_attempt_host *, const struct mu_m_start *, struct mu_attempt **out, struct mu_err *);
/* What is not clean is left as it is. */
void mu_attempt_free(struct mu_attempt *);

/* Every reaped child goes through reap (false: not one of this attempt), then once deliver. */
bool mu_attempt_reap(struct mu_attempt *, pid_t pid, int status);
void mu_attempt_deliver(struct mu_attempt *);
void mu_attempt_pmix(struct mu_attempt *, struct mu_pmix_event *); /* leaves the event to its owner */
/* index: local rank, or MU_ALL. */
void mu_attempt_signal(struct mu_attempt *, uint32_t index, int signo);
void mu_attempt_abort(struct mu_attempt *, uint32_t rank, int32_t status, const char *node);
void mu_attempt_notice(struct mu_attempt *, uint32_t bits);
/* Progress fields of the report. */
bool mu_attempt_progress(const struct mu_attempt *, struct mu_m_report *);
/* Looks for ranks whose MPI came up alone and says so in their stderr; for about once a second. */
void mu_attempt_inspect(struct mu_attempt *);
/* Looks for ranks that hang, when it is time to; true: the controller is to hear of *out. */
bool mu_attempt_watch(struct mu_attempt *, struct mu_m_hang *out);
/* The answer to a `look` of the controller's. */
void mu_attempt_look(struct mu_attempt *, uint32_t rank, struct mu_m_hang *out);
/* Answers what the ranks have called last; of another attempt, and of none (a NULL), that there is nothing. */
void mu_attempt_flights(const struct mu_attempt *, const struct mu_m_flight *ask, struct mu_link *);
/* Kills and removes whatever is left. 0: nothing is. MUSTER_ETIMEOUT: something does not die; call again. */
int mu_attempt_clean(struct mu_attempt *, struct mu_err *);

uint32_t mu_attempt_number(const struct mu_attempt *);
/* Paths of an attempt's directories, for whoever cleans up behind a dead keeper. */
void mu_attempt_session_dir(char *out, size_t n, const struct mu_paths *, uint64_t job, uint32_t attempt);
void mu_attempt_shm_dir(char *out, size_t n, const struct mu_paths *, uint64_t job, uint32_t attempt);

#endif
