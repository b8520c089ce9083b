#include "launcher/commit.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#define LAZY_NS (100 * MU_MS) /* rows that are not durable wait so long */
#define RETRY_NS (200 * MU_MS)
#define HOLD_NS (5 * MU_SEC)     /* sends are held back so long */
#define DEGRADED_NS (1 * MU_SEC) /* then the rows are tried again so often */
#define BACKLOG_MAX 20000u       /* events that wait; older ones are dropped */

struct row { /* a PUT_JOB or EVENT that is not stored yet */
    struct mu_act act;
    uint64_t wall;
};
struct step {
    struct mu_acts acts;
    size_t at; /* actions before it are done */
    uint64_t wall;
    bool rows_taken;
};

struct mu_commit {
    struct mu_store *store;
    struct mu_commit_ops ops;
    void *arg;
    struct row *rows;
    size_t nrows, caprows;
    struct step *held;
    size_t nheld, capheld;
    uint64_t *refused; /* submissions; the first `told` of them the caller knows */
    size_t nrefused, caprefused, told;
    struct mu_acts parked; /* releases of keepers whose job's row is not stored */
    uint64_t blocked_since, try_at;
    bool durable_waits; /* among rows there is a durable one */
    bool degraded;
    bool lost; /* degraded for ever */
    uint64_t dropped;
    struct mu_err why;
};

struct mu_commit *mu_commit_new(struct mu_store *store, const struct mu_commit_ops *ops, void *arg)
{
    struct mu_commit *c = calloc(1, sizeof *c);

    if (c) {
        c->store = store;
        c->ops = *ops;
        c->arg = arg;
        c->try_at = UINT64_MAX;
    }
    return c;
}

void mu_commit_free(struct mu_commit *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->nrows; i++)
        mu_buf_free(&c->rows[i].act.frame);
    for (size_t i = 0; i < c->nheld; i++)
        mu_acts_free(&c->held[i].acts);
    mu_acts_free(&c->parked);
    free(c->rows);
    free(c->held);
    free(c->refused);
    free(c);
}

static void *grown(void *v, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return v;
    size_t more = *cap ? *cap * 2 : 16;
    void *p = realloc(v, more * size);
    if (p)
        *cap = more;
    return p;
}

static void drop_old_event(struct mu_commit *c)
{
    for (size_t i = 0; i < c->nrows; i++) {
        if (c->rows[i].act.kind != MU_ACT_EVENT)
            continue;
        memmove(&c->rows[i], &c->rows[i + 1], (c->nrows - i - 1) * sizeof c->rows[0]);
        c->nrows--;
        if (!c->dropped++)
            mu_log(MU_LOG_ERROR, "store", "more than %u events wait for the disk; the oldest are dropped", BACKLOG_MAX);
        return;
    }
}

/* Nothing of such a job is ever stored, nor is it started. */
static bool is_refused(const struct mu_commit *c, uint64_t job)
{
    for (size_t i = 0; i < c->nrefused; i++)
        if (c->refused[i] == job)
            return true;
    return false;
}

static void drop_rows(struct mu_commit *c, uint64_t job)
{
    size_t kept = 0;

    c->durable_waits = false;
    for (size_t i = 0; i < c->nrows; i++) {
        if (c->rows[i].act.job == job) {
            mu_buf_free(&c->rows[i].act.frame);
            continue;
        }
        c->durable_waits = c->durable_waits || c->rows[i].act.kind == MU_ACT_PUT_JOB;
        c->rows[kept++] = c->rows[i];
    }
    c->nrows = kept;
}

