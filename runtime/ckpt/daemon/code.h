/* The erasure code of a group (ISA-L, Cauchy matrices over GF(2^8)): from n - k rows of data k rows of parity; any n -
 * k of all n rows give back the rest. k = 1 with n = 2 is a copy. */
#ifndef MU_CKPT_CODE_H
#define MU_CKPT_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define MU_CODE_MAX 32u /* rows */

struct mu_code {
    uint32_t n, k;
    unsigned char matrix[MU_CODE_MAX * MU_CODE_MAX]; /* n rows of n - k */
    unsigned char tables[32 * MU_CODE_MAX * MU_CODE_MAX];
};
/* EARG: k < 1, k >= n or n > MU_CODE_MAX. */
int mu_code_init(struct mu_code *, uint32_t n, uint32_t k, struct mu_err *);
/* Adds what data row `row` contributes to all parity rows, which begin as zeros. */
void mu_code_add(const struct mu_code *, uint32_t row, const unsigned char *data, unsigned len,
                 unsigned char *const *parity);

/* How to make data rows of n - k others, `have`: rows numbered from 0, parity rows behind the data rows. */
struct mu_code_way {
    uint32_t n, rows;
    unsigned char tables[32 * MU_CODE_MAX * MU_CODE_MAX];
};
int mu_code_way(const struct mu_code *, const uint32_t *have, const uint32_t *rows, uint32_t nrows,
                struct mu_code_way *, struct mu_err *);
/* Adds what have[i] contributes to the rows; first: whatever they were before. */
void mu_code_make(const struct mu_code_way *, uint32_t i, bool first, const unsigned char *data, unsigned len,
                  unsigned char *const *out);

#endif
