/* Our copy of libibnetdisc's structures is the library's, where its headers are installed. */
#include <stddef.h>

#include "tests/unit/tap.h"
#include "topo/ibnd.h"

#if defined(__has_include) && __has_include(<infiniband/ibnetdisc.h>) && __has_include(<infiniband/mad.h>)
#include <infiniband/ibnetdisc.h>
#define SAME(ours, theirs, field)                                                                                      \
    TAP_OK(offsetof(struct ours, field) == offsetof(theirs, field) &&                                                  \
               sizeof(((struct ours *)0)->field) == sizeof(((theirs *)0)->field),                                      \
           #theirs "." #field)

int main(void)
{
    SAME(mu_ibnd_node, ibnd_node_t, next);
    SAME(mu_ibnd_node, ibnd_node_t, path_portid);
    SAME(mu_ibnd_node, ibnd_node_t, guid);
    SAME(mu_ibnd_node, ibnd_node_t, type);
    SAME(mu_ibnd_node, ibnd_node_t, numports);
    SAME(mu_ibnd_node, ibnd_node_t, nodedesc);
    SAME(mu_ibnd_node, ibnd_node_t, ports);
    SAME(mu_ibnd_port, ibnd_port_t, portnum);
    SAME(mu_ibnd_port, ibnd_port_t, node);
    SAME(mu_ibnd_port, ibnd_port_t, remoteport);
    SAME(mu_ibnd_config, ibnd_config_t, max_smps);
    SAME(mu_ibnd_config, ibnd_config_t, timeout_ms);
    SAME(mu_ibnd_config, ibnd_config_t, pad);
    SAME(mu_ibnd_fabric, ibnd_fabric_t, nodes);
    TAP_OK(sizeof(struct mu_ibnd_config) == sizeof(ibnd_config_t), "size of ibnd_config_t");
    TAP_OK(MU_IBND_CA == (int)IB_NODE_CA && MU_IBND_SWITCH == (int)IB_NODE_SWITCH &&
               MU_IBND_ROUTER == (int)IB_NODE_ROUTER,
           "types of nodes");
    return tap_done();
}
#else
int main(void)
{
    printf("1..0 # SKIP libibnetdisc's headers are not installed\n");
    return 0;
}
#endif
