/* Answers to queries: what the controller knows, as JSON (docs/formats.md). They only read. */
#ifndef MU_LAUNCHER_QUERY_H
#define MU_LAUNCHER_QUERY_H

#include "launcher/cabling.h"
#include "launcher/commit.h"
#include "launcher/core/ctl.h"
#include "launcher/store.h"

struct mu_who;
struct mu_query_env {
    const struct mu_who *who; /* asks; NULL: somebody who may see everything */
    struct mu_ctl *core;
    struct mu_store *store;
    struct mu_commit *commit;
    const struct mu_fabric_state *fabric;
    char *(*backup)(void *arg, bool begin); /* mu_server_config.on_backup; NULL: there are no copies */
    void *arg;
};
/* *text is the caller's to free. An error says what to tell whoever has asked. */
int mu_query_answer(const struct mu_query_env *, const struct mu_m_query *, char **text, struct mu_err *);

#endif
