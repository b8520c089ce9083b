/* The rank pool: which nodes there are, how many slots each has, who holds them. Pure. A job's share of a node is
 * (node, ranks, slots); ranks exceed slots only for a job that asked to oversubscribe. */
#ifndef MU_LAUNCHER_CORE_POOL_H
#define MU_LAUNCHER_CORE_POOL_H

#include "runtime/wire/core.h"
#include "topo/place.h"

enum mu_node_state {
    MU_NODE_NONE,     /* an empty place in the table */
    MU_NODE_UP,       /* its agent is connected */
    MU_NODE_AWAY,     /* it is not, but may come back at once */
    MU_NODE_STARTING, /* an engine starts its agent for the first time */
    MU_NODE_LOST,     /* given up: nothing of an attempt lives there; its agent may be started again */
};

struct mu_node {
    char name[256];
    uint32_t slots, used, pus, numa, gpus;
    uint32_t kept; /* slots that are free, but promised to others, while a place for a job is looked for */
    uint64_t memory;
    uint64_t gpus_used, memory_used;
    char labels[256];                /* "fast,rack3" */
    uint64_t files;                  /* that a keeper there may have open; 0: not known */
    uint64_t boot, incarnation, way; /* of its agent: boot as a number, 0 if not known; its connections so far */
    uint64_t boots[4], boot_at;      /* those before, the newest first; when the present one came */
    enum mu_node_state state;
    bool ready; /* its agent has told everything it runs */
    mu_conn conn;
    /* of hosts other than the controller's */
    bool remote, suspect, silent, leaving;
    bool orphan;      /* away because the node above it is */
    bool stale;       /* something of a job that is not there any more still ends */
    char target[256]; /* how an engine reaches it; empty: its agent joins by itself */
    char addr[64];    /* where its agent listens */
    uint32_t port;
    uint64_t owner;                                      /* the job that it belongs to alone; 0: the pool's */
    uint32_t limit;                                      /* slots that its owner allows; 0: as many as it has */
    uint64_t lease_end, declare_at, engine_at, probe_at; /* away: lost at declare_at; an engine, its host is asked at */
    uint32_t engine_tries;
    uint64_t away_wall;                           /* when it was heard of last, once it is away */
    uint64_t strikes[3];                          /* when it failed last */
    uint64_t quarantine_until, quarantine_over;   /* 0: not in one; when the last one ended */
    uint32_t quarantines;                         /* in a row */
    bool drained;                                 /* until it is resumed */
    char out_by[64], out_why[200];                /* of either: who, and why */
    uint64_t out_wall, out_until_wall;            /* since when; of a quarantine: until when */
    char reason[200];                             /* why it is not up */
    struct mu_m_checked *checked;                 /* its newest health checks, the node's own; NULL: none */
    uint64_t check_id, check_asked, check_wall;   /* those that are under way; 0: none are */
    uint64_t checked_at, checked_wall, check_due; /* 0: never */
    struct mu_m_vitals vitals;                    /* how it said that it was, at vitals_at; 0: it has not */
    uint64_t vitals_at;
    struct mu_node_nic *nics; /* that it said with them; NULL: none */
    uint32_t nnics;
    struct mu_node_disk *disks; /* likewise */
    uint32_t ndisks;
    struct mu_m_gpus *gpu_says;     /* how its GPUs were at gpus_at, the node's own; NULL: it has not said */
    uint64_t gpus_at;               /* likewise */
    char gpu_known[200];            /* their fault as it was told last, "": none */
    uint64_t gpu_since;             /* who has told it (gpus.since), 0: nobody */
    uint32_t gpu_xid;               /* the newest of its Xids that was told by then */
    uint64_t idle_since;            /* no job has had it since, unless one has it */
    bool check_wanted, check_again; /* something failed on it; its quarantine is over if it passes */
    bool approved;                  /* somebody has said what it should be made of */
    bool untold;                    /* what it is made of is not known since its last boot */
    uint32_t drift;                 /* things in which it is another one */
    char drifted[200];              /* one of them; "": none */
    char unwell[300];               /* what the newest checks have found; "": nothing */
    uint32_t place;      /* which part of a job it had when it was last asked for: that job has it there most likely */
    uint32_t next;       /* with the same hash of its name: its index + 1; 0: none */
    uint32_t host_plus1; /* of the pool's fabric; 0: it is not in there */
    char **guids;        /* of its InfiniBand adapters, for mu_strv_free */
};

