/* What the ssh engine says to a host and what it makes of the answer: pure, for it and for its tests. */
#ifndef MU_LAUNCHER_ENGINE_SSH_H
#define MU_LAUNCHER_ENGINE_SSH_H

#include "launcher/child.h"
#include "runtime/base/buf.h"

enum { MU_SSH_NO_BINARY = 90, MU_SSH_NO_COPY = 91 }; /* exit codes of our scripts */

/* The words of cmd, for OpenSSH the options that keep it from asking and waiting, dest, and the remote command line. */
int mu_ssh_argv(const char *cmd, const char *dest, const char *remote, char ***argv, struct mu_err *err);

/* A command line for whatever shell the account has there: runs the first of the binaries that is there, with its words
 * and its environment set; key on standard input. own: as it is called here, NULL if that is of no use there; cached:
 * below the cache directory. MU_SSH_NO_BINARY: neither is there. */
void mu_ssh_remote_start(struct mu_buf *out, const char *own, const char *cached, char *const *env, char *const *words);
/* The same for bringing size bytes of standard input there, as cached; MU_SSH_NO_COPY: that failed. */
void mu_ssh_remote_copy(struct mu_buf *out, const char *cached, size_t size);

/* The other side may say again what it was told: no long word of the key stays in it. */
void mu_ssh_hide(char *said, const char *key);
/* One line: which host, what happened, what to do. */
void mu_ssh_explain(struct mu_buf *out, const char *cmd, const char *dest, const struct mu_child_end *end,
                    unsigned limit_s);

#endif
