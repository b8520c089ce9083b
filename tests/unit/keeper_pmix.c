/* The PMIx server's life: namespaces come and go, fences are answered once, a client finds what it needs, and one that
 * dies while it connects does no harm. */
#include "runtime/keeper/pmix.h"

#include <netinet/in.h>
#include <pmix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/keeper/env.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))

/* Connects and says nothing: the server's thread waits for it, and others wait behind. */
static int blocker(char *const *env)
{
    const char *uri = mu_env_get(env, "PMIX_SERVER_URI2"), *port = uri ? strrchr(uri, ':') : NULL;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (!port || fd < 0)
        return -1;
    sa.sin_port = htons((uint16_t)atoi(port + 1));
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa)) {
        close(fd);
        return -1;
    }
    usleep(20000);
    return fd;
}

/* What this program does when it is a client. */
static int client(void)
{
    pmix_proc_t me;

    return PMIx_Init(&me, NULL, 0) != PMIX_SUCCESS || PMIx_Finalize(NULL, 0) != PMIX_SUCCESS;
}

static pid_t start_client(char *const *env)
{
    char *argv[] = {S("client"), S("client"), NULL};
    pid_t pid = fork();

    if (!pid) {
        alarm(20);
        execve("/proc/self/exe", argv, env);
        _exit(127);
    }
    return pid;
}

/* A client has said who it is and waits for the answer when it is killed. What that does to the library shows when the
 * namespace is taken down, and mostly not at the first time. */
static void test_dies_connecting(struct mu_pmix *p, struct mu_pmix_job *job, char *ns, size_t n)
{
    uint64_t begin = mu_now();
    struct mu_err err = {0};
    int rounds = 0, status = 0;
    char **env = NULL;

    for (; rounds < 8; rounds++) {
        snprintf(ns, n, "muster-dies-%d-%d", (int)getpid(), rounds);
        job->attempt = 10 + (uint32_t)rounds;
        if (mu_pmix_begin(p, job, &err) || mu_pmix_env(p, 2, &env, &err))
            break;
        int fd = blocker(env);
        pid_t pid = start_client(env);
        usleep(100000);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(fd);
        mu_pmix_end(p);
        mu_strv_free(env);
        env = NULL;
    }
    TAP_OK(rounds == 8 && !mu_pmix_broken(p) && mu_now() - begin < 8 * MU_SEC,
           "clients that die while they connect do no harm: %s", err.text);
    snprintf(ns, n, "muster-lives-%d", (int)getpid());
    job->attempt = 30;
    if (!mu_pmix_begin(p, job, &err) && !mu_pmix_env(p, 2, &env, &err)) {
        pid_t pid = start_client(env);
        waitpid(pid, &status, 0);
    }
    TAP_OK(env && !status, "one that lives connects and finalises: %s, status 0x%x", err.text, (unsigned)status);
    mu_strv_free(env);
    mu_pmix_end(p);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return client();
    signal(SIGPIPE, SIG_IGN); /* as in a daemon */

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
    test_dies_connecting(p, &job, ns, sizeof ns);
    job.node_id = 2;
    TAP_OK(mu_pmix_begin(p, &job, &err) == MUSTER_EARG, "a node that is not in the job");
    mu_pmix_free(p);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
