/* Connections that carry much in large messages: those between the drains of a job (runtime/keeper/peers.h). They begin
 * as connections of tls.h, whose handshake proves both ends; from then on each message is one record (record.h) under
 * keys of that handshake, sealed on its way from where it lies into the socket, and opened where it was received. One
 * thread; callbacks come from the loop only. */
#ifndef MU_WIRE_BULK_H
#define MU_WIRE_BULK_H

#include "runtime/wire/msg.h"

struct mu_bulk;
struct mu_tls_conn;

#define MU_BULK_VERSION 1u
#define MU_BULK_MOST (512u << 10) /* bytes of a message with all that is around it */

/* What is on its way through this thread, for all of its connections: small enough to stay in a processor's cache. */
struct mu_bulk_desk {
    unsigned char in[MU_BULK_MOST], out[MU_BULK_MOST];
};

struct mu_bulk_calls {
    /* msg is borrowed for the call, fields of bytes are where they were received. */
    void (*msg)(void *arg, struct mu_bulk *, const struct mu_msg *msg);
    /* The peer is gone, or was cut off as it sent something else than records; comes once. The connection is still
     * the owner's to free. */
    void (*down)(void *arg, struct mu_bulk *);
    /* What had to wait for the peer has been written. */
    void (*room)(void *arg, struct mu_bulk *);
};

/* Takes the connection over, also on failure. NULL: out of memory. */
struct mu_bulk *mu_bulk_new(struct mu_tls_conn *, struct mu_bulk_desk *, const struct mu_bulk_calls *, void *arg);
/* At once; allowed inside the callbacks. NULL is fine. */
void mu_bulk_free(struct mu_bulk *);

/* How the bytes behind messages go from now on, and whether those of the peer may: encrypted (at first), or readable
 * for whoever sees them on the way, but authenticated all the same. */
void mu_bulk_open(struct mu_bulk *, bool on);

/* One message, whose last field, of bytes and empty in body, is tail; it is written or copied before this returns.
 * EPEER once the peer is known to be gone; EARG: longer than MU_BULK_MOST; ENOMEM. */
int mu_bulk_send(struct mu_bulk *, enum mu_msg_type, const void *body, const void *tail, size_t n);
/* Bytes that wait here for the socket to take them. */
size_t mu_bulk_pending(const struct mu_bulk *);

#endif
