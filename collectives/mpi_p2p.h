/* MPI as a transport, and the start and end of MPI itself. */
#ifndef MU_COLLECTIVES_MPI_P2P_H
#define MU_COLLECTIVES_MPI_P2P_H

#include "collectives/transport.h"

struct mu_mpi_state {
    bool ours; /* initialised by mu_mpi_start: mu_mpi_stop finalises */
    int rank, size;
    char library[96]; /* first line of MPI's own description */
};

/* Initialises MPI unless somebody has. EJOB: it was finalised before, or it cannot be initialised. */
int mu_mpi_start(int *argc, char ***argv, struct mu_mpi_state *state, struct mu_err *err);
bool mu_mpi_running(void); /* initialised and not finalised */
int mu_mpi_stop(const struct mu_mpi_state *state, struct mu_err *err);

/* Collective over MPI_COMM_WORLD: a transport on a communicator of its own. stop(arg) < 0 ends the waiting. */
int mu_mpi_transport(struct mu_pool *pool, int (*stop)(void *arg, struct mu_err *), void *arg,
                     struct mu_transport **out, struct mu_err *err);

#endif
