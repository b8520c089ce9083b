/* Files of settings: a line is SETTING = VALUE, or WORD NAME = VALUE; `#` begins a comment. A mistake is MUSTER_EARG
 * and names file, line and column. */
#ifndef MU_LAUNCHER_CORE_SETTINGS_H
#define MU_LAUNCHER_CORE_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct mu_setting {
    const char *file, *text; /* text: the whole line, without its end */
    unsigned number;
    const char *key, *value; /* in text */
    struct mu_err *err;
};
/* MUSTER_EARG at a place of the line; fmt takes what, made safe to show, and more. */
int mu_setting_bad(const struct mu_setting *, const char *at, const char *fmt, const char *what, const char *more);
/* The name in "WORD NAME = ..."; NULL: it is another setting. */
const char *mu_setting_of(const struct mu_setting *, const char *word);

/* What the field is: DURATION and SIZE uint64_t, NUMBER and CHOICE (a place in choices, NULL-terminated) uint32_t. */
enum mu_setting_kind { MU_SET_DURATION, MU_SET_SIZE, MU_SET_NUMBER, MU_SET_CHOICE };
struct mu_setting_row {
    const char *name;
    enum mu_setting_kind kind;
    size_t offset;
    uint64_t min, max;
    const char *const *choices;
};
int mu_setting_set(const struct mu_setting *, const struct mu_setting_row *, size_t n, void *out);

/* Calls set for each setting until it returns nonzero, which is then returned. forms: what a line may be, for errors.
 */
int mu_settings_parse(const char *name, const char *text, size_t len, const char *forms,
                      int (*set)(void *arg, const struct mu_setting *), void *arg, struct mu_err *err);

#endif
