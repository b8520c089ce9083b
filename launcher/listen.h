/* Where agents and commands of other hosts reach the controller. Nothing listens until somebody needs it. The port is
 * kept (STATE/port), so that agents find a controller that was restarted. One a controller. */
#ifndef MU_LAUNCHER_LISTEN_H
#define MU_LAUNCHER_LISTEN_H

#include "runtime/base/path.h"
#include "runtime/wire/tls.h"

struct event_base;
struct mu_listen;

/* where: "ADDR:PORT", ":PORT" (--listen), or NULL: all addresses, any port. EARG names what is wrong with it. */
int mu_listen_new(struct event_base *, const struct mu_paths *, const char *where, mu_tls_accept_fn, void *arg,
                  struct mu_listen **, struct mu_err *);
void mu_listen_free(struct mu_listen *); /* NULL is fine */
/* From now on, if not already; makes the pool key when there is none. */
int mu_listen_open(struct mu_listen *, struct mu_err *);
/* A predecessor listened and did not end in good order, or where was given: open it at the start. */
bool mu_listen_wanted(const struct mu_listen *);
/* Once open: "ADDR[,ADDR...]:PORT" for `muster agent --join`, and the key. */
const char *mu_listen_join(const struct mu_listen *);
const struct mu_key *mu_listen_key(const struct mu_listen *);
struct mu_tls *mu_listen_tls(const struct mu_listen *);
/* All agents were told farewell: nobody will look for the port. */
void mu_listen_forget(struct mu_listen *);

#endif
