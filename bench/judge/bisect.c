#include "bench/judge/bisect.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

struct search {
    struct mu_bisect *b;
    mu_bisect_try *try;
    void *arg;
    uint32_t *both; /* room for two sets */
    int rc;
};

/* a and b together; as often as it takes to be sure. */
static bool fails(struct search *s, const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb)
{
    unsigned bad = 0, good = 0;

    if (na + nb < 2 || s->rc)
        return false;
    memcpy(s->both, a, na * sizeof *a);
    memcpy(s->both + na, b, nb * sizeof *b);
    while (!s->rc && bad < s->b->need && good <= s->b->of - s->b->need) {
        int is = s->try(s->arg, s->both, na + nb);
        s->rc = is < 0 ? is : 0;
        bad += is > 0;
        good += is == 0;
        s->b->asked++;
    }
    return bad >= s->b->need;
}

/* a and b fail together: drops from a what it does not take. */
static uint32_t lessen(struct search *s, uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb)
{
    while (na > 1 && !s->rc) {
        uint32_t half = na / 2;
        if (fails(s, a, half, b, nb))
            na = half;
        else if (fails(s, a + half, na - half, b, nb)) {
            memmove(a, a + half, (na - half) * sizeof *a);
            na -= half;
        } else
            break; /* it takes some of both */
    }
    return na;
}

/* Two are left that fail together: perhaps it takes only one of them, and anybody. */
static void try_alone(struct search *s, const uint32_t *hosts, uint32_t n)
{
    struct mu_bisect *b = s->b;
    const uint32_t *other = NULL;

    for (uint32_t i = 0; i < n && !other; i++)
        other = hosts[i] != b->a[0] && hosts[i] != b->b[0] ? &hosts[i] : NULL;
    if (!other)
        return;
    bool one = fails(s, b->a, 1, other, 1), two = fails(s, b->b, 1, other, 1);
    if (s->rc || one == two)
        return;
    b->a[0] = one ? b->a[0] : b->b[0];
    b->nb = 0;
}

int mu_bisect_run(struct mu_bisect *b, const uint32_t *hosts, uint32_t n, mu_bisect_try *try, void *arg)
{
    mu_auto_free uint32_t *both = malloc((n + 1) * sizeof *both);
    struct search s = {b, try, arg, both, 0};

    b->asked = 0;
    b->a = calloc(n + 1, sizeof *b->a);
    b->b = calloc(n + 1, sizeof *b->b);
    b->na = n;
    b->nb = 0;
    if (!both || !b->a || !b->b)
        return MUSTER_ENOMEM;
    memcpy(b->a, hosts, n * sizeof *hosts);
    if (!fails(&s, b->a, n, b->b, 0))
        return s.rc ? s.rc : MUSTER_ENOSYS;
    while (b->na > 3 && !s.rc) { /* halves that fail by themselves */
        uint32_t half = b->na / 2;
        if (fails(&s, b->a, half, b->b, 0))
            b->na = half;
        else if (fails(&s, b->a + half, b->na - half, b->b, 0)) {
            memmove(b->a, b->a + half, (b->na - half) * sizeof *b->a);
            b->na -= half;
        } else
            break;
    }
    /* What is left fails only together. Who is it that fails with one that is not among them? */
    if (b->na <= 3 && b->na < n) {
        uint32_t other = hosts[0];
        for (uint32_t i = 0, k = 0; i < n; i++) {
            for (k = 0; k < b->na && b->a[k] != hosts[i]; k++)
                ;
            if (k == b->na)
                other = hosts[i];
        }
        for (uint32_t i = 0; i < b->na && !s.rc; i++) {
            if (fails(&s, &b->a[i], 1, &other, 1)) {
                b->a[0] = b->a[i];
                b->na = 1;
                return 0;
            }
        }
    }
    uint32_t half = b->na / 2;
    b->nb = b->na - half;
    memcpy(b->b, b->a + half, b->nb * sizeof *b->b);
    b->na = lessen(&s, b->a, half, b->b, b->nb);
    b->nb = lessen(&s, b->b, b->nb, b->a, b->na);
    b->na = lessen(&s, b->a, b->na, b->b, b->nb);
    if (b->na == 1 && b->nb == 1 && !s.rc)
        try_alone(&s, hosts, n);
    return s.rc;
}

void mu_bisect_free(struct mu_bisect *b)
{
    free(b->a);
    free(b->b);
    b->a = b->b = NULL;
}
