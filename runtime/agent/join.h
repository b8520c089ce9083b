/* How an agent reaches a controller on another host: what it was told when it was started, kept in its state directory
 * for the agent that follows it when it dies (docs/formats.md, "Files of a pool"). */
#ifndef MU_AGENT_JOIN_H
#define MU_AGENT_JOIN_H

#include "runtime/base/path.h"
#include "runtime/wire/key.h"

enum { MU_JOIN_HOSTS = 16, MU_JOIN_HOST = 254 };

struct mu_join {
    char hosts[MU_JOIN_HOSTS][MU_JOIN_HOST]; /* tried together, the first ones first */
    unsigned n;
    uint16_t port;
    char node[256]; /* our name in the pool */
    int slots;      /* 0: as many as there are cores */
    uint64_t owner; /* the job that this node was started for; 0: none */
    bool stay;      /* nobody but its starter ends it: not a pool that idles, not loneliness */
    struct mu_key key;
};

/* "HOST[,HOST...]:PORT"; hosts are names or addresses, IPv6 ones in brackets; "muster://" may be before it. Fills hosts
 * and port. */
int mu_join_parse(struct mu_join *, const char *text, struct mu_err *);
/* A host to be tried before the others; nothing when it is there already. */
void mu_join_prefer(struct mu_join *, const char *host);
/* Of the address, for MU_PATHS_JOINED where nobody says another one. */
uint32_t mu_join_id(const char *text);

/* STATE/join and STATE/join.key, both 0600. */
int mu_join_save(const struct mu_paths *, const struct mu_join *, struct mu_err *);
int mu_join_load(const struct mu_paths *, struct mu_join *, struct mu_err *);
void mu_join_forget(const struct mu_paths *);

#endif
