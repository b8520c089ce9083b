/* The erasure code: every loss of up to k rows is made good, for every shape of group. */
#include "runtime/ckpt/daemon/code.h"
#include "tests/unit/tap.h"

#include <string.h>

#define LEN 1031 /* no multiple of anything */
static unsigned char rows[MU_CODE_MAX][LEN], out[LEN];

static int any(uint32_t n, uint32_t k)
{
    static struct mu_code c;
    unsigned char *parity[MU_CODE_MAX];
    uint32_t m = n - k;
    int wrong = 0;

    if (mu_code_init(&c, n, k, NULL))
        return 1;
    for (uint32_t i = 0; i < n; i++)
        for (int b = 0; b < LEN; b++)
            rows[i][b] = (unsigned char)(i < m ? (i * 31 + (uint32_t)b * 7 + (uint32_t)b / 13) : 0);
    for (uint32_t j = 0; j < k; j++)
        parity[j] = rows[m + j];
    for (uint32_t i = m; i-- > 0;) /* in any order, and in pieces */
        for (unsigned at = 0; at < LEN; at += 500) {
            unsigned char *p[MU_CODE_MAX];

            for (uint32_t j = 0; j < k; j++)
                p[j] = parity[j] + at;
            mu_code_add(&c, i, rows[i] + at, LEN - at < 500 ? LEN - at : 500, p);
        }
    /* lose k neighbouring rows, from each on; make each lost data row of the first that are left */
    for (uint32_t lost = 0; lost < n; lost++) {
        uint32_t have[MU_CODE_MAX], h = 0;
        unsigned char *src[MU_CODE_MAX];

        for (uint32_t i = 0; i < n && h < m; i++)
            if ((i + n - lost) % n >= k) {
                src[h] = rows[i];
                have[h++] = i;
            }
        for (uint32_t i = 0; i < m; i++) {
            struct mu_code_way w;

            if ((i + n - lost) % n >= k)
                continue;
            wrong += mu_code_way(&c, have, i, &w, NULL) != 0;
            mu_code_make(&w, src, LEN, out);
            wrong += memcmp(out, rows[i], LEN) != 0;
        }
    }
    return wrong;
}

int main(void)
{
    struct mu_code c;
    struct mu_err err;
    int wrong = 0;

    for (uint32_t n = 2; n <= MU_CODE_MAX; n += n < 10 ? 1 : 11)
        for (uint32_t k = 1; k < n && k < 6; k++)
            wrong += any(n, k);
    TAP_OK(wrong == 0, "every row that is lost comes back, for groups of 2 to 32 with 1 to 5 parities");
    any(2, 1);
    TAP_OK(!memcmp(rows[0], rows[1], LEN), "the parity of two is a copy");
    TAP_OK(mu_code_init(&c, 3, 3, &err) == MUSTER_EARG && mu_code_init(&c, 3, 0, &err) == MUSTER_EARG &&
               mu_code_init(&c, 33, 2, &err) == MUSTER_EARG,
           "what makes no sense is refused: %s", err.text);
    return tap_done();
}
