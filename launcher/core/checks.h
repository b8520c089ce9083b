/* Health checks of nodes: when they are made, and what follows from one that fails. Settings of a file
 * (docs/formats.md, "Health checks"). */
#ifndef MU_LAUNCHER_CORE_CHECKS_H
#define MU_LAUNCHER_CORE_CHECKS_H

#include "runtime/base/err.h"
#include "runtime/wire/core.h"

enum { MU_CHECK_OFF, MU_CHECK_TELL, MU_CHECK_QUARANTINE, MU_CHECK_DRAIN };
struct mu_check_action {
    char name[64]; /* of a check */
    uint32_t action;
};
struct mu_check_settings {
    uint64_t every_ns;      /* 0: not by the clock */
    uint64_t idle_ns;       /* a node that was idle for so long is checked before its next job; 0: it is not */
    uint32_t after_failure; /* of something on it */
    uint32_t most_percent;  /* see mu_ctl_config.out_percent */
    uint64_t limit_ns;      /* of one check */
    uint64_t disk_free, clock_ns;
    uint32_t memory_percent;
    uint32_t scripts; /* MU_CHECK_, of the site's own */
    struct mu_check_action *actions;
    unsigned nactions;
};
void mu_check_defaults(struct mu_check_settings *);
/* On an error *out is as it was. */
int mu_check_parse(const char *name, const char *text, size_t len, struct mu_check_settings *out, struct mu_err *err);
void mu_check_settings_free(struct mu_check_settings *);
/* What a failure of the check leads to. */
uint32_t mu_check_action_of(const struct mu_check_settings *, const char *check);

#endif
