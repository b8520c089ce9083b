#include "collectives/shm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "collectives/algorithms.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/proc.h"

#define LOOK_FOR_DEAD (20 * MU_MS)

/* --- posts and counters --- */

static uint64_t load(const _Atomic uint64_t *v)
{
    return atomic_load_explicit(v, memory_order_acquire);
}

static void wait_for(struct muster_request *req, int k, const _Atomic uint64_t *watched, uint64_t seen)
{
    req->shm.wait = k;
    req->shm.watched = watched;
    req->shm.seen = seen;
}

bool mu_shm_settle(struct mu_shm_comm *sc, struct muster_request *req, uint64_t upto)
{
    uint64_t least = UINT64_MAX;

    for (int k = 0; k < sc->p; k++) {
        uint64_t done = k == sc->me ? UINT64_MAX : load(&sc->ch[k]->counter[MU_DONE].value);

        if (done < upto && req)
            wait_for(req, k, &sc->ch[k]->counter[MU_DONE].value, done);
        least = done < least ? done : least;
    }
    if (least > sc->settled)
        sc->settled = least;
    return sc->settled >= upto;
}

bool mu_shm_may_post(struct muster_request *req)
{
    return mu_shm_free_post(mu_shm_of(req), req, req->shm.s);
}

static bool is_free(struct mu_shm_comm *sc, struct muster_request *req, uint64_t s, uint64_t user)
{
    return user == 0 || user == s || mu_shm_settled(sc, req, user);
}

static bool slot_is_free(struct mu_shm_comm *sc, struct muster_request *req, uint64_t s, unsigned slot, bool for_cell)
{
    return is_free(sc, req, s, sc->slot_user[slot]) && (for_cell || is_free(sc, req, s, sc->cell_user[slot]));
}

bool mu_shm_slot_free(struct muster_request *req, unsigned slot)
{
    return slot_is_free(mu_shm_of(req), req, req->shm.s, slot, false);
}

void mu_shm_place(struct mu_shm_place *place, size_t bytes, uint64_t s)
{
    place->cell = bytes <= MU_CELL_BYTES;
    place->slot = (unsigned)((place->cell ? s / MU_CELLS : s) % MU_SLOTS);
    place->at = place->cell ? s % MU_CELLS * MU_CELL_BYTES : 0;
}

bool mu_shm_take_place(struct mu_shm_comm *sc, struct muster_request *req, uint64_t s, const struct mu_shm_place *place)
{
    if (!slot_is_free(sc, req, s, place->slot, place->cell))
        return false;
    (place->cell ? sc->cell_user : sc->slot_user)[place->slot] = s;
    return true;
}

bool mu_shm_gives_back(const struct mu_shm_comm *sc, bool blocks, bool gives_all)
{
    return blocks || sc->p == 2 || (sc->shm->crowded && !gives_all);
}

/* Most programs say the same again and again. */
static void put_sig(struct mu_sig *to, struct mu_sig sig)
{
    if (to->words[0] != sig.words[0] || to->words[1] != sig.words[1])
        mu_sig_copy(to, &sig);
}

/* Few elements were stored one by one a moment ago, and a wider load would wait until those stores have left the core.
 * More of them were stored as vectors, which is how memcpy loads. */
static void put_room(char *room, const char *from, size_t n)
{
    if (n >= 16 || n % sizeof(uint32_t)) {
        memcpy(room, from, n);
        return;
    }
    for (size_t o = 0; o < n; o += sizeof(uint32_t)) {
        uint32_t word;

        memcpy(&word, from + o, sizeof word);
        __asm__("" : "+r"(word)); /* else compilers join the loads */
        memcpy(room + o, &word, sizeof word);
    }
}

void mu_shm_put_post(struct mu_shm_comm *sc, uint64_t s, uint64_t word, struct mu_sig sig, const void *room, size_t n)
{
    unsigned i = s % MU_POSTS;
    struct mu_channel *c = sc->ch[sc->me];

    if (MU_CHECKS)
        put_sig(&c->sig[i], sig);
    put_room(c->post[i].room, room, n);
    atomic_store_explicit(&c->post[i].word, word, memory_order_release);
}

void mu_shm_post(struct muster_request *req, const void *room, size_t n)
{
    mu_shm_put_post(mu_shm_of(req), req->shm.s, req->shm.word, req->sig, room, n);
}

static void disagree(struct muster_request *req, int k, const struct mu_sig *mine, unsigned i)
{
    struct mu_frame f = {.head = {.src = (uint32_t)k, .seq = req->seq, .sig = mu_shm_of(req)->ch[k]->sig[i]}};

    mu_coll_agree(req->comm, mine, &f);
}

static void given_up(struct muster_comm *comm, int k)
{
    struct mu_err why = comm->shm->ch[k]->why;

    why.text[sizeof why.text - 1] = 0;
    if (why.code >= 0)
        why.code = MUSTER_EABORTED;
    if (why.code == MUSTER_EPEER) {
        mu_coll_break_all(comm->engine, &why);
        return;
    }
    mu_coll_of_peer(comm, k, &why);
    mu_coll_break_comm(comm, &why);
}

