/* TCP as a transport between hosts, in place of MPI's messages where those would go over TCP anyway: a system call for
 * what is sent and one for what has come, and what has been sent needs no further call to arrive. Two ranks share one
 * connection, made when the first frame wants it. Whom a rank cannot connect to it sends to through `below`, and to
 * those of its own network stack as well, as long as TCP was not asked for. */
#ifndef MU_COLLECTIVES_TCP_H
#define MU_COLLECTIVES_TCP_H

#include "collectives/tcp_net.h"
#include "collectives/transport.h"

/* One for this rank over `below`, whose frames it still receives. Its card is always filled. ENOSYS: this rank cannot
 * be reached, and the card says why. */
int mu_tcp_open(struct mu_transport *below, struct mu_tcp_card *mine, struct mu_transport **out, struct mu_err *err);
/* True when any rank has another network stack, and none of them an RDMA adapter. */
bool mu_tcp_is_worth_it(const struct mu_tcp_card *cards, int size);
/* From now on frames go its way: all ranks have one. cards: by rank; taken. everywhere: within a stack, too. */
void mu_tcp_join(struct mu_transport *tcp, struct mu_tcp_card *cards, bool everywhere);
/* Not all have one: frees it, but not what is below. */
void mu_tcp_drop(struct mu_transport *tcp);

#endif
