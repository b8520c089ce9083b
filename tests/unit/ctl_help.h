/* For tests that drive the controller's core: what they all say to it in the same way. */
#ifndef MU_TESTS_UNIT_CTL_HELP_H
#define MU_TESTS_UNIT_CTL_HELP_H

#include <string.h>

#include "launcher/core/ctl.h"

static void step(struct mu_ev ev); /* the test's own: what it makes of the actions */

static void hear(mu_conn conn, enum mu_msg_type type, const void *body)
{
    struct mu_msg m = {.type = type};

    memcpy(&m.hello, body, mu_msg_size(type));
    step((struct mu_ev){.kind = MU_EV_MSG, .conn = conn, .msg = &m});
}

#endif
