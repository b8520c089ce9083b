#include "runtime/keeper/attempt.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"
#include "runtime/keeper/bound.h"
#include "runtime/keeper/flight.h"
#include "runtime/keeper/launch.h"
#include "runtime/keeper/order.h"
#include "runtime/keeper/process.h"
#include "runtime/keeper/room.h"
#include "runtime/keeper/slots.h"
#include "runtime/keeper/watch.h"
#include "runtime/wire/core.h"
#include "runtime/wire/daemon.h"

enum { CHUNK = 64 << 10, READS = 8, LAST_READS = 64, SWEEP_MS = 200 };
#define EXEC_PATIENCE (30 * MU_SEC)
#define SURE MU_SEC /* a rank that looks like a singleton may still connect, on a busy machine */

enum state { LAUNCHING, FAILING, RUNNING };

struct rank {
    struct mu_attempt *attempt;
    uint32_t index;
    pid_t pid; /* 0 once reaped */
    struct {
        int fd;
        struct event *ev;
    } pipe[2]; /* MU_STREAM_ - 1 */
    int status;
    uint32_t order; /* of reaping */
    uint64_t look;  /* age at which its MPI is looked at next */
    unsigned alone; /* looks that saw it as a singleton */
    char *suspect;  /* then what is to be said of it, unless it connects after all */
    uint64_t suspect_age;
    bool dead, told, connected, finalized, warned, aborted;
    int32_t abort_code;
};

struct mu_attempt {
    struct mu_attempt_host host;
    struct mu_msg start;
    struct mu_m_spec spec;
    uint32_t number, first, n, world;
    char session[PATH_MAX], shm[PATH_MAX], nspace[64];
    struct mu_slots *slots;
    struct mu_watch *watch;
    struct mu_bound *bound;
    struct mu_launch *launch;
    struct event *launch_ev;
    struct mu_alarm *launch_alarm, *deliver_alarm;
    struct mu_launch_trouble trouble; /* FAILING: the first fatal one */
    enum state state;
    uint64_t born;
    uint32_t reaped;
    bool open; /* the namespace */
    bool failure_told, denial_told, room_told;
    char *chunk;
    struct rank ranks[];
};

uint32_t mu_attempt_number(const struct mu_attempt *a)
{
    return a->number;
}

void mu_attempt_session_dir(char *out, size_t n, const struct mu_paths *p, uint64_t job, uint32_t attempt)
{
    int k = snprintf(out, n, "%s/j%llu.a%u", p->run, (unsigned long long)job, attempt);

    if (k < 0 || (size_t)k >= n)
        *out = 0;
}

void mu_attempt_shm_dir(char *out, size_t n, const struct mu_paths *p, uint64_t job, uint32_t attempt)
{
    int k = snprintf(out, n, "/dev/shm/muster-%lu-%08x-%s-j%llu.a%u", (unsigned long)geteuid(), p->pool_hash, p->host,
                     (unsigned long long)job, attempt);

    if (k < 0 || (size_t)k >= n)
        *out = 0;
}

/* --- preparation ------------------------------------------------------------------------------------------------- */

/* The same on all nodes, unlike what is made of the host's name. */
static uint32_t mark_of(const struct mu_attempt *a)
{
    return a->start.start.mark ? a->start.start.mark : a->host.paths->pool_hash;
}

static int make_dirs(struct mu_attempt *a, struct mu_err *err)
{
    const struct mu_paths *p = a->host.paths;
    uint64_t job = a->start.start.job;

    mu_attempt_session_dir(a->session, sizeof a->session, p, job, a->number);
    mu_attempt_shm_dir(a->shm, sizeof a->shm, p, job, a->number);
    mu_path_remove_tree(a->session, NULL);
    mu_path_remove_tree(a->shm, NULL);
    if (!*a->session)
        return mu_err_set(err, MUSTER_EARG, "the path of the run directory is too long");
    if (mkdir(a->session, 0700) < 0)
        return mu_err_errno(err, 0, "cannot make %s", a->session);
    if (mkdir(a->shm, 0700) < 0) {
        mu_log(MU_LOG_WARN, "keeper", "cannot make %s (%s): Open MPI chooses where its segments go", a->shm,
               strerror(errno));
        a->shm[0] = 0;
    }
    return 0;
}

