#include "runtime/rank/session.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/mpi_p2p.h"
#include "collectives/nccl/backend.h"
#include "collectives/shm.h"
#include "collectives/tcp.h"
#include "collectives/ucx.h"
#include "collectives/waits.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define WORLD_CTX 1
#define AFTER_HANG 60.0 /* s: a deadline that nobody has set leaves it to the controller to say who hangs */

static struct mu_slot nobody_reads; /* ranks beat into this one that are not supervised, or not yet */

static struct {
    bool live, fork_hook;
    struct mu_rank_env env;
    struct mu_mpi_state mpi;
    struct mu_slot_head *head; /* stays mapped until the process ends */
    struct mu_slot *slot;      /* likewise; NULL: nobody supervises */
    struct mu_engine engine;   /* what MPI may still use after a failure is reached from here */
    uint64_t join_deadline;
    uint64_t last_step, steps;
} session = {.engine = {.lock = PTHREAD_MUTEX_INITIALIZER, .slot = &nobody_reads}};

static bool foreign; /* set in forked children */
static _Thread_local struct mu_err last_error;

static void forked_child(void)
{
    foreign = true;
}

const char *muster_last_error(void)
{
    return last_error.text;
}

const char *muster_version(void)
{
    return MUSTER_VERSION;
}

void mu_rank_forget(void)
{
    last_error.text[0] = 0;
}

int mu_rank_fail_err(const struct mu_err *err)
{
    if (&last_error != err)
        last_error = *err;
    if (!foreign && session.slot) {
        atomic_store_explicit(&session.slot->error_seq, (uint32_t)session.engine.entered, memory_order_relaxed);
        atomic_store_explicit(&session.slot->user_error, (uint32_t)-err->code, memory_order_relaxed);
    }
    return err->code;
}

int mu_rank_fail(int code, const char *fmt, ...)
{
    struct mu_err err = {.code = code};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err.text, sizeof err.text, fmt, ap);
    va_end(ap);
    return mu_rank_fail_err(&err);
}

const struct mu_slot_head *mu_rank_slots(void)
{
    return foreign ? NULL : session.head;
}

struct mu_slot *mu_rank_slot(void)
{
    return foreign ? NULL : session.slot;
}

static int in_session(const char *function)
{
    if (foreign)
        return mu_rank_fail(MUSTER_EJOB, "muster_%s: this process was forked by a rank and is none itself", function);
    if (!session.live)
        return mu_rank_fail(MUSTER_EJOB, "muster_%s: muster_init has not been called", function);
    return 0;
}

int mu_rank_enter(const muster_comm *comm, bool any, const char *function)
{
    struct mu_engine *e = &session.engine;
    const struct muster_comm *c;
    int rc = in_session(function);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&e->lock);
    if (any)
        return 0;
    for (c = e->comms; c && c != comm;)
        c = c->next;
    if (c)
        return 0;
    pthread_mutex_unlock(&e->lock);
    return mu_rank_fail(MUSTER_EARG, "muster_%s: %s", function,
                        comm ? "not a communicator, or one that was freed" : "the communicator is NULL");
}

int mu_rank_leave(int rc, const struct mu_err *err)
{
    mu_coll_beat(&session.engine);
    pthread_mutex_unlock(&session.engine.lock);
    return rc < 0 ? mu_rank_fail_err(err) : rc;
}

void mu_rank_files(bool on)
{
    struct mu_engine *e = &session.engine;

    if (foreign || !session.live)
        return;
    pthread_mutex_lock(&e->lock);
    if (on)
        mu_slot_wait(e->slot,
                     &(struct mu_slot_op){.kind = MU_OP_KIND_CKPT, .peer = MU_OP_PEER_NONE, .since = mu_now()});
    else
        mu_slot_go(e->slot);
    pthread_mutex_unlock(&e->lock);
}

uint64_t mu_rank_timeout(void)
{
    return session.engine.timeout;
}

/* --- init --- */

