/* Ranks that are threads of one process: what all of them are told when one dies, gives up, is late or makes another
 * call. */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/unit/engine_threads.h"

static _Thread_local unsigned yields; /* after a death was told */

/* The library's own calls come here, too. */
int sched_yield(void)
{
    yields += atomic_load_explicit(&w.head.abort, memory_order_acquire) != 0;
    return (int)syscall(SYS_sched_yield);
}

static _Thread_local bool refused; /* to read other processes */
static pid_t gone;                 /* of a process that has ended, and whose parent knows it */

ssize_t process_vm_readv(pid_t pid, const struct iovec *to, unsigned long nto, const struct iovec *from,
                         unsigned long nfrom, unsigned long flags)
{
    if (!refused)
        return syscall(SYS_process_vm_readv, pid, to, nto, from, nfrom, flags);
    errno = EPERM;
    return -1;
}

static void fail(struct rank *r, uint64_t calls)
{
    struct mu_call c = {.kind = MU_OP_KIND_ALLREDUCE, .dtype = MUSTER_INT32, .op = MUSTER_SUM, .recv = r->recv[0]};

    for (uint64_t i = 0; i < calls && r->code == 0; i++) {
        c.count = 1 + mix(w.seed + i) % 40000;
        c.send = r->send[mix(w.seed + i) >> 60 & 1];
        r->code = call(r, r->e.world, c);
    }
}

static void play_another(struct rank *r)
{
    fail(r, 5);
    if (r->tp.rank == w.absent)
        r->code = call(r, r->e.world,
                       (struct mu_call){.kind = MU_OP_KIND_ALLGATHER,
                                        .dtype = MUSTER_INT32,
                                        .count = 10,
                                        .send = r->send[0],
                                        .recv = r->recv[0]});
    fail(r, 3);
    r->bad += r->code != MUSTER_EMISMATCH || !strstr(r->err.text, "rank 1 calls muster_allgather(count 10, int32)") ||
              !strstr(r->err.text, "calls muster_allreduce(");
}

/* In an operation in which nobody looks at what rank 1 has posted; they see it in the next one. */
static void play_unheard(struct rank *r)
{
    int32_t x = 1, y = 0;
    struct mu_call c = {.dtype = MUSTER_INT32, .count = 1, .send = &x, .recv = &y};

    for (int i = 0; i < 3 && r->code == 0; i++) {
        c.kind = i == 1 && r->tp.rank == 1 ? MU_OP_KIND_REDUCE : MU_OP_KIND_BROADCAST;
        r->code = call(r, r->e.world, c);
    }
    c.kind = MU_OP_KIND_ALLREDUCE;
    if (r->code == 0)
        r->code = call(r, r->e.world, c);
    r->bad += r->code != MUSTER_EMISMATCH || !strstr(r->err.text, "rank 1 calls muster_reduce(") ||
              !strstr(r->err.text, "calls muster_broadcast(");
}

static void play_late(struct rank *r)
{
    fail(r, 5);
    if (r->tp.rank == w.absent)
        return;
    fail(r, 3);
    r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 1");
}

/* No keeper says so. */
static void play_gone(struct rank *r)
{
    fail(r, 5);
    if (r->tp.rank == w.absent)
        return;
    pthread_mutex_lock(&r->e.lock);
    r->e.head = NULL;
    r->e.shm->peers[w.absent].pid = gone;
    pthread_mutex_unlock(&r->e.lock);
    fail(r, 3);
    r->bad += r->code != MUSTER_EPEER || !strstr(r->err.text, "rank 1 is dead");
}

/* Rank 0 could read others' memory, and now may not. */
static void play_refused(struct rank *r)
{
    char *to = malloc((size_t)w.n * 40000);

    fail(r, 5);
    refused = r->tp.rank == 0;
    if (r->code == 0 && to)
        r->code = call(
            r, r->e.world,
            (struct mu_call){
                .kind = MU_OP_KIND_ALLGATHER, .dtype = MUSTER_INT8, .count = 40000, .send = r->send[0], .recv = to});
    r->bad += refused && (r->code != MUSTER_EIO || !strstr(r->err.text, "cannot be read: Operation not permitted"));
    fail(r, 3);
    r->bad += r->code == 0;
    free(to);
}

