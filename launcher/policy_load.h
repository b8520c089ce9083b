/* The settings of the queue's policy, from $MUSTER_HOME/policy. */
#ifndef MU_LAUNCHER_POLICY_LOAD_H
#define MU_LAUNCHER_POLICY_LOAD_H

#include "launcher/core/policy.h"

/* Defaults where there is no such file. *out was given its defaults before; on an error it is as it was. */
int mu_policy_load(const char *home, struct mu_policy_settings *out, struct mu_err *err);

#endif