static int joining_stops(void *arg, struct mu_err *err)
{
    struct mu_engine *e = arg;

    atomic_fetch_add_explicit(&e->slot->beat, 1, memory_order_relaxed);
    mu_coll_watch(e);
    if (e->broken.code) {
        *err = e->broken;
        return err->code;
    }
    if (mu_now() <= session.join_deadline)
        return 0;
    atomic_store_explicit(&e->slot->late_seq, (uint32_t)e->entered, memory_order_relaxed);
    atomic_store_explicit(&e->slot->late_peer, MU_OP_PEER_NONE, memory_order_relaxed);
    atomic_store_explicit(&e->slot->late_ns, e->timeout, memory_order_relaxed);
    atomic_store_explicit(&e->slot->late_kind, MU_OP_KIND_INIT, memory_order_release);
    return mu_err_set(err, MUSTER_ETIMEOUT, "not all %d ranks called muster_init within %.3g s", session.mpi.size,
                      session.env.timeout);
}

/* Ranks that MPI did not bring together would each train alone: say so, and why. */
static int check_world(const struct mu_rank_env *env, const struct mu_mpi_state *mpi, struct mu_err *err)
{
    if (env->world_size >= 0 && mpi->size != env->world_size && mpi->size == 1)
        return mu_err_set(err, MUSTER_EJOB,
                          env->pmix ? "rank %ld came up alone although the job has %ld ranks: its MPI (%s) did not use "
                                      "the PMIx server of muster; build and run the program with Open MPI 4.1 or 5"
                                    : "rank %ld came up alone although the job has %ld ranks: the PMIX_ variables of "
                                      "muster are missing in its environment (MPI is %s); start it without anything "
                                      "that clears the environment",
                          env->rank, env->world_size, mpi->library);
    if (env->world_size >= 0 && mpi->size != env->world_size)
        return mu_err_set(err, MUSTER_EJOB,
                          "MPI (%s) has %d ranks, the job %ld: was the program started by another "
                          "launcher inside the job?",
                          mpi->library, mpi->size, env->world_size);
    if (env->rank >= 0 && mpi->rank != env->rank)
        return mu_err_set(err, MUSTER_EJOB, "MPI (%s) says that this is rank %d, the job says %ld", mpi->library,
                          mpi->rank, env->rank);
    return 0;
}

static int own_cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Waiting ranks that share cores with working ones should sleep early. */
static void set_patience(struct mu_engine *e)
{
    long here = 0, cpus = sysconf(_SC_NPROCESSORS_ONLN);

    for (int i = 0; i < e->tp->size; i++)
        here += !strcmp(e->nodes[i], e->nodes[e->tp->rank]);
    e->crowded = session.env.yield < 0 ? here > cpus : session.env.yield;
    e->progress.wanted = session.env.progress == 1 || (session.env.progress < 0 && cpus >= 2 * here && own_cpus() > 1);
    e->nap_after = e->crowded ? MU_MS : 50 * MU_MS;
}

struct meeting { /* what a rank says first */
    char node[MU_NODE_NAME];
    struct mu_tcp_card tcp;
};

static int who_cannot(const struct mu_engine *e, const char *transport, int rank, const char *why, size_t most,
                      struct mu_err *err)
{
    char who[100];

    return mu_err_set(err, MUSTER_ENOSYS, "MUSTER_TRANSPORT=%s, but %s cannot: %.*s", transport,
                      mu_comm_who(e->world, rank, who, sizeof who), (int)strnlen(why, most), why);
}

/* Frames go over UCX from now on, if all ranks can: else all say who cannot, and why. */
static int use_ucx(struct mu_engine *e, struct mu_err *err)
{
    mu_auto_free struct mu_ucx_card *cards = calloc((size_t)e->tp->size, sizeof *cards);
    struct mu_ucx_card mine;
    struct mu_transport *ucx = NULL;
    struct mu_err why;
    int rc;

    if (!cards)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the addresses of ranks");
    mu_ucx_open(e->tp, &mine, &ucx, &why); /* why is in the card */
    rc = mu_coll_tell(e, &mine, sizeof mine, cards, err);
    for (int r = 0; r < e->tp->size && rc == 0; r++)
        if (!cards[r].length)
            rc = who_cannot(e, "ucx", r, cards[r].data, 300, err);
    if (rc < 0) {
        if (ucx)
            mu_ucx_drop(ucx);
        return rc;
    }
    mu_ucx_join(ucx, MU_STEAL(cards, NULL));
    e->tp = ucx;
    return 0;
}

