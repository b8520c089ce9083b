/* Rank files as mpirun takes them: which host and which CPUs each rank gets, "rank N=HOST slot=LIST" a line. */
#ifndef MU_LAUNCHER_RANKFILE_H
#define MU_LAUNCHER_RANKFILE_H

#include <stdint.h>

#include "runtime/base/err.h"

struct mu_rankfile_row {
    char host[256]; /* a name, or "+n2": the third host of the job's list */
    char *slots;    /* as mu_pin_slots takes it (topo/pin.h); "": not said */
    unsigned line;
};
struct mu_rankfile {
    struct mu_rankfile_row *v; /* by rank, from 0 without a gap */
    uint32_t n;
};

/* What is said of the slots is looked at, but only the node knows whether it has them. EARG names file and line. On
 * failure *out is untouched. */
int mu_rankfile_parse(const char *text, size_t len, const char *origin, struct mu_rankfile *out, struct mu_err *err);
int mu_rankfile_read(const char *path, struct mu_rankfile *out, struct mu_err *err);
void mu_rankfile_free(struct mu_rankfile *);

#endif
