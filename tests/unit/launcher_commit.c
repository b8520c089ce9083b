/* Order of storing and telling, with a store that works, fills up and gets room again. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/commit.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static struct mu_store *store;
static struct mu_commit *commit;
static uint64_t now = 1000 * MU_SEC;

/* What was sent, and whether job `watched` was in the store at that moment. */
static struct {
    unsigned sends, errors, closes, exits;
    uint64_t watched;
    bool stored_before;
    char text[500];
    uint64_t order;
} seen;

static bool in_store(uint64_t job)
{
    struct mu_m_jobrow row;

    if (mu_store_job(store, job, &row, NULL))
        return false;
    mu_msg_free_body(MU_MSG_jobrow, &row);
    return true;
}

static void on_send(void *arg, const mu_conn *to, uint32_t n, const void *frame, size_t len)
{
    MU_AUTO_MSG struct mu_msg msg = {0};

    (void)arg;
    seen.sends++;
    for (uint32_t i = 0; i < n; i++)
        seen.order = seen.order * 10 + to[i];
    seen.stored_before = !seen.watched || in_store(seen.watched);
    if (!mu_msg_decode(frame, len, &msg, NULL) && msg.type == MU_MSG_error) {
        seen.errors++;
        snprintf(seen.text, sizeof seen.text, "%s", msg.error.text);
    }
}
static void on_close(void *arg, mu_conn conn)
{
    (void)arg, (void)conn;
    seen.closes++;
}
static void on_exit_act(void *arg)
{
    (void)arg;
    seen.exits++;
}
static const struct mu_commit_ops ops = {.send = on_send, .close = on_close, .exit = on_exit_act};

static void add_row(struct mu_acts *acts, uint64_t job, unsigned state, bool durable)
{
    char filler[3000];
    struct mu_m_jobrow row = {.id = job, .state = state, .reason = filler};
    struct mu_act *a = mu_acts_add(acts, MU_ACT_PUT_JOB);

    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = 0;
    a->job = job;
    a->durable = durable;
    mu_msg_encode(&a->frame, MU_MSG_jobrow, &row);
}

static void add_event(struct mu_acts *acts, uint64_t job)
{
    struct mu_act *a = mu_acts_add(acts, MU_ACT_EVENT);

    a->job = job;
    a->rank = -1;
    snprintf(a->event, sizeof a->event, "submitted");
}

/* What a submission makes: row, event, answer to connection 3, start to connection 2. */
static void submission(uint64_t job)
{
    struct mu_acts acts = {0};

    add_row(&acts, job, MU_JOB_QUEUED, true);
    add_event(&acts, job);
    mu_acts_send(&acts, 3, MU_MSG_submitted, &(struct mu_m_submitted){.job = job});
    add_row(&acts, job, MU_JOB_STARTING, true);
    mu_acts_send(&acts, 2, MU_MSG_start, &(struct mu_m_start){.job = job, .attempt = 1});
    memset(&seen, 0, sizeof seen);
    seen.watched = job;
    mu_commit_step(commit, &acts, now, now);
    mu_acts_free(&acts);
}

static void step_send(mu_conn conn)
{
    struct mu_acts acts = {0};

    mu_acts_send(&acts, conn, MU_MSG_release, &(struct mu_m_release){.job = 1});
    mu_commit_step(commit, &acts, now, now);
    mu_acts_free(&acts);
}

/* Lets time pass, waking it when it asks for that. */
static unsigned pass(uint64_t ns)
{
    uint64_t end = now + ns;
    unsigned woken = 0;

    while (mu_commit_next(commit) <= end) {
        now = mu_commit_next(commit) > now ? mu_commit_next(commit) : now;
        mu_commit_time(commit, now);
        if (++woken > 10000)
            break;
    }
    now = end;
    return woken;
}

