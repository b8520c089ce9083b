/* The controller's core with its connections, its store and its clock around it. One loop, one thread. */
#ifndef MU_LAUNCHER_SERVER_H
#define MU_LAUNCHER_SERVER_H

#include "launcher/core/ctl.h"
#include "launcher/query.h"
#include "launcher/store.h"

struct event_base;
struct mu_server;

struct mu_server_config {
    struct mu_ctl_config ctl;
    /* The core wants to end, or mu_server_stop was carried out. Called once. */
    void (*on_exit)(void *arg);
    void (*on_agent_lost)(void *arg); /* an agent's connection is gone */
    /* Asked for a copy of the store (begin), or how that goes; the answer is the caller's to free, NULL: out of memory.
     */
    char *(*on_backup)(void *arg, bool begin);
    bool (*on_hurt)(void *arg, const char *why); /* mu_commit_ops' hurt */
    /* The core wants an agent started (spec: of the job that owns the node, NULL: the pool), or to know whether a host
     * answers. Both return at once; mu_server_engine_done and mu_server_probed come later, from the loop. */
    void (*on_engine)(void *arg, const struct mu_act *, const struct mu_m_spec *spec);
    /* An agent says what its node is (remote: another host's); before the core hears of it. */
    void (*on_agent)(void *arg, const struct mu_m_agent *, bool remote);
    void (*on_probe)(void *arg, const struct mu_act *);
    void (*on_nodes_add)(void *arg, const struct mu_m_nodes_add *); /* before the core hears of it */
    void (*on_pool_changed)(void *arg, const char *hosts);          /* to be stored: pool_hosts of the next start */
    void (*on_marks)(void *arg, const void *frames, size_t len);    /* to be stored: mu_marks_store */
    void (*on_labels)(void *arg, const char *text);                 /* to be stored, too: mu_labels_store */
    const char *state;                                              /* where that is; NULL: nowhere */
    const char *pool_hosts;                                         /* NULL: none; borrowed for the call */
    const struct mu_paths *paths; /* of access rules and audit log (gate.h); NULL: nobody is asked who he is */
    void *arg;
};
struct mu_tls_conn;

/* Gives every stored row to the core. Store and config's strings are borrowed. */
int mu_server_new(struct event_base *, struct mu_store *, const struct mu_server_config *, struct mu_server **out,
                  struct mu_err *);
void mu_server_accept(struct mu_server *, int fd, int pid); /* takes fd over */
/* From another host, likewise. Between hosts beats go both ways; the core hears of a silent connection's end. */
void mu_server_accept_tls(struct mu_server *, struct mu_tls_conn *);
void mu_server_engine_done(struct mu_server *, const char *node, int status, const char *text);
void mu_server_probed(struct mu_server *, const char *node, int status);
/* The pool's fabric, from now on. */
void mu_server_fabric(struct mu_server *, const struct mu_fabric_state *);
const struct mu_pool *mu_server_pool(const struct mu_server *);
const struct mu_ctl *mu_server_core(const struct mu_server *); /* to be read */
/* When something came last on a connection that has beats; 0: it has none. */
uint64_t mu_server_heard(const struct mu_server *, mu_conn);
size_t mu_server_connections(const struct mu_server *);
bool mu_server_has_jobs(const struct mu_server *);               /* that have not ended */
bool mu_server_node_ready(const struct mu_server *);             /* one at least */
bool mu_server_needs_job(const struct mu_server *, uint64_t id); /* one that waits is to come after it */
/* Stores what waits and hands the connections over to their flushing; the core takes no more events. */
void mu_server_close(struct mu_server *);
void mu_server_free(struct mu_server *);

#endif
