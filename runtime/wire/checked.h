/* Rows of a `checked` message, as the agent gathers them and the controller adds its own. */
#ifndef MU_WIRE_CHECKED_H
#define MU_WIRE_CHECKED_H

#include <stdbool.h>

#include "runtime/wire/msg.h"

/* Strings are copied. False: no memory; the rows are as they were. */
bool mu_checked_add(struct mu_m_checked *, const char *name, uint32_t level, const char *reason, uint32_t ms);

#endif