static void open_logs(struct mu_attempt *a)
{
    const struct mu_m_start *s = &a->start.start;
    bool users = a->spec.output && *a->spec.output;
    mode_t mode = users && a->spec.umask_plus1 ? 0666 & ~(mode_t)(a->spec.umask_plus1 - 1) : 0600;
    struct mu_err err;

    if (mu_logs_begin(a->host.logs, s->log_dir, a->number, a->first, a->n, mode | 0600, s->node_id == 0, &err))
        mu_log(MU_LOG_ERROR, "keeper", "attempt %u: output is not kept: %s", a->number, err.text);
}

static int open_namespace(struct mu_attempt *a, struct mu_err *err)
{
    const struct mu_m_start *s = &a->start.start;

    snprintf(a->nspace, sizeof a->nspace, "muster-%08x-%llu-%u", mark_of(a), (unsigned long long)s->job, a->number);
    struct mu_pmix_job job = {.nspace = a->nspace,
                              .attempt = a->number,
                              .node_id = s->node_id,
                              .nodes = s->nodes,
                              .node_ranks = s->node_ranks.v,
                              .nnodes = s->node_ranks.n,
                              .app_ranks = a->spec.app_ranks.v,
                              .napps = a->spec.app_ranks.n,
                              .session_dir = a->session};
    int rc = mu_pmix_begin(a->host.pmix, &job, err);
    a->open = !rc;
    return rc;
}

/* --- output of the ranks ----------------------------------------------------------------------------------------- */

static void close_pipe(struct rank *r, int i)
{
    if (r->pipe[i].ev)
        event_free(r->pipe[i].ev);
    if (r->pipe[i].fd >= 0) {
        close(r->pipe[i].fd);
        mu_logs_end(r->attempt->host.logs, r->index, (uint32_t)i + 1);
    }
    r->pipe[i].ev = NULL;
    r->pipe[i].fd = -1;
}