/* Takes the action's frame. A job's newer row replaces one that still waits. */
static void keep_row(struct mu_commit *c, struct mu_act *act, uint64_t wall)
{
    if (is_refused(c, act->job))
        return;
    c->durable_waits = c->durable_waits || (act->kind == MU_ACT_PUT_JOB && act->durable);
    for (size_t i = c->nrows; act->kind == MU_ACT_PUT_JOB && i-- > 0;) {
        struct mu_act *old = &c->rows[i].act;
        if (old->kind != MU_ACT_PUT_JOB || old->job != act->job)
            continue;
        mu_buf_free(&old->frame);
        old->frame = MU_STEAL(act->frame, (struct mu_buf){0});
        return;
    }
    if (c->nrows >= BACKLOG_MAX)
        drop_old_event(c);
    struct row *v = grown(c->rows, c->nrows, &c->caprows, sizeof *v);
    if (!v) {
        mu_log(MU_LOG_ERROR, "store", "out of memory: a row of job %llu is lost", (unsigned long long)act->job);
        return;
    }
    c->rows = v;
    v[c->nrows++] = (struct row){.act = *act, .wall = wall};
    act->frame = (struct mu_buf){0};
}

static int store_row(struct mu_commit *c, const struct row *row, struct mu_err *err)
{
    const struct mu_act *a = &row->act;

    if (a->kind == MU_ACT_EVENT) {
        struct mu_store_event e = {.job = a->job,
                                   .wall = row->wall,
                                   .attempt = a->attempt,
                                   .rank = a->rank,
                                   .kind = a->event,
                                   .node = a->node,
                                   .detail = a->detail};
        return mu_store_add_event(c->store, &e, err);
    }
    MU_AUTO_MSG struct mu_msg msg = {0};
    int rc = mu_msg_decode(a->frame.data, a->frame.len, &msg, err);
    if (!rc && a->kind == MU_ACT_INVENTORY)
        return mu_store_put_inventory(c->store, &msg.inventory, err);
    return rc ? rc : mu_store_put_job(c->store, &msg.jobrow, err);
}

static void send_act(struct mu_commit *c, const struct mu_act *a)
{
    const mu_conn *to;
    uint32_t n = mu_act_to(a, &to);

    c->ops.send(c->arg, to, n, a->frame.data, a->frame.len);
}

static void send_parked(struct mu_commit *c)
{
    for (size_t i = 0; i < c->parked.n; i++)
        send_act(c, &c->parked.v[i]);
    mu_acts_clear(&c->parked);
}

static int try_commit(struct mu_commit *c, struct mu_err *err)
{
    if (!c->nrows)
        return 0;
    int rc = mu_store_begin(c->store, err);
    for (size_t i = 0; !rc && i < c->nrows; i++)
        rc = store_row(c, &c->rows[i], err);
    if (!rc)
        rc = mu_store_commit(c->store, err);
    if (rc) {
        mu_store_rollback(c->store);
        return rc;
    }
    for (size_t i = 0; i < c->nrows; i++)
        mu_buf_free(&c->rows[i].act.frame);
    c->nrows = 0;
    c->durable_waits = false;
    if (c->degraded || c->blocked_since) {
        mu_log(MU_LOG_INFO, "store", "rows can be stored again");
        c->degraded = false;
        c->blocked_since = 0;
        c->dropped = 0;
    }
    send_parked(c);
    return 0;
}

/* False: what follows must wait. */
static bool stored(struct mu_commit *c, uint64_t now)
{
    if (!try_commit(c, &c->why) || c->lost)
        return true;
    /* damaged or removed: what is not stored yet is not told to anybody, either, and our successor asks the agents */
    if (c->why.code == MUSTER_ECORRUPT && c->ops.hurt && !mu_store_moved(c->store) && c->ops.hurt(c->arg, c->why.text))
        return false;
    if (mu_store_removed(c->store)) {
        mu_log(MU_LOG_ERROR, "store", "%s", c->why.text);
        c->degraded = c->lost = true;
    }
    if (c->degraded)
        return true;
    if (!c->blocked_since) {
        c->blocked_since = now ? now : 1;
        mu_log(MU_LOG_ERROR, "store", "%s; holding back until it works", c->why.text);
    }
    return false;
}

