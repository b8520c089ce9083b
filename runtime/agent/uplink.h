/* The agent's connection to its controller. A local agent finds it at the run directory's socket; one that has joined
 * dials all addresses that it was told, a moment apart, and takes the first at which somebody proves to have the pool
 * key. Lost connections are dialled again for ever, ever more slowly. Over TCP beats go both ways: the other side's
 * silence ends the connection. Everything happens in the base's thread; callbacks come from the loop only.
 *
 * The controller may send it through another agent (mu_uplink_move): then that is its connection, which looks the same
 * from here. When the controller is not heard through it for a while it is dialled itself, beside it, and whoever is
 * reached first counts. `up` without a `down` before it: another connection takes the place of the last one. */
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
    void (*down)(void *arg,
                 int how); /* MU_DOWN_CLOSED, MU_DOWN_SILENT; MU_DOWN_PARENT: that of the agent above is lost */
    void (*msg)(void *arg, const struct mu_msg *);
    void (*echo)(void *arg, uint64_t at);       /* the controller is known to have heard us then, or later */
    uint64_t (*known)(void *arg);               /* the newest of these that counts; 0: none does */
    bool (*leased)(void *arg);                  /* it matters how old that is */
    void (*stuck)(void *arg, const char *node); /* mu_uplink_move: it was not reached; all is as it was */
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
/* Out of any callback: what came on it cannot be used. It ends soon, with `down`. */
void mu_uplink_spoilt(struct mu_uplink *);
/* Ends it for good: no callback any more. */
void mu_uplink_leave(struct mu_uplink *);
/* The addresses have changed: dials them now, unless it is connected. */
void mu_uplink_redial(struct mu_uplink *);
/* From now on through the agent of a node, which is dialled while what there is stays. */
void mu_uplink_move(struct mu_uplink *, const char *node, const char *addr, uint16_t port);
/* The node through which it goes; "": none. */
const char *mu_uplink_via(const struct mu_uplink *);
size_t mu_uplink_pending(const struct mu_uplink *); /* bytes that are not written yet */
/* Our address on the direct way to the controller; "" over the Unix socket. */
const char *mu_uplink_local_host(const struct mu_uplink *);
/* The controller's, as we reach it; "" over the Unix socket. */
const char *mu_uplink_peer_host(const struct mu_uplink *);

#endif