/* Rank 0 gets one operation ahead of rank 1, which waits for rank 2 on the other node. */
static void play_behind(struct rank *r)
{
    struct mu_call c = {
        .kind = MU_OP_KIND_ALLTOALL, .dtype = MUSTER_INT32, .count = 10, .send = r->send[0], .recv = r->recv[0]};

    fail(r, 5);
    if (r->code == 0)
        r->code = call(r, r->e.world, c);
    fail(r, 1);
    w.told++;
    r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 2");
}

static void wait_for_others(void)
{
    w.told++;
    while (w.told < w.n)
        usleep(1000);
}

/* The communicators of ranks 0 and 1, 1 and 2, 2 and 3: each rank waits in its own for the next one, and begins later
 * than the one before it. */
static void play_chain(struct rank *r)
{
    muster_comm *own = NULL, *other = NULL;
    int me = r->tp.rank, rc;
    uint64_t began;

    pthread_mutex_lock(&r->e.lock);
    rc = mu_comm_split(r->e.world, me / 2, 0, me % 2 ? &other : &own, &r->err);
    if (rc == 0)
        rc = mu_comm_split(r->e.world, me % 3 == 0, 0, me % 2 ? &own : &other, &r->err);
    pthread_mutex_unlock(&r->e.lock);
    r->code = rc;
    if (me < 3) {
        usleep((unsigned)me * (unsigned)(w.timeout / 4000));
        began = mu_now();
        if (rc == 0)
            r->code = call(r, own, (struct mu_call){.kind = MU_OP_KIND_BARRIER});
        r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 3") ||
                  mu_now() - began < w.timeout || mu_now() - began > w.timeout * 4;
    }
    wait_for_others();
}

static struct mu_call receive(struct rank *r, int from)
{
    return (struct mu_call){
        .kind = MU_OP_KIND_RECV, .dtype = MUSTER_INT32, .count = 1, .root = from, .recv = r->recv[0]};
}

/* Likewise, with receives. */
static void play_receives(struct rank *r)
{
    int me = r->tp.rank;

    usleep((unsigned)me * (unsigned)(w.timeout / 4000));
    if (me < 3) {
        r->code = call(r, r->e.world, receive(r, me + 1));
        r->bad += r->code != MUSTER_ETIMEOUT || !strstr(r->err.text, "without hearing from rank 3");
    }
    wait_for_others();
}

static void play_circle(struct rank *r)
{
    uint64_t began = mu_now();

    r->code = call(r, r->e.world, receive(r, !r->tp.rank));
    r->bad += r->code != MUSTER_ETIMEOUT || mu_now() - began > w.timeout * 4 ||
              !strstr(r->err.text, r->tp.rank ? "without hearing from rank 0" : "without hearing from rank 1");
    wait_for_others();
}

static void begin(struct rank *r, const struct mu_call *c, struct muster_request **req)
{
    pthread_mutex_lock(&r->e.lock);
    r->code = mu_coll_start(r->e.world, c, req, &r->err);
    pthread_mutex_unlock(&r->e.lock);
}

static void go_on(struct rank *r, struct muster_request *req)
{
    pthread_mutex_lock(&r->e.lock);
    mu_coll_test(req);
    pthread_mutex_unlock(&r->e.lock);
}

static void end(struct rank *r, struct muster_request *req)
{
    pthread_mutex_lock(&r->e.lock);
    mu_coll_wait(req);
    r->code = mu_coll_release(req, &r->err);
    pthread_mutex_unlock(&r->e.lock);
}

/* Rank 2 does its part, then gives up and has other things in its memory; ranks 0 and 1 have begun and look at it only
 * then. */
static void play_gives_up(struct rank *r)
{
    size_t bytes = w.lanes ? MOST : (size_t)10 << 20; /* several steps */
    char *send = mu_seg_alloc(bytes), *recv = mu_seg_alloc(bytes);
    struct mu_call c = {.kind = MU_OP_KIND_ALLREDUCE,
                        .dtype = MUSTER_INT32,
                        .op = MUSTER_SUM,
                        .count = bytes / sizeof(int32_t),
                        .send = send,
                        .recv = recv};
    struct muster_request *req = NULL;
    int me = r->tp.rank;
    struct mu_err why;

    if (!send || !recv)
        exit(99);
    for (int turn = 0; turn < 4; turn++) {
        if (turn % 2 == me / 2 && turn < 2)
            begin(r, &c, &req);
        for (int i = 0; turn % 2 == me / 2 && r->code == 0 && i < (turn == 3 ? 3 : 1); i++)
            go_on(r, req);
        pthread_barrier_wait(&w.all);
    }
    if (me == 2) {
        mu_err_set(&why, MUSTER_ETIMEOUT, "enough");
        pthread_mutex_lock(&r->e.lock);
        mu_coll_break_comm(r->e.world, &why);
        pthread_mutex_unlock(&r->e.lock);
        end(r, req);
        memset(send, 0x5a, bytes);
        memset(recv, 0x5a, bytes);
    }
    pthread_barrier_wait(&w.all);
    if (me != 2)
        end(r, req);
    r->bad += r->code >= 0;
    pthread_barrier_wait(&w.all);
    mu_seg_free(send);
    mu_seg_free(recv);
}

