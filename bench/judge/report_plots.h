/* The page's figures, in their order. What was not measured has none. */
#ifndef MU_JUDGE_REPORT_PLOTS_H
#define MU_JUDGE_REPORT_PLOTS_H

#include "bench/judge/report.h"

void mu_report_plots(const struct mu_report *, struct mu_buf *out);
/* Parts of it: bandwidth and latency between pairs, by direction; what one test spreads over. */
void mu_plot_heatmaps(const struct mu_report *, struct mu_buf *out);
/* Whether a confirmed suspect is that host. */
bool mu_report_accused(const struct mu_report *, int32_t host);

#endif
