/* The controller's /metrics, where Prometheus scrapes it, and its status page. One a controller. */
#ifndef MU_LAUNCHER_METRICS_H
#define MU_LAUNCHER_METRICS_H

#include "runtime/base/err.h"
#include "runtime/base/path.h"

struct event_base;
struct mu_server;
struct mu_store;
struct mu_backup;
struct mu_metrics_page;

/* option: "[ADDR:]PORT", or NULL: MUSTER_METRICS, and without that nothing is served and *out is NULL. What is given
 * as option is there for the next controller, too, which an agent may start; when it cannot be served that is an error.
 * One that has it from MUSTER_METRICS logs it and tries again: jobs come first. All but option is borrowed. */
int mu_metrics_open(struct event_base *, const struct mu_paths *, const struct mu_server *, struct mu_store *,
                    const struct mu_backup *, const char *option, struct mu_metrics_page **out, struct mu_err *);
void mu_metrics_close(struct mu_metrics_page *); /* NULL is fine */

#endif
