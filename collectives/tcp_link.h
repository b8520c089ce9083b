/* One connection to a rank: frames one behind the other, after a hello from each side. */
#ifndef MU_COLLECTIVES_TCP_LINK_H
#define MU_COLLECTIVES_TCP_LINK_H

#include "collectives/frame.h"
#include "collectives/tcp_net.h"

struct mu_link {
    struct mu_link *next;
    int fd;
    int peer;        /* world rank; -1: it has not said */
    bool ours;       /* this rank has made it */
    bool connecting; /* not established so far */
    bool greeted;    /* the other side has said who it is */
    bool used;       /* frames have been sent */
    bool leaving;    /* what is queued is the last of it */
    bool shut;
    bool held;      /* not read for now */
    bool write_off; /* read, but nothing is sent */
    bool wary;      /* there are other addresses to try */
    bool deaf;      /* no events come of it */
    bool bye;       /* the other side has come to the end of the job */
    uint32_t asked; /* events */
    uint64_t since;
    struct mu_frames queue; /* to be sent; of the first one `gone` bytes have been */
    struct mu_frame *in;    /* that is being received */
    size_t got;             /* bytes of it */
};

/* All of it: 1; what there is no room for is left to mu_link_flush: 0 (f->gone says); -1 with errno: it is broken. */
int mu_link_write(struct mu_link *l, struct mu_frame *f);
/* Bytes that have been taken; -1 with errno. */
ssize_t mu_link_write_from(struct mu_link *l, const struct mu_frame_head *head, const void *payload);
/* The queue, as far as there is room; frames that have left go to done, and are taken from *pending. False with errno:
 * it is broken. */
bool mu_link_flush(struct mu_link *l, struct mu_frames *done, unsigned *pending);

enum { MU_LINK_FRAMES, MU_LINK_HELLO, MU_LINK_END, MU_LINK_BROKEN };

/* Reads once, without waiting. FRAMES: those that are whole now are appended to `arrived`. HELLO: *hello is what it
 * begins with. BROKEN: errno says why. Negative: what came is no frame (EVERSION), or memory is out. */
int mu_link_read(struct mu_link *l, struct mu_pool *pool, struct mu_frames *arrived, struct mu_tcp_hello *hello,
                 struct mu_err *err);
/* What a read of n bytes has brought, at l->in + l->got: whole frames go to `arrived`, the rest stays. */
int mu_link_take(struct mu_link *l, struct mu_pool *pool, size_t n, struct mu_frames *arrived, struct mu_err *err);

#endif
