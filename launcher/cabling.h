/* The pool's fabric: read from files, or discovered, and again when they change or agents tell which adapters are in
 * their nodes. That takes up to seconds for thousands of nodes, so a thread does it; everything else is the loop's. */
#ifndef MU_LAUNCHER_CABLING_H
#define MU_LAUNCHER_CABLING_H

#include "runtime/wire/msg.h"
#include "topo/place.h"

#define MU_CABLING_FILE_NS (60 * 1000000000ull) /* so long the first reading may take */
#define MU_CABLING_LIVE_NS (45 * 1000000000ull)

/* What is known of the fabric. Borrowed by whoever is told of it, until the next one. */
struct mu_fabric_state {
    const char *source;           /* NULL: the pool has none */
    const struct mu_place *place; /* NULL: it cannot be had */
    const char *trouble;          /* why not, or what is odd about it; NULL, "": nothing */
    bool reading;                 /* for the first time: nothing is known yet */
};

struct mu_cabling_config {
    const char *where; /* "live", "live:ADAPTER", or files with ':' between; absolute names */
    const char *guids; /* a file "GUID HOST" a line; NULL: none */
    /* 2: the node is in the pool and its agent there, 1: it is in the pool, 0: it is not. */
    int (*knows)(void *arg, const char *node);
    void (*changed)(void *arg, const struct mu_fabric_state *); /* from the loop */
    void *arg;
    uint64_t late_ns,
        again_ns; /* a reading that takes longer is told of; a failed one is begun again; 0: as above, 1 min */
};
struct event_base;
struct mu_cabling;

/* As MUSTER_FABRIC has it, with relative names made absolute: for free(). EARG names what is wrong. */
int mu_cabling_where(const char *text, char **out, struct mu_err *);
/* Strings are copied. Begins to read; `changed` is called at once, and when more is known: in any case in the time
 * above. */
int mu_cabling_new(struct event_base *, const struct mu_cabling_config *, struct mu_cabling **out, struct mu_err *);
/* Does not wait for a reading that is under way; nobody is told of it any more. */
void mu_cabling_free(struct mu_cabling *);                             /* NULL is fine */
void mu_cabling_agent(struct mu_cabling *, const struct mu_m_agent *); /* NULL is fine */

#endif
