/* muster submit: hands in the job that `muster run` would, and does not wait for it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/run.h"
#include "launcher/script.h"

static const char usage[] = "muster submit [OPTIONS] PROGRAM [ARGUMENTS] [: [OPTIONS] PROGRAM [ARGUMENTS]]...";

static int hand_in(struct mu_run_plan *p, struct mu_client *c, uint64_t *job, struct mu_err *err)
{
    uint32_t slots, nodes;
    struct mu_bytes spec = {0};
    char token[33];
    int rc;

    if ((rc = mu_run_token(token, err)) || (rc = mu_client_open(c, err)))
        return rc;
    if (!p->ranks && ((rc = mu_run_pool(c, p, &slots, &nodes, err)) || (rc = mu_run_plan_slots(p, slots, nodes, err))))
        return rc;
    rc = mu_run_spec(p, false, false, &spec, err);
    if (!rc)
        rc = mu_run_submit(c, token, &spec, job, err);
    free(spec.data);
    return rc;
}

int mu_cmd_submit(int argc, char **argv)
{
    struct mu_run_plan plan = {0};
    struct mu_script script = {0};
    struct mu_client client = {.fd = -1};
    struct mu_err err = {0};
    uint64_t job = 0;
    size_t n;
    const struct mu_opt *table = mu_submit_options(&n);
    int code = 0, rc = mu_script_expand(table, n, argc, argv, &script, &err);

    if (rc >= 0)
        rc = mu_run_plan_make(&plan, table, n, rc ? script.argc : argc, rc ? script.argv : argv, &err);

    if (rc == 1) {
        mu_opt_help(stdout, usage, table, n);
        goto out;
    }
    if (!rc && plan.note[0])
        fprintf(stderr, "muster submit: %s\n", plan.note);
    if (!rc)
        rc = plan.opts.dry_run ? mu_run_dry(&plan, &err) : hand_in(&plan, &client, &job, &err);
    mu_client_close(&client);
    if (rc)
        code = mu_cmd_fail(argv[0], &err);
    else if (job && plan.opts.json)
        printf("{\"schema\":\"muster.submit/1\",\"id\":%" PRIu64 "}\n", job);
    else if (job)
        printf("%" PRIu64 "\n", job);
    if (job && fflush(stdout)) {
        fprintf(stderr, "muster submit: job %" PRIu64 " is handed in; its number cannot be written: %s\n", job,
                strerror(errno));
        code = MU_EXIT_FAILED;
    }
out:
    mu_run_plan_free(&plan);
    mu_script_free(&script);
    return code;
}
