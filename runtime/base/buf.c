#include "runtime/base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int mu_buf_reserve(struct mu_buf *b, size_t more)
{
    if (b->failed)
        return MUSTER_ENOMEM;
    if (more >= SIZE_MAX / 2 - b->len) {
        b->failed = true;
        return MUSTER_ENOMEM;
    }
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return MUSTER_ENOMEM;
    }
    b->data = data;
    b->cap = cap;
    b->data[b->len] = 0;
    return 0;
}

void mu_buf_append(struct mu_buf *b, const void *data, size_t n)
{
    if (mu_buf_reserve(b, n) < 0)
        return;
    if (n)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    b->data[b->len] = 0;
}

void mu_buf_puts(struct mu_buf *b, const char *s)
{
    mu_buf_append(b, s, strlen(s));
}

void mu_buf_putc(struct mu_buf *b, char c)
{
    mu_buf_append(b, &c, 1);
}

void mu_buf_appendv(struct mu_buf *b, const char *fmt, va_list ap)
{
    va_list again;

    if (mu_buf_reserve(b, 0) < 0)
        return;
    va_copy(again, ap);
    int n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n >= b->cap - b->len) {
        if (mu_buf_reserve(b, (size_t)n) == 0)
            vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    if (b->failed)
        b->data[b->len] = 0;
    else
        b->len += (size_t)n;
}

void mu_buf_appendf(struct mu_buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    mu_buf_appendv(b, fmt, ap);
    va_end(ap);
}

void mu_buf_consume(struct mu_buf *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    if (!n)
        return;
    b->len -= n;
    memmove(b->data, b->data + n, b->len + 1);
}

void mu_buf_clear(struct mu_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = 0;
}

void mu_buf_free(struct mu_buf *b)
{
    free(b->data);
    *b = (struct mu_buf){0};
}

const char *mu_buf_str(const struct mu_buf *b)
{
    return b->data ? b->data : "";
}

char *mu_buf_take(struct mu_buf *b)
{
    char *data = NULL;

    if (mu_buf_reserve(b, 0) == 0) {
        data = b->data;
        *b = (struct mu_buf){0};
    }
    mu_buf_free(b);
    return data;
}
