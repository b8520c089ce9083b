/* Inside of peers.c, peers_save.c and peers_rebuild.c. */
#ifndef MU_KEEPER_PEERS_PRIV_H
#define MU_KEEPER_PEERS_PRIV_H

#include <pthread.h>

#include "runtime/ckpt/daemon/code.h"
#include "runtime/ckpt/daemon/maps.h"
#include "runtime/keeper/peers.h"
#include "runtime/wire/bulk.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/msg.h"
#include "runtime/wire/tls.h"

/* Mistakes that tests/fault/protected.t plants, to show that it finds them. */
enum { MU_PLANT_NONE, MU_PLANT_UNSUMMED, MU_PLANT_EARLY, MU_PLANT_NEWER, MU_PLANT_TORN };
#ifdef MU_MUTANTS
extern int mu_planted;
#define MU_PLANTED(name) (mu_planted == MU_PLANT_##name)
#else
#define MU_PLANTED(name) false
#endif

#define MU_PEERS_PATIENCE (20ull * MU_SEC) /* without any progress */

/* A connection that we have made, to the drain at an address; made again until it is there. */
struct mu_peer {
    struct mu_peers *all;
    struct mu_peer *next;
    struct mu_arena_addr at;
    unsigned tried;
    struct mu_tls_dial *dial;
    struct mu_bulk *link; /* NULL: not yet */
    uint64_t again;
    bool broke;      /* a link has gone down since anybody looked */
    bool gone;       /* and ever */
    bool asked, met; /* whether it is in our group; and it is */
};

/* This node's part of a save, mapped. */
struct mu_block {
    struct mu_ckpt_id id;
    uint32_t n;
    uint64_t bytes;
    struct mu_block_part {
        struct mu_arena_part is;
        struct mu_arena_cell *cell;
        unsigned char *map;
        uint64_t at;
    } * parts;
};
int mu_block_open(struct mu_arena_head *, const struct mu_ckpt_id *, struct mu_block *, struct mu_err *);
void mu_block_close(struct mu_block *);
/* So many bytes of it, zeros behind its end: where they lie, or in room. */
const unsigned char *mu_block_at(const struct mu_block *, uint64_t at, unsigned char *room, uint32_t n);

struct mu_save;
struct mu_rebuild;

struct mu_peers {
    struct mu_arena_head *head;
    struct event_base *base;
    struct mu_tls *tls;
    struct mu_tls_listener *door;
    struct mu_alarm *alarm;
    pthread_t thread;
    int nice; /* of the thread */
    bool hurries;
    uint64_t gave; /* when something was last asked back; 0: never */
    _Atomic uint32_t stop;
    struct mu_peer *peers;
    struct guest *guests;
    struct {
        uint32_t set, n, k, me, group;
        uint64_t nonce;
        bool open; /* what is sent need not be encrypted */
        struct mu_arena_addr member[MU_GROUP_MAX];
    } group; /* n 0: none */
    struct mu_save *saves[MU_ARENA_SLOTS];
    struct mu_ckpt_id dead[4]; /* given up: what comes late does not begin them again */
    uint32_t ndead;
    struct mu_rebuild *rebuild;
    struct mu_join {
        struct mu_ckpt_id id;
        uint32_t member;
    } joins[MU_GROUP_MAX]; /* for orders that we do not have yet */
    uint32_t njoins, over_lost;
    struct mu_ckpt_id over; /* the last order */
    struct mu_block giving; /* what was asked for last */
    struct mu_asked {
        struct mu_bulk *by;
        struct mu_m_shard what; /* its id is beside it */
        struct mu_ckpt_id id;
    } * asked; /* questions that wait for room for their answers, in their order */
    size_t nasked;
    struct {
        unsigned char *map;
        uint64_t bytes;
        uint32_t slot;
    } gives;
    struct {
        unsigned char *rows[MU_GROUP_MAX];
        uint64_t bytes;
    } spare;                           /* of the last save: fresh memory costs more than what is done with it */
    unsigned char buf[MU_ARENA_PIECE]; /* of whatever is being sent or made */
    struct mu_bulk_desk desk;
};

/* NULL: no memory. Dials when there is no connection. */
struct mu_peer *mu_peers_at(struct mu_peers *, const struct mu_arena_addr *);
/* False: the ranks have set another group since it was looked at. They do before they save or order anything: what does
 * not fit the group that is known is an earlier one's only if this holds afterwards. */
bool mu_peers_in_group(const struct mu_peers *);
/* What is sent now goes straight into the socket, and is copied nowhere. */
static inline bool mu_peer_ready(const struct mu_peer *p)
{
    return p && p->link && !mu_bulk_pending(p->link);
}

static inline uint32_t mu_piece_len(uint64_t chunk, uint64_t at)
{
    return chunk - at < MU_ARENA_PIECE ? (uint32_t)(chunk - at) : MU_ARENA_PIECE;
}

/* peers_save.c: sends, encodes, keeps. True: there is something going on. */
bool mu_saves_tick(struct mu_peers *, uint64_t now);
void mu_saves_msg(struct mu_peers *, struct mu_bulk *, const struct mu_m_shard *);
void mu_saves_room(struct mu_peers *);                 /* to send more */
void mu_saves_end(struct mu_peers *, const char *why); /* all of them */

void mu_saves_forget(struct mu_peers *); /* what an earlier group was to have; a drain before this one was told of it */
void mu_saves_spare(struct mu_peers *);  /* memory that is kept for the next one is freed */

/* peers_rebuild.c: both ends. */
bool mu_rebuild_tick(struct mu_peers *, uint64_t now);
void mu_rebuild_asked(struct mu_peers *, struct mu_bulk *, const struct mu_m_shard *);
void mu_rebuild_room(struct mu_peers *, struct mu_bulk *);    /* for answers */
void mu_rebuild_unasked(struct mu_peers *, struct mu_bulk *); /* it ends */
void mu_rebuild_given(struct mu_peers *, const struct mu_m_shard *);
void mu_rebuild_joins(struct mu_peers *, struct mu_bulk *, const struct mu_m_shard *);
void mu_rebuild_end(struct mu_peers *);
void mu_rebuild_forget(struct mu_peers *); /* the giving side's maps */

#endif