/* Over TCP from now on: where it was asked for; else where MPI would most likely use it, and all ranks can. */
static int use_tcp(struct mu_engine *e, struct mu_transport *tcp, const struct meeting *all, bool asked,
                   struct mu_err *err)
{
    mu_auto_free struct mu_tcp_card *cards = calloc((size_t)e->tp->size, sizeof *cards);
    int rc = cards ? 0 : mu_err_set(err, MUSTER_ENOMEM, "no memory for the addresses of ranks");

    for (int r = 0; r < e->tp->size && rc == 0; r++) {
        cards[r] = all[r].tcp;
        if (asked && !cards[r].ready)
            rc = who_cannot(e, "tcp", r, cards[r].why, sizeof cards[r].why, err);
    }
    if (rc == 0 && (asked || mu_tcp_is_worth_it(cards, e->tp->size))) {
        mu_tcp_join(tcp, MU_STEAL(cards, NULL), asked);
        e->tp = tcp;
    } else if (tcp) {
        mu_tcp_drop(tcp);
    }
    return rc;
}

/* Who is where, and what goes between them. */
static int meet(struct mu_engine *e, const char node[MU_NODE_NAME], char transport, struct mu_err *err)
{
    int size = e->tp->size;
    mu_auto_free struct meeting *all = calloc((size_t)size, sizeof *all);
    struct meeting mine = {0};
    struct mu_transport *tcp = NULL;
    struct mu_err why; /* is in the card */
    char(*nodes)[MU_NODE_NAME];
    int rc;

    nodes = calloc((size_t)size, sizeof *nodes);
    if (!all || !nodes) {
        free(nodes);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the names of the nodes");
    }
    memcpy(mine.node, node, sizeof mine.node);
    if (size > 1 && (transport == 't' || !transport))
        mu_tcp_open(e->tp, &mine.tcp, &tcp, &why);
    else
        snprintf(mine.tcp.why, sizeof mine.tcp.why, "its MUSTER_TRANSPORT is another one");
    rc = mu_coll_run(
        e->world,
        &(struct mu_call){
            .kind = MU_OP_KIND_INIT, .dtype = MUSTER_UINT8, .count = sizeof mine, .send = &mine, .recv = all},
        err);
    if (rc < 0) {
        if (tcp)
            mu_tcp_drop(tcp);
        free(nodes);
        return rc;
    }
    for (int i = 0; i < size; i++)
        snprintf(nodes[i], MU_NODE_NAME, "%.*s", MU_NODE_NAME - 1, all[i].node);
    e->nodes = nodes;
    set_patience(e);
    if (size > 1 && transport == 'u')
        return use_ucx(e, err);
    return size > 1 && transport != 'm' ? use_tcp(e, tcp, all, transport == 't', err) : 0;
}

static int make_world(struct mu_engine *e, struct mu_err *err)
{
    mu_auto_free int *all = calloc((size_t)e->tp->size, sizeof *all);

    if (!all)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %d ranks", e->tp->size);
    for (int i = 0; i < e->tp->size; i++)
        all[i] = i;
    return mu_comm_new(e, WORLD_CTX, e->tp->rank, e->tp->size, all, &e->world, err);
}

static void ignore(int sig)
{
    (void)sig;
}

/* MPI's connections to other nodes break when a rank there dies, and writing to one must not kill those who are to live
 * on. A handler and not SIG_IGN: the programs that ranks start do not inherit it. What the program has set stays. */
static void survive_pipes(void)
{
    struct sigaction is, to = {.sa_handler = ignore, .sa_flags = SA_RESTART};

    if (!sigaction(SIGPIPE, NULL, &is) && !(is.sa_flags & SA_SIGINFO) && is.sa_handler == SIG_DFL)
        sigaction(SIGPIPE, &to, NULL);
}

