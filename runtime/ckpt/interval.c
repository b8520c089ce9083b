#include "runtime/ckpt/interval.h"

#include <math.h>

double mu_ckpt_mtbf(double node_mtbf, uint32_t nodes, uint32_t failures, double ran)
{
    double expected = node_mtbf / (nodes ? nodes : 1);
    /* one failure in the time expected, and those that were seen */
    double m = (expected + ran) / (1.0 + failures);

    /* a job that fails so much more often than nodes do has a reason of its own */
    if (failures >= 2 && ran / failures < m)
        m = ran / failures;
    return m;
}

double mu_ckpt_interval(double cost, double mtbf)
{
    double t = mtbf;

    if (cost < 2 * mtbf) {
        double x = cost / (2 * mtbf);

        t = sqrt(2 * cost * mtbf) * (1 + sqrt(x) / 3 + x / 9) - cost;
    }
    return t < MU_CKPT_INTERVAL_LEAST ? MU_CKPT_INTERVAL_LEAST : t > MU_CKPT_INTERVAL_MOST ? MU_CKPT_INTERVAL_MOST : t;
}
