/* muster cancel, hold, release, requeue: what is asked of jobs, one after another. */
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
static const struct mu_opt force[] = {
    {"force", 'f', MU_OPT_FLAG, offsetof(struct opts, force), NULL, "kill the ranks at once (SIGKILL)", NULL, 0, 0,
     NULL},
};

struct change {
    const char *usage, *done; /* done: "job 7 is ..." */
    enum mu_msg_type type;
    uint32_t on;
    const struct mu_opt *rows;
    size_t nrows;
};

static int ask(struct mu_client *c, const struct change *what, const struct opts *o, uint64_t job, struct mu_err *err)
{
    MU_AUTO_MSG struct mu_msg answer = {0};
    char user[64], cancelled[100];
    char *by = mu_client_user(user, sizeof user);
    struct mu_m_cancel cancel = {.job = job, .force = o->force, .by = cancelled, .signo = SIGTERM};
    struct mu_m_hold hold = {.job = job, .on = what->on, .by = by};
    struct mu_m_requeue requeue = {.job = job, .by = by};
    const void *body = what->type == MU_MSG_cancel ? (const void *)&cancel
                       : what->type == MU_MSG_hold ? (const void *)&hold
                                                   : &requeue;

    snprintf(cancelled, sizeof cancelled, "cancelled by %s", by);
    return mu_client_call(c, what->type, body, MU_MSG_submitted, &answer, 30 * MU_SEC, err);
}

static int each(const struct change *what, int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    struct mu_client c;
    uint64_t job;
    int first, code = 0;

    if (mu_cmd_options(what->usage, what->rows, what->nrows, argc, argv, 1, argc, &o, &first, &code))
        return code;
    for (int i = first; i < argc; i++)
        if (mu_cmd_job(argv[i], &job, &err))
            return mu_cmd_fail(argv[0], &err);
    int none = mu_client_look(&c, &err);
    if (none < 0)
        return mu_cmd_fail(argv[0], &err);
    for (int i = first; i < argc; i++) {
        mu_cmd_job(argv[i], &job, NULL);
        int rc = none ? mu_answer_no_job(job, &err) : ask(&c, what, &o, job, &err);
        if (rc == MUSTER_EPEER) { /* the controller went away: it comes back with the job */
            mu_client_close(&c);
            if (!(rc = mu_client_open(&c, &err)))
                rc = ask(&c, what, &o, job, &err);
        }
        if (!rc) {
            printf("job %s is %s\n", argv[i], what->done);
            continue;
        }
        fflush(stdout);
        fprintf(stderr, "muster %s: %s\n", argv[0], err.text);
        code = rc == MUSTER_EPERM ? MU_EXIT_USAGE : MU_EXIT_FAILED;
        if (!none && !mu_client_is_open(&c))
            break;
    }
    mu_client_close(&c);
    return code;
}

int mu_cmd_cancel(int argc, char **argv)
{
    static const struct change cancel = {
        "muster cancel [OPTIONS] JOB...", "being cancelled", MU_MSG_cancel, 0, force, MU_COUNT(force)};

    return each(&cancel, argc, argv);
}

int mu_cmd_hold(int argc, char **argv)
{
    static const struct change hold = {"muster hold JOB...", "held", MU_MSG_hold, 1, NULL, 0};

    return each(&hold, argc, argv);
}

int mu_cmd_release(int argc, char **argv)
{
    static const struct change release = {"muster release JOB...", "released", MU_MSG_hold, 0, NULL, 0};

    return each(&release, argc, argv);
}

int mu_cmd_requeue(int argc, char **argv)
{
    static const struct change requeue = {
        "muster requeue JOB...", "put back into the queue", MU_MSG_requeue, 0, NULL, 0};

    return each(&requeue, argc, argv);
}
