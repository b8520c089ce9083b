/* The interval that interval=auto takes: Young's and Daly's formulas, bounds, and what failures say. */
#include "runtime/ckpt/interval.h"

#include <math.h>
#include <stdbool.h>

#include "tests/unit/tap.h"

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-3 * fabs(b);
}

int main(void)
{
    static const struct {
        double cost, mtbf, want;
    } rows[] = {
        {1, 10800, 146.27},    /* Young: 146.97 */
        {10, 10800, 458.12},   /* 464.76 */
        {60, 10800, 1098.8},   /* 1138.4 */
        {0.25, 10800, 73.320}, /* 73.485 */
        {100, 50, 50},         /* cost >= 2 mtbf: mtbf */
        {1e-6, 10, 1},         /* not below a second */
        {60, 1e9, 3600},       /* nor above an hour */
        {0, 10800, 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double got = mu_ckpt_interval(rows[i].cost, rows[i].mtbf);

        TAP_OK(near(got, rows[i].want), "a cost of %g s, a failure every %g s: %.6g s", rows[i].cost, rows[i].mtbf,
               got);
    }
    TAP_OK(near(mu_ckpt_mtbf(1000, 1, 0, 0), 1000) && near(mu_ckpt_mtbf(1000, 10, 0, 0), 100),
           "nodes fail on their own");
    TAP_OK(mu_ckpt_mtbf(1000, 1, 0, 5000) > 1000, "a job that does not fail is trusted more");
    TAP_OK(near(mu_ckpt_mtbf(1000, 1, 1, 10), 505), "one failure may be chance");
    TAP_OK(near(mu_ckpt_mtbf(1e7, 1, 4, 400), 100), "four are believed");
    TAP_OK(near(mu_ckpt_mtbf(10, 1, 2, 1000), (10 + 1000) / 3.0), "fewer than expected, too");
    return tap_done();
}
