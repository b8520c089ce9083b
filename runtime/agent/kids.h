/* The links to the agents below this one, around runtime/agent/tree.h: beats both ways, silence, and a bound on what
 * may wait for a child that does not read: its link is closed then, and it begins anew. Belongs to the event loop. */
#ifndef MU_AGENT_KIDS_H
#define MU_AGENT_KIDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/msg.h"

struct event_base;
struct mu_tls_conn;
struct mu_kids;

struct mu_kids_config {
    void (*up)(void *arg, const void *frame, size_t len); /* towards the controller */
    size_t (*pending)(void *arg);                         /* bytes that wait there */
    /* A message of our own stream that came down among others'; NULL: that stream is broken. */
    void (*self)(void *arg, const struct mu_msg *);
    uint64_t (*age)(void *arg, uint64_t now); /* beat.up_age_ns */
    void *arg;
};

/* NULL: out of memory. */
struct mu_kids *mu_kids_new(struct event_base *, const struct mu_kids_config *);
void mu_kids_free(struct mu_kids *); /* NULL is fine */
void mu_kids_accept(struct mu_kids *, struct mu_tls_conn *);
void mu_kids_path(struct mu_kids *, bool there); /* see mu_tree_path */
void mu_kids_above(struct mu_kids *, const struct mu_m_relay *);
unsigned mu_kids_count(const struct mu_kids *);

#endif
