/* What TCP between ranks needs of the system: where a rank can be reached, who may connect to it, and how a connection
 * begins. */
#ifndef MU_COLLECTIVES_TCP_NET_H
#define MU_COLLECTIVES_TCP_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "runtime/base/err.h"

#define MU_TCP_ADDRS 12u
#define MU_TCP_SECRET 16u
#define MU_TCP_MAGIC 0x4d555443u
#define MU_TCP_VERSION 1u

struct mu_tcp_addr { /* in network order */
    uint8_t family;  /* 4 or 6; 0: none */
    uint8_t prefix;  /* bits of its network */
    uint8_t bytes[16];
};

struct mu_tcp_card { /* what the others have to know of a rank */
    uint8_t ready;   /* 0: it cannot, and says why */
    uint8_t fabric;  /* its host has an RDMA adapter that is up: MPI may do better there than TCP */
    uint16_t port;
    uint64_t stack; /* mu_domain_host */
    uint8_t secret[MU_TCP_SECRET];
    struct mu_tcp_addr at[MU_TCP_ADDRS];
    char why[156];
};

enum { MU_TCP_MOVED = 1 }; /* hello: what was sent before is on another connection of the sender's, until its end */

struct mu_tcp_hello { /* each side's first bytes, as many as a frame's head */
    uint32_t magic;
    uint16_t version, flags;
    uint32_t rank;                 /* the sender's */
    uint32_t to;                   /* the receiver's */
    uint8_t secret[MU_TCP_SECRET]; /* the receiver's: who does not know it is no rank of this job */
    uint8_t zero[32];
};
_Static_assert(sizeof(struct mu_tcp_hello) == 64, "on the wire");

/* A listening socket of this rank's, and the card that says so; -1 with err (ENOSYS, and the card says why). Ports and
 * networks are those that MPI over TCP was told to use (OMPI_MCA_btl_tcp_port_min_v4, port_range_v4, if_include,
 * if_exclude), if it was. */
int mu_tcp_listen(struct mu_tcp_card *mine, struct mu_err *err);
/* The k-th address to try for a peer, the likeliest first; false: there are no more. */
bool mu_tcp_candidate(const struct mu_tcp_card *mine, const struct mu_tcp_card *peer, unsigned k,
                      struct sockaddr_storage *to, socklen_t *n);
bool mu_tcp_one_stack(const struct mu_tcp_card *a, const struct mu_tcp_card *b);
void mu_tcp_hello_set(struct mu_tcp_hello *h, int rank, int to, const uint8_t secret[MU_TCP_SECRET], unsigned flags);
/* True when it is from a rank of this job to this one. `from`: its rank, below size. */
bool mu_tcp_hello_ok(const struct mu_tcp_hello *h, const struct mu_tcp_card *mine, int rank, int size, int *from);
/* "eth0,10.1.0.0/16": whether an interface or address is in such a list. */
bool mu_tcp_listed(const char *list, const char *name, const struct mu_tcp_addr *a);

#endif