/* Takes what is there, at most so many chunks. */
static bool drain(struct rank *r, int i, int chunks)
{
    struct mu_attempt *a = r->attempt;
    bool any = false;

    while (r->pipe[i].fd >= 0 && chunks-- > 0) {
        ssize_t n = read(r->pipe[i].fd, a->chunk, CHUNK);

        if (n > 0) {
            mu_logs_feed(a->host.logs, r->index, (uint32_t)i + 1, a->chunk, (size_t)n, mu_now());
            any = true;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else {
            close_pipe(r, i);
            any = true;
        }
    }
    return any;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct rank *r = arg;

    (void)what;
    if (drain(r, r->pipe[1].fd == fd, READS))
        r->attempt->host.output(r->attempt->host.arg);
}

static void take_children(struct mu_attempt *a, const struct mu_child *kids)
{
    for (uint32_t i = 0; i < a->n; i++) {
        struct rank *r = &a->ranks[i];

        r->pid = kids[i].pid;
        r->pipe[0].fd = kids[i].out;
        r->pipe[1].fd = kids[i].err;
        for (int k = 0; k < 2; k++) {
            r->pipe[k].ev = event_new(a->host.base, r->pipe[k].fd, EV_READ | EV_PERSIST, on_readable, r);
            if (!r->pipe[k].ev || event_add(r->pipe[k].ev, NULL))
                close_pipe(r, k); /* the rank sees EPIPE; better than blocking it */
        }
        if (kids[i].in >= 0)
            mu_feed_attach(a->host.feed, kids[i].in);
    }
}

/* --- launching --------------------------------------------------------------------------------------------------- */

static void launch_over(struct mu_attempt *a)
{
    if (a->launch_ev)
        event_free(a->launch_ev);
    mu_alarm_free(a->launch_alarm);
    mu_launch_free(a->launch);
    a->launch_ev = NULL;
    a->launch_alarm = NULL;
    a->launch = NULL;
}

static void fail(struct mu_attempt *a, const struct mu_launch_trouble *t)
{
    if (a->state == FAILING)
        return;
    a->state = FAILING;
    a->trouble = *t;
    mu_attempt_signal(a, MU_ALL, SIGKILL);
}

static void on_launch(evutil_socket_t fd, short what, void *arg)
{
    struct mu_attempt *a = arg;
    struct mu_launch_trouble t;
    int got;

    (void)fd, (void)what;
    while ((got = mu_launch_poll(a->launch, &t)) == MU_LAUNCH_TROUBLE) {
        mu_log(MU_LOG_WARN, "keeper", "rank %u %s", a->first + t.index, t.text);
        if (t.fatal)
            fail(a, &t);
        else
            mu_logs_note(a->host.logs, t.index, t.text, mu_now());
    }
    if (got != MU_LAUNCH_DONE)
        return;
    launch_over(a);
    if (a->state == LAUNCHING) {
        a->state = RUNNING;
        mu_log(MU_LOG_INFO, "keeper", "attempt %u: %u ranks run, %.1f ms after their start message", a->number, a->n,
               (double)(mu_now() - a->born) / (double)MU_MS);
        a->host.spawned(a->host.arg, 0, 0, NULL);
    }
    mu_attempt_deliver(a);
}

static void on_launch_late(void *arg)
{
    struct mu_attempt *a = arg;
    struct mu_launch_trouble t = {.fatal = true, .exit_code = 1};

    snprintf(t.text, sizeof t.text, "did not reach its program within %llu s: is its file system there?",
             EXEC_PATIENCE / MU_SEC);
    fail(a, &t);
    launch_over(a);
    mu_attempt_deliver(a);
}

static void on_deliver(void *arg)
{
    mu_attempt_deliver(arg);
}

/* What concerns the node's ranks stands in the output of the first. */
static void tell_all(struct mu_attempt *a, const char *note)
{
    if (!note || !*note)
        return;
    mu_log(MU_LOG_INFO, "keeper", "attempt %u: %s", a->number, note);
    mu_logs_note(a->host.logs, 0, note, mu_now());
}

int mu_attempt_new(const struct mu_attempt_host *host, const struct mu_m_start *start, struct mu_attempt **out,
                   struct mu_err *err)
{
    mu_auto_free struct mu_child *kids = NULL;
    mu_auto_order struct mu_order order = {0};
    struct mu_m_spec spec = {0};
    struct mu_attempt *a = NULL;
    uint64_t born = mu_now(), limit = start->limit_ns;
    int rc = mu_msg_unpack(&start->spec, MU_MSG_spec, &spec, err);

    if (rc)
        return rc;
    rc = mu_order_check(start, &spec, err);
    if (rc)
        goto fail;
    uint32_t n = start->node_ranks.v[start->node_id];
    a = calloc(1, sizeof *a + n * sizeof a->ranks[0]);
    kids = calloc(n, sizeof *kids);
    if (!a || !kids || !(a->chunk = malloc(CHUNK)) || !(a->deliver_alarm = mu_alarm_new(host->base, on_deliver, a)) ||
        mu_msg_copy(MU_MSG_start, &a->start.start, start)) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "cannot start ranks: out of memory");
        goto fail;
    }
    a->start.type = MU_MSG_start;
    a->host = *host;
    a->spec = spec;
    memset(&spec, 0, sizeof spec);
    a->number = start->attempt;
    a->n = n;
    a->born = born;
    for (uint32_t i = 0; i < start->node_ranks.n; i++) {
        if (i == start->node_id)
            a->first = a->world;
        a->world += start->node_ranks.v[i];
    }
    for (uint32_t i = 0; i < n; i++)
        a->ranks[i] = (struct rank){.attempt = a, .index = i, .pipe = {{.fd = -1}, {.fd = -1}}};
    open_logs(a);
    tell_all(a, a->start.start.note);
    if (a->spec.input && a->first == 0)
        mu_feed_hold(host->feed);
    else
        mu_feed_detach(host->feed);
    rc = make_dirs(a, err);
    if (!rc)
        rc = mu_slots_new(n, a->number, a->world, limit ? born + limit : 0, &a->slots, err);
    if (!rc && (!(a->watch = mu_watch_new(n, a->first, mu_hang_ns(a->spec.hang_ns_plus1))) ||
                !(a->bound = mu_bound_new(&a->start.start, n))))
        rc = mu_err_set(err, MUSTER_ENOMEM, "cannot start ranks: out of memory");
    if (!rc)
        mu_slots_hang(a->slots, mu_hang_ns(a->spec.hang_ns_plus1));
    if (!rc)
        rc = open_namespace(a, err);
    mode_t mask = a->spec.umask_plus1 ? (mode_t)(a->spec.umask_plus1 - 1) & 0777 : 022;
    mu_ram_begin(host->ram, a->number, n, mask, a->spec.env);
    if (!rc)
        rc = mu_order_make(&(struct mu_order_for){.start = &a->start.start,
                                                  .spec = &a->spec,
                                                  .first = a->first,
                                                  .n = n,
                                                  .pool = host->paths->pool_hash,
                                                  .mark = mark_of(a),
                                                  .pmix = host->pmix,
                                                  .slots = mu_slots_path(a->slots),
                                                  .arena = mu_ram_path(host->ram),
                                                  .session_dir = a->session,
                                                  .shm_dir = a->shm[0] ? a->shm : NULL},
                           &order, err);
    if (!rc)
        tell_all(a, order.note);
    if (!rc)
        rc = mu_launch_start(order.ranks, n, &(struct mu_launch_shell){.umask = mask, .nofile = a->spec.nofile}, kids,
                             &a->launch, err);
    if (rc)
        goto fail;
    take_children(a, kids);
    a->launch_ev = event_new(host->base, mu_launch_fd(a->launch), EV_READ | EV_PERSIST, on_launch, a);
    a->launch_alarm = mu_alarm_new(host->base, on_launch_late, a);
    if (!a->launch_ev || !a->launch_alarm || event_add(a->launch_ev, NULL)) {
        struct mu_launch_trouble t = {.fatal = true, .exit_code = 1, .text = "cannot be watched: out of memory"};
        launch_over(a);
        fail(a, &t); /* told when they have been reaped */
    } else {
        mu_alarm_set(a->launch_alarm, born + EXEC_PATIENCE);
    }
    *out = a;
    return 0;
