/* What the ranks of a running job have called last, from their keepers. */
#include <stdlib.h>
#include <string.h>

#include "launcher/client.h"
#include "launcher/flight.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define ANSWER_NS (5 * MU_SEC) /* of all nodes */

/* False: nobody was asked there. */
static bool answered(json_t *missing, const char *node)
{
    for (size_t i = 0; node && i < json_array_size(missing); i++)
        if (!strcmp(json_string_value(json_array_get(missing, i)), node))
            return json_array_remove(missing, i) == 0;
    return false;
}

static int take(const struct mu_m_flown *m, json_t *list, json_t *missing, struct mu_err *err)
{
    int rc = m->text.len ? mu_flight_parse((const char *)m->text.data, m->text.len, list, err) : 0;

    if (rc)
        return mu_err_prefix(err, "rank %u on %s", m->rank, m->node ? m->node : "?");
    if (!m->left)
        answered(missing, m->node);
    return 0;
}

static int ask(struct mu_client *c, const struct mu_m_flight *m, uint32_t *attempt, json_t *list, json_t *missing,
               struct mu_err *err)
{
    MU_AUTO_MSG struct mu_msg first = {0};
    uint64_t until = mu_now() + ANSWER_NS;
    int rc = mu_client_call(c, MU_MSG_flight, m, MU_MSG_flown, &first, ANSWER_NS, err);

    if (rc)
        return rc;
    *attempt = first.flown.attempt;
    for (size_t i = 0; i < mu_strv_len(first.flown.nodes); i++)
        json_array_append_new(missing, json_string(first.flown.nodes[i]));
    while (!rc && json_array_size(missing)) {
        MU_AUTO_MSG struct mu_msg more = {0};

        rc = mu_client_await(c, MU_MSG_flown, &more, until, err);
        if (rc == MUSTER_ETIMEOUT) /* those that are missing are told of */
            return 0;
        if (!rc && more.flown.attempt == *attempt)
            rc = take(&more.flown, list, missing, err);
    }
    return rc;
}

int mu_flight_ask(uint64_t job, unsigned last, uint32_t *attempt, json_t *list, json_t *missing, struct mu_err *err)
{
    struct mu_client c;
    int rc = mu_client_look(&c, err);

    if (rc)
        return rc < 0 ? rc : 0; /* no pool: the job does not run any more */
    rc = ask(&c, &(struct mu_m_flight){.job = job, .last = last}, attempt, list, missing, err);
    mu_client_close(&c);
    return rc;
}
