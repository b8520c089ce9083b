/* STATE/labels: what nodes are labelled with, "NODE LABEL,..." a line, between two controllers. */
#ifndef MU_LAUNCHER_LABELS_H
#define MU_LAUNCHER_LABELS_H

#include "runtime/base/err.h"
#include "runtime/wire/msg.h"

/* text: as mu_ctl_pool_labels says it; "" removes the file. */
int mu_labels_store(const char *state, const char *text, struct mu_err *);
/* Each line to `take`; what is no such line is an error that names it, and the others are taken. */
int mu_labels_load(const char *state, void (*take)(void *arg, const struct mu_m_nodes_label *), void *arg,
                   struct mu_err *);

#endif
