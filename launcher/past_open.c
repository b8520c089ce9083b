#include "launcher/past_open.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "launcher/backup.h"
#include "launcher/past.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define WAIT_MS 5000

/* Numbers go on where they ever were, whatever the store has lost: logs and checkpoints of an older job are not met
 * again. */
static int look_back(const char *state, const char *log_root, struct mu_past *p, struct mu_store *s, struct mu_err *err)
{
    struct mu_store_past past;
    uint64_t logs = mu_past_highest(log_root);
    int rc = mu_store_last_id(s, &p->last, err);

    if (rc)
        return rc;
    mu_store_look_back(s, &past);
    p->newest = past.newest;
    p->last = p->last > logs ? p->last : logs;
    p->lossy = p->lossy || past.lost;
    if (past.lost)
        snprintf(p->text, sizeof p->text,
                 "job store %s/jobs.db has lost its newest changes (%llu events): its -wal file was damaged, or it is "
                 "an older copy; the newest job in it is %llu, the next job will be %llu",
                 state, (unsigned long long)past.lost, (unsigned long long)past.newest,
                 (unsigned long long)p->last + 1);
    else if (logs > past.newest)
        snprintf(p->text, sizeof p->text,
                 "job store %s/jobs.db is older than the logs: the newest job in it is %llu, jobs/ beside it has one "
                 "of %llu; the next job will be %llu",
                 state, (unsigned long long)past.newest, (unsigned long long)logs, (unsigned long long)p->last + 1);
    return 0;
}

int mu_past_open(const char *state, const char *log_root, struct mu_past *p, struct mu_store **out, struct mu_err *err)
{
    struct mu_backup_open o = {.state = state};
    struct mu_store *s = NULL;
    int rc;

    memset(p, 0, sizeof *p);
    /* one that has lost its run directory, and with it the lock, has the store open for a moment more */
    for (int i = 0; (rc = mu_backup_open(&o, &s, err)) == MUSTER_EJOB && i < WAIT_MS / 20; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20 * MU_MS}, NULL);
    if (rc)
        return rc;
    p->lossy = o.lossy;
    mu_str_copy(p->restored, sizeof p->restored, o.said);
    if ((rc = look_back(state, log_root, p, s, err))) {
        mu_store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}