fail:
    mu_msg_free_body(MU_MSG_spec, &spec);
    if (a && a->start.type) {
        for (uint32_t i = 0; i < 2 * a->n; i++)
            mu_logs_end(host->logs, i / 2, i % 2 + 1);
        struct mu_err ignored;
        if (mu_attempt_clean(a, &ignored))
            mu_log(MU_LOG_WARN, "keeper", "attempt %u: %s", a->number, ignored.text);
    }
    mu_attempt_free(a);
    return rc;
}

static bool abnormal(const struct rank *r)
{
    const struct mu_slot *slot = mu_slots_get(r->attempt->slots, r->index);

    /* libmuster leaves MPI alone when a peer has failed, and says so in the slot. */
    return !r->status && r->connected && !r->finalized && atomic_load(&slot->state) < MU_RANK_FINALIZED;
}

static struct mu_flights flights(const struct mu_attempt *a)
{
    return (struct mu_flights){.slots = a->slots, .n = a->n, .first = a->first};
}

/* What the ranks were at when the attempt failed. */
static void save_flights(struct mu_attempt *a)
{
    struct mu_flights fs = flights(a);
    bool failed = false;

    for (uint32_t i = 0; i < a->n && a->slots; i++)
        failed = failed || a->ranks[i].status || abnormal(&a->ranks[i]);
    if (failed)
        mu_flights_save(&fs, a->start.start.log_dir, a->number);
}

void mu_attempt_flights(const struct mu_attempt *a, const struct mu_m_flight *ask, struct mu_link *link)
{
    struct mu_flights fs = a && a->number == ask->attempt ? flights(a) : (struct mu_flights){0};

    mu_flights_tell(&fs, ask, link);
}

void mu_attempt_free(struct mu_attempt *a)
{
    if (!a)
        return;
    save_flights(a);
    launch_over(a);
    mu_alarm_free(a->deliver_alarm);
    for (uint32_t i = 0; i < 2 * a->n; i++)
        close_pipe(&a->ranks[i / 2], (int)(i % 2));
    if (a->open)
        mu_pmix_end(a->host.pmix);
    for (uint32_t i = 0; i < a->n; i++)
        free(a->ranks[i].suspect);
    mu_slots_free(a->slots);
    mu_watch_free(a->watch);
    mu_bound_free(a->bound);
    mu_msg_free_body(MU_MSG_spec, &a->spec);
    mu_msg_free(&a->start);
    free(a->chunk);
    free(a);
}

/* --- the end of ranks -------------------------------------------------------------------------------------------- */

