/* Scripts with options in them, as batch systems have them: lines that begin with #MUSTER, before the first command. */
#ifndef MU_LAUNCHER_SCRIPT_H
#define MU_LAUNCHER_SCRIPT_H

#include "runtime/base/opt.h"

struct mu_script {
    char **argv; /* a command line in place of the one that named the script; its words are from there or from own */
    int argc;
    char **own;
};

/* argv[0] is the command, then options (the rows of table) and a program. 1: that is a script with options, *out is for
 * mu_script_free: its options come before those of the command line, which win, and its text is in it, so that what
 * happens to the file later does not matter. 0: it is not. */
int mu_script_expand(const struct mu_opt *table, size_t n, int argc, char **argv, struct mu_script *out,
                     struct mu_err *err);
void mu_script_free(struct mu_script *);

#endif
