#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/tune.h"
#include "runtime/rank/session.h"

#define MOST_DOMAIN 65535

/* Whole numbers that the launcher sets; a missing one is -1. */
static int read_number(const char *name, long *out, struct mu_err *err)
{
    const char *s = getenv(name);
    char *end;

    *out = -1;
    if (!s || !*s)
        return 0;
    errno = 0;
    *out = strtol(s, &end, 10);
    if (errno || *end || *out < 0)
        return mu_err_set(err, MUSTER_EJOB, "%s=%s is not a number from 0 up", name, s);
    return 0;
}

/* Two or three thresholds, for tests and for who knows better than what is measured. */
static bool read_tune(const char *s, struct mu_rank_env *e)
{
    struct mu_tuned t;
    int n = 0, m = 0;

    t.chain = 0;
    if (sscanf(s, "%u,%u%n,%u%n", &t.everybody, &t.read, &n, &t.chain, &m) < 2 || s[m ? m : n] || !mu_tuned_valid(&t))
        return false;
    e->tune_everybody = t.everybody;
    e->tune_read = t.read;
    e->tune_chain = t.chain;
    return true;
}

int mu_rank_env_read(struct mu_rank_env *env, struct mu_err *err)
{
    const char *job = getenv("MUSTER_JOB"), *node = getenv("MUSTER_NODE"), *s = getenv("MUSTER_TIMEOUT");
    struct mu_rank_env e = {.job = job && *job ? job : NULL,
                            .slots = getenv("MUSTER_SLOTS"),
                            .slot_index = -1,
                            .rank = -1,
                            .world_size = -1,
                            .attempt = -1,
                            .domain = -1,
                            .pmix = getenv("PMIX_NAMESPACE") != NULL,
                            .timeout = 300};
    const struct {
        const char *name;
        long *out;
        bool ours; /* read without MUSTER_JOB, too */
    } rows[] = {
        {"MUSTER_SLOT_INDEX", &e.slot_index, true},
        {"MUSTER_ATTEMPT", &e.attempt, true},
        {"RANK", &e.rank, false},
        {"WORLD_SIZE", &e.world_size, false},
    };
    char *end;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if ((e.job || rows[i].ours) && read_number(rows[i].name, rows[i].out, err) < 0)
            return err->code;
    if (s && *s) {
        e.timeout = strtod(s, &end);
        if (*end || !isfinite(e.timeout) || e.timeout <= 0 || e.timeout > 1e9)
            return mu_err_set(err, MUSTER_EARG, "MUSTER_TIMEOUT=%s: a number of seconds above 0 is needed", s);
        e.timeout_said = true;
    }
    s = getenv("MUSTER_FLAT_MAX");
    if (s && *s) {
        errno = 0;
        e.flat_max = strtoul(s, &end, 10);
        if (errno || *end || *s == '-' || e.flat_max == 0)
            return mu_err_set(err, MUSTER_EARG, "MUSTER_FLAT_MAX=%s: a number of bytes above 0 is needed", s);
    }
    s = getenv("MUSTER_SHM");
    if (s && *s && strcmp(s, "0") && strcmp(s, "copy") && strcmp(s, "1"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_SHM=%s: 0, copy or 1 is needed", s);
    e.shm = !s || *s != '0';
    e.shm_reads = !s || *s != 'c';
    e.shm_host = getenv("MUSTER_SHM_HOST");
    s = getenv("MUSTER_SHM_DOMAIN");
    if (s && *s) {
        errno = 0;
        e.domain = strtol(s, &end, 10);
        if (errno || *end || e.domain < 0 || e.domain > MOST_DOMAIN)
            return mu_err_set(err, MUSTER_EARG, "MUSTER_SHM_DOMAIN=%s: a number from 0 to %d is needed", s,
                              MOST_DOMAIN);
    }
    s = getenv("MUSTER_TRANSPORT");
    if (s && *s && strcmp(s, "mpi") && strcmp(s, "tcp") && strcmp(s, "ucx"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_TRANSPORT=%s: mpi, tcp or ucx is needed", s);
    e.transport = s && *s ? *s : 0;
    s = getenv("MUSTER_TUNE");
    e.tune = !s || strcmp(s, "0");
    if (s && *s && strcmp(s, "0") && strcmp(s, "1") && !read_tune(s, &e))
        return mu_err_set(err, MUSTER_EARG,
                          "MUSTER_TUNE=%s: 0, 1, or two or three numbers of bytes from %u to %u and to %u (the third "
                          "one: or 0) with commas are needed",
                          s, MU_TUNED_MIN, MU_TUNED_MAX, MU_TUNED_NEVER);
    s = getenv("MUSTER_HIER");
    if (s && *s && strcmp(s, "0") && strcmp(s, "1"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_HIER=%s: 0 or 1 is needed", s);
    e.hier = !s || *s != '0';
    s = getenv("MUSTER_YIELD");
    if (s && *s && strcmp(s, "0") && strcmp(s, "1"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_YIELD=%s: 0 or 1 is needed", s);
    e.yield = s && *s ? *s == '1' : -1;
    s = getenv("MUSTER_PROGRESS");
    if (s && *s && strcmp(s, "0") && strcmp(s, "1"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_PROGRESS=%s: 0 or 1 is needed", s);
    e.progress = s && *s ? *s == '1' : -1;
    if (node && *node)
        strncpy(e.node, node, sizeof e.node - 1);
    else if (gethostname(e.node, sizeof e.node - 1) < 0)
        strcpy(e.node, "unknown");
    *env = e;
    return 0;
}
