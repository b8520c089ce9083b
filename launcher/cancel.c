/* muster cancel: asks jobs to end. */
#include <signal.h>
#include <stdio.h>

#include "launcher/answer.h"
#include "launcher/client.h"
#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct opts {
    bool force;
};
static const struct mu_opt rows[] = {
    {"force", 'f', MU_OPT_FLAG, offsetof(struct opts, force), NULL, "kill the ranks at once (SIGKILL)", NULL, 0, 0,
     NULL},
};

static int cancel(struct mu_client *c, uint64_t job, bool force, struct mu_err *err)
{
    MU_AUTO_MSG struct mu_msg answer = {0};
    char user[64], by[100];

    snprintf(by, sizeof by, "cancelled by %s", mu_client_user(user, sizeof user));
    struct mu_m_cancel m = {.job = job, .force = force, .by = by, .signo = SIGTERM};
    return mu_client_call(c, MU_MSG_cancel, &m, MU_MSG_submitted, &answer, 30 * MU_SEC, err);
}

int mu_cmd_cancel(int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    struct mu_client c;
    uint64_t job;
    int first, code = 0;

    if (mu_cmd_options("muster cancel [OPTIONS] JOB...", rows, MU_COUNT(rows), argc, argv, 1, argc, &o, &first, &code))
        return code;
    for (int i = first; i < argc; i++)
        if (mu_cmd_job(argv[i], &job, &err))
            return mu_cmd_fail(argv[0], &err);
    int none = mu_client_look(&c, &err);
    if (none < 0)
        return mu_cmd_fail(argv[0], &err);
    for (int i = first; i < argc; i++) {
        mu_cmd_job(argv[i], &job, NULL);
        int rc = none ? mu_answer_no_job(job, &err) : cancel(&c, job, o.force, &err);
        if (rc == MUSTER_EPEER) { /* the controller went away: it comes back with the job */
            mu_client_close(&c);
            if (!(rc = mu_client_open(&c, &err)))
                rc = cancel(&c, job, o.force, &err);
        }
        if (!rc) {
            printf("job %s is being cancelled\n", argv[i]);
            continue;
        }
        fflush(stdout);
        fprintf(stderr, "muster cancel: %s\n", err.text);
        code = MU_EXIT_FAILED;
        if (!none && !mu_client_is_open(&c))
            break;
    }
    mu_client_close(&c);
    return code;
}
