/* The parser. A line is words; each has its column. */
#include "bench/judge/criteria.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

enum { WORDS_MAX = 40, WORD_MAX = 256, LINE_MAX_BYTES = 1000 };

struct word {
    char text[WORD_MAX];
    unsigned column;
};

struct parse {
    const char *name;
    unsigned line, n, at;
    struct word words[WORDS_MAX];
    char text[200];
    struct mu_criteria out;
    struct mu_err *err;
};

static const struct unit {
    const char *name;
    enum mu_dim dim;
    double scale;
} units[] = {
    {"TB/s", MU_DIM_RATE, 1e12},    {"GB/s", MU_DIM_RATE, 1e9},     {"MB/s", MU_DIM_RATE, 1e6},
    {"kB/s", MU_DIM_RATE, 1e3},     {"B/s", MU_DIM_RATE, 1},        {"Tb/s", MU_DIM_RATE, 1.25e11},
    {"Gb/s", MU_DIM_RATE, 1.25e8},  {"Mb/s", MU_DIM_RATE, 1.25e5},  {"TFLOP/s", MU_DIM_FLOPS, 1e12},
    {"GFLOP/s", MU_DIM_FLOPS, 1e9}, {"MFLOP/s", MU_DIM_FLOPS, 1e6}, {"s", MU_DIM_TIME, 1},
    {"ms", MU_DIM_TIME, 1e-3},      {"us", MU_DIM_TIME, 1e-6},      {"ns", MU_DIM_TIME, 1e-9},
};

static const struct unit *unit_of(const char *name)
{
    for (size_t i = 0; i < MU_COUNT(units); i++)
        if (!strcmp(units[i].name, name))
            return &units[i];
    return NULL;
}

/* column 0: behind the last word */
static int bad(struct parse *p, unsigned word, const char *fmt, const char *arg)
{
    char what[300], shown[120];
    unsigned column = 1;

    if (word < p->n)
        column = p->words[word].column;
    else if (p->n)
        column = p->words[p->n - 1].column + (unsigned)strlen(p->words[p->n - 1].text);
    snprintf(what, sizeof what, fmt, mu_str_show(shown, sizeof shown, arg ? arg : ""));
    return mu_err_set(p->err, MUSTER_EARG, "%s:%u:%u: %s", p->name, p->line, column, what);
}

static const char *next(struct parse *p)
{
    return p->at < p->n ? p->words[p->at].text : NULL;
}

/* Words are separated by blanks; a quoted part may have some. Comparisons stand by themselves, whether or not blanks
 * are around them, but not those of "size>=1G" and the like, which are one word. */
static int split(struct parse *p, const char *s, size_t len)
{
    p->n = p->at = 0;
    for (size_t i = 0; i < len;) {
        if (s[i] == ' ' || s[i] == '\t' || s[i] == '\r') {
            i++;
            continue;
        }
        if (s[i] == '#')
            return 0;
        if (p->n == WORDS_MAX)
            return bad(p, p->n, "more than 40 words in a line", NULL);
        struct word *w = &p->words[p->n];
        w->column = (unsigned)i + 1;
        size_t k = 0;
        bool quoted = false;
        for (; i < len && (quoted || (s[i] != ' ' && s[i] != '\t' && s[i] != '\r')); i++) {
            if (s[i] == '"') {
                quoted = !quoted;
                continue;
            }
            if (k + 1 == sizeof w->text)
                return mu_err_set(p->err, MUSTER_EARG, "%s:%u:%u: a word of more than 255 bytes", p->name, p->line,
                                  w->column);
            w->text[k++] = s[i];
        }
        w->text[k] = 0;
        p->n++;
        if (quoted)
            return bad(p, p->n - 1, "a quote is not closed", NULL);
    }
    return 0;
}

static int op_of(const char *s, enum mu_op *op)
{
    static const struct {
        const char *text;
        enum mu_op op;
    } ops[] = {{">=", MU_OP_GE}, {"<=", MU_OP_LE}, {"==", MU_OP_EQ}, {">", MU_OP_GT}, {"<", MU_OP_LT}};

    for (size_t i = 0; i < MU_COUNT(ops); i++)
        if (!strncmp(s, ops[i].text, strlen(ops[i].text))) {
            *op = ops[i].op;
            return (int)strlen(ops[i].text);
        }
    return 0;
}

