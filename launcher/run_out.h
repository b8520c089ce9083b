/* The ranks' live output on our standard output and error: whole lines, tagged if wanted, never one rank's text in the
 * middle of another's line. A reader that is slow or stopped blocks nobody but this command: descriptors are written
 * without waiting, and what was written is acknowledged only then. */
#ifndef MU_LAUNCHER_RUN_OUT_H
#define MU_LAUNCHER_RUN_OUT_H

#include <poll.h>

#include "runtime/wire/msg.h"

struct mu_out;

/* Everything of (attempt, rank, stream) up to offset is written, or held here as the beginning of a line. */
typedef void (*mu_out_ack_fn)(void *arg, uint32_t attempt, uint32_t rank, uint32_t stream, uint64_t offset);

/* out, err: descriptors 1 and 2, or others for tests; borrowed. NULL: out of memory. */
struct mu_out *mu_out_new(uint64_t job, uint32_t ranks, bool tag, int out, int err, mu_out_ack_fn, void *arg);
void mu_out_free(struct mu_out *);
/* Data that was had before (after a reconnection) is dropped. ENOMEM, or EARG for a rank or stream that is not there.
 */
int mu_out_take(struct mu_out *, const struct mu_m_output *, uint64_t now);
/* The way to the keepers was cut and is whole again: they send once more what was not acknowledged. Until that is here,
 * what they had under way (it begins behind a gap) is passed over. */
void mu_out_resume(struct mu_out *, uint64_t now);
/* A line of muster's own, for standard error. */
void mu_out_note(struct mu_out *, const char *fmt, ...) MU_PRINTF(2, 3);
void mu_out_puts(struct mu_out *, const char *text);
/* No more will come: beginnings of lines are let go. */
void mu_out_finish(struct mu_out *);
/* Fills v for what wants to be written (fd -1: nothing). */
void mu_out_poll(const struct mu_out *, struct pollfd v[2]);
/* Writes what goes without waiting and acknowledges. which: 0 or 1; ready: poll said so. Returns 0, or once for each
 * descriptor the errno that made it unusable; from then on its text is dropped. */
int mu_out_write(struct mu_out *, int which, bool ready);
bool mu_out_pending(const struct mu_out *);

#endif
