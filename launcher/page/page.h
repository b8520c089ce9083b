/* The controller's status page, which the HTTP server of the metrics serves as well: /, /job/ID, what they poll, and
 * the files that they are made with. One a controller. Why so: docs/decisions/021-status-page.md */
#ifndef MU_LAUNCHER_PAGE_PAGE_H
#define MU_LAUNCHER_PAGE_PAGE_H

#include "runtime/base/buf.h"

struct event_base;
struct mu_server;
struct mu_store;
struct mu_page;

/* All is borrowed. NULL: out of memory. */
struct mu_page *mu_page_new(struct event_base *, const struct mu_server *, struct mu_store *, const char *host);
void mu_page_free(struct mu_page *);
/* Appends the document at path. words: with reasons and details. EARG: there is none; ENOMEM. */
int mu_page_get(struct mu_page *, const char *path, bool words, struct mu_buf *out, const char **type);

#endif