static int count_one(void *arg, const struct mu_store_event *e)
{
    (void)e;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned events_of(uint64_t job)
{
    unsigned n = 0;

    mu_store_events(store, job, 1000, count_one, &n, NULL);
    return n;
}

static void working(void)
{
    struct mu_m_jobrow row;
    struct mu_acts acts = {0};

    submission(1);
    TAP_OK(seen.sends == 2 && seen.order == 32 && seen.stored_before, "stored, then told, in order");
    TAP_OK(mu_commit_next(commit) == UINT64_MAX, "nothing waits");
    mu_store_job(store, 1, &row, NULL);
    TAP_OK(row.state == MU_JOB_STARTING && events_of(1) == 1, "the last row of the step, with its event");
    mu_msg_free_body(MU_MSG_jobrow, &row);

    memset(&seen, 0, sizeof seen);
    add_row(&acts, 2, MU_JOB_RUNNING, false);
    add_event(&acts, 2);
    mu_acts_send(&acts, 3, MU_MSG_release, &(struct mu_m_release){.job = 1});
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(seen.sends == 1 && !in_store(2) && mu_commit_next(commit) > now, "what is not durable waits");
    TAP_OK(pass(MU_SEC) == 1 && in_store(2) && events_of(2) == 1, "for a moment");

    add_row(&acts, 3, MU_JOB_RUNNING, true);
    mu_acts_add(&acts, MU_ACT_CLOSE)->conn = 4;
    mu_acts_add(&acts, MU_ACT_EXIT);
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(seen.closes == 1 && seen.exits == 1 && in_store(3), "close and exit are carried out");
    add_row(&acts, 4, MU_JOB_RUNNING, true);
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(in_store(4), "a durable row that nothing follows is stored at once");
    add_event(&acts, 4);
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(events_of(4) == 0 && !mu_commit_flush(commit, NULL) && events_of(4) == 1, "flush");
    mu_acts_free(&acts);
    pass(MU_SEC);
}

static void short_shortage(void)
{
    mu_store_limit_pages(store, 1);
    submission(10);
    TAP_OK(seen.sends == 0 && !in_store(10), "full disk: a submission is held back");
    step_send(5);
    TAP_OK(seen.sends == 0, "and so is what comes after it");
    unsigned tries = pass(2 * MU_SEC);
    TAP_OK(seen.sends == 0 && tries >= 5 && tries <= 20, "it is tried again every 200 ms (%u)", tries);
    mu_store_limit_pages(store, 0);
    pass(MU_SEC);
    TAP_OK(seen.sends == 3 && seen.order == 325 && !seen.errors && in_store(10),
           "with room: stored and told, in order");
    TAP_OK(mu_commit_next(commit) == UINT64_MAX, "nothing waits");
    uint64_t job;
    TAP_OK(!mu_commit_refused(commit, &job), "nothing was refused");
}

static void long_shortage(void)
{
    struct mu_acts acts = {0};
    struct mu_m_jobrow row;
    uint64_t job = 0;

    mu_store_limit_pages(store, 1);
    submission(11);
    TAP_OK(pass(4900 * MU_MS) && seen.sends == 0, "held for nearly five seconds");
    pass(MU_SEC);
    TAP_OK(seen.sends == 1 && seen.errors == 1 && seen.order == 3 && strstr(seen.text, "full"),
           "then the client gets an error, and the job is not started: %s", seen.text);
    TAP_OK(mu_commit_refused(commit, &job) && job == 11 && !mu_commit_refused(commit, &job),
           "and the job is given back, once");
    add_row(&acts, 11, MU_JOB_CANCELLED, true);
    add_event(&acts, 11);
    mu_commit_step(commit, &acts, now, now);

    submission(12);
    TAP_OK(seen.errors == 1 && mu_commit_refused(commit, &job) && job == 12, "the next submission is refused at once");

    memset(&seen, 0, sizeof seen);
    for (uint64_t i = 200; i < 230; i++) /* more than the pages that are free */
        add_row(&acts, i, MU_JOB_RUNNING, false);
    add_row(&acts, 10, MU_JOB_COMPLETED, true);
    add_event(&acts, 10);
    mu_acts_send(&acts, 4, MU_MSG_kill, &(struct mu_m_kill){.job = 10});
    mu_acts_send(&acts, 5, MU_MSG_release, &(struct mu_m_release){.job = 10});
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(seen.sends == 1 && seen.order == 4 && !seen.errors, "running jobs go on unstored");
    mu_acts_send(&acts, 6, MU_MSG_release, &(struct mu_m_release){.job = 1});
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(seen.sends == 2 && seen.order == 46, "only the keepers of a job whose end is not stored must stay");
    add_row(&acts, 10, MU_JOB_FAILED, true);
    mu_acts_send(&acts, 3, MU_MSG_submitted, &(struct mu_m_submitted){.job = 10});
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(seen.sends == 3 && !seen.errors && !mu_commit_refused(commit, &job),
           "an answer about a job that is stored is no refusal");
    unsigned tries = pass(10 * MU_SEC);
    TAP_OK(tries >= 8 && tries <= 12, "tried again every second (%u)", tries);
    mu_store_limit_pages(store, 0);
    pass(2 * MU_SEC);
    mu_store_job(store, 10, &row, NULL);
    TAP_OK(row.state == MU_JOB_FAILED && events_of(10) == 2, "with room everything is stored after all");
    mu_msg_free_body(MU_MSG_jobrow, &row);
    TAP_OK(!in_store(11) && !events_of(11) && !in_store(12) && !events_of(12), "but what was refused");
    TAP_OK(seen.sends == 4 && seen.order == 4635, "and the keepers are released");
    TAP_OK(mu_commit_next(commit) == UINT64_MAX, "nothing waits");
    submission(13);
    TAP_OK(seen.sends == 2 && !seen.errors && in_store(13), "and new jobs are taken");
    mu_acts_free(&acts);
}

static void lazy_shortage(void)
{
    struct mu_acts acts = {0};

    mu_store_limit_pages(store, 1);
    for (int i = 0; i < 30; i++)
        add_row(&acts, 100 + (uint64_t)i, MU_JOB_RUNNING, false);
    mu_commit_step(commit, &acts, now, now);
    pass(MU_SEC);
    memset(&seen, 0, sizeof seen);
    step_send(5);
    TAP_OK(seen.sends == 1 && !in_store(100), "rows that are not durable hold nothing back");
    TAP_OK(mu_commit_flush(commit, NULL) == MUSTER_ENOSPC, "a flush says so");
    mu_store_limit_pages(store, 0);
    pass(2 * MU_SEC);
    TAP_OK(in_store(100) && in_store(129), "they are stored later");
    mu_store_limit_pages(store, 1);
    for (int i = 0; i < 25000; i++)
        add_event(&acts, 5);
    mu_commit_step(commit, &acts, now, now);
    mu_store_limit_pages(store, 0);
    pass(2 * MU_SEC);
    TAP_OK(mu_commit_next(commit) == UINT64_MAX, "a flood of events is bounded");
    mu_acts_free(&acts);
}

/* Not moved away: nobody can put it back. */
static void removed(const char *file)
{
    char aside[PATH_MAX + 8];
    struct mu_acts acts = {0};
    uint64_t job = 0;

    snprintf(aside, sizeof aside, "%s.aside", file);
    rename(file, aside);
    submission(800);
    TAP_OK(seen.sends == 0 && !mu_commit_lost(commit), "moved away: a submission is held back");
    rename(aside, file);
    pass(MU_SEC);
    TAP_OK(seen.sends == 2 && in_store(800), "put back: it is stored");
    memset(&seen, 0, sizeof seen);
    unlink(file);
    add_row(&acts, 800, MU_JOB_COMPLETED, true);
    mu_acts_send(&acts, 5, MU_MSG_release, &(struct mu_m_release){.job = 800});
    mu_commit_step(commit, &acts, now, now);
    TAP_OK(seen.sends == 1 && seen.order == 5 && mu_commit_lost(commit), "removed: keepers are released at once");
    TAP_OK(!mu_commit_waits(commit) && mu_commit_next(commit) == UINT64_MAX && !mu_commit_flush(commit, NULL),
           "and nothing waits");
    submission(801);
    TAP_OK(seen.errors == 1 && seen.sends == 1 && strstr(seen.text, "removed while") &&
               mu_commit_refused(commit, &job) && job == 801,
           "jobs are refused: %s", seen.text);
    TAP_OK(!mu_commit_waits(commit), "nothing waits for that either");
    mu_acts_free(&acts);
}

/* Left behind: what is held and what waits is freed. */
static void abandoned(void)
{
    mu_store_limit_pages(store, 1);
    submission(900);
    step_send(5);
    TAP_OK(seen.sends == 0, "left while it is held");
}

int main(void)
{
    char dir[] = "/tmp/muster-test-commit-XXXXXX", file[PATH_MAX];
    struct mu_err err;

    if (!mkdtemp(dir))
        return 99;
    snprintf(file, sizeof file, "%s/jobs.db", dir);
    if (mu_store_open(file, &store, &err)) {
        printf("Bail out! %s\n", err.text);
        return 99;
    }
    commit = mu_commit_new(store, &ops, NULL);
    working();
    short_shortage();
    long_shortage();
    lazy_shortage();
    abandoned();
    mu_commit_free(commit);
    mu_store_close(store);
    mu_path_remove_tree(dir, NULL);
    mkdir(dir, 0700);
    if (mu_store_open(file, &store, &err))
        return 99;
    commit = mu_commit_new(store, &ops, NULL);
    removed(file);
    mu_commit_free(commit);
    mu_store_close(store);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
