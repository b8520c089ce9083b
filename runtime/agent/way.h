/* An agent's way to the controller and what goes with it: the connection itself (uplink.h), the agents below whose way
 * goes through this one (kids.h), and the question whether there is a controller at all while there is no way
 * (refusal.h). Gives the agent's core the events of MU_AGENT_CTL. Belongs to the event loop. */
#ifndef MU_AGENT_WAY_H
#define MU_AGENT_WAY_H

#include <stdbool.h>

#include "runtime/agent/core.h"
#include "runtime/agent/join.h"

struct event_base;
struct mu_way;

struct mu_way_config {
    const char *run;      /* see mu_uplink_config */
    struct mu_join *join; /* NULL: a local agent, which has no children */
    struct mu_agent *core;
    void (*event)(void *arg, struct mu_ev *);      /* for the core */
    void (*direct)(void *arg);                     /* connected to the controller itself, before the event */
    bool (*msg)(void *arg, const struct mu_msg *); /* from the controller; false: it is not for the core */
    void (*failed)(void *arg, uint64_t away_since, const struct mu_err *);
    void *arg;
};

/* Dials. The strings, join and core are borrowed. */
int mu_way_new(struct event_base *, const struct mu_way_config *, struct mu_way **, struct mu_err *);
void mu_way_free(struct mu_way *); /* NULL is fine */
int mu_way_send(struct mu_way *, const void *frame, size_t len);
void mu_way_hang_up(struct mu_way *); /* see mu_uplink_hang_up */
void mu_way_leave(struct mu_way *);
void mu_way_redial(struct mu_way *);
const char *mu_way_ctl_host(const struct mu_way *); /* as we reach the controller; "": not yet, or on this machine */
const char *mu_way_via(const struct mu_way *);      /* the node through which it goes; "": none */
/* Ways so far on which we have said who we are: what was sent on another one may be lost. */
unsigned mu_way_count(const struct mu_way *);
unsigned mu_way_children(const struct mu_way *);

#endif