static int start(int *argc, char ***argv, struct mu_err *err)
{
    struct mu_engine *e = &session.engine;
    struct mu_domain domain;
    int rc = mu_rank_env_read(&session.env, err);

    if (rc < 0)
        return rc;
    if (!session.slot) {
        rc = mu_rank_slot_join(&session.env, &session.head, &session.slot, err);
        if (rc < 0)
            return rc;
    }
    if (!session.fork_hook && pthread_atfork(NULL, NULL, forked_child) == 0)
        session.fork_hook = true;
    if (session.head && session.head->nslots < session.head->world_size)
        survive_pipes();
    e->head = session.head;
    if (session.slot)
        e->slot = session.slot;
    e->flight = session.head ? mu_slot_flight(session.head, (unsigned)session.env.slot_index) : NULL;
    if (e->flight && !atomic_load(&e->flight->tick))
        mu_flight_begin(e->flight);
    if (session.head && session.head->hang_ns && !session.env.timeout_said &&
        session.env.timeout < (double)session.head->hang_ns / (double)MU_SEC + AFTER_HANG)
        session.env.timeout = (double)session.head->hang_ns / (double)MU_SEC + AFTER_HANG;
    e->timeout = (uint64_t)(session.env.timeout * (double)MU_SEC);
    e->nap_after = 50 * MU_MS;
    e->flat_max = session.env.flat_max;
    e->hier = session.env.hier;
    session.join_deadline = mu_now() + e->timeout;
    mu_slot_wait(e->slot, &(struct mu_slot_op){.kind = MU_OP_KIND_INIT, .peer = MU_OP_PEER_NONE, .since = mu_now()});

    rc = mu_mpi_start(argc, argv, &session.mpi, err);
    if (rc < 0)
        return rc;
    atomic_store(&e->slot->mpi_rank, (uint32_t)session.mpi.rank);
    atomic_store(&e->slot->mpi_size, (uint32_t)session.mpi.size);
    mu_domain_here(&domain, session.env.domain);
    rc = check_world(&session.env, &session.mpi, err);
    if (rc < 0) {
        if (session.mpi.size == 1) /* nobody else takes part in its end */
            mu_mpi_stop(&session.mpi, NULL);
        return rc;
    }
    rc = mu_mpi_transport(&e->pool, joining_stops, e, &e->tp, err);
    if (rc == 0)
        rc = make_world(e, err);
    if (rc == 0)
        rc = meet(e, session.env.node, session.env.transport, err);
    if (rc == 0)
        rc = mu_shm_connect(e,
                            &(struct mu_shm_want){.on = session.env.shm,
                                                  .reads = session.env.shm_reads,
                                                  .name = session.env.shm_host,
                                                  .tune = session.env.tune,
                                                  .everybody = session.env.tune_everybody,
                                                  .read = session.env.tune_read,
                                                  .chain = session.env.tune_chain,
                                                  .domain = domain},
                            joining_stops, e, err);
    if (rc < 0)
        return rc;
    session.live = true;
    atomic_store_explicit(&e->slot->state, MU_RANK_READY, memory_order_release);
    return 0;
}

int muster_init(int *argc, char ***argv)
{
    struct mu_err err;
    int rc;

    if (foreign)
        return mu_rank_fail(MUSTER_EJOB, "muster_init: this process was forked by a rank and cannot join the job");
    if (session.live)
        return mu_rank_fail(MUSTER_EARG, "muster_init was called before");
    if (session.engine.tp)
        return mu_rank_fail(MUSTER_EJOB, "muster_init: an earlier session of this process ended in a failure");
    pthread_mutex_lock(&session.engine.lock);
    rc = mu_gpu_environment(&err);
    if (rc == 0)
        rc = start(argc, argv, &err);
    mu_slot_go(session.engine.slot);
    if (rc < 0)
        mu_err_prefix(&err, "muster_init");
    return mu_rank_leave(rc, &err);
}

