/* Tables for people: columns as wide as their widest cell, text made safe for the terminal, colour only where somebody
 * looks (a terminal, no NO_COLOR, TERM not dumb). */
#ifndef MU_LAUNCHER_TABLE_H
#define MU_LAUNCHER_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/base/err.h"

enum { MU_RIGHT = 1 };
struct mu_column {
    const char *title;
    unsigned flags;
};
enum mu_colour { MU_PLAIN, MU_GOOD, MU_BAD, MU_BUSY, MU_DIM };

struct mu_table;
/* The columns are borrowed. NULL: out of memory. */
struct mu_table *mu_table_new(const struct mu_column *, unsigned n);
void mu_table_free(struct mu_table *);
/* Cells come row by row, left to right. mu_table_raw: the text is safe already. */
void mu_table_cell(struct mu_table *, const char *text);
void mu_table_cellf(struct mu_table *, const char *fmt, ...) MU_PRINTF(2, 3);
void mu_table_coloured(struct mu_table *, enum mu_colour, const char *text);
void mu_table_raw(struct mu_table *, const char *text);
void mu_table_print(const struct mu_table *, FILE *);
/* A table that comes in pieces: one width a column, kept from one to the next; the first is 0 before the head is
 * printed. */
void mu_table_print_more(const struct mu_table *, FILE *, size_t *wide);

bool mu_colour_on(FILE *);
/* Escape sequence to begin the colour, or to end it for MU_PLAIN. "" where there is none. */
const char *mu_colour_code(FILE *, enum mu_colour);
enum mu_colour mu_colour_of_state(const char *state);

#endif
