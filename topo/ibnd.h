/* libibnetdisc's structures, version 5 of the library, as far as we look into them. It is loaded when it is there, so
 * its headers are not needed; tests/unit/topo_live.c compares with them where they are installed. */
#ifndef MU_TOPO_IBND_H
#define MU_TOPO_IBND_H

#include <stdint.h>

enum { MU_IBND_CA = 1, MU_IBND_SWITCH = 2, MU_IBND_ROUTER = 3 };

struct mu_ibnd_portid {
    int lid;
    struct {
        int cnt;
        uint8_t p[64];
        uint16_t drslid, drdlid;
    } drpath;
    int grh_present;
    uint8_t gid[16];
    uint32_t qp, qkey;
    uint8_t sl;
    unsigned pkey_idx;
};

struct mu_ibnd_node {
    struct mu_ibnd_node *next;
    struct mu_ibnd_portid path_portid;
    uint16_t smalid;
    uint8_t smalmc;
    int smaenhsp0;
    uint8_t switchinfo[64];
    uint64_t guid;
    int type, numports;
    uint8_t info[64];
    char nodedesc[65];
    struct mu_ibnd_port **ports;
};

struct mu_ibnd_port {
    uint64_t guid;
    int portnum, ext_portnum;
    struct mu_ibnd_node *node;
    struct mu_ibnd_port *remoteport;
};

struct mu_ibnd_config {
    unsigned max_smps, show_progress, max_hops, debug, timeout_ms, retries;
    uint32_t flags;
    uint64_t mkey;
    uint8_t pad[44];
};

struct mu_ibnd_fabric {
    struct mu_ibnd_node *from_node;
    int from_portnum;
    struct mu_ibnd_node *nodes;
};

#endif
