/* Names and texts on the status page, whatever they are made of.
 * sources: launcher/page/text.c runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/page/text.h"
#include "runtime/base/str.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {"<",
                                     ">",
                                     "\"",
                                     "'",
                                     "&",
                                     "&amp;",
                                     "<script>",
                                     "</title>",
                                     "-->",
                                     "]]>",
                                     "\\",
                                     "\\u003c",
                                     "\n",
                                     "\r",
                                     "\t",
                                     "\x1b[31m",
                                     "\x7f",
                                     "\xff",
                                     "\xc3",
                                     "\xe2\x82",
                                     "\xe2\x82\xac",
                                     "\xe2\x80\xae",
                                     "\xe2\x80\xa8",
                                     "\xef\xbb\xbf",
                                     "\xf0\x9f\x98\x80",
                                     "\xc0\xbc",
                                     "a",
                                     "javascript:",
                                     " onload=x ",
                                     "`"};

/* What a reader makes of it again: entities of HTML, escapes of JSON. False: it would take something for its own. */
static int read_html(const char *s, struct mu_buf *out)
{
    static const char *const names[][2] = {
        {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#39;", "'"}};

    while (*s) {
        size_t n = 1, k = 0;
        if (strchr("<>\"'", *s) || (unsigned char)*s < ' ')
            return 0;
        if (*s != '&') {
            mu_buf_append(out, s++, n);
            continue;
        }
        while (k < 5 && strncmp(s, names[k][0], strlen(names[k][0])) != 0)
            k++;
        if (k == 5)
            return 0;
        mu_buf_puts(out, names[k][1]);
        s += strlen(names[k][0]);
    }
    return 1;
}

static int read_json(const char *s, struct mu_buf *out)
{
    if (*s++ != '"')
        return 0;
    for (; *s && *s != '"'; s++) {
        if ((unsigned char)*s < ' ')
            return 0;
        if (*s == '\\' && *++s != '"' && *s != '\\')
            return 0;
        mu_buf_putc(out, *s);
    }
    return *s == '"' && !s[1];
}

static void try(char *text, size_t n)
{
    struct mu_buf html = {0}, json = {0}, h = {0}, j = {0};
    char shown[MU_PAGE_TEXT];

    text[n] = 0;
    mu_str_show(shown, sizeof shown, text);
    mu_page_html(&html, text);
    mu_page_json(&json, text);
    if (!read_html(mu_buf_str(&html), &h) || strcmp(mu_buf_str(&h), shown) != 0)
        abort();
    if (!read_json(mu_buf_str(&json), &j) || strcmp(mu_buf_str(&j), shown) != 0)
        abort();
    mu_buf_free(&html);
    mu_buf_free(&json);
    mu_buf_free(&h);
    mu_buf_free(&j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
