/* The agent's connection to its controller. A local agent finds it at the run directory's socket; one that has joined
 * dials all addresses that it was told, a moment apart, and takes the first at which somebody proves to have the pool
 * key. Lost connections are dialled again for ever, ever more slowly. Over TCP beats go both ways: the other side's
 * silence ends the connection. Everything happens in the base's thread; callbacks come from the loop only. */
#ifndef MU_AGENT_UPLINK_H
#define MU_AGENT_UPLINK_H

#include "runtime/agent/join.h"
#include "runtime/wire/core.h"

struct event_base;
struct mu_tls;
struct mu_uplink;

struct mu_uplink_config {
    const char *run;       /* where ctl.sock is, for a local agent; borrowed */
    struct mu_join *join;  /* or how to reach the controller; borrowed, may be changed before mu_uplink_redial */
    struct mu_tls *tls;    /* with join; borrowed */
    void (*up)(void *arg); /* connected: mu_uplink_local_host is known */
    void (*down)(void *arg, int how); /* MU_DOWN_CLOSED, MU_DOWN_SILENT */
    void (*msg)(void *arg, const struct mu_msg *);
    void (*echo)(void *arg, uint64_t at); /* mu_uplink_echoed has grown */
    /* All addresses have failed once more; away_since: when we last had a connection, or began. */
    void (*failed)(void *arg, uint64_t away_since, const struct mu_err *);
    void *arg;
};

/* Begins dialling. NULL: out of memory. */
struct mu_uplink *mu_uplink_new(struct event_base *, const struct mu_uplink_config *);
void mu_uplink_free(struct mu_uplink *); /* NULL is fine */
/* ENOMEM, or EPEER when there is no connection. */
int mu_uplink_send(struct mu_uplink *, const void *frame, size_t len);
/* Ends the connection once what was sent is written, and dials again. No `down`. */
void mu_uplink_hang_up(struct mu_uplink *);
/* Ends it for good: no callback any more. */
void mu_uplink_leave(struct mu_uplink *);
/* The addresses have changed: dials them now, unless it is connected. */
void mu_uplink_redial(struct mu_uplink *);
/* Our address on the way to the controller; "" over the Unix socket. */
const char *mu_uplink_local_host(const struct mu_uplink *);
/* The controller's, as we reach it; "" over the Unix socket. */
const char *mu_uplink_peer_host(const struct mu_uplink *);
/* When we sent what the controller is known to have heard, mu_now() of this host; 0: nothing yet on this connection. */
uint64_t mu_uplink_echoed(const struct mu_uplink *);

#endif
