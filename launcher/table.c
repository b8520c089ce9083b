#include "launcher/table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

struct cell {
    char *text;
    enum mu_colour colour;
};
struct mu_table {
    const struct mu_column *columns;
    unsigned ncolumns;
    struct cell *cells;
    size_t n, cap;
    bool failed;
};

struct mu_table *mu_table_new(const struct mu_column *columns, unsigned n)
{
    struct mu_table *t = calloc(1, sizeof *t);

    if (t) {
        t->columns = columns;
        t->ncolumns = n;
    }
    return t;
}

void mu_table_free(struct mu_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i].text);
    free(t->cells);
    free(t);
}

static void add(struct mu_table *t, enum mu_colour colour, char *text)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct cell *v = realloc(t->cells, cap * sizeof *v);
        if (!v) {
            t->failed = true;
            free(text);
            return;
        }
        t->cells = v;
        t->cap = cap;
    }
    t->failed = t->failed || !text;
    t->cells[t->n++] = (struct cell){.text = text, .colour = colour};
}

void mu_table_raw(struct mu_table *t, const char *text)
{
    add(t, MU_PLAIN, strdup(text));
}

void mu_table_coloured(struct mu_table *t, enum mu_colour colour, const char *text)
{
    struct mu_buf b = {0};

    mu_str_printable(&b, text, strlen(text));
    add(t, colour, b.len ? mu_buf_take(&b) : strdup("-"));
    mu_buf_free(&b);
}

void mu_table_cell(struct mu_table *t, const char *text)
{
    mu_table_coloured(t, MU_PLAIN, text ? text : "");
}

void mu_table_cellf(struct mu_table *t, const char *fmt, ...)
{
    mu_auto_buf struct mu_buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    mu_buf_appendv(&b, fmt, ap);
    va_end(ap);
    mu_table_cell(t, mu_buf_str(&b));
}

/* Columns that a text takes: characters, not bytes. */
static size_t width(const char *s)
{
    size_t n = 0;

    for (; s && *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void put(FILE *f, const char *text, size_t wide, bool right, bool last, enum mu_colour colour)
{
    const char *code = colour ? mu_colour_code(f, colour) : ""; /* asks whether f is a terminal */

    size_t pad = wide - width(text);

    if (right)
        fprintf(f, "%*s", (int)pad, "");
    fputs(code, f);
    fputs(text, f);
    if (*code)
        fputs(mu_colour_code(f, MU_PLAIN), f);
    if (!right && !last)
        fprintf(f, "%*s", (int)pad, "");
    fputs(last ? "\n" : "  ", f);
}

void mu_table_print_more(const struct mu_table *t, FILE *f, size_t *wide)
{
    bool head = !wide[0];

    if (t->failed) {
        fputs("muster: out of memory\n", stderr);
        return;
    }
    for (unsigned c = 0; c < t->ncolumns; c++)
        if (width(t->columns[c].title) > wide[c])
            wide[c] = width(t->columns[c].title);
    for (size_t i = 0; i < t->n; i++) {
        size_t w = width(t->cells[i].text);
        if (w > wide[i % t->ncolumns])
            wide[i % t->ncolumns] = w;
    }
    for (unsigned c = 0; head && c < t->ncolumns; c++)
        put(f, t->columns[c].title, wide[c], t->columns[c].flags & MU_RIGHT, c + 1 == t->ncolumns, MU_DIM);
    for (size_t i = 0; i < t->n; i++) {
        unsigned c = (unsigned)(i % t->ncolumns);
        put(f, t->cells[i].text, wide[c], t->columns[c].flags & MU_RIGHT, c + 1 == t->ncolumns, t->cells[i].colour);
    }
}

void mu_table_print(const struct mu_table *t, FILE *f)
{
    mu_auto_free size_t *wide = calloc(t->ncolumns, sizeof *wide);

    if (wide)
        mu_table_print_more(t, f, wide);
    else
        fputs("muster: out of memory\n", stderr);
}

bool mu_colour_on(FILE *f)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(f)) && !(no && *no) && term && strcmp(term, "dumb");
}

const char *mu_colour_code(FILE *f, enum mu_colour colour)
{
    static const char *const codes[] = {[MU_PLAIN] = "\033[0m",
                                        [MU_GOOD] = "\033[32m",
                                        [MU_BAD] = "\033[31m",
                                        [MU_BUSY] = "\033[33m",
                                        [MU_DIM] = "\033[2m"};
    return colour < MU_COUNT(codes) && mu_colour_on(f) ? codes[colour] : "";
}

enum mu_colour mu_colour_of_state(const char *state)
{
    static const struct {
        const char *state;
        enum mu_colour colour;
    } rows[] = {{"completed", MU_GOOD}, {"running", MU_GOOD},    {"up", MU_GOOD},       {"failed", MU_BAD},
                {"away", MU_BAD},       {"recovering", MU_BUSY}, {"queued", MU_BUSY},   {"suspended", MU_BUSY},
                {"starting", MU_BUSY},  {"joining", MU_BUSY},    {"cancelled", MU_DIM}, {"draining", MU_BUSY},
                {"drained", MU_BAD},    {"quarantined", MU_BAD}};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        if (!strcmp(rows[i].state, state))
            return rows[i].colour;
    return MU_PLAIN;
}
