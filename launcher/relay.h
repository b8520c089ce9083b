/* A command's way to a controller on another host: what it writes to one end of a socket pair goes over TLS, and back.
 * A thread of its own has the loop that this needs; the command has a descriptor, as with the controller of its
 * machine. */
#ifndef MU_LAUNCHER_RELAY_H
#define MU_LAUNCHER_RELAY_H

#include "runtime/wire/key.h"

/* Connects and proves the key; *fd is closed like any other, which ends the relay once everything is written. The text
 * of a failure names host and port; EPEER and ETIMEOUT may be worth another try. */
int mu_relay_open(const char *host, uint16_t port, const struct mu_key *key, int *fd, struct mu_err *err);

#endif
