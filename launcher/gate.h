/* What stands between those who ask the controller and its core: who they are (the kernel's word for a Unix socket, the
 * pool key for others), what their role allows (launcher/core/access.h), and the audit log of what they change
 * (launcher/audit.h). It also has the socket for other accounts. One a controller, in its loop. */
#ifndef MU_LAUNCHER_GATE_H
#define MU_LAUNCHER_GATE_H

#include "launcher/core/access.h"
#include "launcher/core/ctl.h"
#include "launcher/store.h"
#include "runtime/base/path.h"

struct event_base;
struct mu_gate;

struct mu_who {
    bool guest; /* of another account; else of the pool's own, or it has its key */
    int pid;
    uint32_t uid, *gids, ngids;
    char name[MU_ACCESS_NAME], from[64];
    uint64_t asked; /* the audit log's line whose outcome is not known yet; 0: none */
    struct mu_gate *gate;
};
void mu_who_init(struct mu_who *, struct mu_gate *, const char *from); /* one who may do everything */
void mu_who_free(struct mu_who *);

struct mu_gate_config {
    const struct mu_paths *paths; /* all are borrowed */
    struct mu_store *store;       /* the newest line of the audit log is remembered there */
    const struct mu_ctl *core;
    void (*accept)(void *arg, int fd, struct mu_who *); /* a guest; who is the callee's then */
    void *arg;
};
/* A broken access file is no error: only the pool's account is let in until it is mended. */
int mu_gate_new(struct event_base *, const struct mu_gate_config *, struct mu_gate **, struct mu_err *);
void mu_gate_free(struct mu_gate *); /* NULL is fine */

/* What the core may hear of a message: the message itself, or in *own one in which the names that it says of its sender
 * are true. NULL: it is refused with *err, and that is in the log. What changes something is in the audit log when
 * this returns. */
const struct mu_msg *mu_gate_pass(struct mu_who *, const struct mu_msg *, struct mu_msg *own, struct mu_err *);
/* A frame that goes to him: it may say what became of what he asked. */
void mu_gate_answered(struct mu_who *, const void *frame, size_t len);
/* Whether a job is not for his eyes. */
bool mu_gate_hides(const struct mu_who *, const char *user_of_job);
/* Something that happened to the controller itself. NULL is fine. */
void mu_gate_note(struct mu_gate *, const char *what, const char *detail);
/* The answer to the query `audit`: where the log is and ends; lines: its newest ones as well. The caller's to free. */
char *mu_gate_audit(const struct mu_who *, bool lines, struct mu_err *);

#endif
