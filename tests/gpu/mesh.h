/* Ranks without MPI, for machines that have none: processes that are forked by the test, whose engines are linked by
 * sockets. mesh_run() gives each its world and hands it to fn. */
#ifndef TESTS_GPU_MESH_H
#define TESTS_GPU_MESH_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collectives/hier.h"
#include "collectives/nccl/backend.h"
#include "collectives/shm.h"
#include "runtime/base/clock.h"

#define MESH_MOST 8

static struct {
    struct mu_transport base;
    struct mu_engine engine;
    struct mu_slot slot;
    int fd[MESH_MOST];
    struct mu_frames queue[MESH_MOST];
    unsigned pending;
} mesh = {.engine.lock = PTHREAD_MUTEX_INITIALIZER};

static bool mesh_put(int peer, const struct mu_frame *f)
{
    return send(mesh.fd[peer], &f->head, sizeof f->head + f->head.bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
           errno != EAGAIN; /* who is dead takes everything */
}

static int mesh_send(struct mu_transport *t, int peer, struct mu_frame *f, struct mu_err *err)
{
    (void)t;
    (void)err;
    if (!mesh.queue[peer].first && mesh_put(peer, f))
        return MU_SEND_DONE;
    mu_frames_push(&mesh.queue[peer], f);
    mesh.pending++;
    return MU_SEND_PENDING;
}

static int mesh_poll(struct mu_transport *t, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    static int turn;

    (void)err;
    *in = NULL;
    for (int p = 0; p < t->size; p++)
        while (mesh.queue[p].first && mesh_put(p, mesh.queue[p].first)) {
            mu_frames_push(sent, mu_frames_pop(&mesh.queue[p]));
            mesh.pending--;
        }
    for (int i = 0; i < t->size && !*in; i++) {
        int p = turn++ % t->size;
        struct mu_frame *f = p == t->rank ? NULL : mu_frame_new(t->pool, MU_CHUNK);

        if (f && recv(mesh.fd[p], &f->head, sizeof f->head + MU_CHUNK, MSG_DONTWAIT) >= (ssize_t)sizeof f->head)
            *in = f;
        else if (f)
            mu_frame_free(t->pool, f);
    }
    return 0;
}

static unsigned mesh_pending(struct mu_transport *t)
{
    (void)t;
    return mesh.pending;
}

static void mesh_orphan(struct mu_transport *t, const struct muster_request *owner)
{
    for (int p = 0; p < t->size; p++)
        for (struct mu_frame *f = mesh.queue[p].first; f; f = f->next)
            if (f->owner == owner)
                f->owner = NULL;
}

static int mesh_stop(void *arg, struct mu_err *err)
{
    return mu_now() > *(uint64_t *)arg ? mu_err_set(err, MUSTER_ETIMEOUT, "the mesh did not come up") : 0;
}

static int mesh_rank(int rank, int size, double timeout, int (*fn)(struct muster_comm *))
{
    static const struct mu_transport_ops ops = {
        .name = "mesh", .send = mesh_send, .poll = mesh_poll, .pending = mesh_pending, .orphan = mesh_orphan};
    static char nodes[MESH_MOST][MU_NODE_NAME];
    struct mu_engine *e = &mesh.engine;
    int world[MESH_MOST], rc;
    uint64_t until = mu_now() + 20 * MU_SEC;
    struct mu_err err;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    mesh.base = (struct mu_transport){.ops = &ops, .pool = &e->pool, .rank = rank, .size = size};
    e->tp = &mesh.base;
    e->slot = &mesh.slot;
    e->hier = true;
    e->crowded = true;
    e->timeout = (uint64_t)(timeout * 1e9);
    e->nap_after = MU_MS;
    e->nodes = nodes;
    for (int r = 0; r < size; r++) {
        world[r] = r;
        strcpy(nodes[r], "here");
    }
    pthread_mutex_lock(&e->lock);
    rc = mu_comm_new(e, 1, rank, size, world, &e->world, &err);
    if (rc == 0)
        rc = mu_shm_connect(e, &(struct mu_shm_want){.on = true, .reads = true}, mesh_stop, &until, &err);
    if (rc < 0) {
        printf("# rank %d: %s\n", rank, err.text);
        return 1;
    }
    rc = fn(e->world);
    fflush(stdout);
    pthread_mutex_unlock(&e->lock);
    return rc;
}

/* Runs fn as ranks 0 to size - 1; timeout in seconds. Status of each as of waitpid; -1: it did not end within limit
 * seconds. */
static inline void mesh_run(int size, double timeout, double limit, int (*fn)(struct muster_comm *), int *status)
{
    int pair[MESH_MOST][MESH_MOST];
    pid_t pid[MESH_MOST];
    uint64_t until = mu_now() + (uint64_t)(limit * 1e9);
    int big = 4 << 20, left = size;

    for (int a = 0; a < size; a++)
        for (int b = 0; b < a; b++) {
            int fd[2];

            if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd))
                exit(1);
            for (int i = 0; i < 2; i++)
                setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
            pair[a][b] = fd[0];
            pair[b][a] = fd[1];
        }
    fflush(stdout);
    for (int r = 0; r < size; r++) {
        pid[r] = fork();
        if (pid[r] == 0) {
            for (int a = 0; a < size; a++)
                for (int b = 0; b < size; b++) {
                    if (a == r && b != r)
                        mesh.fd[b] = pair[a][b];
                    else if (a != b)
                        close(pair[a][b]);
                }
            _exit(mesh_rank(r, size, timeout, fn));
        }
    }
    for (int a = 0; a < size; a++)
        for (int b = 0; b < size; b++)
            if (a != b)
                close(pair[a][b]);
    for (int r = 0; r < size; r++)
        status[r] = -1;
    while (left && mu_now() < until) { /* who is dead is reaped at once, so that the others can see it */
        int st;
        pid_t got = waitpid(-1, &st, WNOHANG);

        for (int r = 0; r < size && got > 0; r++)
            if (pid[r] == got) {
                status[r] = st;
                pid[r] = 0;
                left--;
            }
        if (got <= 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (int r = 0; r < size; r++)
        if (pid[r]) {
            kill(pid[r], SIGKILL);
            waitpid(pid[r], NULL, 0);
        }
}

#endif
