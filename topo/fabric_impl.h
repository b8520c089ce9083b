/* Inside of struct mu_fabric, and how the parsers fill it. For the files of this room only. */
#ifndef MU_TOPO_FABRIC_IMPL_H
#define MU_TOPO_FABRIC_IMPL_H

#include <stdbool.h>

#include "topo/fabric.h"

enum { MU_FABRIC_MAX_NODES = 1 << 20, MU_FABRIC_MAX_PORTS = 1 << 16, MU_FABRIC_MAX_NAME = 255 };

struct mu_names { /* text -> index, open addressing */
    struct {
        const char *name;
        int index;
    } * v;
    size_t cap, n;
};
int mu_names_get(const struct mu_names *, const char *name, size_t len); /* -1: not there */
int mu_names_put(struct mu_names *, const char *name, int index);        /* name is borrowed; 0 or ENOMEM */
void mu_names_free(struct mu_names *);

struct mu_guids { /* which host an adapter is in; sorted */
    struct mu_guid_host {
        uint64_t guid;
        char *host;
    } * v;
    size_t n;
};

struct mu_half { /* one end of a cable, as a file has it */
    int node, port, peer, peer_port, line;
};

struct mu_fabric {
    char *source;
    struct mu_fabric_node *nodes;
    int *line; /* where each node is defined; 0: only spoken of */
    int *file;
    int nnodes, capnodes;
    struct mu_names ids;
    struct mu_half *halves;
    size_t nhalves, caphalves;
    bool tree; /* from topology.conf: parent is the tree */
    int *parent;

    struct mu_fabric_port *ports;
    int nports;
    struct mu_fabric_host *hosts;
    int nhosts, *nics, nsubnets;
    int listed; /* adapters whose host is known from a list of GUIDs */
    struct mu_names names;
    int nfiles;
    const char *origin; /* of the file that is being read */
};

/* Its index, or an error. Defines it when line > 0, which must happen once (an adapter: once a file). */
int mu_fabric_add(struct mu_fabric *, const char *id, size_t len, int line, struct mu_err *);
int mu_fabric_cable(struct mu_fabric *, int node, int port, int peer, int peer_port, int line, struct mu_err *);

int mu_fabric_read_ibnd(struct mu_fabric *, const char *text, size_t len, struct mu_err *);
int mu_fabric_read_slurm(struct mu_fabric *, const char *text, size_t len, struct mu_err *);
/* NULL: nothing is known. */
int mu_fabric_read_known(const struct mu_fabric_known *, struct mu_guids *, struct mu_err *);
void mu_guids_free(struct mu_guids *);
/* Everything that is not in the files: cables from both ends, hosts, ranks, subnets. */
int mu_fabric_finish(struct mu_fabric *, const struct mu_guids *, struct mu_err *);
/* Both of them for one text; source is the fabric's name. */
int mu_fabric_from_text(const char *text, size_t len, const char *source, const struct mu_guids *,
                        struct mu_fabric **out, struct mu_err *);

#endif