static bool is_name(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == strlen(s) &&
           !(*s >= '0' && *s <= '9');
}

static int ref_index(const struct mu_criteria *c, const char *name)
{
    for (unsigned i = 0; i < c->nrefs; i++)
        if (!strcmp(c->refs[i].name, name))
            return (int)i;
    return -1;
}

/* "2%" is 0.02. */
static int percent(const char *s, double *out)
{
    char buf[64];
    size_t n = strlen(s);

    if (n < 2 || n >= sizeof buf || s[n - 1] != '%')
        return MUSTER_EARG;
    memcpy(buf, s, n - 1);
    buf[n - 1] = 0;
    if (mu_str_double(buf, out) || *out < 0)
        return MUSTER_EARG;
    *out /= 100;
    return 0;
}

static int on_ref(struct parse *p)
{
    struct mu_ref r = {0};
    const struct unit *u;
    double v;

    if (!next(p) || !is_name(next(p)) || strlen(next(p)) >= sizeof r.name)
        return bad(p, p->at, "'%s' is not a name for a reference: letters, digits, '.', '_' and '-', at most 63",
                   next(p));
    snprintf(r.name, sizeof r.name, "%.63s", next(p));
    if (!strcmp(r.name, "median") || !strcmp(r.name, "peers") || !strcmp(r.name, "baseline"))
        return bad(p, p->at, "'%s' has a meaning of its own; take another name", next(p));
    int was = ref_index(&p->out, r.name);
    unsigned name = p->at++;
    if (!next(p) || mu_str_double(next(p), &v) || v < 0)
        return bad(p, p->at, "'%s' is not the value of a reference: a number, then its unit", next(p));
    p->at++;
    if (!next(p) || !(u = unit_of(next(p))))
        return bad(p, p->at, "'%s' is no unit; there are GB/s, Gb/s, TFLOP/s, s, ms, us and their like", next(p));
    r.value = v * u->scale;
    r.dim = u->dim;
    snprintf(r.unit, sizeof r.unit, "%s", u->name);
    for (p->at++; next(p); p->at++) {
        const char *w = next(p), *eq = strchr(w, '=');
        if (!eq || eq == w)
            return bad(p, p->at, "'%s' is not KEY=VALUE", w);
        if (!strncmp(w, "src=", 4))
            snprintf(r.source, sizeof r.source, "%.199s", w + 4);
        else
            snprintf(r.params + strlen(r.params), sizeof r.params - strlen(r.params), "%s%.99s", *r.params ? " " : "",
                     w);
    }
    if (was >= 0) /* what `muster accept criteria` prints may be given back */
        return p->out.refs[was].value >= r.value && p->out.refs[was].value <= r.value && p->out.refs[was].dim == r.dim
                   ? 0
                   : bad(p, name, "there is a reference '%s' already", r.name);
    struct mu_ref *v2 = realloc(p->out.refs, (p->out.nrefs + 1) * sizeof *v2);
    if (!v2)
        return mu_err_set(p->err, MUSTER_ENOMEM, "out of memory");
    p->out.refs = v2;
    v2[p->out.nrefs++] = r;
    return 0;
}

