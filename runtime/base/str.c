#include "runtime/base/str.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/clean.h"

/* --- numbers ---------------------------------------------------------------------------------------------------- */

/* Digits from *s on; moves *s behind them. False when there are none or they do not fit. */
static bool digits(const char **s, uint64_t *out)
{
    uint64_t v = 0;
    const char *p = *s;

    for (; *p >= '0' && *p <= '9'; p++) {
        unsigned d = (unsigned)(*p - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    if (p == *s)
        return false;
    *s = p;
    *out = v;
    return true;
}

int mu_str_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v;

    if (!s || !digits(&s, &v) || *s || v < min || v > max)
        return MUSTER_EARG;
    *out = v;
    return 0;
}

int mu_str_i64(const char *s, int64_t min, int64_t max, int64_t *out)
{
    uint64_t v;
    bool neg;

    if (!s)
        return MUSTER_EARG;
    neg = *s == '-';
    s += neg;
    if (!digits(&s, &v) || *s || v > (uint64_t)INT64_MAX + neg)
        return MUSTER_EARG;
    int64_t i = neg ? (v ? -(int64_t)(v - 1) - 1 : 0) : (int64_t)v;
    if (i < min || i > max)
        return MUSTER_EARG;
    *out = i;
    return 0;
}

int mu_str_double(const char *s, double *out)
{
    char *end;

    if (!s || !(isdigit((unsigned char)*s) || *s == '-' || *s == '.') || strpbrk(s, "xXnN"))
        return MUSTER_EARG;
    int saved = errno;
    errno = 0;
    double v = strtod(s, &end);
    bool over = errno == ERANGE && fabs(v) > 1;
    errno = saved;
    if (end == s || *end || over || !isfinite(v))
        return MUSTER_EARG;
    *out = v;
    return 0;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1}, {"B", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}, {"P", 1ull << 50},
};
static const struct unit time_units[] = {
    {"ns", 1},          {"us", 1000},         {"ms", 1000000},       {"s", 1000000000},
    {"m", 60000000000}, {"h", 3600000000000}, {"d", 86400000000000},
};

