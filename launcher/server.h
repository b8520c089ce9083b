/* The controller's core with its connections, its store and its clock around it. One loop, one thread. */
#ifndef MU_LAUNCHER_SERVER_H
#define MU_LAUNCHER_SERVER_H

#include "launcher/core/ctl.h"
#include "launcher/store.h"

struct event_base;
struct mu_server;

struct mu_server_config {
    struct mu_ctl_config ctl;
    /* The core wants to end, or mu_server_stop was carried out. Called once. */
    void (*on_exit)(void *arg);
    void (*on_agent_lost)(void *arg); /* an agent's connection is gone */
    void *arg;
};

/* Gives every stored row to the core. Store and config's strings are borrowed. */
int mu_server_new(struct event_base *, struct mu_store *, const struct mu_server_config *, struct mu_server **out,
                  struct mu_err *);
void mu_server_accept(struct mu_server *, int fd, int pid); /* takes fd over */
/* Stores what waits and hands the connections over to their flushing; the core takes no more events. */
void mu_server_close(struct mu_server *);
void mu_server_free(struct mu_server *);

#endif
