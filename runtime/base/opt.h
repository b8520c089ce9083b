/* Command-line options as rows of a table. Parsing, help and the manual check are driven by the same rows.
 *
 * To add an option: add a field to the command's option struct and a row such as
 *     {"ranks", 'n', MU_OPT_INT, offsetof(struct run_opts, ranks), "N", "number of ranks", .aliases = "np",
 *      .min = 1, .max = 1 << 20},
 * The struct's values before parsing are the defaults. */
#ifndef MU_BASE_OPT_H
#define MU_BASE_OPT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/err.h"

enum mu_opt_kind {                  /* type of the field */
                   MU_OPT_FLAG,     /* bool */
                   MU_OPT_STRING,   /* const char *, borrowed from argv */
                   MU_OPT_INT,      /* int in min..max */
                   MU_OPT_U64,      /* uint64_t in min..max; max 0 = any */
                   MU_OPT_DOUBLE,   /* double */
                   MU_OPT_DURATION, /* uint64_t, nanoseconds */
                   MU_OPT_SIZE,     /* uint64_t, bytes */
                   MU_OPT_CHOICE,   /* int, index into the words of metavar, "kill|keep" */
                   MU_OPT_STRV,     /* char **, grows with each use; freed by mu_opt_free */
                   MU_OPT_FUNC,     /* whatever func makes of it; takes a value if there is a metavar */
};

struct mu_opt {
    const char *name; /* long name without dashes */
    char letter;      /* or 0 */
    enum mu_opt_kind kind;
    size_t offset;       /* of the field in the option struct */
    const char *metavar; /* of the value; for a choice its words */
    const char *help;    /* NULL: understood, not shown */
    const char *aliases; /* other spellings, separated by blanks; each is taken with one dash and with two */
    int64_t min, max;
    /* 0, or an error whose text says what is wrong with the value (the option's name is put before it). */
    int (*func)(const char *value, void *opts, struct mu_err *err);
};

/* Options may also follow operands: argv is reordered, operands last. Without it parsing stops at the first operand,
 * as `run PROG ARGS` needs. */
#define MU_OPT_PERMUTE 1u
/* Long names are taken with one dash, too, as mpirun's users write them (-wdir, -hostfile). */
#define MU_OPT_ONE_DASH 2u

/* Parses argv[1..argc-1] into opts. Returns 0; 1 when help was asked for (-h, --help, unless the table has its own);
 * MUSTER_EARG with one line that names the option and the fix, or MUSTER_ENOMEM. argv[*first_operand..argc-1] are the
 * operands; a "--" before them is gone. On failure opts is partly filled: mu_opt_free it in any case. */
int mu_opt_parse(const struct mu_opt *table, size_t n, int argc, char **argv, unsigned flags, void *opts,
                 int *first_operand, struct mu_err *err);
/* Frees what MU_OPT_STRV rows own and sets them to NULL. */
void mu_opt_free(const struct mu_opt *table, size_t n, void *opts);
/* Prints "usage: USAGE" and the aligned rows. */
void mu_opt_help(FILE *f, const char *usage, const struct mu_opt *table, size_t n);
/* Whether the rows are sound: no spelling twice, ranges, metavars. For tests. */
int mu_opt_check(const struct mu_opt *table, size_t n, struct mu_err *err);

#endif