static void end_rank(struct rank *r, int status)
{
    struct mu_attempt *a = r->attempt;

    r->pid = 0;
    r->status = status;
    r->dead = true;
    r->order = a->reaped++;
    if (a->spec.input && a->first + r->index == 0)
        mu_feed_detach(a->host.feed);
}

bool mu_attempt_reap(struct mu_attempt *a, pid_t pid, int status)
{
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->ranks[i].pid != pid)
            continue;
        end_rank(&a->ranks[i], status);
        return true;
    }
    return false;
}

static uint32_t vain(const struct rank *r)
{
    const struct mu_slot *slot = mu_slots_get(r->attempt->slots, r->index);

    if (!WIFEXITED(r->status) || !r->status)
        return MU_VAIN_NO;
    if (atomic_load(&slot->user_error) == (uint32_t)-MUSTER_EBUSY)
        return MU_VAIN_BUSY;
    return atomic_load(&slot->state) == MU_RANK_LEFT ? MU_VAIN_ENDED : MU_VAIN_NO;
}

/* Who is to blame rather: killed, failed, failed because a peer had or did not come, well. A connection between nodes
 * that breaks kills with SIGPIPE who writes to it. */
static unsigned blame(const struct rank *r)
{
    uint32_t error = atomic_load(&mu_slots_get(r->attempt->slots, r->index)->user_error);

    if (!r->status && !abnormal(r))
        return MU_BLAME_PEER + 1;
    if (WIFSIGNALED(r->status))
        return WTERMSIG(r->status) == SIGPIPE && r->attempt->n < r->attempt->world ? MU_BLAME_PEER : MU_BLAME_SIGNAL;
    return error == (uint32_t)-MUSTER_EPEER || error == (uint32_t)-MUSTER_EABORTED ||
                   error == (uint32_t)-MUSTER_ETIMEOUT
               ? MU_BLAME_PEER
               : MU_BLAME_CODE;
}

static int by_plausibility(const void *pa, const void *pb)
{
    const struct rank *a = *(struct rank *const *)pa, *b = *(struct rank *const *)pb;
    unsigned ca = blame(a), cb = blame(b);

    return ca != cb ? (ca > cb) - (ca < cb) : (a->order > b->order) - (a->order < b->order);
}

static void tell_end(const struct rank *r, const char *tail)
{
    struct mu_attempt *a = r->attempt;

    a->host.ended(a->host.arg, &(struct mu_rank_end){.index = r->index,
                                                     .status = r->status,
                                                     .abnormal = abnormal(r),
                                                     .aborted = r->aborted,
                                                     .abort_code = r->abort_code,
                                                     .blame = blame(r),
                                                     .vain = vain(r),
                                                     .tail = tail});
}

static void look_at_all(struct mu_attempt *a, uint64_t now)
{
    for (uint32_t i = 0; i < a->n; i++)
        mu_watch_rank(a->watch, a->slots, i, a->ranks[i].pid, now);
}

/* While those that it has waited for are still to be seen. */
static void tell_late(struct mu_attempt *a)
{
    struct mu_msg m = {.type = MU_MSG_hang};
    uint64_t now = mu_now();

    look_at_all(a, now);
    mu_hang_late(mu_watch_view(a->watch, now), &m.hang);
    if (m.hang.level)
        a->host.say(a->host.arg, &m);
}

static void tell_singleton(struct mu_attempt *a, uint32_t i)
{
    struct rank *r = &a->ranks[i];

    r->warned = true;
    mu_log(MU_LOG_WARN, "keeper", "%s", r->suspect);
    mu_logs_note(a->host.logs, i, r->suspect, mu_now());
    a->host.output(a->host.arg);
}

/* What MPI says of a full /dev/shm names neither the host nor what to do about it. */
static void tell_room(struct mu_attempt *a, const struct rank *r)
{
    char text[300];
    int sig = WIFSIGNALED(r->status) ? WTERMSIG(r->status) : 0;

    if (a->room_told || (!r->status && !r->aborted) || sig == SIGKILL || sig == SIGTERM || sig == SIGINT ||
        !mu_room_short(a->host.paths->host, text, sizeof text))
        return;
    a->room_told = true;
    mu_log(MU_LOG_WARN, "keeper", "%s", text);
    mu_logs_note(a->host.logs, r->index, text, mu_now());
}