static bool is_row(const struct mu_act *a)
{
    return a->kind == MU_ACT_PUT_JOB || a->kind == MU_ACT_EVENT || a->kind == MU_ACT_INVENTORY;
}

static void take_rows(struct mu_commit *c, struct step *s)
{
    for (size_t i = 0; !s->rows_taken && i < s->acts.n; i++)
        if (is_row(&s->acts.v[i]))
            keep_row(c, &s->acts.v[i], s->wall);
    s->rows_taken = true;
}

static unsigned frame_type(const struct mu_buf *frame)
{
    return frame->len < MU_FRAME_HEAD ? 0
                                      : (unsigned char)frame->data[4] | (unsigned)(unsigned char)frame->data[5] << 8;
}

/* Not stored although we promised: instead of `submitted` the client gets the reason. False: it is another answer. */
static bool refuse_submission(struct mu_commit *c, const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg msg = {0};
    mu_auto_buf struct mu_buf frame = {0};
    struct mu_m_jobrow row;
    char text[700];

    if (frame_type(&a->frame) != MU_MSG_submitted || mu_msg_decode(a->frame.data, a->frame.len, &msg, NULL))
        return false;
    uint64_t job = msg.submitted.job;
    if (!mu_store_job(c->store, job, &row, NULL)) {
        mu_msg_free_body(MU_MSG_jobrow, &row);
        return false;
    }
    snprintf(text, sizeof text, "the job cannot be stored: %s", c->why.text);
    if (!mu_msg_encode(&frame, MU_MSG_error, &(struct mu_m_error){.code = c->why.code, .text = text}))
        c->ops.send(c->arg, &a->conn, 1, frame.data, frame.len);
    uint64_t *v = is_refused(c, job) ? NULL : grown(c->refused, c->nrefused, &c->caprefused, sizeof *v);
    if (v) {
        c->refused = v;
        v[c->nrefused++] = job;
        drop_rows(c, job);
    }
    return true;
}

static bool starts_refused(const struct mu_commit *c, const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg msg = {0};

    return c->nrefused && frame_type(&a->frame) == MU_MSG_start &&
           !mu_msg_decode(a->frame.data, a->frame.len, &msg, NULL) && is_refused(c, msg.start.job);
}

/* Only the keepers know how a job ended whose end is not stored: the next controller asks them. */
static bool park_release(struct mu_commit *c, struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg msg = {0};
    bool waits = false;

    if (frame_type(&a->frame) != MU_MSG_release || mu_msg_decode(a->frame.data, a->frame.len, &msg, NULL))
        return false;
    for (size_t i = 0; i < c->nrows; i++)
        waits = waits || (c->rows[i].act.kind == MU_ACT_PUT_JOB && c->rows[i].act.job == msg.release.job);
    if (!waits)
        return false;
    struct mu_act *kept = mu_acts_add(&c->parked, MU_ACT_SEND);
    if (c->parked.failed)
        mu_log(MU_LOG_ERROR, "store", "out of memory: the keepers of job %llu stay",
               (unsigned long long)msg.release.job);
    c->parked.failed = false;
    kept->conn = a->conn;
    kept->conns = MU_STEAL(a->conns, NULL);
    kept->nconns = a->nconns;
    kept->frame = MU_STEAL(a->frame, (struct mu_buf){0});
    return true;
}

static void carry_out(struct mu_commit *c, struct mu_act *a)
{
    switch (a->kind) {
    case MU_ACT_SEND:
        if (!(c->degraded && c->durable_waits && (refuse_submission(c, a) || park_release(c, a))) &&
            !starts_refused(c, a))
            send_act(c, a);
        return;
    case MU_ACT_CLOSE:
        c->ops.close(c->arg, a->conn);
        return;
    case MU_ACT_EXIT:
        c->ops.exit(c->arg);
        return;
    case MU_ACT_ENGINE:
    case MU_ACT_PROBE:
    case MU_ACT_MARKS:
        if (c->ops.host)
            c->ops.host(c->arg, a);
        return;
    default:
        return;
    }
}

