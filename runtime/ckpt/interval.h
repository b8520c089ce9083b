/* How often a job should save. What is best for one whose saves hold it up for `cost` and that fails every `mtbf` on
 * average is Daly's estimate of the optimum, which refines Young's sqrt(2 cost mtbf):
 *   J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974;
 *   J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22(3), 2006, eq. 37:
 *   sqrt(2 cost mtbf) (1 + sqrt(cost / 2 mtbf) / 3 + cost / 18 mtbf) - cost for cost < 2 mtbf, else mtbf.
 * How often it fails is what it has shown, from two failures on, and before that what nodes do in large clusters:
 * Llama 3 (Meta 2024) was interrupted 466 times in 54 days on 2048 nodes, one failure in 237 days of a node; Kokolis et
 * al. (HPCA 2025) have 154 for RSC-1. Pure. */
#ifndef MU_CKPT_INTERVAL_H
#define MU_CKPT_INTERVAL_H

#include <stdint.h>

#define MU_CKPT_NODE_MTBF (150.0 * 86400) /* s */
#define MU_CKPT_INTERVAL_LEAST 1.0        /* s, also when saves cost nothing */
#define MU_CKPT_INTERVAL_MOST 3600.0      /* nobody wants to lose more, whatever the formula says */

/* Seconds between failures of a job of so many nodes, which failed so many times while it ran for so many seconds;
 * node_mtbf: one node's, expected. */
double mu_ckpt_mtbf(double node_mtbf, uint32_t nodes, uint32_t failures, double ran);
/* Seconds between the end of a save and the next one. */
double mu_ckpt_interval(double cost, double mtbf);

#endif
