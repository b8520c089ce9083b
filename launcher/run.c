/* muster run: a job that somebody waits for. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define NODE_WAIT_NS (15 * MU_SEC)
#define ANSWER_NS (60 * MU_SEC) /* of a submission: the first agent may still be starting */
enum { TRIES = 5 };

static const char usage[] = "muster run [OPTIONS] PROGRAM [ARGUMENTS] [: [OPTIONS] PROGRAM [ARGUMENTS]]...";

static bool wanted(const struct mu_run_plan *p, const json_t *node)
{
    const char *state = json_string_value(json_object_get(node, "state"));
    const char *name = json_string_value(json_object_get(node, "name"));
    bool named = !p->hosts.n;

    for (size_t i = 0; i < p->hosts.n && name; i++)
        named = named || !strcmp(p->hosts.v[i].name, name);
    return named && state && !strcmp(state, "up") && !json_is_integer(json_object_get(node, "job"));
}

static int count(const struct mu_run_plan *p, const char *text, uint32_t *slots, uint32_t *nodes, struct mu_err *err)
{
    json_error_t why;
    json_t *root = json_loads(text, 0, &why), *node;
    size_t i;

    if (!root)
        return mu_err_set(err, MUSTER_ECORRUPT, "the controller's answer: %s", why.text);
    *slots = *nodes = 0;
    json_array_foreach(json_object_get(root, "nodes"), i, node)
    {
        if (!wanted(p, node))
            continue;
        *slots += (uint32_t)json_integer_value(json_object_get(node, "slots"));
        ++*nodes;
    }
    json_decref(root);
    return 0;
}

int mu_run_pool(struct mu_client *c, const struct mu_run_plan *p, uint32_t *slots, uint32_t *nodes, struct mu_err *err)
{
    uint64_t until = mu_now() + NODE_WAIT_NS;

    for (;;) {
        mu_auto_free char *json = NULL;
        int rc = mu_client_query_on(c, "nodes", 0, false, &json, err);

        if (rc || (rc = count(p, json, slots, nodes, err)))
            return rc;
        if (*slots)
            return 0;
        if (mu_now() >= until)
            return mu_err_set(err, MUSTER_ENODE, "no node has come up; see %s/log/agent.log", c->paths.state);
        nanosleep(&(struct timespec){.tv_nsec = 5 * (long)MU_MS}, NULL);
    }
}

int mu_run_submit(struct mu_client *c, const char *token, const struct mu_bytes *spec, uint64_t *job,
                  struct mu_err *err)
{
    struct mu_m_submit m = {.token = (char *)(uintptr_t)token, .spec = *spec};
    int rc = MUSTER_EPEER;

    for (int i = 0; i < TRIES; i++) {
        MU_AUTO_MSG struct mu_msg answer = {0};

        if (!mu_client_is_open(c) && (rc = mu_client_open(c, err)))
            return rc;
        rc = mu_client_call(c, MU_MSG_submit, &m, MU_MSG_submitted, &answer, ANSWER_NS, err);
        if (!rc)
            *job = answer.submitted.job;
        if (rc != MUSTER_EPEER)
            return rc;
        /* the controller died; the token sees to it that a job that it did store is not handed in twice */
        mu_client_close(c);
    }
    return rc;
}

/* Whether standard input is worth a pipe to rank 0. */
static bool has_input(const struct mu_run_opts *o)
{
    struct stat st;

    if (o->input == MU_RUN_INPUT_NONE || fstat(0, &st) < 0)
        return false;
    return !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)); /* /dev/null */
}

static int start(struct mu_run_plan *p, struct mu_client *c, const char *token, bool input, uint64_t *job,
                 struct mu_err *err)
{
    uint32_t slots, nodes;
    struct mu_bytes spec = {0};
    int rc = mu_client_open(c, err);

    if (rc)
        return rc;
    if (!p->ranks && ((rc = mu_run_pool(c, p, &slots, &nodes, err)) || (rc = mu_run_plan_slots(p, slots, nodes, err))))
        return rc;
    rc = mu_run_spec(p, true, input, &spec, err);
    if (!rc)
        rc = mu_run_submit(c, token, &spec, job, err);
    free(spec.data);
    return rc;
}

int mu_cmd_run(int argc, char **argv)
{
    struct mu_run_plan plan;
    struct mu_client client = {.fd = -1};
    struct mu_err err = {0};
    char token[33];
    uint64_t job;
    size_t n;
    const struct mu_opt *table = mu_run_options(&n);
    int code, rc = mu_run_plan_make(&plan, table, n, argc, argv, &err);

    if (rc == 1) {
        mu_opt_help(stdout, usage, table, n);
        code = 0;
        goto out;
    }
    if (!rc && plan.note[0] && !plan.opts.quiet)
        fprintf(stderr, "muster run: %s\n", plan.note);
    if (!rc && plan.opts.dry_run) {
        rc = mu_run_dry(&plan, &err);
        code = rc ? mu_cmd_fail(argv[0], &err) : 0;
        goto out;
    }
    if (!rc && plan.opts.json)
        rc = mu_err_set(&err, MUSTER_EARG, "--json goes with --dry-run; `muster status JOB --json` shows a job");
    bool input = !rc && has_input(&plan.opts);
    if (rc || (rc = mu_run_token(token, &err)) || (rc = start(&plan, &client, token, input, &job, &err)))
        code = mu_cmd_fail(argv[0], &err);
    else
        code = mu_run_watch(&client, &plan, job, token, input);
    mu_client_close(&client);
out:
    mu_run_plan_free(&plan);
    return code;
}
