/* What a message costs whoever sends it and whoever receives it: measured over real links, TLS on loopback, within this
 * process. In ns of processor. */
#ifndef TESTS_SCALE_COSTS_H
#define TESTS_SCALE_COSTS_H

#include "runtime/base/err.h"

struct costs {
    double message;   /* a short one, with its system calls and its turn of the loop */
    double kilobyte;  /* of long ones */
    double handshake; /* one end of a new connection */
};

/* The processor's time of this thread, ns. */
double costs_cpu(void);
int costs_measure(struct costs *, struct mu_err *);

#endif
