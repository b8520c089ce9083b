/* The environment that ranks inherit: the submitter's, less what belongs to its host, session or to another launch. */
#include <string.h>

#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* The first row that fits decides; a name that ends in '*' is a beginning. What fits none is handed on. */
static const struct {
    const char *name;
    enum { PASS, DROP, OWN } verdict;
} rules[] = {
    /* set by mpirun for the ranks of its own job */
    {"OMPI_MCA_orte_*", DROP},
    {"OMPI_MCA_prte_*", DROP},
    {"OMPI_MCA_ess*", DROP},
    {"OMPI_MCA_pmix*", DROP},
    {"OMPI_MCA_schizo*", DROP},
    {"OMPI_MCA_initial_wdir", DROP},
    {"OMPI_MCA_shmem_RUNTIME_QUERY_hint", DROP},
    {"OMPI_MCA_*", PASS}, /* the user's tuning */
    {"OMPI_*", DROP},
    {"PMIX_MCA_*", PASS},
    {"PMIX_*", DROP},
    {"PRTE_*", DROP},
    {"PMI_*", DROP},
    {"PMI2_*", DROP},
    {"HYDRA_*", DROP},
    {"HYDI_*", DROP},
    {"MPI_LOCALNRANKS", DROP},
    {"MPI_LOCALRANKID", DROP},
    {"SLURM_*", DROP},
    {"SLURMD_*", DROP},
    {"SLURM", DROP},
    {"SRUN_*", DROP},
    {"FLUX_*", DROP},
    {"PBS_*", DROP},
    /* ours, one set for each rank */
    {"MUSTER_JOB", OWN},
    {"MUSTER_JOB_MARK", OWN},
    {"MUSTER_ATTEMPT", OWN},
    {"MUSTER_FAILURES", OWN},
    {"MUSTER_CKPT", OWN},
    {"MUSTER_CKPT_DIR", OWN},
    {"MUSTER_TAG", OWN},
    {"MUSTER_SLOTS", OWN},
    {"MUSTER_ARENA", OWN},
    {"MUSTER_SLOT_INDEX", OWN},
    {"MUSTER_NODE", OWN},
    {"RANK", OWN},
    {"WORLD_SIZE", OWN},
    {"LOCAL_RANK", OWN},
    {"LOCAL_WORLD_SIZE", OWN},
    {"NODE_RANK", OWN},
    {"GROUP_RANK", OWN},
    {"MASTER_ADDR", OWN},
    {"MASTER_PORT", OWN},
    /* of the shell, the terminal, the login and the service manager */
    {"_", DROP},
    {"PWD", DROP},
    {"OLDPWD", DROP},
    {"SHLVL", DROP},
    {"HOSTNAME", DROP},
    {"SSH_CLIENT", DROP},
    {"SSH_CONNECTION", DROP},
    {"SSH_TTY", DROP},
    {"GPG_TTY", DROP},
    {"WINDOWID", DROP},
    {"STY", DROP},
    {"TMUX", DROP},
    {"TMUX_PANE", DROP},
    {"XDG_SESSION_*", DROP},
    {"XDG_RUNTIME_DIR", DROP},
    {"XDG_SEAT", DROP},
    {"XDG_VTNR", DROP},
    {"DBUS_SESSION_BUS_ADDRESS", DROP},
    {"INVOCATION_ID", DROP},
    {"JOURNAL_STREAM", DROP},
    {"NOTIFY_SOCKET", DROP},
    {"WATCHDOG_PID", DROP},
    {"WATCHDOG_USEC", DROP},
    {"LISTEN_PID", DROP},
    {"LISTEN_FDS", DROP},
    {"LISTEN_FDNAMES", DROP},
    /* make's job server is reached through descriptors that ranks do not have */
    {"MAKEFLAGS", DROP},
    {"MFLAGS", DROP},
    {"MAKELEVEL", DROP},
};

static int verdict(const char *entry, size_t len)
{
    for (size_t i = 0; i < MU_COUNT(rules); i++) {
        size_t n = strlen(rules[i].name);
        if (rules[i].name[n - 1] == '*' ? len >= n - 1 && !strncmp(entry, rules[i].name, n - 1)
                                        : len == n && !strncmp(entry, rules[i].name, n))
            return rules[i].verdict;
    }
    return PASS;
}

bool mu_run_env_passes(const char *entry)
{
    size_t len = strcspn(entry, "=");

    return len && entry[len] && verdict(entry, len) == PASS;
}

bool mu_run_env_is_own(const char *entry)
{
    return verdict(entry, strcspn(entry, "=")) == OWN;
}

char **mu_run_env_copy(char *const *env)
{
    char **out = calloc(mu_strv_len(env) + 1, sizeof *out);
    size_t n = 0;

    for (size_t i = 0; out && env && env[i]; i++) {
        if (!mu_run_env_passes(env[i]))
            continue;
        if (!(out[n++] = strdup(env[i]))) {
            mu_strv_free(out);
            return NULL;
        }
    }
    return out;
}

const char *mu_run_env_get(char *const *first, char *const *second, const char *name)
{
    char *const *both[] = {first, second};
    const char *value = NULL;
    size_t n = strlen(name);

    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; both[k] && both[k][i]; i++)
            if (!strncmp(both[k][i], name, n) && both[k][i][n] == '=')
                value = both[k][i] + n + 1;
    return value;
}
