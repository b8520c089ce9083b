#include "launcher/past_open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launcher/backup.h"
#include "launcher/past.h"
#include "runtime/base/buf.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define WAIT_MS 5000
#define DOUBT_NS (3600 * MU_SEC)

/* It is no part of the store, as that forgets it. */
static uint32_t count_loss(const char *state)
{
    mu_auto_buf struct mu_buf had = {0};
    char path[PATH_MAX], text[24];
    uint64_t n = 0;

    if (mu_path_join(path, sizeof path, state, "jobs.db-losses", NULL))
        return 1;
    if (!mu_path_read_regular(path, 20, &had, NULL))
        n = strtoull(mu_buf_str(&had), NULL, 10);
    n = n < 1000000 ? n + 1 : n;
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)n);
    mu_path_write_atomic(path, text, strlen(text), 0600, NULL);
    return (uint32_t)n;
}

/* Numbers go on where they ever were, whatever the store has lost: logs and checkpoints of an older job are not met
 * again. */
static int look_back(const char *state, const char *log_root, struct mu_past *p, struct mu_store *s, bool lossy,
                     struct mu_err *err)
{
    struct mu_store_past past;
    uint64_t logs = mu_past_highest(log_root), when, now = mu_wall();
    int rc = mu_store_last_id(s, &p->last, err);

    if (rc)
        return rc;
    mu_store_look_back(s, &past);
    p->last = p->last > logs ? p->last : logs;
    lossy = lossy || past.lost;
    if ((rc = mu_store_lost(s, &p->lost_above, &p->lost_last, &when, err)))
        return rc;
    p->doubtful = when && now < when + DOUBT_NS && now + DOUBT_NS > when;
    p->blank = lossy && !p->last && !past.lost;
    if (lossy) {
        p->losses = p->blank ? 0 : count_loss(state);
        bool none = !p->lost_last;
        p->lost_above = none || past.newest < p->lost_above ? past.newest : p->lost_above;
        p->lost_last = p->last;
        if (p->last && (rc = mu_store_put_lost(s, p->lost_above, p->lost_last, now, err)))
            return rc;
        if (!p->last) /* nothing at all is known; a number that runs is not known to be another's */
            p->lost_last = UINT64_MAX;
    }
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
    mu_str_copy(p->restored, sizeof p->restored, o.said);
    if ((rc = look_back(state, log_root, p, s, o.lossy, err))) {
        mu_store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}