/* The next operation from *t on and before s in which nobody looked at k's post and it had called something else. */
static bool differs(const struct mu_shm_comm *sc, uint64_t *t, uint64_t s, int k)
{
    uint64_t oldest = s < MU_POSTS ? 1 : s - MU_POSTS + 1;

    for (*t = *t > oldest ? *t : oldest; *t < s; ++*t) {
        unsigned i = *t % MU_POSTS;
        uint64_t word = load(&sc->ch[k]->post[i].word), mine = load(&sc->ch[sc->me]->post[i].word);

        /* k may have given up since then; what it had called still lies beside its post. */
        if ((word >> 32 == (uint32_t)*t || word == MU_POST_POISON) && mine >> 32 == (uint32_t)*t && word != mine)
            return true;
    }
    return false;
}

static void look_back(struct muster_request *req, int k)
{
    struct mu_shm_comm *sc = mu_shm_of(req);

    for (uint64_t t = sc->seen[k] + 1; differs(sc, &t, req->shm.s, k); t++)
        disagree(req, k, &sc->ch[sc->me]->sig[t % MU_POSTS], t % MU_POSTS);
}

bool mu_shm_agreed(const struct mu_shm_comm *sc, uint64_t s, int k)
{
    uint64_t t = sc->seen[k] + 1;

    return !differs(sc, &t, s, k);
}

bool mu_shm_heard(struct muster_request *req, int k)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    unsigned i = req->shm.s % MU_POSTS;
    uint64_t word = load(&sc->ch[k]->post[i].word);

    if (word == req->shm.word) {
        if (MU_CHECKS && sc->seen[k] + 1 != req->shm.s)
            look_back(req, k);
        sc->seen[k] = req->shm.s;
        return !req->comm->engine->trouble;
    }
    wait_for(req, k, &sc->ch[k]->post[i].word, word);
    if (word == MU_POST_POISON)
        given_up(req->comm, k);
    else if (word >> 32 == (uint32_t)req->shm.s)
        disagree(req, k, &req->sig, i);
    return false;
}

bool mu_shm_heard_all(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);

    for (; req->shm.heard < sc->p; req->shm.heard++) {
        if (req->shm.heard != sc->me && !mu_shm_heard(req, req->shm.heard))
            return false;
    }
    if (sc->settled < req->shm.s - 1)
        sc->settled = req->shm.s - 1;
    return true;
}

bool mu_shm_one(struct muster_request *req, int k, unsigned counter, uint64_t value)
{
    const _Atomic uint64_t *at = &mu_shm_of(req)->ch[k]->counter[counter].value;
    uint64_t now = load(at);

    if (now >= value)
        return true;
    wait_for(req, k, at, now);
    return false;
}

bool mu_shm_all(struct muster_request *req, unsigned counter, uint64_t value)
{
    struct mu_shm_comm *sc = mu_shm_of(req);

    for (int k = 0; k < sc->p; k++)
        if (k != sc->me && !mu_shm_one(req, k, counter, value))
            return false;
    return true;
}

void mu_shm_count(struct muster_request *req, unsigned counter, uint64_t value)
{
    struct mu_shm_comm *sc = mu_shm_of(req);

    atomic_store_explicit(&sc->ch[sc->me]->counter[counter].value, value, memory_order_release);
    req->shm.moves++;
}

const struct mu_where *mu_shm_where(const struct muster_request *req, int k)
{
    return (const struct mu_where *)(const void *)mu_shm_room(req, k);
}

char *mu_shm_peer_at(struct muster_request *req, int k, uint64_t where, size_t offset, size_t bytes)
{
    struct mu_shm_peer *peer = &mu_shm_of(req)->shm->peers[req->comm->world[k]];
    char *p = where ? mu_seg_at(&peer->seg, where + offset, bytes) : NULL, who[100];
    struct mu_err err;

    if (p)
        return p;
    mu_err_set(&err, MUSTER_ENOMEM, "memory of %s cannot be mapped", mu_comm_who(req->comm, k, who, sizeof who));
    mu_coll_break_comm(req->comm, &err);
    return NULL;
}

