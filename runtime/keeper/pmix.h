/* The PMIx server of a keeper: what wires up the ranks' MPI. One server a process, one namespace an attempt. PMIx calls
 * back on threads of its own; here that becomes events in a queue behind a descriptor for the event loop. All functions
 * are for the loop's thread. Fences and questions for ranks of other nodes are handed out and answered later. */
#ifndef MU_KEEPER_PMIX_H
#define MU_KEEPER_PMIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* Ranks are numbered node by node: node i has node_ranks[i] of them. Applications (MPMD) follow one another in the same
 * numbering. All borrowed. */
struct mu_pmix_job {
    const char *nspace; /* never used before in this process */
    uint32_t attempt, node_id;
    char *const *nodes;
    const uint32_t *node_ranks;
    uint32_t nnodes;
    const uint32_t *app_ranks;
    uint32_t napps;
    const char *session_dir; /* exists; MPI libraries put their files below it */
};

/* MODEX: asks what `rank` of another node has published (answer 0, seq: which question this is), or says what a rank of
 * this node has (answer 1, seq and node as mu_pmix_modex_ask got them). */
enum mu_pmix_kind { MU_PMIX_CONNECTED = 1, MU_PMIX_FINALIZED, MU_PMIX_ABORTED, MU_PMIX_FENCE, MU_PMIX_MODEX };
struct mu_pmix_event {
    enum mu_pmix_kind kind;
    uint32_t attempt, rank;
    int32_t status;          /* ABORTED: the code; MODEX: 0 or MUSTER_E */
    char *text;              /* ABORTED, may be NULL; owned */
    uint64_t seq;            /* FENCE: as in runtime/wire/core.h */
    uint32_t *among, namong; /* FENCE: the nodes that take part, none: all; owned */
    uint8_t *data;           /* FENCE, MODEX; owned */
    size_t len;
    uint32_t node;
    bool answer;
};

struct mu_pmix;

/* Starts the server; its files go under tmpdir, which exists. One a process, for good: the
 * library does not come up twice. Block the signals that the
 * caller wants for itself before: the server's threads inherit the mask. */
int mu_pmix_init(const char *tmpdir, struct mu_pmix **out, struct mu_err *err);
/* Ends an attempt that is still open, too. Some ends leave the library's thread behind: the process should end soon. */
void mu_pmix_free(struct mu_pmix *);
/* Makes the namespace known and its local ranks welcome. */
int mu_pmix_begin(struct mu_pmix *, const struct mu_pmix_job *, struct mu_err *err);
/* Forgets the namespace and fails what still waits for an answer. No event of the attempt comes later. */
void mu_pmix_end(struct mu_pmix *);
/* The library has not answered within its time and will not: this process has no further attempt in it. */
bool mu_pmix_broken(const struct mu_pmix *);
/* What rank needs in its environment, as "NAME=value" strings; free with mu_strv_free. */
int mu_pmix_env(struct mu_pmix *, uint32_t rank, char ***env, struct mu_err *err);

/* Readable when events wait. */
int mu_pmix_fd(const struct mu_pmix *);
/* Takes the next one; false: none. */
bool mu_pmix_next(struct mu_pmix *, struct mu_pmix_event *);
void mu_pmix_event_free(struct mu_pmix_event *);
/* Answers a fence with what all nodes contributed. Takes data (from malloc) in any case. status: 0 or MUSTER_E. A fence
 * that is not open (any more) is no error: messages may come twice. */
void mu_pmix_fence_done(struct mu_pmix *, uint32_t attempt, uint64_t seq, int status, uint8_t *data, size_t len);
/* The same for a question of kind MODEX. */
void mu_pmix_modex_done(struct mu_pmix *, uint32_t attempt, uint64_t seq, int status, uint8_t *data, size_t len);
/* Asks for what a rank of this node has published or will publish; answered with an event MODEX, unless the attempt
 * ends before. */
void mu_pmix_modex_ask(struct mu_pmix *, uint32_t attempt, uint32_t rank, uint64_t seq, uint32_t node);

#endif
