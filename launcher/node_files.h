/* What a controller leaves of nodes for the next one: STATE/labels, what they are labelled with, "NODE LABEL,..." a
 * line; STATE/marks, which of them are drained or in quarantine, a mark message each. */
#ifndef MU_LAUNCHER_NODE_FILES_H
#define MU_LAUNCHER_NODE_FILES_H

#include "launcher/core/ctl.h"
#include "runtime/base/err.h"
#include "runtime/wire/msg.h"

/* text: as mu_ctl_pool_labels says it; "" removes the file. */
int mu_labels_store(const char *state, const char *text, struct mu_err *);
/* Each line to `take`; what is no such line is an error that names it, and the others are taken. */
int mu_labels_load(const char *state, void (*take)(void *arg, const struct mu_m_nodes_label *), void *arg,
                   struct mu_err *);

/* No frames: the file is removed. */
int mu_marks_store(const char *state, const void *frames, size_t len, struct mu_err *);
/* Each of them to `take`, up to what is damaged. */
int mu_marks_load(const char *state, void (*take)(void *arg, const struct mu_msg *), void *arg, struct mu_err *);

/* What the core has been told of the pool, to whoever stores it: hosts as nodes_add has them, and labels. Either may be
 * NULL. */
void mu_pool_told(const struct mu_ctl *, void (*labels)(void *arg, const char *text),
                  void (*hosts)(void *arg, const char *text), void *arg);

#endif
