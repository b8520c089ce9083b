/* The settings of the queue's policy, from $MUSTER_HOME/policy. */
#ifndef MU_LAUNCHER_POLICY_LOAD_H
#define MU_LAUNCHER_POLICY_LOAD_H

#include "launcher/core/checks.h"
#include "launcher/core/policy.h"

/* Defaults where there is no such file. *out was given its defaults before; on an error it is as it was. */
int mu_policy_load(const char *home, struct mu_policy_settings *out, struct mu_err *err);
/* The same with its file `checks`. */
int mu_checks_load(const char *home, struct mu_check_settings *out, struct mu_err *);

#endif
