/* Fences, and questions for what ranks have published: between the core's messages and PMIx. */
#ifndef MU_KEEPER_WIRED_H
#define MU_KEEPER_WIRED_H

#include "runtime/keeper/pmix.h"
#include "runtime/wire/core.h"

void mu_wired_fenced(struct mu_pmix *, const struct mu_act *);
void mu_wired_modex(struct mu_pmix *, const struct mu_act *);
/* What the core is to hear of a fence or a question, borrowed from the event. False: it does not fit a message, and
 * PMIx has been told. */
bool mu_wired_event(struct mu_pmix *, const struct mu_pmix_event *, struct mu_msg *);

#endif
