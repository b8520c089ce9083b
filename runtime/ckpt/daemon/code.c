#include "runtime/ckpt/daemon/code.h"

#include <isa-l.h>
#include <string.h>

int mu_code_init(struct mu_code *c, uint32_t n, uint32_t k, struct mu_err *err)
{
    if (k < 1 || k >= n || n > MU_CODE_MAX)
        return mu_err_set(err, MUSTER_EARG, "no code of %u rows with %u parities", n, k);
    c->n = n;
    c->k = k;
    gf_gen_cauchy1_matrix(c->matrix, (int)n, (int)(n - k));
    ec_init_tables((int)(n - k), (int)k, c->matrix + (n - k) * (n - k), c->tables);
    return 0;
}

void mu_code_add(const struct mu_code *c, uint32_t row, const unsigned char *data, unsigned len,
                 unsigned char *const *parity)
{
    ec_encode_data_update((int)len, (int)(c->n - c->k), (int)c->k, (int)row, (unsigned char *)(uintptr_t)c->tables,
                          (unsigned char *)(uintptr_t)data, (unsigned char **)(uintptr_t)parity);
}

int mu_code_way(const struct mu_code *c, const uint32_t *have, const uint32_t *rows, uint32_t nrows,
                struct mu_code_way *w, struct mu_err *err)
{
    uint32_t m = c->n - c->k;
    unsigned char some[MU_CODE_MAX * MU_CODE_MAX], inverse[MU_CODE_MAX * MU_CODE_MAX];

    for (uint32_t i = 0; i < m; i++) {
        if (have[i] >= c->n)
            return mu_err_set(err, MUSTER_EARG, "no row %u", have[i]);
        memcpy(some + i * m, c->matrix + have[i] * m, m);
    }
    if (gf_invert_matrix(some, inverse, (int)m) < 0)
        return mu_err_set(err, MUSTER_EARG, "these rows do not give the others");
    for (uint32_t i = 0; i < nrows; i++) {
        if (rows[i] >= m || nrows > MU_CODE_MAX)
            return mu_err_set(err, MUSTER_EARG, "no data row %u", rows[i]);
        memcpy(some + i * m, inverse + rows[i] * m, m);
    }
    w->n = m;
    w->rows = nrows;
    ec_init_tables((int)m, (int)nrows, some, w->tables);
    return 0;
}

void mu_code_make(const struct mu_code_way *w, uint32_t i, bool first, const unsigned char *data, unsigned len,
                  unsigned char *const *out)
{
    unsigned char alone[32 * MU_CODE_MAX], *of = (unsigned char *)(uintptr_t)data;

    if (first) { /* a code of this row alone: there is no need for zeros, nor to read them */
        for (uint32_t r = 0; r < w->rows; r++)
            memcpy(alone + 32 * (size_t)r, w->tables + 32 * ((size_t)r * w->n + i), 32);
        ec_encode_data((int)len, 1, (int)w->rows, alone, &of, (unsigned char **)(uintptr_t)out);
        return;
    }
    ec_encode_data_update((int)len, (int)w->n, (int)w->rows, (int)i, (unsigned char *)(uintptr_t)w->tables,
                          (unsigned char *)(uintptr_t)data, (unsigned char **)(uintptr_t)out);
}
