#include "launcher/page/text.h"

#include "runtime/base/str.h"

void mu_page_html(struct mu_buf *out, const char *s)
{
    char shown[MU_PAGE_TEXT];

    for (const char *p = mu_str_show(shown, sizeof shown, s ? s : ""); *p; p++)
        switch (*p) {
        case '&':
            mu_buf_puts(out, "&amp;");
            break;
        case '<':
            mu_buf_puts(out, "&lt;");
            break;
        case '>':
            mu_buf_puts(out, "&gt;");
            break;
        case '"':
            mu_buf_puts(out, "&quot;");
            break;
        case '\'':
            mu_buf_puts(out, "&#39;");
            break;
        default:
            mu_buf_putc(out, *p);
        }
}

void mu_page_json(struct mu_buf *out, const char *s)
{
    char shown[MU_PAGE_TEXT];

    mu_buf_putc(out, '"');
    for (const char *p = mu_str_show(shown, sizeof shown, s ? s : ""); *p; p++) {
        if (*p == '"' || *p == '\\')
            mu_buf_putc(out, '\\');
        mu_buf_putc(out, *p);
    }
    mu_buf_putc(out, '"');
}
