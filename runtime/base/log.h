/* Log lines of daemons and commands: one a call, one write each, made safe for terminals. Set up from the environment:
 *   MUSTER_LOG=info,coll=debug   least level (error warn info debug trace), and by room
 *   MUSTER_LOG_FORMAT=json       JSON lines instead of text
 * Text: "2026-01-01T12:00:00.123Z host room level: message". Never waits long: when nobody drains the pipe or terminal
 * behind it, lines are dropped and counted. Any thread may log, but no
 * forked child before its exec. Ignore SIGPIPE. Before mu_log_setup nothing is written. */
#ifndef MU_BASE_LOG_H
#define MU_BASE_LOG_H

#include <stdbool.h>

#include "runtime/base/err.h"

enum mu_log_level { MU_LOG_ERROR, MU_LOG_WARN, MU_LOG_INFO, MU_LOG_DEBUG, MU_LOG_TRACE, MU_LOG_LEVELS };

/* Logs to a copy of fd (the caller keeps fd). spec and format NULL: from the environment. May be called again, for
 * another fd. MUSTER_EARG names the wrong word; then nothing has changed. */
int mu_log_setup(int fd, const char *spec, const char *format, struct mu_err *err);
/* Puts e.g. "job 3.1 rank 2" before the messages of this process from now on; "" for none. */
void mu_log_context(const char *text);
bool mu_log_on(enum mu_log_level level, const char *room);
void mu_log(enum mu_log_level level, const char *room, const char *fmt, ...) MU_PRINTF(3, 4);
/* Closes the copy; later lines are not written. */
void mu_log_close(void);

#endif
