/* A terminal that shows one picture after the other and hears single keys, with plain ANSI. What it was like before is
 * put back at the end, also when a signal ends the program or stops it. One at a time; the owner is the command. */
#ifndef MU_LAUNCHER_SCREEN_H
#define MU_LAUNCHER_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

enum { MU_SCREEN_TIME, MU_SCREEN_KEY, MU_SCREEN_SIZE, MU_SCREEN_END };

/* Standard output is a terminal that knows such sequences: TERM says so. */
bool mu_screen_can(void);
/* It must be one. MUSTER_EIO: it cannot be set. */
int mu_screen_begin(struct mu_err *);
void mu_screen_end(void); /* nothing when none has begun */
void mu_screen_size(unsigned *lines, unsigned *columns);
/* Draws as much of the text as there is room for; its lines are safe to print. */
void mu_screen_draw(const char *text);
/* Until the time is over, a key is there (*key), the size has changed, or a signal wants the end. */
int mu_screen_wait(uint64_t ns, int *key);
/* The text cut to so many columns a line and lines in all; for mu_screen_draw and tests. The result is for free();
 * NULL: out of memory. */
char *mu_screen_cut(const char *text, unsigned lines, unsigned columns, const char *line_end);

#endif
