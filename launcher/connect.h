/* How a command reaches the controller of this pool, which is started when there is none. */
#ifndef MU_LAUNCHER_CONNECT_H
#define MU_LAUNCHER_CONNECT_H

#include <stdbool.h>

#include "runtime/base/path.h"

/* Connects; nonblocking, CLOEXEC. Nobody there: EPEER, or with start, starts one and waits for it (10 s at most). Why a
 * controller could not start is what err says then. Several commands at once start one controller. The controller may
 * just be ending: who loses the connection before the first answer asks again. */
int mu_controller_connect(const struct mu_paths *, bool start, int *fd, struct mu_err *);

#endif
