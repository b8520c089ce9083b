/* A growable byte buffer. data is NULL or NUL-terminated at data[len], so that text can be used as a string. When
 * memory runs out `failed` is latched and later appends do nothing: build everything, then check once. */
#ifndef MU_BASE_BUF_H
#define MU_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

struct mu_buf {
    char *data;
    size_t len, cap;
    bool failed;
};

/* Room for `more` bytes behind len. 0 or MUSTER_ENOMEM. */
int mu_buf_reserve(struct mu_buf *b, size_t more);
void mu_buf_append(struct mu_buf *b, const void *data, size_t n);
void mu_buf_puts(struct mu_buf *b, const char *s);
void mu_buf_putc(struct mu_buf *b, char c);
void mu_buf_appendf(struct mu_buf *b, const char *fmt, ...) MU_PRINTF(2, 3);
void mu_buf_appendv(struct mu_buf *b, const char *fmt, va_list ap) MU_PRINTF(2, 0);
/* Drops n bytes (at most len) from the front. */
void mu_buf_consume(struct mu_buf *b, size_t n);
/* Forgets contents and failure, keeps the memory. */
void mu_buf_clear(struct mu_buf *b);
void mu_buf_free(struct mu_buf *b);
/* Contents as a string owned by the buffer; "" when empty. */
const char *mu_buf_str(const struct mu_buf *b);
/* Hands the contents over (free() it) and empties the buffer; NULL if it has failed. */
char *mu_buf_take(struct mu_buf *b);

#define mu_auto_buf __attribute__((cleanup(mu_buf_free)))

#endif
