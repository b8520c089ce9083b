/* A snapshot as the text that Prometheus scrapes: exposition format 0.0.4. */
#ifndef MU_LAUNCHER_METRICS_TEXT_H
#define MU_LAUNCHER_METRICS_TEXT_H

#include "launcher/core/metrics.h"
#include "runtime/base/buf.h"

#define MU_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Appends it. Names come out on one line and as UTF-8, whatever they are made of; out->failed: out of memory. */
void mu_metrics_text(const struct mu_metrics *, struct mu_buf *out);
void mu_metrics_gpus(const struct mu_metrics *, struct mu_buf *out); /* a part of it: metrics_gpus.c */
/* For those parts: a family's first lines; `{name="value"` or `,name="value"`, without what ends the list. */
void mu_metrics_head(struct mu_buf *out, const char *name, const char *type, const char *help);
void mu_metrics_label(struct mu_buf *out, char before, const char *name, const char *value);

#endif