/* "12.345" times factor, rounded down. Moves *s behind the number, whose unit was found by the caller. */
static bool scaled(uint64_t whole, uint64_t frac, uint64_t frac_base, uint64_t factor, uint64_t *out)
{
    __extension__ unsigned __int128 v = (unsigned __int128)whole * factor;

    __extension__ unsigned __int128 f = (unsigned __int128)frac * factor / frac_base;
    v += f;
    if (v > UINT64_MAX)
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool number(const char **s, uint64_t *whole, uint64_t *frac, uint64_t *base)
{
    *frac = 0;
    *base = 1;
    if (!digits(s, whole))
        return false;
    if (**s == '.') {
        const char *from = ++*s;
        if (!digits(s, frac) || *s - from > 18)
            return false;
        for (const char *p = from; p < *s; p++)
            *base *= 10;
    }
    return true;
}

int mu_str_size(const char *s, uint64_t *bytes)
{
    uint64_t whole, frac, base, v;

    if (!s || !number(&s, &whole, &frac, &base))
        return MUSTER_EARG;
    size_t len = strlen(s);
    if (len > 1 && toupper((unsigned char)s[0]) != 'B') {
        if (strcasecmp(s + 1, "iB") && strcasecmp(s + 1, "B"))
            return MUSTER_EARG;
        len = 1;
    }
    for (size_t i = 0; i < MU_COUNT(size_units); i++) {
        if (strlen(size_units[i].name) != len || strncasecmp(size_units[i].name, s, len))
            continue;
        if ((frac && size_units[i].factor == 1) || !scaled(whole, frac, base, size_units[i].factor, &v))
            return MUSTER_EARG;
        *bytes = v;
        return 0;
    }
    return MUSTER_EARG;
}

int mu_str_duration(const char *s, uint64_t *ns)
{
    uint64_t whole, frac, base, v, sum = 0;

    if (!s || !*s)
        return MUSTER_EARG;
    for (const char *start = s; *s;) {
        uint64_t factor = 0;

        bool first = s == start;
        if (!number(&s, &whole, &frac, &base))
            return MUSTER_EARG;
        size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz");
        if (!len && first && !*s)
            factor = 1000000000;
        for (size_t i = 0; len && i < MU_COUNT(time_units); i++)
            if (strlen(time_units[i].name) == len && !strncmp(time_units[i].name, s, len))
                factor = time_units[i].factor;
        if (!factor || !scaled(whole, frac, base, factor, &v) || v > UINT64_MAX - sum)
            return MUSTER_EARG;
        sum += v;
        s += len;
    }
    *ns = sum;
    return 0;
}

char *mu_str_fmt_size(char *buf, size_t n, uint64_t bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t u = 0;
    double v = (double)bytes;

    /* 1023.95 would print as 1024.0 of the smaller unit. */
    while (v >= 1023.95 && u + 1 < MU_COUNT(names)) {
        v /= 1024;
        u++;
    }
    bool whole = u == 0 || bytes % (1ull << (10 * u)) == 0;
    snprintf(buf, n, whole ? "%.0f %s" : "%.1f %s", v, names[u]);
    return buf;
}

char *mu_str_fmt_duration(char *buf, size_t n, uint64_t ns)
{
    uint64_t s = ns / 1000000000 + (ns % 1000000000 >= 500000000);
    double d = (double)ns;

    if (ns < 1000)
        snprintf(buf, n, "%u ns", (unsigned)ns);
    else if (d < 999.5e3)
        snprintf(buf, n, d < 9.95e3 ? "%.1f us" : "%.0f us", d / 1e3);
    else if (d < 999.5e6)
        snprintf(buf, n, d < 9.95e6 ? "%.1f ms" : "%.0f ms", d / 1e6);
    else if (d < 59.95e9)
        snprintf(buf, n, "%.1f s", d / 1e9);
    else if (s < 3600)
        snprintf(buf, n, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(buf, n, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(buf, n, "%llud%02uh", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
    return buf;
}

/* --- vectors ---------------------------------------------------------------------------------------------------- */

size_t mu_strv_len(char *const *v)
{
    size_t n = 0;

    while (v && v[n])
        n++;
    return n;
}

static bool is_one_block(char *const *v)
{
    return v && v[0] == (const char *)(v + mu_strv_len(v) + 1);
}

int mu_strv_append(char ***v, const char *s)
{
    if (is_one_block(*v)) {
        char **apart = mu_strv_dup(*v);
        if (!apart)
            return MUSTER_ENOMEM;
        free(*v);
        *v = apart;
    }
    size_t n = mu_strv_len(*v);
    char *copy = strdup(s);
    char **grown = copy ? realloc(*v, (n + 2) * sizeof **v) : NULL;

    if (!grown) {
        free(copy);
        return MUSTER_ENOMEM;
    }
    grown[n] = copy;
    grown[n + 1] = NULL;
    *v = grown;
    return 0;
}

char **mu_strv_dup(char *const *v)
{
    size_t n = mu_strv_len(v);
    char **copy = calloc(n + 1, sizeof *copy);

    for (size_t i = 0; copy && i < n; i++)
        if (!(copy[i] = strdup(v[i]))) {
            mu_strv_free(copy);
            return NULL;
        }
    return copy;
}

void mu_strv_free(char **v)
{
    bool one_block = is_one_block(v);

    for (size_t i = 0; v && v[i] && !one_block; i++)
        free(v[i]);
    free(v);
}

/* --- quoting and likeness --------------------------------------------------------------------------------------- */

uint64_t mu_str_hash(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325ull;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

void mu_str_quote(struct mu_buf *out, const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

    if (*s && !s[strspn(s, plain)]) {
        mu_buf_puts(out, s);
        return;
    }
    mu_buf_putc(out, '\'');
    for (; *s; s++) {
        if (*s == '\'')
            mu_buf_puts(out, "'\\''");
        else
            mu_buf_putc(out, *s);
    }
    mu_buf_putc(out, '\'');
}

/* One word, appended; *p is behind it then. */
static int take_word(const char **p, struct mu_buf *word)
{
    char quote = 0;

    for (; **p && (quote || !strchr(" \t\n", **p)); ++*p) {
        char c = **p;
        if (quote ? c == quote : c == '"' || c == '\'') {
            quote = quote ? 0 : c;
            continue;
        }
        if (c == '\\' && quote != '\'' && (!quote || ((*p)[1] && strchr("\"\\$`", (*p)[1])))) {
            if (!*++*p)
                return MUSTER_EARG;
            c = **p;
        }
        mu_buf_putc(word, c);
    }
    return quote ? MUSTER_EARG : 0;
}

int mu_str_words(const char *text, char ***out, struct mu_err *err)
{
    char **v = NULL, shown[100];
    int rc = 0;

    for (const char *p = text + strspn(text, " \t\n"); *p && !rc; p += strspn(p, " \t\n")) {
        mu_auto_buf struct mu_buf word = {0};
        rc = take_word(&p, &word);
        if (!rc)
            rc = word.failed ? MUSTER_ENOMEM : mu_strv_append(&v, mu_buf_str(&word));
    }
    if (!rc && !v)
        rc = mu_err_set(err, MUSTER_EARG, "it is empty");
    else if (rc == MUSTER_EARG)
        mu_err_set(err, rc, "a quote is not closed: %s", mu_str_show(shown, sizeof shown, text));
    else if (rc)
        mu_err_set(err, rc, "%s", muster_strerror(rc));
    if (rc)
        mu_strv_free(v);
    else
        *out = v;
    return rc;
}

/* Length of the well-formed UTF-8 sequence at s that is safe to show, 0 if there is none. */
static size_t utf8_safe(const unsigned char *s, size_t n)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t min;
    } forms[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    static const struct {
        uint32_t lo, hi;
    } bad[] = {{0x80, 0x9f},     {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
               {0xd800, 0xdfff}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0x110000, UINT32_MAX}};

    for (size_t f = 0; f < MU_COUNT(forms); f++) {
        size_t len = f + 2;
        if ((s[0] & forms[f].mask) != forms[f].lead)
            continue;
        if (n < len)
            return 0;
        uint32_t c = s[0] & (unsigned char)~forms[f].mask;
        for (size_t i = 1; i < len; i++) {
            if ((s[i] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (s[i] & 0x3fu);
        }
        if (c < forms[f].min)
            return 0;
        for (size_t i = 0; i < MU_COUNT(bad); i++)
            if (c >= bad[i].lo && c <= bad[i].hi)
                return 0;
        return len;
    }
    return 0;
}

/* One shown unit of s: its text in piece (at most 4 bytes, NUL behind), returns the bytes of s that it took. */
static size_t show_one(const unsigned char *s, size_t n, char piece[8])
{
    static const char named[] = "\nn\tt\rr";

    if (s[0] >= 0x20 && s[0] < 0x7f) {
        piece[0] = (char)s[0];
        piece[1] = 0;
        return 1;
    }
    for (size_t i = 0; i + 1 < sizeof named; i += 2)
        if ((char)s[0] == named[i]) {
            snprintf(piece, 8, "\\%c", named[i + 1]);
            return 1;
        }
    size_t len = s[0] >= 0xc0 ? utf8_safe(s, n) : 0;
    if (len) {
        memcpy(piece, s, len);
        piece[len] = 0;
        return len;
    }
    snprintf(piece, 8, "\\x%02x", s[0]);
    return 1;
}

bool mu_str_listed(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strcspn(p, ",") == n && !strncmp(p, name, n))
            return true;
    return false;
}

void mu_str_printable(struct mu_buf *out, const char *s, size_t n)
{
    char piece[8];

    for (size_t i = 0; i < n;) {
        i += show_one((const unsigned char *)s + i, n - i, piece);
        mu_buf_puts(out, piece);
    }
}

char *mu_str_show(char *buf, size_t n, const char *s)
{
    char piece[8];
    size_t len = strlen(s), at = 0, cut = 0; /* cut: the longest prefix that leaves room for "..." */

    if (!n)
        return buf;
    for (size_t i = 0; i < len;) {
        i += show_one((const unsigned char *)s + i, len - i, piece);
        size_t k = strlen(piece);
        if (at + k >= n) {
            snprintf(buf + cut, n - cut, "...");
            return buf;
        }
        memcpy(buf + at, piece, k);
        at += k;
        if (at + 3 < n)
            cut = at;
    }
    buf[at] = 0;
    return buf;
}

int mu_str_copy(char *dst, size_t n, const char *src)
{
    size_t len = strlen(src);

    if (len >= n) {
        if (n)
            dst[0] = 0;
        return MUSTER_EARG;
    }
    memcpy(dst, src, len + 1);
    return 0;
}

unsigned mu_str_distance(const char *a, const char *b)
{
    enum { MAX = 63 };
    unsigned row[3][MAX + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX || lb > MAX)
        return la == lb && !strcmp(a, b) ? 0 : MAX;
    for (unsigned j = 0; j <= lb; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned *now = row[i % 3], *up = row[(i - 1) % 3], *up2 = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned d = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < d)
                d = up[j] + 1;
            if (now[j - 1] + 1 < d)
                d = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < d)
                d = up2[j - 2] + 1;
            now[j] = d;
        }
    }
    return row[la % 3][lb];
}