void mu_attempt_deliver(struct mu_attempt *a)
{
    mu_auto_free struct rank **v = NULL;
    mu_auto_free char *tail = NULL;
    uint32_t n = 0;

    if (a->state == FAILING) {
        if (a->reaped == a->n && !a->failure_told) {
            a->failure_told = true;
            a->host.spawned(a->host.arg, a->trouble.exit_code, a->trouble.index, a->trouble.text);
        }
        return;
    }
    if (a->state != RUNNING)
        return;
    v = calloc(a->n, sizeof *v);
    tail = malloc(MU_LOGS_TAIL + 1);
    for (uint32_t i = 0; i < a->n; i++) {
        struct rank *r = &a->ranks[i];

        if (!r->dead || r->told)
            continue;
        if (r->suspect && !r->warned && !r->connected)
            tell_singleton(a, i);
        drain(r, 0, LAST_READS);
        drain(r, 1, LAST_READS);
        r->told = true;
        if (v)
            v[n++] = r;
        else /* no memory for an order */
            tell_end(r, "");
    }
    if (n > 1)
        qsort(v, n, sizeof *v, by_plausibility);
    if (n && blame(v[0]) == MU_BLAME_PEER)
        tell_late(a);
    if (n)
        tell_room(a, v[0]);
    for (uint32_t i = 0; i < n; i++) {
        if (tail)
            mu_logs_tail(a->host.logs, v[i]->index, tail);
        tell_end(v[i], tail ? tail : "");
    }
    if (n)
        a->host.output(a->host.arg);
}

/* --- while they run ---------------------------------------------------------------------------------------------- */

static void look_where(struct rank *r, bool last)
{
    struct mu_attempt *a = r->attempt;
    char text[480], line[520];
    struct mu_msg m = {.type = MU_MSG_misbound, .misbound = {.rank = r->index, .text = line}};
    pid_t its = (pid_t)atomic_load(&mu_slots_get(a->slots, r->index)->pid);

    if (r->dead || a->state != RUNNING ||
        !mu_bound_look(a->bound, r->index, r->pid, its, mu_now() - a->born, last, text, sizeof text))
        return;
    snprintf(line, sizeof line, "rank %u %s", a->first + r->index, text);
    mu_log(MU_LOG_WARN, "keeper", "attempt %u: %s", a->number, line);
    mu_logs_note(a->host.logs, r->index, line, mu_now());
    a->host.say(a->host.arg, &m);
    a->host.output(a->host.arg);
}

void mu_attempt_pmix(struct mu_attempt *a, struct mu_pmix_event *ev)
{
    struct rank *r = ev->rank >= a->first && ev->rank - a->first < a->n ? &a->ranks[ev->rank - a->first] : NULL;

    if (ev->attempt != a->number)
        return;
    switch (ev->kind) {
    case MU_PMIX_CONNECTED:
        if (r) {
            r->connected = true;
            look_where(r, false);
        }
        return;
    case MU_PMIX_FINALIZED:
        if (r) {
            r->finalized = true;
            look_where(r, true);
        }
        return;
    case MU_PMIX_ABORTED:
        mu_log(MU_LOG_INFO, "keeper", "rank %u calls MPI_Abort with %d: %s", ev->rank, (int)ev->status,
               ev->text ? ev->text : "");
        if (r && !r->aborted) {
            r->aborted = true;
            r->abort_code = ev->status;
        }
        return;
    case MU_PMIX_FENCE:
    case MU_PMIX_MODEX: /* the core's */
        return;
    }
}

void mu_attempt_signal(struct mu_attempt *a, uint32_t index, int signo)
{
    if (a->watch && index == MU_ALL)
        mu_watch_signal(a->watch, signo, mu_now());
    for (uint32_t i = 0; i < a->n; i++) {
        struct rank *r = &a->ranks[i];

        if ((index != MU_ALL && index != i) || r->pid <= 0)
            continue;
        bool group = !kill(-r->pid, signo);
        if (group && signo != SIGKILL)
            continue;
        if (!kill(r->pid, signo) || errno != EPERM || signo != SIGKILL)
            continue;
        /* It has become another account's: as good as dead to us. Cleaning up tells of it. */
        end_rank(r, SIGKILL);
        mu_alarm_set(a->deliver_alarm, mu_now());
    }
}