/* --- finalize --- */

static unsigned unreleased(const struct mu_engine *e)
{
    unsigned n = 0;

    for (const struct muster_comm *c = e->comms; c; c = c->next)
        n += c->requests;
    return n;
}

/* After all ranks have come this far nobody is waited for any more. Fails when one is dead or does not come; then MPI
 * is left as it is, because MPI_Finalize would wait for that rank. */
static int part(struct mu_engine *e, struct mu_err *err)
{
    int rc = mu_coll_run(e->world, &(struct mu_call){.kind = MU_OP_KIND_FINALIZE}, err);

    if (rc == 0 && e->world->shm) { /* once more, so that what was sent has arrived, too */
        mu_shm_detach(e->world);
        rc = mu_coll_run(e->world, &(struct mu_call){.kind = MU_OP_KIND_FINALIZE}, err);
    }
    if (rc == 0)
        rc = e->tp->ops->close(e->tp, mu_now() + e->timeout, err);
    if (rc == 0)
        e->tp = NULL;
    return rc;
}

static void forget(struct mu_engine *e)
{
    while (e->comms)
        mu_comm_delete(e->comms->whole ? e->comms->whole : e->comms);
    mu_shm_disconnect(e);
    mu_waits_free(e);
    mu_frames_clear(&e->stray, &e->pool);
    mu_pool_clear(&e->pool);
    free(e->nodes);
    free(e->place);
    free(e->machine);
    free(e->retired);
    e->world = NULL;
    e->nodes = NULL;
    e->place = e->machine = NULL;
    e->retired = NULL;
    e->nretired = 0;
}

int muster_finalize(void)
{
    struct mu_engine *e = &session.engine;
    struct mu_err err;
    int rc = mu_rank_enter(NULL, true, "finalize");

    if (rc < 0)
        return rc;
    if (unreleased(e)) {
        mu_err_set(&err, MUSTER_EARG, "muster_finalize: muster_wait is still to be called for %u requests",
                   unreleased(e));
        return mu_rank_leave(err.code, &err);
    }
    if (mu_mpi_running()) {
        rc = part(e, &err);
    } else {
        rc = mu_err_set(&err, MUSTER_EARG, "MPI was finalised before muster_finalize");
    }
    session.live = false;
    mu_progress_stop(e);
    forget(e);
    if (rc == 0)
        rc = mu_mpi_stop(&session.mpi, &err);
    else
        mu_err_prefix(&err, "muster_finalize leaves MPI as it is");
    session.steps = 0;
    atomic_store_explicit(&e->slot->state, rc ? MU_RANK_FINALIZED : MU_RANK_LEFT, memory_order_release);
    return mu_rank_leave(rc, &err);
}

/* --- small things --- */

muster_comm *muster_world(void)
{
    return session.live && !foreign ? session.engine.world : NULL;
}

int muster_rank(const muster_comm *comm)
{
    return comm ? comm->rank : mu_rank_fail(MUSTER_EARG, "muster_rank: the communicator is NULL");
}

int muster_size(const muster_comm *comm)
{
    return comm ? comm->size : mu_rank_fail(MUSTER_EARG, "muster_size: the communicator is NULL");
}

int muster_step(uint64_t step)
{
    struct mu_slot *s;
    uint64_t now;

    if (foreign || !session.live)
        return in_session("step");
    if (session.steps && step <= session.last_step)
        return mu_rank_fail(MUSTER_EARG, "muster_step: step %llu after step %llu: steps must grow",
                            (unsigned long long)step, (unsigned long long)session.last_step);
    s = session.engine.slot;
    now = mu_wall();
    if (!session.steps)
        atomic_store_explicit(&s->first_step_wall, now, memory_order_relaxed);
    atomic_store_explicit(&s->step_wall, now, memory_order_relaxed);
    atomic_store_explicit(&s->step, step, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->beat, 1, memory_order_relaxed);
    session.last_step = step;
    atomic_store_explicit(&s->steps, ++session.steps, memory_order_release);
    return 0;
}
