/* Where a job would go in the pool that there is. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/answer.h"
#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define ANSWER_NS (30 * MU_SEC)

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
}

static int take_nodes(const json_t *list, struct mu_run_asked *out, struct mu_err *err)
{
    size_t n = json_array_size(list), i;
    const json_t *node;

    out->names = calloc(n + 1, sizeof *out->names);
    out->shares = calloc(n + 1, sizeof *out->shares);
    if (!out->names || !out->shares)
        return no_memory(err);
    json_array_foreach(list, i, node)
    {
        out->shares[i] = (struct mu_share){.node = (uint32_t)i, .ranks = (uint32_t)mu_answer_num(node, "ranks")};
        if (!(out->names[i] = strdup(mu_answer_str(node, "name"))))
            return no_memory(err);
        if (out->shares[i].ranks)
            out->n++;
        else
            out->nspares++;
    }
    return out->n ? 0 : mu_err_set(err, MUSTER_ENODE, "%s", out->why);
}

static int take_answer(const char *text, struct mu_run_asked *out, struct mu_err *err)
{
    json_error_t why;
    json_t *root = json_loads(text, 0, &why);
    int rc = 0;

    if (!root)
        return mu_err_set(err, MUSTER_EIO, "the controller's answer cannot be read: %s", why.text);
    const char *fits = mu_answer_str(root, "fits");
    snprintf(out->why, sizeof out->why, "%s%s",
             strcmp(fits, "later") ? "" : "it would be queued: ", mu_answer_str(root, "why"));
    out->starts = json_is_true(json_object_get(root, "starts"));
    out->expected = mu_answer_num(root, "expected_t");
    snprintf(out->waits, sizeof out->waits, "%s", mu_answer_str(root, "waits"));
    if (!strcmp(fits, "never"))
        rc = mu_err_set(err, MUSTER_EARG, "%s", out->why);
    else
        rc = take_nodes(json_object_get(root, "nodes"), out, err);
    json_decref(root);
    return rc;
}

static int ask(struct mu_client *c, struct mu_run_plan *p, struct mu_run_asked *out, struct mu_err *err)
{
    MU_AUTO_MSG struct mu_msg reply = {0};
    struct mu_m_query q = {.what = (char *)(uintptr_t) "place"};
    uint32_t slots, nodes;
    int rc = 0;

    if (!p->ranks && ((rc = mu_run_pool(c, p, &slots, &nodes, err)) || (rc = mu_run_plan_slots(p, slots, nodes, err))))
        return rc;
    if ((rc = mu_run_spec(p, false, false, &q.spec, err)))
        return rc;
    rc = mu_client_call(c, MU_MSG_query, &q, MU_MSG_reply, &reply, ANSWER_NS, err);
    free(q.spec.data);
    return rc ? rc : take_answer(reply.reply.json ? reply.reply.json : "", out, err);
}

int mu_run_ask(struct mu_run_plan *p, struct mu_run_asked *out, struct mu_err *err)
{
    struct mu_client c;
    int rc = mu_client_look(&c, err);

    if (rc)
        return rc == MU_CLIENT_NO_POOL ? 1 : rc;
    rc = ask(&c, p, out, err);
    mu_client_close(&c);
    return rc;
}

void mu_run_asked_free(struct mu_run_asked *a)
{
    mu_strv_free(a->names);
    free(a->shares);
    *a = (struct mu_run_asked){0};
}