struct mu_node_nic {
    char name[MU_NIC_NAME];
    uint64_t counts[MU_NIC_COUNTS];
};

struct mu_node_disk {
    char name[MU_DISK_NAME];
    uint64_t counts[MU_DISK_COUNTS];
};

struct mu_pool {
    struct mu_node *v;
    unsigned n, cap, nempty;
    uint32_t *heads;              /* by hash of the name: index + 1 of the first; 2 * cap of them, a power of two */
    const struct mu_place *place; /* the fabric that the nodes hang on; NULL: none is known */
    uint32_t *of_host;            /* by host of it: index of its node + 1; 0: it has none */
};

struct mu_share {
    uint32_t node; /* index in the pool */
    uint32_t ranks, slots;
};

int mu_pool_find(const struct mu_pool *, const char *name); /* index or -1 */
int mu_pool_add(struct mu_pool *, const char *name);        /* index or MUSTER_ENOMEM */
void mu_pool_remove(struct mu_pool *, unsigned node);       /* its place is used again */
uint32_t mu_pool_slots(const struct mu_pool *);             /* of all nodes that are up */
uint32_t mu_pool_free_slots(const struct mu_pool *);
/* Drained or in quarantine: what runs there may run on. */
static inline bool mu_pool_out(const struct mu_node *node)
{
    return node->drained || node->quarantine_until;
}
/* It is as somebody has approved it. */
static inline bool mu_pool_sound(const struct mu_node *node)
{
    return node->approved && !node->drift && !node->untold;
}
/* How many nodes that the job could use otherwise are not, and of one why, as a line: "; 2 nodes are not ...". 0: "".
 */
unsigned mu_pool_unsound(const struct mu_pool *, uint64_t job, char *why, size_t whylen);
/* Up, and may be given to a job (0 = any): not another job's, not out. */
bool mu_pool_usable(const struct mu_node *, uint64_t job);

enum mu_fit { MU_FIT_YES, MU_FIT_LATER, MU_FIT_NEVER };
/* Finds room for the job, on its own nodes when it has named hosts. YES: *out (malloced) holds *n shares in rank order
 * and behind them *nspares of spare nodes, with no ranks; it is the caller's; why says how they were chosen, "" when by
 * no fabric. LATER and NEVER: why says what is missing and, for NEVER, the fix. */
enum mu_fit mu_pool_fit(const struct mu_pool *, uint64_t job, const struct mu_m_spec *, struct mu_share **out,
                        unsigned *n, unsigned *nspares, char *why, size_t whylen);
/* With what its ranks need besides, as the spec says. */
void mu_pool_take(struct mu_pool *, const struct mu_m_spec *, const struct mu_share *, unsigned n);
void mu_pool_give(struct mu_pool *, const struct mu_m_spec *, const struct mu_share *, unsigned n);
/* Ranks of the job that the node's free GPUs and memory are enough for; UINT32_MAX: it asks for none. */
uint32_t mu_pool_left(const struct mu_node *, const struct mu_m_spec *);
/* "fast,rack3" has it; NULL and "": any does. */
bool mu_pool_has_label(const char *labels, const char *label);
void mu_pool_uncheck(struct mu_node *);     /* forgets its checks */
void mu_pool_forget_gpus(struct mu_node *); /* and how its GPUs are */
void mu_pool_free(struct mu_pool *);

/* pool_place.c: nodes by the switches that are between them. */
/* NULL: no fabric is known. It is borrowed until the next call. False: out of memory, none is known then. */
bool mu_pool_set_place(struct mu_pool *, const struct mu_place *);
/* How the nodes of a job lie, as mu_pool_fit says it. "" without a fabric, or when it is one node. */
void mu_pool_describe(const struct mu_pool *, const struct mu_share *, unsigned n, size_t stride, char *why,
                      size_t whylen);
/* Hops between the switches of `node` and those of the nodes before and behind it in the ring of ranks; 0 without a
 * fabric. */
long mu_pool_detour(const struct mu_pool *, uint32_t before, uint32_t node, uint32_t behind);

#endif