void mu_attempt_abort(struct mu_attempt *a, uint32_t rank, int32_t status, const char *node)
{
    mu_slots_abort(a->slots, rank, status, node);
}

void mu_attempt_notice(struct mu_attempt *a, uint32_t bits)
{
    mu_slots_notice(a->slots, bits);
}

bool mu_attempt_progress(const struct mu_attempt *a, struct mu_m_report *r)
{
    bool news = mu_slots_figures(a->slots, a->reaped == a->n ? UINT64_MAX : mu_now(), r);

    return mu_slots_read(a->slots, r) || news;
}

void mu_attempt_inspect(struct mu_attempt *a)
{
    char text[700], line[800];

    for (uint32_t i = 0; i < a->n && a->state == RUNNING; i++) {
        struct rank *r = &a->ranks[i];

        uint64_t age = mu_now() - a->born;
        if (!r->dead && mu_bound_due(a->bound, i, age))
            look_where(r, false);
        if (r->dead || r->warned || r->connected || (r->suspect ? age < r->suspect_age + SURE : age < r->look))
            continue;
        if (r->suspect) {
            tell_singleton(a, i);
            continue;
        }
        r->look =
            age < 50 * MU_MS ? 0 : 2 * age; /* rarer and rarer: most are no MPI programs, their maps may be long */
        mu_slots_singleton(a->slots, i, a->world, r->pid, r->connected, age, &r->alone, text, sizeof text);
        if (r->alone)
            r->look = 0; /* seen once: the next look decides */
        if (!*text)
            continue;
        snprintf(line, sizeof line, "rank %u %s", a->first + i, text);
        r->suspect = strdup(line);
        r->suspect_age = age;
    }
}

bool mu_attempt_watch(struct mu_attempt *a, struct mu_m_hang *out)
{
    uint64_t now = mu_now();

    if (a->state != RUNNING || !mu_watch_due(a->watch, now))
        return false;
    look_at_all(a, now);
    return mu_watch_judge(a->watch, now, out);
}

void mu_attempt_look(struct mu_attempt *a, uint32_t rank, struct mu_m_hang *out)
{
    uint64_t now = mu_now();

    look_at_all(a, now);
    mu_hang_answer(mu_watch_view(a->watch, now), rank, out);
}

static void tell_denied(struct mu_attempt *a, const struct mu_proc_toll *t)
{
    char text[256];

    if (!t->denied || a->denial_told)
        return;
    a->denial_told = true;
    mu_keeper_denied(t, text, sizeof text);
    mu_log(MU_LOG_WARN, "keeper", "attempt %u: %s", a->number, text);
    mu_logs_note(a->host.logs, 0, text, mu_now());
    a->host.output(a->host.arg);
}

int mu_attempt_clean(struct mu_attempt *a, struct mu_err *err)
{
    struct mu_proc_sweep sweep = {
        .pool = a->host.paths->pool_hash, .job = a->start.start.job, .attempt = a->number, .below = getpid()};
    struct mu_proc_toll toll = {0};

    mu_attempt_signal(a, MU_ALL, SIGKILL);
    /* Whatever the ranks start is ours once its parent is dead (we are the reaper), so without any child nothing of
     * them can be left, and the look at every process of the host is saved: it would be most of the time between two
     * attempts.
     */
    int rc = mu_keeper_childless(mu_ram_pid(a->host.ram)) ? 0 : mu_proc_kill_tagged(&sweep, SWEEP_MS, &toll, err);
    if (toll.killed)
        mu_log(MU_LOG_INFO, "keeper", "attempt %u: killed %d processes that the ranks had left", a->number,
               toll.killed);
    if (rc)
        return rc;
    tell_denied(a, &toll);
    for (uint32_t i = 0; i < 2 * a->n; i++) {
        drain(&a->ranks[i / 2], (int)(i % 2), LAST_READS);
        close_pipe(&a->ranks[i / 2], (int)(i % 2));
    }
    if (a->open)
        mu_pmix_end(a->host.pmix);
    a->open = false;
    const char *dirs[] = {a->session, a->shm};
    for (size_t i = 0; i < MU_COUNT(dirs); i++)
        if (*dirs[i] && mu_path_remove_tree(dirs[i], err))
            mu_log(MU_LOG_WARN, "keeper", "%s", err->text);
    return 0;
}
