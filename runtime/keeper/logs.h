/* Output of the ranks of one job on this node, over all its attempts: a file for each rank and stream, and a live view
 * that is read back from the files, so that a slow terminal costs neither memory nor a rank's time.
 *
 * DIR/attempt-A/rank-R.out and .err, DIR/latest -> attempt-A. What a full disk does not take is dropped from the file
 * in whole lines and counted; a line in the file says so once it takes more. A file that cannot be made is tried again.
 * The live view goes on without the file: what is not in it waits in memory, as far as MU_LOGS_MEM and MU_LOGS_MEM_ALL
 * go; what goes beyond is dropped there too, counted, and said in the view. A stream's offsets count the bytes of its
 * live view.
 *
 * Live: at most MU_LOGS_WINDOW bytes are sent and not acknowledged, over all streams. No event loop, no threads. */
#ifndef MU_KEEPER_LOGS_H
#define MU_KEEPER_LOGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/wire/msg.h"

#define MU_LOGS_WINDOW (256u << 10)
#define MU_LOGS_PIECE (64u << 10)
#define MU_LOGS_MEM (1u << 20)      /* of a stream */
#define MU_LOGS_MEM_ALL (16u << 20) /* of all */
#define MU_LOGS_TAIL 4096u

struct mu_logs;

struct mu_logs *mu_logs_new(uint64_t job); /* NULL: out of memory */
void mu_logs_free(struct mu_logs *);

/* Opens the files of an attempt, ranks first .. first + n - 1. mode: of files (directories get x where they get r).
 * latest: also points the link at it. Trouble with files is told in err and MUSTER_EIO or ENOSPC returned, the streams
 * exist nevertheless; only ENOMEM means that they do not. */
int mu_logs_begin(struct mu_logs *, const char *dir, uint32_t attempt, uint32_t first, uint32_t n, mode_t mode,
                  bool latest, struct mu_err *err);
/* Output of a local rank of the newest attempt. stream: MU_STREAM_OUT or MU_STREAM_ERR. */
void mu_logs_feed(struct mu_logs *, uint32_t index, uint32_t stream, const char *data, size_t n, uint64_t now);
/* A line of our own among the rank's stderr. */
void mu_logs_note(struct mu_logs *, uint32_t index, const char *text, uint64_t now);
/* Nothing more comes from that stream. */
void mu_logs_end(struct mu_logs *, uint32_t index, uint32_t stream);
/* The last lines of the rank's stderr: at most 8, at most MU_LOGS_TAIL bytes; text with a NUL. */
void mu_logs_tail(const struct mu_logs *, uint32_t index, char out[MU_LOGS_TAIL + 1]);

void mu_logs_stream(struct mu_logs *, bool on);
/* The other side is a new one, or has lost what it had: everything not acknowledged goes again. */
void mu_logs_rewind(struct mu_logs *);
void mu_logs_ack(struct mu_logs *, const struct mu_m_output_ack *);
/* Next piece to send, false: none now. Whole lines as far as possible; what has no end for 200 ms goes as it is. out
 * borrows its data until the next call. *again (may be NULL): when to ask again without further reason, UINT64_MAX:
 * never. */
bool mu_logs_next(struct mu_logs *, uint64_t now, struct mu_m_output *out, uint64_t *again);
/* Streaming is off, or all that there was has been acknowledged and every stream has ended. */
bool mu_logs_drained(const struct mu_logs *);
/* Sets dropped (lines of the newest attempt that are not in the files), unseen (that were not shown either) and
 * drop_why (errno; left alone while there are none). */
void mu_logs_lost(const struct mu_logs *, struct mu_m_report *);

#endif
