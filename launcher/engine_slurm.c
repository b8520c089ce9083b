#include <stdlib.h>

#include "launcher/engine.h"
#include "launcher/slurm.h"

bool mu_engine_slurm_inside(void)
{
    return mu_slurm_inside();
}

void mu_engine_slurm(struct mu_start *s)
{
    mu_start_done(s, 1, "not yet");
}
