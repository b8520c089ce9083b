#include "launcher/load.h"

#include "launcher/node_files.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

static void load(const struct mu_load *l, const struct mu_msg *msg)
{
    struct mu_ev ev = {.kind = MU_EV_LOAD, .now = mu_now(), .wall = mu_wall(), .msg = msg};

    mu_ctl_step(l->core, &ev, l->acts);
}

static int load_row(void *arg, const struct mu_m_jobrow *row)
{
    const struct mu_load *l = arg;
    struct mu_msg msg = {.type = MU_MSG_jobrow, .jobrow = *row};

    load(l, &msg);
    return l->acts->failed ? MUSTER_ENOMEM : 0;
}

/* Those that have ended long ago, as far as a job that waits is to come after them. */
static int load_needed(struct mu_load *l, struct mu_err *err)
{
    struct mu_m_jobrow row;
    int rc = 0;

    for (uint64_t id = 0; !rc && (id = mu_ctl_missing(l->core, id));) {
        if (!(rc = mu_store_job(l->store, id, &row, err))) {
            rc = load_row(l, &row);
            mu_msg_free_body(MU_MSG_jobrow, &row);
        }
        rc = rc == MUSTER_EJOB ? 0 : rc; /* the core takes it for one that has not completed */
    }
    return rc;
}

static void load_mark(void *arg, const struct mu_msg *msg)
{
    load(arg, msg);
}

static void load_labels(void *arg, const struct mu_m_nodes_label *m)
{
    load(arg, &(struct mu_msg){.type = MU_MSG_nodes_label, .nodes_label = *m});
}

static void load_inventory(void *arg, const struct mu_m_inventory *m)
{
    load(arg, &(struct mu_msg){.type = MU_MSG_inventory, .inventory = *m});
}

int mu_load(const struct mu_load *what, struct mu_err *err)
{
    struct mu_load l = *what;

    /* before the jobs: a job that names one of the pool's hosts does not bring it with it */
    if (l.pool_hosts)
        load(&l, &(struct mu_msg){.type = MU_MSG_nodes_add, .nodes_add = {.hosts = (char *)(uintptr_t)l.pool_hosts}});
    if (l.state && mu_marks_load(l.state, load_mark, &l, err))
        mu_log(MU_LOG_ERROR, "controller", "%s", err->text);
    if (l.state && mu_labels_load(l.state, load_labels, &l, err))
        mu_log(MU_LOG_ERROR, "controller", "%s", err->text);
    if (mu_store_load_inventory(l.store, load_inventory, &l, err))
        mu_log(MU_LOG_ERROR, "store", "%s", err->text);
    int rc = mu_store_load(l.store, load_row, &l, err);
    if (!rc)
        rc = load_needed(&l, err);
    if (l.acts->failed)
        mu_err_set(err, rc ? rc : MUSTER_ENOMEM,
                   "a job of the job store cannot be taken up; move the store away and start again");
    return l.acts->failed && !rc ? MUSTER_ENOMEM : rc;
}
