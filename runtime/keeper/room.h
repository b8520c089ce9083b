/* What ranks need of /dev/shm. muster itself takes nothing there: its slots and messages are memfds. */
#ifndef MU_KEEPER_ROOM_H
#define MU_KEEPER_ROOM_H

#include <stdbool.h>
#include <stddef.h>

#define MU_ROOM_SHM "/dev/shm"
/* Open MPI's segment of a rank, which it makes when so much is free. */
#define MU_ROOM_RANK (4ull << 20)

/* Whether not one rank more finds room there, as a line that names the host. */
bool mu_room_short(const char *host, char *text, size_t n);

#endif
