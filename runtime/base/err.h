/* Errors: a code from muster.h with a text for people. Functions that can explain take a struct mu_err * last; it is
 * the caller's, may be NULL, and is written only on failure. */
#ifndef MU_BASE_ERR_H
#define MU_BASE_ERR_H

#include "muster.h"

struct mu_err {
    int code;
    char text[500];
};

#define MU_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Sets code and text; returns code, so that callers write `return mu_err_set(...)`. */
int mu_err_set(struct mu_err *err, int code, const char *fmt, ...) MU_PRINTF(3, 4);
/* As mu_err_set, with ": strerror(errno)" appended; code 0 means: derived from errno. */
int mu_err_errno(struct mu_err *err, int code, const char *fmt, ...) MU_PRINTF(3, 4);
/* Puts "text: " before what is there; returns err->code. For the way up. */
int mu_err_prefix(struct mu_err *err, const char *fmt, ...) MU_PRINTF(2, 3);
/* MUSTER_E code that fits an errno value. */
int mu_err_from_errno(int e);

#endif
