/* A thread that gets operations on while the program computes. Only those that go through channels: MPI may not be
 * called from here. It works under the engine's lock as every call does, and leaves failures to the next call. */
#include <sched.h>
#include <time.h>

#include "collectives/shm.h"

#define POLLS 200u /* between two breaks for others who want the lock */
#define CALM 2000u /* turns without any news before it sleeps in between */
#define NAP_NS 20000

static bool pending(const struct mu_engine *e)
{
    for (const struct muster_comm *c = e->comms; c; c = c->next)
        if (c->shm && c->shm->first && !c->dead)
            return true;
    return false;
}

static bool push_all(struct mu_engine *e)
{
    bool any = false;

    for (struct muster_comm *c = e->comms; c && !e->trouble; c = c->next)
        if (c->shm && c->shm->first)
            any |= mu_shm_push(c);
    return any;
}

static void *run(void *arg)
{
    struct mu_engine *e = arg;
    unsigned quiet = 0;

    pthread_mutex_lock(&e->lock);
    while (!e->progress.stop) {
        if (e->trouble || !pending(e)) {
            pthread_cond_wait(&e->progress.wake, &e->lock);
            quiet = 0;
            continue;
        }
        for (unsigned i = 0; i < POLLS; i++)
            if (push_all(e))
                quiet = 0;
        quiet++;
        pthread_mutex_unlock(&e->lock);
        if (quiet > CALM)
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        else
            sched_yield();
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

void mu_progress_kick(struct mu_engine *e)
{
    pthread_attr_t attr;

    if (!e->progress.wanted || e->progress.failed)
        return;
    if (!e->progress.running) {
        e->progress.stop = false;
        pthread_cond_init(&e->progress.wake, NULL);
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, (size_t)256 << 10);
        e->progress.running = pthread_create(&e->progress.thread, &attr, run, e) == 0;
        e->progress.failed = !e->progress.running;
        pthread_attr_destroy(&attr);
    }
    if (e->progress.running)
        pthread_cond_signal(&e->progress.wake);
}

void mu_progress_stop(struct mu_engine *e)
{
    if (!e->progress.running)
        return;
    e->progress.stop = true;
    pthread_cond_signal(&e->progress.wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->progress.thread, NULL);
    pthread_mutex_lock(&e->lock);
    pthread_cond_destroy(&e->progress.wake);
    e->progress.running = false;
}
