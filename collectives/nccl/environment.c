/* What NCCL is told by its environment. */
#include <stdlib.h>
#include <string.h>

#include "collectives/nccl/backend.h"
#include "runtime/base/clean.h"

/* One algorithm and protocol for all sizes, and none that adds up in the switches, whose order is nobody's. To add one:
 * a row, and its line in muster.3. */
static const struct {
    const char *name, *value;
} fixed[] = {{"NCCL_ALGO", "Ring"}, {"NCCL_PROTO", "Simple"}, {"NCCL_NVLS_ENABLE", "0"}, {"NCCL_COLLNET_ENABLE", "0"}};

int mu_gpu_environment(struct mu_err *err)
{
    const char *s = getenv("MUSTER_NCCL_DETERMINISTIC");

    if (!s || !*s || !strcmp(s, "0"))
        return 0;
    if (strcmp(s, "1") != 0)
        return mu_err_set(err, MUSTER_EARG, "MUSTER_NCCL_DETERMINISTIC=%.60s: 0 or 1 is needed", s);
    for (size_t i = 0; i < MU_COUNT(fixed); i++) {
        const char *is = getenv(fixed[i].name);

        if (is && strcasecmp(is, fixed[i].value) != 0)
            return mu_err_set(err, MUSTER_EARG,
                              "MUSTER_NCCL_DETERMINISTIC=1 needs %s=%s, but it is set to %.60s: unset one of the two",
                              fixed[i].name, fixed[i].value, is);
        if (!is && setenv(fixed[i].name, fixed[i].value, 1))
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for %s", fixed[i].name);
    }
    return 0;
}
