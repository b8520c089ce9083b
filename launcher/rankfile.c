#include "launcher/rankfile.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { RANKS_MAX = 1000000, FILE_MAX = 64 << 20, ROW_LEAST = 8 /* bytes of a line, "rank 0=h" */ };
#define EXPECTED "expected 'rank N=HOST slot=LIST', such as: rank 0=node1 slot=0-3"

void mu_rankfile_free(struct mu_rankfile *f)
{
    for (uint32_t i = 0; i < f->n; i++)
        free(f->v[i].slots);
    free(f->v);
    *f = (struct mu_rankfile){0};
}

static const char *blanks(const char *p)
{
    return p + strspn(p, " \t\r");
}

/* "slot=" or, as mpirun 5 writes it, "slots="; blanks around the sign. NULL: it is neither. */
static const char *after_slot(const char *p)
{
    if (strncmp(p, "slot", 4))
        return NULL;
    p = blanks(p + 4 + (p[4] == 's'));
    return *p == '=' ? blanks(p + 1) : NULL;
}

/* One line without its comment. 1: it is empty. *why (may be set on failure): what is wrong. */
static int parse_line(const char *line, struct mu_rankfile_row *row, uint32_t *rank, const char **why)
{
    const char *p = blanks(line);
    char *end;
    size_t n;

    if (!*p)
        return 1;
    if (strncmp(p, "rank", 4) || (p[4] != ' ' && p[4] != '\t'))
        return MUSTER_EARG;
    p = blanks(p + 4);
    if (*p < '0' || *p > '9')
        return MUSTER_EARG;
    unsigned long r = strtoul(p, &end, 10);
    if (r >= RANKS_MAX) {
        *why = "more than a million ranks";
        return MUSTER_EARG;
    }
    p = blanks(end);
    if (*p++ != '=')
        return MUSTER_EARG;
    p = blanks(p);
    n = strcspn(p, " \t\r");
    if (!n || n >= sizeof row->host)
        return MUSTER_EARG;
    if (memchr(p, '=', n) || memchr(p, ',', n)) {
        *why = "the host is missing, or is more than one";
        return MUSTER_EARG;
    }
    memcpy(row->host, p, n);
    row->host[n] = 0;
    p = blanks(p + n);
    const char *slots = "";
    n = 0;
    if (*p) {
        if (!(slots = after_slot(p)))
            return MUSTER_EARG;
        n = strcspn(slots, " \t\r");
        if (!n || strspn(slots, "0123456789-,:;*pP") < n) {
            *why = "behind slot= belong cores such as 0-3,8, or cores of a package such as 1:0-3";
            return MUSTER_EARG;
        }
        if (*blanks(slots + n)) {
            *why = "something follows the slots";
            return MUSTER_EARG;
        }
    }
    if (!(row->slots = strndup(slots, n)))
        return MUSTER_ENOMEM;
    *rank = (uint32_t)r;
    return 0;
}

/* Rows by rank, with line 0 where there is none yet. */
static int add(struct mu_rankfile *f, uint32_t *cap, uint32_t rank, const struct mu_rankfile_row *row)
{
    if (rank >= *cap) {
        uint32_t want = rank < 32 ? 64 : rank * 2;
        struct mu_rankfile_row *v = realloc(f->v, want * sizeof *v);
        if (!v)
            return MUSTER_ENOMEM;
        memset(v + *cap, 0, (want - *cap) * sizeof *v);
        f->v = v;
        *cap = want;
    }
    f->v[rank] = *row;
    if (rank >= f->n)
        f->n = rank + 1;
    return 0;
}

static int parse(const char *text, size_t len, const char *origin, struct mu_rankfile *f, struct mu_err *err)
{
    uint32_t cap = 0, rank = 0, rows = 0;
    unsigned number = 0;
    char shown[100];

    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;
        mu_auto_free char *line = strndup(text + at, n);
        struct mu_rankfile_row row = {.line = ++number};
        const char *why = EXPECTED;
        at += n + 1;
        if (!line)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        line[strcspn(line, "#")] = 0;
        int rc = parse_line(line, &row, &rank, &why);
        if (rc == 1)
            continue;
        if (!rc && rank > len / ROW_LEAST) {
            free(row.slots);
            return mu_err_set(err, MUSTER_EARG,
                              "%s:%u: rank %u, but the file has not so many: ranks are counted from 0 on", origin,
                              number, rank);
        }
        if (!rc && rank < f->n && f->v[rank].line) {
            free(row.slots);
            return mu_err_set(err, MUSTER_EARG, "%s:%u: rank %u is in line %u, too", origin, number, rank,
                              f->v[rank].line);
        }
        if (!rc && (rc = add(f, &cap, rank, &row)))
            free(row.slots);
        if (rc == MUSTER_ENOMEM)
            return mu_err_set(err, rc, "%s: out of memory", origin);
        if (rc)
            return mu_err_set(err, rc, "%s:%u: '%s': %s", origin, number, mu_str_show(shown, sizeof shown, line), why);
        rows++;
    }
    if (!rows)
        return mu_err_set(err, MUSTER_EARG, "%s: no rank is in it; " EXPECTED, origin);
    for (uint32_t i = 0; i < f->n; i++)
        if (!f->v[i].line)
            return mu_err_set(err, MUSTER_EARG, "%s: rank %u is missing, %u ranks are there", origin, i, rows);
    return 0;
}

int mu_rankfile_parse(const char *text, size_t len, const char *origin, struct mu_rankfile *out, struct mu_err *err)
{
    struct mu_rankfile f = {0};
    int rc = parse(text, len, origin, &f, err);

    if (rc)
        mu_rankfile_free(&f);
    else
        *out = f;
    return rc;
}

int mu_rankfile_read(const char *path, struct mu_rankfile *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read_text(path, FILE_MAX, &text, err);

    if (rc)
        return mu_err_prefix(err, "rank file");
    return mu_rankfile_parse(text.data, text.len, path, out, err);
}
