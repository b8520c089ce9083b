/* Waiting: polling at first, then leaving the core to others, with an eye on the abort word and the deadline. */
#include <sched.h>
#include <time.h>

#include "collectives/hier.h"
#include "collectives/waits.h"
#include "runtime/base/clock.h"

#define BARE_POLLS 50u
#define NEAR_POLLS 1000u
#define NEAR_CROWDED 4u
#define GLANCES 16u /* at what is waited for, between two looks at all */
#define POLLS_A_LOOK 64u
#define YIELDS_A_LOOK 8u /* others may take a time slice each time */
#define LOCK_FREE 8u     /* other threads get it in a yield of ours, not in one inside MPI */
#define NAP_NS 20000

static void leave(struct mu_engine *e)
{
    mu_slot_go(e->slot);
    mu_waits_end(e);
}

static void publish(const struct muster_request *req, bool polled)
{
    const struct muster_comm *comm = req->comm;
    int peer = mu_coll_missing(req);

    mu_waits_show(comm->engine, peer);
    mu_slot_wait(comm->engine->slot, &(struct mu_slot_op){.kind = req->call.kind,
                                                          .peer = peer < 0 ? MU_OP_PEER_NONE : (uint32_t)peer,
                                                          .polled = polled,
                                                          .since = req->moved_at,
                                                          .ctx = comm->ctx,
                                                          .number = req->seq + 1});
}

/* Time that the program spends elsewhere, or for which its process is stopped, is not time without an answer. */
static void be_fair(struct muster_request *req, uint64_t now)
{
    uint64_t away = now - req->looked_at, most = req->comm->engine->timeout / 4;

    if (most > MU_SEC)
        most = MU_SEC;
    if (!req->looked_at)
        req->moved_at = now;
    else if (away > most)
        req->moved_at += away - most;
    req->looked_at = now;
}

/* Returns how long nothing has moved, in ns. */
static uint64_t look(struct muster_request *req, bool polled)
{
    struct mu_engine *e = req->comm->engine;
    uint64_t now = mu_now(), idle;

    mu_coll_beat(e);
    if (MU_CHECKS)
        be_fair(req, now);
    if (req->moved) {
        req->moved = false;
        req->moved_at = now;
        req->probed = req->rounds = 0;
    }
    idle = now - req->moved_at;
    if (!MU_CHECKS)
        return idle;
    publish(req, polled);
    mu_coll_watch(e);
    if (req->comm->shm)
        mu_shm_look(req->comm, idle);
    if (req->comm->hier)
        mu_hier_look(req, idle);
    mu_coll_patience(req, idle);
    mu_coll_settle(e);
    return idle;
}

bool mu_coll_test(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;

    if (req->status != MU_PENDING)
        return true;
    mu_coll_progress(e);
    if (req->status == MU_PENDING)
        look(req, true);
    if (req->status != MU_PENDING)
        leave(e);
    return req->status != MU_PENDING;
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void glance(const struct mu_shm_op *op)
{
    for (unsigned i = 0; i < GLANCES && op->watched; i++)
        if (atomic_load_explicit(op->watched, memory_order_acquire) != op->seen)
            return;
}

/* The other ranks of the node are most often there at once, so that nothing else is looked at for a while. True: it has
 * ended. */
static bool wait_near(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;
    unsigned most = e->crowded ? NEAR_CROWDED : NEAR_POLLS;

    for (unsigned quiet = 0; quiet < most && !e->trouble; quiet++) {
        if (mu_shm_push(req->comm))
            quiet = 0;
        if (req->status != MU_PENDING)
            return true;
        if (quiet > BARE_POLLS)
            pause_cpu();
        else if (!e->crowded)
            glance(&req->comm->shm->first->shm);
    }
    return false;
}

/* Then MPI is asked less often. */
static bool is_near(const struct muster_request *req)
{
    return req->shm.algo || (req->hier && mu_hier_is_near(req->comm));
}

static bool push_near(struct muster_request *req)
{
    return req->shm.algo ? mu_shm_push(req->comm) : mu_coll_progress_near(req->comm->engine);
}

void mu_coll_wait(struct muster_request *req)
{
    struct mu_engine *e = req->comm->engine;
    uint64_t idle = 0;
    unsigned polls = 0, quiet = 0;

    if (req->status != MU_PENDING)
        return;
    if (req->shm.algo && wait_near(req)) {
        mu_coll_beat(e);
        return;
    }
    req->moved_at = req->looked_at = mu_now();
    if (MU_CHECKS)
        publish(req, false);
    while (req->status == MU_PENDING) {
        bool nap = idle > e->nap_after, near = polls % 8 && is_near(req);

        if (near ? push_near(req) : mu_coll_progress(e)) {
            quiet = 0;
            idle = 0;
        }
        if (++polls % (quiet > BARE_POLLS ? YIELDS_A_LOOK : POLLS_A_LOOK) == 0 || nap || mu_coll_is_told(e))
            idle = look(req, false);
        if (req->status != MU_PENDING || (++quiet <= BARE_POLLS && !e->crowded))
            continue;
        pthread_mutex_unlock(&e->lock);
        if (nap)
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        else if (near || !e->tp->yields || polls % LOCK_FREE == 0)
            sched_yield();
        pthread_mutex_lock(&e->lock);
        mu_coll_beat(e);
    }
    leave(e);
    mu_coll_beat(e);
    /* Give the news of a failure a chance to leave, even if the program ends now. */
    for (unsigned i = 0; req->status < 0 && !e->dead && !req->comm->shm && e->tp->ops->pending(e->tp) && i < 1000; i++)
        mu_coll_progress(e);
}