/* Where nobody else watches over the processes. A descriptor for a moment, so that none is kept for each peer. */
static bool is_dead(pid_t pid)
{
    mu_auto_fd int fd = mu_proc_pidfd(pid, NULL);

    if (fd < 0)
        return fd == MUSTER_EARG; /* its parent has already waited for it */
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static bool read_out(pid_t pid, void *to, uint64_t address, size_t bytes)
{
    char *p = to;

    while (bytes) {
        struct iovec here = {p, bytes}, there = {(void *)(uintptr_t)address, bytes};
        ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
        if (n <= 0)
            return false;
        p += n;
        address += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return true;
}

bool mu_shm_is_peer(const struct mu_shm *shm, int world)
{
    const struct mu_shm_peer *peer = &shm->peers[world];
    const struct mu_seg_head *known = (const struct mu_seg_head *)(const void *)peer->seg.base;
    uint64_t nonce = 0;

    return peer->pid && read_out(peer->pid, &nonce, peer->head + offsetof(struct mu_seg_head, nonce), sizeof nonce) &&
           nonce == known->nonce;
}

/* It could be read when the session began: it has become another user, say, or may not be traced any more. */
static bool is_refused(int error, pid_t pid)
{
    return (error == EPERM || error == EACCES || error == ENOSYS) && !is_dead(pid);
}

bool mu_shm_read(struct muster_request *req, int k, void *to, uint64_t address, size_t bytes)
{
    const struct mu_shm_peer *peer = &mu_shm_of(req)->shm->peers[req->comm->world[k]];
    int error;
    struct mu_err err;
    char who[100];

    if (read_out(peer->pid, to, address, bytes))
        return true;
    error = errno;
    if (mu_shm_heard(req, k) && error != ESRCH &&
        (mu_shm_is_peer(mu_shm_of(req)->shm, req->comm->world[k]) || is_refused(error, peer->pid))) {
        errno = error;
        mu_err_errno(&err, MUSTER_EIO, "the buffer of %s cannot be read", mu_comm_who(req->comm, k, who, sizeof who));
        mu_coll_break_comm(req->comm, &err);
    }
    req->shm.wait = k;
    return false; /* else it is dead, and somebody will say so */
}

/* --- operations --- */

void mu_shm_start(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct mu_shm_op *op = &req->shm;

    *op = (struct mu_shm_op){.s = req->seq + 1, .wait = -1};
    op->word = mu_shm_word(op->s, req->sig);
    op->algo = mu_shm_select(req);
    op->algo->begin(req);
    if (mu_kinds[req->call.kind].has_op)
        req->red.ranks = req->part.ranks;
    op->base = sc->chunks;
    sc->chunks += op->nchunk;
    *sc->last = req;
    sc->last = &op->next;
}

void mu_shm_unlink(struct muster_request *req)
{
    struct mu_shm_comm *sc = mu_shm_of(req);
    struct muster_request **at = &sc->first;

    while (*at && *at != req)
        at = &(*at)->shm.next;
    if (!*at)
        return;
    *at = req->shm.next;
    if (!*at)
        sc->last = at;
}

bool mu_shm_push(struct muster_comm *comm)
{
    struct mu_shm_comm *sc = comm->shm;
    bool any = false;

    while (sc->first && !comm->engine->trouble && !comm->dead) {
        struct muster_request *req = sc->first;
        uint32_t moves = req->shm.moves;
        bool ended = req->shm.algo->step(req);

        if (req->shm.moves != moves)
            any = req->moved = true;
        if (!ended || comm->engine->trouble)
            break;
        any = true;
        mu_shm_count(req, MU_DONE, req->shm.s);
        mu_coll_end(req, 0);
    }
    return any;
}

void mu_shm_poison(struct muster_comm *comm)
{
    struct mu_channel *c = comm->shm->ch[comm->shm->me];

    mu_seg_quarantine();
    c->why = comm->broken;
    for (unsigned i = 0; i < MU_POSTS; i++)
        atomic_store_explicit(&c->post[i].word, MU_POST_POISON, memory_order_release);
}

bool mu_shm_missing(const struct muster_request *req, bool away, bool *missing)
{
    const struct mu_shm_comm *sc = mu_shm_of(req);
    bool any = false;

    for (int k = 0; k < sc->p; k++)
        if (k != sc->me && load(&sc->ch[k]->counter[MU_DONE].value) < req->shm.s &&
            !(away && load(&sc->ch[k]->post[req->shm.s % MU_POSTS].word) == req->shm.word))
            any = missing[req->comm->world[k]] = true;
    return any;
}

void mu_shm_look(struct muster_comm *comm, uint64_t idle)
{
    struct mu_shm_comm *sc = comm->shm;
    struct muster_request *req = sc->first;
    int k = req ? req->shm.wait : -1;
    struct mu_err err;
    char who[100];

    for (int i = 0; i < sc->p && !comm->engine->trouble; i++)
        if (i != sc->me && load(&sc->ch[i]->post[0].word) == MU_POST_POISON)
            given_up(comm, i);
    if (k < 0 || idle < LOOK_FOR_DEAD || comm->engine->head || comm->engine->trouble)
        return;
    if (sc->shm->peers[comm->world[k]].pid && is_dead(sc->shm->peers[comm->world[k]].pid)) {
        mu_err_set(&err, MUSTER_EPEER, "%s is dead", mu_comm_who(comm, k, who, sizeof who));
        mu_coll_break_all(comm->engine, &err);
    }
}
