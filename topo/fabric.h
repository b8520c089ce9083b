/* The fabric between nodes: hosts, their adapters, switches and the cables between them, read from what ibnetdiscover
 * prints, from Slurm's topology.conf, or from the running subnet. Immutable once it is loaded.
 *
 * Several files are several subnets of one cluster (a host may hang on all of them). What is damaged is refused with
 * one line that names the file, the line and what is wrong: a file cut short, a node or a port that is there twice,
 * cables that contradict each other, cycles. Files that real fabrics give are taken: adapters without a host name,
 * aggregation nodes, routers, hosts with fewer rails than others, several subnets in one file. */
#ifndef MU_TOPO_FABRIC_H
#define MU_TOPO_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"

struct mu_fabric; /* free with mu_fabric_free */

enum mu_fabric_kind {
    MU_FABRIC_SWITCH,
    MU_FABRIC_ADAPTER, /* belongs to a host */
    MU_FABRIC_OTHER    /* router or aggregation node (SHARP): nothing runs there */
};

struct mu_fabric_node {
    enum mu_fabric_kind kind;
    char *id;        /* as the file has it: "S-0008f10400411f56", or a name */
    char *name;      /* switch: its description or id; adapter: "host device" as described */
    uint64_t guid;   /* 0: not said */
    int nports;      /* that its head has; 0: not said */
    int host;        /* of an adapter; -1 otherwise */
    int rank;        /* of a switch: 1 with hosts on it, 2 next to those, ...; 0: no host in reach, or no switch */
    int subnet;      /* number of its connected part, from 0 */
    int first, nout; /* its cables: mu_fabric_ports(f) + first */
};
struct mu_fabric_port {
    int port, peer, peer_port; /* peer: index of a node */
    int one_sided;             /* the file has it at one end only */
};
struct mu_fabric_host {
    char *name;
    int first, nnics; /* its adapters: mu_fabric_nics(f) + first, in the order of their device names */
    bool unnamed;     /* nothing says which host the adapter is in: its own id stands for one */
};

/* One file or several; their kinds (ibnetdiscover's text, or topology.conf) are told by what is in them and cannot be
 * mixed. guids: a file "GUID HOST" a line that says which host an adapter is in (/sys/class/infiniband/X/node_guid);
 * NULL: by the first word of its description. EARG names file and line. */
int mu_fabric_load(char *const *paths, const char *guids, struct mu_fabric **out, struct mu_err *);
/* The same from texts in memory: one text of a file called `origin`. */
int mu_fabric_parse(const char *text, size_t len, const char *origin, struct mu_fabric **out, struct mu_err *);
/* What is known of adapters besides what the fabric says of them. The file's word counts before the hints'; a GUID that
 * hints put into two hosts is in neither. */
struct mu_fabric_hint {
    uint64_t guid;
    const char *host;
};
struct mu_fabric_known {
    const char *guids; /* as above; NULL: no file */
    const struct mu_fabric_hint *hints;
    size_t nhints;
};
int mu_fabric_load_known(char *const *paths, const struct mu_fabric_known *, struct mu_fabric **out, struct mu_err *);
int mu_fabric_parse_known(const char *text, size_t len, const char *origin, const struct mu_fabric_known *,
                          struct mu_fabric **out, struct mu_err *);
/* The subnet that this host's adapter `device` (NULL: the first that works) hangs on. libibnetdisc is loaded for it, in
 * a child: ENOSYS when it is not installed, ENODE when there is no adapter or subnet, ETIMEOUT after deadline_ms. */
int mu_fabric_discover(const char *device, int deadline_ms, const char *guids, struct mu_fabric **out, struct mu_err *);
/* The same as ibnetdiscover's text, appended, for mu_fabric_parse_known. The caller's process may have threads. */
int mu_fabric_discover_text(const char *device, int deadline_ms, struct mu_buf *text, struct mu_err *);
void mu_fabric_free(struct mu_fabric *);

const char *mu_fabric_source(const struct mu_fabric *); /* the first file, or "the live fabric" */
int mu_fabric_nnodes(const struct mu_fabric *);
const struct mu_fabric_node *mu_fabric_node(const struct mu_fabric *, int);
const struct mu_fabric_port *mu_fabric_ports(const struct mu_fabric *);
int mu_fabric_nhosts(const struct mu_fabric *);
const struct mu_fabric_host *mu_fabric_host(const struct mu_fabric *, int);
const int *mu_fabric_nics(const struct mu_fabric *);
int mu_fabric_find_host(const struct mu_fabric *, const char *name); /* -1: none */
/* The switch that the host's first connected adapter is on; NULL: it is on none. */
const struct mu_fabric_node *mu_fabric_leaf(const struct mu_fabric *, int host);
int mu_fabric_nsubnets(const struct mu_fabric *);
int mu_fabric_listed(const struct mu_fabric *); /* adapters whose host a list of GUIDs says */

/* Appends the words of Slurm's host lists, "n[1-3,7],m", each to the vector. EARG: not such a list, or more than
 * 1048576 hosts. */
int mu_fabric_expand(const char *list, size_t len, char ***out, size_t *n, struct mu_err *);

#endif
