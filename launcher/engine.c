#include "launcher/engine.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* The controller has an agent on its own host anyhow. */
static void start_local(struct mu_start *s)
{
    mu_start_done(s, 0, "%s", "");
}

static void start_hand(struct mu_start *s)
{
    mu_start_done(s, 1, "host %s has not joined; start there, with the pool's key: muster agent --join %s --node %s",
                  s->dest, mu_start_join(s), s->node);
}

static const char *const ssh_env[] = {"SSH_AUTH_SOCK", NULL};
static const char *const slurm_env[] = {"SLURM_JOB_ID", "SLURM_CONF", NULL};
static const char *const no_env[] = {NULL};

/* The first row is the default; one whose `inside` holds goes before it. */
const struct mu_engine mu_engines[] = {
    {.name = "ssh",
     .doc = "an ssh to each host starts the agent and ends",
     .env = ssh_env,
     .start = mu_engine_ssh,
     .bounded = true},
    {.name = "slurm",
     .doc = "inside an allocation: an srun step runs the agents",
     .env = slurm_env,
     .inside = mu_engine_slurm_inside,
     .start = mu_engine_slurm,
     .left = mu_engine_slurm_left,
     .until_here = true},
    {.name = "hand",
     .doc = "agents are started by somebody else (muster agent --join)",
     .env = no_env,
     .start = start_hand},
    {.name = "local", .doc = "this host, which the controller sees to itself", .env = no_env, .start = start_local},
};
const unsigned mu_engine_count = MU_COUNT(mu_engines);

int mu_engine_find(const char *name, const struct mu_engine **out, struct mu_err *err)
{
    char shown[40];

    *out = &mu_engines[0];
    if (!name || !*name)
        return 0;
    for (unsigned i = 0; i < mu_engine_count; i++) {
        if (!strcmp(mu_engines[i].name, name)) {
            *out = &mu_engines[i];
            return 0;
        }
    }
    return mu_err_set(err, MUSTER_EARG, "there is no engine '%s': ssh, slurm, hand, local",
                      mu_str_show(shown, sizeof shown, name));
}

const struct mu_engine *mu_engine_here(void)
{
    for (unsigned i = 0; i < mu_engine_count; i++)
        if (mu_engines[i].inside && mu_engines[i].inside())
            return &mu_engines[i];
    return &mu_engines[0];
}

int mu_engine_env(const struct mu_engine *e, char *const *env, char ***out)
{
    char **v = NULL;

    for (; env && *env; env++) {
        for (const char *const *name = e->env; *name; name++) {
            size_t n = strlen(*name);
            if (!strncmp(*env, *name, n) && (*env)[n] == '=' && mu_strv_append(&v, *env)) {
                mu_strv_free(v);
                return MUSTER_ENOMEM;
            }
        }
    }
    *out = v;
    return 0;
}
