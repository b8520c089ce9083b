/* Several connections to an object store at once, each with a thread and a buffer: one alone is far from filling a
 * network. The caller fills the buffer of a free lane and hands out work; work that fails ends all of it. For one
 * thread. Every wait is bounded by the deadlines of the requests under way. */
#ifndef MU_CKPT_LANES_H
#define MU_CKPT_LANES_H

#include <stddef.h>

#include "runtime/ckpt/daemon/s3.h"

#define MU_LANE_ARG_MAX 128

struct mu_lanes;
typedef int mu_lane_work(struct mu_s3 *, unsigned char *buf, void *arg, struct mu_err *);

/* tick(arg) is called now and then while the caller waits, and not 0 gives up; NULL: nothing. */
int mu_lanes_open(const struct mu_s3_conf *, unsigned n, size_t buffer, int (*tick)(void *), void *arg,
                  struct mu_lanes **, struct mu_err *);
/* The buffer of a free lane, which then is the caller's to fill; or the first failure so far. */
int mu_lanes_take(struct mu_lanes *, unsigned char **buf, struct mu_err *);
/* What was taken last works; arg, of n bytes, is copied. */
void mu_lanes_give(struct mu_lanes *, mu_lane_work *, const void *arg, size_t n);
/* Until no lane works any more; the first failure. To be called before anything goes that work uses. */
int mu_lanes_wait(struct mu_lanes *, struct mu_err *);
uint64_t mu_lanes_retries(struct mu_lanes *);
/* Waits for what is under way, whatever becomes of it. NULL is fine. */
void mu_lanes_close(struct mu_lanes *);

#endif
