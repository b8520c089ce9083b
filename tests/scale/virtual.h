/* A pool in virtual time, for virtual.c: the network (vnet.c), and the processes on it (vpool.c). */
#ifndef TESTS_SCALE_VIRTUAL_H
#define TESTS_SCALE_VIRTUAL_H

#include "launcher/core/ctl.h"
#include "runtime/agent/tree.h"
#include "runtime/wire/beat.h"
#include "tests/scale/costs.h"
#include "tests/scale/stub.h"

#define V_LATENCY (100 * 1000ull)
#define V_CTL UINT32_MAX /* the process that is no agent */

/* One copy of a frame that goes to many. */
struct v_blob {
    unsigned refs;
    size_t len;
    char data[];
};

enum v_what { FRAME, BEAT, DOWN, DIAL, ARRIVED, LOWER, UPPER, CORE, RETIRED, REST };
struct v_event {
    uint64_t t, seq;
    enum v_what what;
    uint32_t to, link, gen, from; /* to: process; from: of ARRIVED, who has dialled */
    struct mu_m_beat beat;
    struct v_blob *blob;
};

struct v_link { /* between two processes */
    bool open, greeted;
    uint32_t lower, upper;
    struct mu_beat beat; /* of the upper end */
};

struct v_proc {
    uint64_t busy, nic; /* it has time then; its network interface has */
    double cpu;
};

struct v_agent {
    struct v_proc proc;
    struct stub stub;
    struct mu_tree *tree;
    struct mu_beat beat;
    uint32_t i, gen, link, old, parent; /* parent: of the present link; V_CTL: it is the controller */
    struct mu_buf pieces;
    uint64_t alarm, since;
    bool alive, frozen, path, placed, moving;
};

struct v_client {
    uint64_t job;
    uint64_t running_at, ended_at; /* 0: not yet */
    mu_conn conn;
};

struct v_world {
    uint64_t now;
    struct costs costs;
    struct v_proc ctl_proc;
    struct mu_ctl *ctl;
    struct v_client client;
    struct v_agent *agents;
    unsigned nagents, fanout;
    struct v_link *links;
    uint32_t nlinks;
};
extern struct v_world v;

/* vnet.c: what is to happen, and what it costs the processes. Without memory it aborts. */
void v_at(uint64_t t, struct v_event);
bool v_next(uint64_t until, struct v_event *); /* the first that is due; its blob is the caller's */
void v_unref(struct v_blob *);                 /* NULL is fine */
void v_net_free(void);
struct v_proc *v_proc_of(uint32_t who);
uint32_t v_gen_of(uint32_t who);
void v_charge(uint32_t who, double ns);
uint64_t v_begin(uint32_t who, uint64_t t); /* its clock, now that it comes to something that has been there since t */
uint32_t v_new_link(uint32_t lower, uint32_t upper);
void v_transmit(uint32_t from, uint32_t link, const void *frame, size_t len);
void v_transmit_beat(uint32_t from, uint32_t link, struct mu_m_beat);
void v_hang_up(uint32_t who, uint32_t link); /* its kernel tells the other end */

/* vpool.c */
void v_pool_begin(void); /* the controller, and a client of it */
void v_pool_free(void);
void v_start(struct v_agent *, uint64_t t);
void v_end(struct v_agent *, bool silently);
void v_say(enum mu_msg_type, const void *body); /* by the client */
void v_run_until(uint64_t t);

#endif