/* Behind the comparison: NUMBER [UNIT], [NUMBER*]NAME. rest: what stands in the same word. */
static int on_bound(struct parse *p, struct mu_check *c, enum mu_op op, const char *rest)
{
    struct mu_bound b = {.op = op, .factor = 1};
    unsigned at = p->at;
    const char *s = rest;
    char number[64];

    if (c->nbounds == MU_BOUNDS_MAX)
        return bad(p, at, "more than 4 comparisons in a check", NULL);
    if (!*s) {
        p->at++;
        s = next(p);
    }
    if (!s)
        return bad(p, p->n, "a comparison with nothing behind it", NULL);
    snprintf(b.text, sizeof b.text, "%s %.80s", (const char *[]){">=", "<=", ">", "<", "=="}[op], s);
    const char *star = strchr(s, '*');
    if (star) {
        if ((size_t)(star - s) >= sizeof number)
            return bad(p, p->at, "'%s' is not a factor", s);
        memcpy(number, s, (size_t)(star - s));
        number[star - s] = 0;
        if (mu_str_double(number, &b.factor) || b.factor <= 0)
            return bad(p, p->at, "'%s' does not begin with a number above 0", s);
        s = star + 1;
    } else if (!mu_str_double(s, &b.factor)) {
        const char *u = p->at + 1 < p->n ? p->words[p->at + 1].text : NULL;
        const struct unit *unit = u ? unit_of(u) : NULL;
        b.against = MU_AGAINST_NUMBER;
        if (unit) {
            b.dim = unit->dim;
            b.factor *= unit->scale;
            snprintf(b.text + strlen(b.text), sizeof b.text - strlen(b.text), " %s", u);
            p->at++;
        }
        p->at++;
        c->bounds[c->nbounds++] = b;
        return 0;
    }
    static const char *const words[] = {
        [MU_AGAINST_MEDIAN] = "median", [MU_AGAINST_PEERS] = "peers", [MU_AGAINST_BASELINE] = "baseline"};
    b.against = MU_AGAINST_REF;
    for (unsigned i = 0; i < MU_COUNT(words); i++)
        if (words[i] && !strcmp(words[i], s))
            b.against = (enum mu_against)i;
    if (b.against == MU_AGAINST_REF) {
        int r = ref_index(&p->out, s);
        if (r < 0)
            return bad(p, p->at,
                       "'%s' is no number, not median, peers or baseline, and no reference above has that name", s);
        b.ref = (unsigned)r;
        b.dim = p->out.refs[r].dim;
    }
    p->at++;
    c->bounds[c->nbounds++] = b;
    return 0;
}

static int on_size(struct parse *p, struct mu_check *c, const char *s)
{
    enum mu_op op;
    uint64_t v;
    int n = op_of(s, &op);

    if (!n || mu_str_size(s + n, &v))
        return bad(p, p->at, "'%s' is not a condition on the size, such as size>=1M or size==64K",
                   p->words[p->at].text);
    if ((op == MU_OP_GT && v == UINT64_MAX) || (op == MU_OP_LT && !v))
        return bad(p, p->at, "no size is like that", NULL);
    if (op != MU_OP_LE && op != MU_OP_LT)
        c->size_min = v + (op == MU_OP_GT);
    if (op != MU_OP_GE && op != MU_OP_GT)
        c->size_max = v - (op == MU_OP_LT);
    if (c->size_min > c->size_max)
        return bad(p, p->at, "no size is like that", NULL);
    p->at++;
    return 0;
}

static int on_confirm(struct parse *p, struct mu_check *c, const char *s)
{
    if (strlen(s) != 3 || s[1] != '/' || s[0] < '1' || s[2] > '8' || s[0] > s[2])
        return bad(p, p->at, "'%s' is not confirm=A/B, A of B rounds, 8 at most", p->words[p->at].text);
    c->need = (unsigned)(s[0] - '0');
    c->of = (unsigned)(s[2] - '0');
    p->at++;
    return 0;
}

/* What is also taken for the name of a test of GPUs. */
static const char *known_as(const char *metric)
{
    static const char *const rows[][2] = {{"node.h2d", "node.gpu.h2d"}, {"node.d2h", "node.gpu.d2h"}};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        if (!strcmp(rows[i][0], metric))
            return rows[i][1];
    return metric;
}

static int on_check(struct parse *p)
{
    struct mu_check c = {.line = p->line, .size_max = UINT64_MAX};
    int rc = 0, n;
    enum mu_op op;

    snprintf(c.text, sizeof c.text, "%s", p->text);
    if (!next(p) || !*next(p) || op_of(next(p), &op))
        return bad(p, p->at, "check: the name of a figure is missing, such as pair.bw", NULL);
    if (strlen(next(p)) >= sizeof c.metric)
        return bad(p, p->at, "a name of more than 79 bytes", NULL);
    snprintf(c.metric, sizeof c.metric, "%.79s", known_as(next(p)));
    for (p->at++; next(p) && !rc;) {
        const char *w = next(p);
        if ((n = op_of(w, &op)))
            rc = on_bound(p, &c, op, w + n);
        else if (!strncmp(w, "size", 4) && op_of(w + 4, &op))
            rc = on_size(p, &c, w + 4);
        else if (!strncmp(w, "confirm=", 8))
            rc = on_confirm(p, &c, w + 8);
        else if (!strncmp(w, "spread<=", 8)) {
            if (percent(w + 8, &c.spread) || c.spread <= 0)
                return bad(p, p->at, "'%s' is not spread<=P%%", w);
            p->at++;
        } else if (!strcmp(w, "each") || !strcmp(w, "delta")) {
            c.mode = *w == 'e' ? MU_MODE_EACH : MU_MODE_DELTA;
            p->at++;
        } else if (!strcmp(w, "optional")) {
            c.optional = true;
            p->at++;
        } else
            return bad(p, p->at,
                       "'%s' is not known here; a check has size>=N, each, delta, comparisons, spread<=P%%, "
                       "confirm=A/B and optional",
                       w);
    }
    if (rc)
        return rc;
    if (!c.nbounds && !c.spread)
        return bad(p, p->n, "a check with nothing to compare with", NULL);
    struct mu_check *v = realloc(p->out.checks, (p->out.nchecks + 1) * sizeof *v);
    if (!v)
        return mu_err_set(p->err, MUSTER_ENOMEM, "out of memory");
    p->out.checks = v;
    v[p->out.nchecks++] = c;
    return 0;
}

