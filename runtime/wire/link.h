/* Connections that carry whole messages, on a libevent base: over Unix sockets, and over TLS between hosts. One thread.
 * A peer that sends garbage loses its connection and nothing else; a message type that this version
 * does not know is skipped. */
#ifndef MU_WIRE_LINK_H
#define MU_WIRE_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/wire/msg.h"

struct event_base;
struct mu_link;
struct mu_tls_conn;

/* msg and frame (one whole frame, for passing on) are borrowed for the call. */
typedef void (*mu_link_msg_fn)(void *arg, struct mu_link *, const struct mu_msg *msg, const void *frame, size_t len);
/* The peer is gone or was cut off; everything that it had sent whole was delivered before. Comes once, never out of
 * mu_link_new or mu_link_send; the link is still the owner's to free. */
typedef void (*mu_link_down_fn)(void *arg, struct mu_link *);

/* Takes over fd (connected, any blocking mode), also on failure. NULL: out of memory. */
struct mu_link *mu_link_new(struct event_base *, int fd, mu_link_msg_fn, mu_link_down_fn, void *arg);
/* The same over a connection from runtime/wire/tls.h, which it takes over; named after the peer's address. */
struct mu_link *mu_link_new_tls(struct mu_tls_conn *, mu_link_msg_fn, mu_link_down_fn, void *arg);
/* At once; allowed inside the callbacks. NULL is fine. */
void mu_link_free(struct mu_link *);
/* Hands the link back: what was sent is still written (given up after 5 s without progress), then it is closed; over
 * TLS once the peer has closed too (5 s at most), so that it reads everything. No callback any more. */
void mu_link_close_after_flush(struct mu_link *);
/* Links of this process that are still flushing, for an orderly exit. */
unsigned mu_link_flushing(void);

/* Queue one frame; written by the loop. ENOMEM, or EPEER once the peer is known to be gone. */
int mu_link_send(struct mu_link *, const void *frame, size_t len);
int mu_link_send_msg(struct mu_link *, enum mu_msg_type, const void *body);
/* The same with the last field, of bytes, from where it lies; it is empty in body. */
int mu_link_send_tail(struct mu_link *, enum mu_msg_type, const void *body, const void *tail, size_t n);
/* Bytes queued and not yet written. */
size_t mu_link_pending(const struct mu_link *);
/* Stops and resumes reading, for back-pressure; no message is delivered while it is paused. */
void mu_link_pause(struct mu_link *, bool on);
/* For the log: "client 12 (pid 4711)". Cut to 47 bytes. */
void mu_link_name(struct mu_link *, const char *name);

/* Listens on the Unix socket dir/name, 0600, in place of a stale one: the caller holds the lock that makes the name
 * his. Connections of other accounts than ours are refused and logged. fd is nonblocking and the callback's; pid is
 * the peer's, 0 when the kernel does not tell. */
struct mu_listener;
typedef void (*mu_accept_fn)(void *arg, int fd, int pid);
int mu_listen_unix(struct event_base *, const char *dir, const char *name, mu_accept_fn, void *arg,
                   struct mu_listener **out, struct mu_err *);
/* The same at an absolute path, for all accounts of the host: the callback finds out whose a connection is. EARG where
 * others than we and root could put another socket in its place, or something else lies there. */
int mu_listen_unix_all(struct event_base *, const char *path, mu_accept_fn, void *arg, struct mu_listener **out,
                       struct mu_err *);
void mu_listener_free(struct mu_listener *); /* leaves the file; NULL is fine */

/* Connects without waiting. EPEER when nobody listens there (or his queue is full); EARG when the listener is not of
 * our account. *fd is nonblocking, CLOEXEC. */
int mu_connect_unix(const char *dir, const char *name, int *fd, struct mu_err *);
/* To one that listens for all accounts: EARG when others than the listener's account and root could have put it there.
 */
int mu_connect_unix_all(const char *path, int *fd, struct mu_err *);

/* For what a connection has done wrong, by links and whoever is like one: a peer must not be able to fill our log. True
 * ten times in ten seconds at most, all of them together. */
bool mu_link_may_log(void);

#endif
