#include "topo/cpuset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int mu_cpuset_next(const struct mu_cpuset *s, int prev)
{
    if (prev < -1)
        prev = -1;
    for (int i = prev + 1; i < MU_CPUSET_MAX;) {
        uint64_t rest = s->w[i / 64] >> (i % 64);
        if (rest)
            return i + __builtin_ctzll(rest);
        i = (i / 64 + 1) * 64;
    }
    return -1;
}

int mu_cpuset_last(const struct mu_cpuset *s)
{
    for (int i = MU_CPUSET_WORDS - 1; i >= 0; i--)
        if (s->w[i])
            return 64 * i + 63 - __builtin_clzll(s->w[i]);
    return -1;
}

int mu_cpuset_weight(const struct mu_cpuset *s)
{
    int n = 0;

    for (size_t i = 0; i < MU_CPUSET_WORDS; i++)
        n += __builtin_popcountll(s->w[i]);
    return n;
}

bool mu_cpuset_empty(const struct mu_cpuset *s)
{
    return mu_cpuset_next(s, -1) < 0;
}

bool mu_cpuset_equal(const struct mu_cpuset *a, const struct mu_cpuset *b)
{
    return !memcmp(a->w, b->w, sizeof a->w);
}

bool mu_cpuset_intersects(const struct mu_cpuset *a, const struct mu_cpuset *b)
{
    for (size_t i = 0; i < MU_CPUSET_WORDS; i++)
        if (a->w[i] & b->w[i])
            return true;
    return false;
}

bool mu_cpuset_inside(const struct mu_cpuset *sub, const struct mu_cpuset *super)
{
    for (size_t i = 0; i < MU_CPUSET_WORDS; i++)
        if (sub->w[i] & ~super->w[i])
            return false;
    return true;
}

void mu_cpuset_and(struct mu_cpuset *to, const struct mu_cpuset *from)
{
    for (size_t i = 0; i < MU_CPUSET_WORDS; i++)
        to->w[i] &= from->w[i];
}

void mu_cpuset_or(struct mu_cpuset *to, const struct mu_cpuset *from)
{
    for (size_t i = 0; i < MU_CPUSET_WORDS; i++)
        to->w[i] |= from->w[i];
}

void mu_cpuset_andnot(struct mu_cpuset *to, const struct mu_cpuset *from)
{
    for (size_t i = 0; i < MU_CPUSET_WORDS; i++)
        to->w[i] &= ~from->w[i];
}

/* One index: digits only, below the capacity. NULL when it is not one. */
static const char *parse_index(const char *p, int *out)
{
    int v = 0;

    if (*p < '0' || *p > '9')
        return NULL;
    for (; *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (*p - '0');
        if (v >= MU_CPUSET_MAX)
            return NULL;
    }
    *out = v;
    return p;
}

int mu_cpuset_parse(const char *text, struct mu_cpuset *out, struct mu_err *err)
{
    struct mu_cpuset s = {{0}};
    const char *p = text, *from;

    while (*p) {
        int lo, hi;
        from = p;
        if (!(p = parse_index(p, &lo)))
            goto bad;
        hi = lo;
        if (*p == '-' && !(p = parse_index(p + 1, &hi)))
            goto bad;
        if (hi < lo)
            goto bad;
        for (int i = lo; i <= hi; i++)
            mu_cpuset_set(&s, i);
        if (*p == ',' && p[1])
            p++;
        else if (*p)
            goto bad;
    }
    *out = s;
    return 0;
bad:
    return mu_err_set(err, MUSTER_EARG, "not a list of indexes at '%.20s': expected something like 0-3,8 (0 to %d)",
                      from, MU_CPUSET_MAX - 1);
}

size_t mu_cpuset_format(const struct mu_cpuset *s, char *buf, size_t len)
{
    size_t used = 0;

    if (len)
        buf[0] = '\0';
    for (int i = mu_cpuset_next(s, -1); i >= 0;) {
        int hi = i;
        char item[24];
        while (mu_cpuset_isset(s, hi + 1))
            hi++;
        int n = snprintf(item, sizeof item, hi > i ? "%s%d-%d" : "%s%d", used ? "," : "", i, hi);
        if (used < len)
            snprintf(buf + used, len - used, "%s", item);
        used += (size_t)n;
        i = mu_cpuset_next(s, hi);
    }
    return used;
}

char *mu_cpuset_str(const struct mu_cpuset *s)
{
    size_t len = mu_cpuset_format(s, NULL, 0) + 1;
    char *buf = malloc(len);

    if (buf)
        mu_cpuset_format(s, buf, len);
    return buf;
}
