#include "runtime/base/buf.h"

#include <stdint.h>
#include <string.h>

#include "tests/unit/tap.h"

int main(void)
{
    struct mu_buf b = {0};

    TAP_OK(!strcmp(mu_buf_str(&b), ""), "an empty buffer is an empty string");
    mu_buf_puts(&b, "abc");
    mu_buf_append(&b, "\0d", 2);
    mu_buf_putc(&b, 'e');
    TAP_OK(b.len == 6 && !memcmp(b.data, "abc\0de", 7), "appends bytes, keeps a NUL behind");
    mu_buf_append(&b, NULL, 0);
    TAP_OK(b.len == 6 && !b.failed, "nothing from nowhere is fine");

    mu_buf_clear(&b);
    mu_buf_appendf(&b, "%s-%d", "x", 42);
    TAP_OK(!strcmp(mu_buf_str(&b), "x-42"), "appendf");
    int good = 1;
    for (size_t n = 0; n < 300; n++) { /* across every growth boundary */
        char want[320];
        memset(want, 'y', n);
        want[n] = 0;
        mu_buf_free(&b);
        mu_buf_putc(&b, '>');
        mu_buf_appendf(&b, "%s", want);
        good &= b.len == n + 1 && b.data[0] == '>' && !strcmp(b.data + 1, want);
    }
    TAP_OK(good, "appendf of every length from 0 to 299");

    mu_buf_clear(&b);
    mu_buf_puts(&b, "hello world");
    mu_buf_consume(&b, 6);
    TAP_OK(!strcmp(mu_buf_str(&b), "world"), "consume drops from the front");
    mu_buf_consume(&b, 100);
    TAP_OK(b.len == 0 && !strcmp(mu_buf_str(&b), ""), "consume more than there is empties");

    mu_buf_puts(&b, "keep");
    TAP_OK(mu_buf_reserve(&b, SIZE_MAX / 2) == MUSTER_ENOMEM && b.failed, "an absurd size fails");
    mu_buf_puts(&b, "lost");
    mu_buf_appendf(&b, "%d", 1);
    TAP_OK(b.len == 4 && !strcmp(mu_buf_str(&b), "keep"), "failure is latched, contents stay");
    TAP_OK(mu_buf_take(&b) == NULL && b.data == NULL && !b.failed, "a failed buffer gives nothing, and is new again");

    mu_buf_puts(&b, "mine");
    char *s = mu_buf_take(&b);
    TAP_OK(s && !strcmp(s, "mine") && !b.data && !b.len, "take hands over");
    free(s);
    s = mu_buf_take(&b);
    TAP_OK(s && !*s, "take of an empty one is an empty string");
    free(s);
    mu_buf_free(&b);
    return tap_done();
}