/* True: all of it is done. False: it must wait for the store. */
static bool run_step(struct mu_commit *c, struct step *s, uint64_t now)
{
    bool tried = false;

    for (; s->at < s->acts.n; s->at++) {
        struct mu_act *a = &s->acts.v[s->at];
        if (is_row(a)) {
            if (a->kind == MU_ACT_PUT_JOB && a->durable)
                take_rows(c, s);
            continue;
        }
        /* The rest is seen by others: what precedes it must be stored. */
        if (c->durable_waits && !tried && !stored(c, now))
            return false;
        tried = tried || c->durable_waits;
        carry_out(c, a);
    }
    take_rows(c, s);
    return !c->durable_waits || tried || stored(c, now);
}

static void run_held(struct mu_commit *c, uint64_t now)
{
    size_t done = 0;

    while (done < c->nheld && run_step(c, &c->held[done], now))
        mu_acts_free(&c->held[done++].acts);
    if (done)
        memmove(c->held, c->held + done, (c->nheld - done) * sizeof c->held[0]);
    c->nheld -= done;
}

/* After the steps that they belong to: what is refused is refused because its row waits. */
static void drop_lost(struct mu_commit *c)
{
    for (size_t i = 0; i < c->nrows; i++)
        mu_buf_free(&c->rows[i].act.frame);
    c->nrows = 0;
    c->durable_waits = false;
    send_parked(c);
}

static void schedule(struct mu_commit *c, uint64_t now)
{
    if (c->lost && !c->nheld)
        drop_lost(c);
    if (!c->nrows && !c->nheld) {
        c->try_at = UINT64_MAX;
        return;
    }
    uint64_t at = now + (c->nheld ? RETRY_NS : c->degraded ? DEGRADED_NS : LAZY_NS);
    if (c->try_at == UINT64_MAX || c->try_at <= now || at < c->try_at)
        c->try_at = at;
}

void mu_commit_step(struct mu_commit *c, struct mu_acts *acts, uint64_t now, uint64_t wall)
{
    struct step s = {.acts = *acts, .wall = wall};

    memset(acts, 0, sizeof *acts);
    if (c->nheld || !run_step(c, &s, now)) {
        struct step *v = grown(c->held, c->nheld, &c->capheld, sizeof *v);
        if (v) {
            c->held = v;
            v[c->nheld++] = s;
        } else {
            mu_log(MU_LOG_ERROR, "store", "out of memory: %zu actions are lost", s.acts.n - s.at);
            mu_acts_free(&s.acts);
        }
    } else {
        /* its memory is used again by the next step */
        mu_acts_clear(&s.acts);
        *acts = s.acts;
    }
    schedule(c, now);
}

void mu_commit_time(struct mu_commit *c, uint64_t now)
{
    if (now < c->try_at)
        return;
    c->try_at = UINT64_MAX;
    bool ok = stored(c, now);
    if (!ok && now - c->blocked_since >= HOLD_NS) {
        mu_log(MU_LOG_ERROR, "store", "%s; going on without it, nothing new is accepted", c->why.text);
        c->degraded = true;
    }
    if (ok || c->degraded)
        run_held(c, now);
    schedule(c, now);
}

uint64_t mu_commit_next(const struct mu_commit *c)
{
    return c->try_at;
}

bool mu_commit_lost(const struct mu_commit *c)
{
    return c->lost;
}

bool mu_commit_waits(const struct mu_commit *c)
{
    return c->durable_waits || c->nheld;
}

int mu_commit_flush(struct mu_commit *c, struct mu_err *err)
{
    return c->nheld ? mu_err_set(err, c->why.code, "%s", c->why.text) : try_commit(c, err);
}

bool mu_commit_refused(struct mu_commit *c, uint64_t *job)
{
    if (c->told == c->nrefused)
        return false;
    *job = c->refused[c->told++];
    return true;
}
