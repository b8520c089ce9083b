#include "topo/svg.h"

#include <stdarg.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* Plain colours, which any renderer takes, and others for a dark screen; paper is always white. */
static const char style[] =
    "<style>\n"
    "text{font:12px system-ui,\"Helvetica Neue\",Arial,sans-serif;fill:#1f2328}\n"
    ".h{font-weight:600}.t{font-size:15px;font-weight:600}.s{font-size:10px}.d{fill:#59636e}\n"
    "rect{stroke:#8c959f;fill:none}line,path{stroke:#8c959f;fill:none}\n"
    ".bg{fill:#fff;stroke:none}.box{fill:#f6f8fa}.core,.switch{fill:#e4e8ec}\n"
    ".off,.group{fill:none;stroke-dasharray:3 3}\n"
    ".gpu{fill:#ddf4ff;stroke:#0969da}.nic{fill:#fff1e5;stroke:#bc4c00}\n"
    ".w2{stroke-width:2}.w3{stroke-width:3}.f{stroke-opacity:.25}.m{stroke:none;fill-opacity:.4}\n"
    ".r0{fill:#1f77b4}.r1{fill:#e8730c}.r2{fill:#2ca02c}.r3{fill:#d62728}.r4{fill:#9467bd}.r5{fill:#8c564b}"
    ".r6{fill:#d14fa8}.r7{fill:#17a2b0}\n"
    "@media screen and (prefers-color-scheme:dark){text{fill:#e6edf3}.d{fill:#9198a1}"
    "rect{stroke:#656c76}line,path{stroke:#656c76}.bg{fill:#0d1117}.box{fill:#151b23}.core,.switch{fill:#2a313c}"
    ".gpu{fill:#0c2d5b;stroke:#4493f8}.nic{fill:#3d1e0a;stroke:#f0883e}.m{fill-opacity:.6}}\n"
    "</style>\n";

static void put_escaped(FILE *f, const char *text)
{
    mu_auto_buf struct mu_buf b = {0};

    mu_str_printable(&b, text, strlen(text));
    for (const char *p = mu_buf_str(&b); *p; p++) {
        if (!strncmp(p, "\xef\xbf\xbe", 3) || !strncmp(p, "\xef\xbf\xbf", 3)) { /* U+FFFE and U+FFFF are not XML's */
            fputs("\xef\xbf\xbd", f);
            p += 2;
            continue;
        }
        switch (*p) {
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '&':
            fputs("&amp;", f);
            break;
        default:
            fputc(*p, f);
        }
    }
}

void mu_svg_begin(FILE *f, int width, int height, const char *title)
{
    fprintf(
        f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n",
        width, height, width, height);
    fputs("<title>", f);
    put_escaped(f, title);
    fprintf(f, "</title>\n%s<rect class=\"bg\" width=\"%d\" height=\"%d\"/>\n", style, width, height);
}

void mu_svg_rect(FILE *f, int x, int y, int w, int h, const char *classes, const char *tip)
{
    fprintf(f, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"%s\"", x, y, w, h, classes);
    if (!tip) {
        fputs("/>\n", f);
        return;
    }
    fputs("><title>", f);
    put_escaped(f, tip);
    fputs("</title></rect>\n", f);
}

void mu_svg_line(FILE *f, int x1, int y1, int x2, int y2, const char *classes)
{
    fprintf(f, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" class=\"%s\"/>\n", x1, y1, x2, y2, classes);
}

void mu_svg_arc(FILE *f, int x1, int x2, int y, const char *classes)
{
    int up = (x2 > x1 ? x2 - x1 : x1 - x2) / 4 + 12;

    fprintf(f, "<path d=\"M%d %dQ%d %d %d %d\" class=\"%s\"/>\n", x1, y, (x1 + x2) / 2, y - (up > 80 ? 80 : up), x2, y,
            classes);
}

void mu_svg_text(FILE *f, int x, int y, const char *anchor, const char *classes, int room, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t most = room > 0 ? (size_t)room / (strstr(classes, "s") ? MU_SVG_CHAR - 1 : MU_SVG_CHAR) : sizeof text;
    if (most < 1)
        return;
    bool cut = strlen(text) > most;
    if (cut)
        text[most - 1] = 0;
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, classes);
    put_escaped(f, text);
    fprintf(f, "%s</text>\n", cut ? "\xe2\x80\xa6" : "");
}

void mu_svg_end(FILE *f)
{
    fputs("</svg>\n", f);
}
