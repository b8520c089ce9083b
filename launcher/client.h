/* A command's connection to the controller: framed messages over its socket, no event loop. Calls that wait have a
 * bound. Owner: the command; one thread. A connection that failed stays failed: close it and open another. */
#ifndef MU_LAUNCHER_CLIENT_H
#define MU_LAUNCHER_CLIENT_H

#include "runtime/base/path.h"
#include "runtime/wire/msg.h"
#include "runtime/wire/stopped.h"

struct mu_client {
    int fd;    /* non-blocking; -1: not open */
    bool lost; /* nothing more will come */
    size_t at;
    struct mu_buf in, out; /* in: from `at` on not yet decoded */
    struct mu_paths paths;
};

/* Name of the account, for labels. Returns buf. */
char *mu_client_user(char *buf, size_t n);

/* Connects, starting a controller when none answers, and exchanges hello and welcome. Overwrites *c; on failure there
 * is nothing to close. */
int mu_client_open(struct mu_client *c, struct mu_err *err);
/* The same for who has nothing to start, but makes no pool where there is none: then MU_CLIENT_NO_POOL, and nothing to
 * close either. */
enum { MU_CLIENT_NO_POOL = 1 };
int mu_client_look(struct mu_client *c, struct mu_err *err);
void mu_client_close(struct mu_client *c);
bool mu_client_is_open(const struct mu_client *c);
/* For who waits for long: ends a controller of this host that is stopped, as its agent does if that is not stopped as
 * well. True: it has just been killed, and a reconnect starts another. To be called every MU_STOPPED_GAP. */
bool mu_client_unfreeze(const struct mu_client *, struct mu_stopped *);

/* Queues a message and writes what the socket takes. MUSTER_EPEER: the connection is lost. */
int mu_client_post(struct mu_client *c, enum mu_msg_type type, const void *body, struct mu_err *err);
int mu_client_flush(struct mu_client *c, struct mu_err *err);
/* Reads what is there without waiting. MUSTER_EPEER: the connection is lost; messages that came before it are still
 * there for mu_client_next. */
int mu_client_fill(struct mu_client *c, struct mu_err *err);
/* 1: *m is the next message (mu_msg_free it); 0: none is complete yet; negative: the stream is broken. */
int mu_client_next(struct mu_client *c, struct mu_msg *m, struct mu_err *err);
/* Posts and waits for the next message of type want. An error message becomes err (its code and text). */
int mu_client_call(struct mu_client *c, enum mu_msg_type type, const void *body, enum mu_msg_type want,
                   struct mu_msg *reply, uint64_t timeout_ns, struct mu_err *err);

/* Waits for the next message of type want until then; the same of an error message. */
int mu_client_await(struct mu_client *c, enum mu_msg_type want, struct mu_msg *reply, uint64_t until,
                    struct mu_err *err);

/* One query over a connection of its own, as mu_client_look opens it; *json is the caller's to free. */
int mu_client_query(const char *what, uint64_t job, bool all, char **json, struct mu_err *err);
int mu_client_query_on(struct mu_client *c, const char *what, uint64_t job, bool all, char **json, struct mu_err *err);

#endif
