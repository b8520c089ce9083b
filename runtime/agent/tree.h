/* Agents whose way to the controller goes through this one (docs/formats.md, "The tree"): which stream is which
 * channel, on the way up and on the links to the children. Pure; the frames of a stream are passed on unread. Links are
 * numbered by the shell, and no number is used twice. Beats do not come here. */
#ifndef MU_AGENT_TREE_H
#define MU_AGENT_TREE_H

#include <stdbool.h>

#include "runtime/wire/core.h"

#define MU_TREE_CHILDREN 1024u  /* links; the controller sends far fewer */
#define MU_TREE_CHANNELS 65536u /* of all that are below */

struct mu_tree_ops { /* none may call back, except self, which is the last thing that a call does */
    void (*up)(void *arg, const void *frame, size_t len);
    void (*down)(void *arg, uint32_t child, const void *frame, size_t len);
    void (*cut)(void *arg, uint32_t child); /* forgotten: its link is to be closed, after what was sent */
    /* A whole frame or (piece) part of one, of our own stream. */
    void (*self)(void *arg, const void *frame, size_t len, bool piece);
    void *arg;
};

struct mu_tree;
struct mu_tree *mu_tree_new(const struct mu_tree_ops *); /* NULL: out of memory */
void mu_tree_free(struct mu_tree *);                     /* NULL is fine */
/* Our own way: the controller knows us on it and leaves us there; or it is lost, or another one from now on. Whoever is
 * below begins anew when there is one. */
void mu_tree_path(struct mu_tree *, bool there);
/* An agent has connected to us and said hello, which is its first message here. False: no room for it. */
bool mu_tree_child(struct mu_tree *, uint32_t child);
void mu_tree_child_msg(struct mu_tree *, uint32_t child, const struct mu_msg *, const void *frame, size_t len);
/* status: MU_DOWN_CLOSED, MU_DOWN_SILENT; age: how long ago it was heard last. */
void mu_tree_child_gone(struct mu_tree *, uint32_t child, int status, uint64_t age_ns);
/* A relay message with channels that came down. */
void mu_tree_above(struct mu_tree *, const struct mu_m_relay *);
unsigned mu_tree_children(const struct mu_tree *);
unsigned mu_tree_below(const struct mu_tree *); /* agents, children of children included */

#endif
