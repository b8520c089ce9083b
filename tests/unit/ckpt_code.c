/* The erasure code: every loss of up to k rows is made good, for every shape of group. */
#include "runtime/ckpt/daemon/code.h"
#include "tests/unit/tap.h"

#include <string.h>

#define LEN 1031 /* no multiple of anything */
static unsigned char rows[MU_CODE_MAX][LEN], out[MU_CODE_MAX][LEN];

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
    /* lose k neighbouring rows, from each on; make the lost data rows, each alone and all at once, of the first left */
    for (uint32_t lost = 0; lost < n; lost++) {
        uint32_t have[MU_CODE_MAX], want[MU_CODE_MAX], h = 0, nwant = 0;

        for (uint32_t i = 0; i < n; i++) {
            if ((i + n - lost) % n >= k && h < m)
                have[h++] = i;
            else if ((i + n - lost) % n < k && i < m)
                want[nwant++] = i;
        }
        for (uint32_t from = 0; from < nwant + (nwant > 1); from++) {
            uint32_t *of = from < nwant ? want + from : want, nof = from < nwant ? 1 : nwant;
            unsigned char *to[MU_CODE_MAX];
            static struct mu_code_way w;

            memset(out, 0xa5, sizeof out);
            for (uint32_t i = 0; i < nof; i++)
                to[i] = out[i];
            wrong += mu_code_way(&c, have, of, nof, &w, NULL) != 0;
            for (uint32_t i = m; i-- > 0;)
                mu_code_make(&w, i, i == m - 1, rows[have[i]], LEN, to);
            for (uint32_t i = 0; i < nof; i++)
                wrong += memcmp(out[i], rows[of[i]], LEN) != 0;
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