static int on_require(struct parse *p)
{
    for (; next(p); p->at++) {
        const char *w = next(p);
        if (!strncmp(w, "samples>=", 9)) {
            if (mu_str_u64(w + 9, 1, 1u << 30, &p->out.samples))
                return bad(p, p->at, "'%s' is not samples>=N", w);
        } else if (!strncmp(w, "ci<=", 4)) {
            if (percent(w + 4, &p->out.ci) || p->out.ci <= 0)
                return bad(p, p->at, "'%s' is not ci<=P%%", w);
        } else if (!strncmp(w, "late<=", 6)) {
            if (percent(w + 6, &p->out.late) || p->out.late <= 0)
                return bad(p, p->at, "'%s' is not late<=P%%", w);
        } else if (!strcmp(w, "else")) {
            p->at++;
            if (!next(p) || (strcmp(next(p), "inconclusive") != 0 && strcmp(next(p), "fail") != 0))
                return bad(p, p->at, "behind else stands inconclusive or fail, not '%s'", next(p));
            p->out.lack_fails = !strcmp(next(p), "fail");
        } else
            return bad(p, p->at, "'%s' is not known here; require has samples>=N, ci<=P%%, late<=P%% and else", w);
    }
    return 0;
}

static int on_line(struct parse *p, const char *s, size_t len)
{
    int rc;

    if (len > LINE_MAX_BYTES)
        return mu_err_set(p->err, MUSTER_EARG, "%s:%u:%u: a line of more than %d bytes", p->name, p->line,
                          LINE_MAX_BYTES + 1, LINE_MAX_BYTES);
    if ((rc = split(p, s, len)) || !p->n)
        return rc;
    size_t from = p->words[0].column - 1;
    snprintf(p->text, sizeof p->text, "%.*s", (int)(len - from), s + from);
    p->at = 1;
    if (!strcmp(p->words[0].text, "ref"))
        return on_ref(p);
    if (!strcmp(p->words[0].text, "check"))
        return on_check(p);
    if (!strcmp(p->words[0].text, "require"))
        return on_require(p);
    return bad(p, 0, "'%s' begins no line; there are ref, check and require", p->words[0].text);
}

int mu_criteria_parse(const char *name, const char *text, size_t len, struct mu_criteria *out, struct mu_err *err)
{
    mu_auto_free struct parse *p = calloc(1, sizeof *p);
    int rc = 0;

    if (!p)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    p->name = name;
    p->err = err;
    for (int builtin = 1; builtin >= 0 && !rc; builtin--) { /* references of ours, then the text */
        const char *t = builtin ? mu_criteria_references() : text;
        size_t n = builtin ? strlen(t) : len;
        p->line = 0;
        for (size_t at = 0; at < n && !rc;) {
            const char *end = memchr(t + at, '\n', n - at);
            size_t k = end ? (size_t)(end - t) - at : n - at;
            p->line++;
            rc = on_line(p, t + at, k);
            at += k + 1;
        }
    }
    if (!rc && !p->out.nchecks) {
        p->n = 0;
        p->line = p->line ? p->line : 1;
        rc = bad(p, 0, "no check in it", NULL);
    }
    if (rc) {
        mu_criteria_free(&p->out);
        return rc;
    }
    *out = p->out;
    return 0;
}

void mu_criteria_free(struct mu_criteria *c)
{
    free(c->refs);
    free(c->checks);
    *c = (struct mu_criteria){0};
}

bool mu_criteria_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;

    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else
            return false;
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