static void play_dead(struct rank *r)
{
    if (r->tp.rank != w.absent) {
        yields = 0;
        fail(r, 1000000);
        r->bad += r->code != MUSTER_EPEER || !strstr(r->err.text, "rank 1 on here was killed by signal 9");
        if (yields > 1) {
            printf("# rank %d left its CPU to others %u times before it saw what it was told\n", r->tp.rank, yields);
            r->bad++;
        }
        return;
    }
    fail(r, 20 + w.seed % 50);
    w.head.abort_rank = (uint32_t)w.absent;
    w.head.abort_status = 9;
    strcpy(w.head.abort_node, "here");
    atomic_store_explicit(&w.head.abort, 1, memory_order_release);
}

static void gives_up(const char *nodes)
{
    bool progress = w.progress;

    w.progress = false;
    for (int k = 0; k < 2; k++, w.lanes = 2 - w.lanes)
        all_do(nodes, play_gives_up, "what one who gave up may have changed is nobody's result%s",
               w.lanes ? ", in domains" : "");
    w.progress = progress;
}

/* Operation 1 is looked at when its peer has heard of operation 2 already, and given up because of the first. */
static void looks_back(void)
{
    struct mu_channel *ch[] = {calloc(1, sizeof *ch[0]), calloc(1, sizeof *ch[1])};
    uint64_t seen[2] = {0};
    struct mu_shm_comm sc = {.p = 2, .ch = ch, .seen = seen};

    if (!ch[0] || !ch[1])
        exit(99);
    ch[0]->post[1].word = ch[1]->post[1].word = (uint64_t)1 << 32 | 7;
    TAP_OK(mu_shm_agreed(&sc, 2, 1), "two that have called the same agree");
    ch[1]->post[1].word = (uint64_t)1 << 32 | 8;
    TAP_OK(!mu_shm_agreed(&sc, 2, 1), "not when they have called something else");
    ch[1]->post[1].word = MU_POST_POISON;
    TAP_OK(!mu_shm_agreed(&sc, 2, 1), "nor is that known when one has given up since then");
    free(ch[0]);
    free(ch[1]);
}

static void test(const char *nodes, bool first)
{
    if (nodes[0] == nodes[1] && nodes[0] == nodes[w.n - 1]) {
        all_do(nodes, play_unheard, "another call that nobody has looked at names who made it");
        all_do(nodes, play_gone, "who is dead and was waited for is known without a keeper");
        all_do(nodes, play_refused, "memory that may not be read any more is said");
    }
    if (first)
        gives_up(nodes);
    all_do(nodes, play_another, "another call names who made it");
    all_do(nodes, play_dead, "a death is told to all, who see it before they leave their CPU to others again");
    w.head = (struct mu_slot_head){0};
    w.timeout = 400 * MU_MS;
    all_do(nodes, play_late, "who is late is named");
    w.absent = 2;
    w.timeout = MU_SEC;
    if (!strcmp(nodes, "aabb")) {
        w.halts = true;
        all_do(nodes, play_behind, "one that waits in the operation before is not who is late");
        w.halts = false;
        all_do(nodes, play_receives, "waits in receives are followed to their end");
    }
    if (w.n == 2)
        all_do(nodes, play_circle, "two that wait for one another give up");
    if (w.n == 4)
        all_do(nodes, play_chain, "the waits are followed over communicators to their end");
}

int main(int argc, char **argv)
{
    gone = fork();
    if (gone == 0)
        _exit(0);
    if (gone < 0 || waitpid(gone, NULL, 0) != gone)
        return 99;
    looks_back();
    each_world(argc > 1 ? (unsigned)atoi(argv[1]) : 1, test);
    return tap_done();
}
