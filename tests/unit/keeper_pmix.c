/* The PMIx server's life: namespaces come and go, fences are answered once, a client finds what it needs. */
#include "runtime/keeper/pmix.h"

#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/keeper/env.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))

int main(void)
{
    char dir[] = "/tmp/muster-keeper-pmix-XXXXXX", ns[64], **env = NULL;
    char *nodes[] = {S("node-a"), S("node-b"), NULL};
    uint32_t ranks[] = {2, 3}, apps[] = {1, 4};
    struct mu_pmix_job job = {.nspace = ns,
                              .nodes = nodes,
                              .node_ranks = ranks,
                              .nnodes = 2,
                              .app_ranks = apps,
                              .napps = 2,
                              .node_id = 1,
                              .session_dir = dir};
    struct mu_pmix *p = NULL, *second = NULL;
    struct mu_pmix_event ev;
    struct mu_err err;

    if (!mkdtemp(dir))
        return 1;
    TAP_OK(!mu_pmix_init(dir, &p, &err), "the server starts");
    TAP_OK(mu_pmix_init(dir, &second, &err) == MUSTER_EARG && !second, "one a process: %s", err.text);
    for (uint32_t a = 1; a <= 3; a++) {
        snprintf(ns, sizeof ns, "muster-test-%d-%u", (int)getpid(), a);
        job.attempt = a;
        bool good = !mu_pmix_begin(p, &job, &err) && !mu_pmix_env(p, 2, &env, &err);
        TAP_OK(good && !strcmp(mu_env_get(env, "PMIX_NAMESPACE"), ns) && !strcmp(mu_env_get(env, "PMIX_RANK"), "2") &&
                   mu_env_get(env, "PMIX_SERVER_URI2"),
               "attempt %u has a namespace, its first local rank is 2", a);
        mu_strv_free(env);
        env = NULL;
        TAP_OK(mu_pmix_begin(p, &job, &err) == MUSTER_EARG, "one at a time");
        mu_pmix_fence_done(p, a, 0, 0, (uint8_t *)strdup("x"), 1);
        mu_pmix_fence_done(p, a + 1, 7, MUSTER_EIO, NULL, 0);
        TAP_OK(!mu_pmix_next(p, &ev), "answers to fences that nobody waits for do nothing");
        mu_pmix_end(p);
        mu_pmix_end(p);
    }
    job.node_id = 2;
    TAP_OK(mu_pmix_begin(p, &job, &err) == MUSTER_EARG, "a node that is not in the job");
    mu_pmix_free(p);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
