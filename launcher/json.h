/* Answers to queries as the JSON that `--json` prints: schemas muster.jobs/1, muster.events/1, muster.nodes/1 and
 * muster.placed/1. Times
 * are seconds since 1970 as numbers, sizes bytes; what is not known is null. Whatever bytes names are made of, the
 * text is valid UTF-8. */
#ifndef MU_LAUNCHER_JSON_H
#define MU_LAUNCHER_JSON_H

#include "launcher/cabling.h"
#include "launcher/core/pool.h"
#include "launcher/store.h"
#include "runtime/wire/msg.h"

struct mu_json; /* one document with its list */

/* schema "muster.jobs/1", list "jobs". NULL: out of memory. */
struct mu_json *mu_json_new(const char *schema, const char *list);
void mu_json_free(struct mu_json *);
/* Each adds one entry. 0 or MUSTER_ENOMEM. brief: what tables show of it. */
int mu_json_add_job(struct mu_json *, const struct mu_m_jobrow *, bool brief);
int mu_json_add_event(struct mu_json *, const struct mu_store_event *);
int mu_json_add_node(struct mu_json *, const struct mu_node *, const struct mu_place *);
int mu_json_add_checks(struct mu_json *, const struct mu_node *);
struct mu_ctl_made;
/* A node of the inventory, with what was approved (NULL: nothing was). */
int mu_json_add_made(struct mu_json *, const struct mu_ctl_made *);
/* What it was at some time, into the history of the node that was added last. */
void mu_json_add_history(struct mu_json *, const struct mu_m_inventory *);
/* A node of a job that is only asked for. ranks 0: a spare. */
int mu_json_add_share(struct mu_json *, const struct mu_node *, uint32_t ranks);
/* Besides the list: the pool's fabric, and which nodes are not in it; whether a job fits, and why so. */
void mu_json_fabric(struct mu_json *, const struct mu_fabric_state *, const struct mu_pool *);
void mu_json_placed(struct mu_json *, enum mu_fit, const char *why);
struct mu_ctl_would;
void mu_json_would(struct mu_json *, const struct mu_ctl_would *); /* what the queue does with it */
/* Why a node is not simply up, "" when it is; in buf or elsewhere. */
const char *mu_json_node_reason(const struct mu_node *, char *buf, size_t size);
/* The text, for free(). NULL: out of memory. */
char *mu_json_text(const struct mu_json *);

#endif
