/* Generations in an object store, as docs/formats.md lays them out below s3://BUCKET/PREFIX:
 *   g<N>.a<epoch>.<nonce>/  man.<rank>, seg.<rank>, COMMIT as the last one, maybe PIN
 * or, of an incremental one, ref.<rank> and inc.<rank> instead of seg.<rank> (refs.h). Else the files are those of the
 * directory, byte for byte. Epoch and nonce in the key keep the parts of different writers apart, so that a commit
 * needs no conditional request: what has a COMMIT is whole. */
#ifndef MU_CKPT_REMOTE_H
#define MU_CKPT_REMOTE_H

#include "runtime/ckpt/daemon/refs.h"
#include "runtime/ckpt/daemon/s3.h"
#include "runtime/ckpt/store.h"

struct mu_remote;
struct mu_remote_generation;
/* How it is done, and who is told. */
struct mu_remote_way {
    unsigned lanes;                          /* connections, 1..64 */
    uint64_t part;                           /* bytes of a part of an upload, 5 MiB..1 GiB */
    bool incremental;                        /* push: with references, */
    const struct mu_remote_generation *base; /* to what this one has; NULL: to nothing */
    bool read_back;                          /* push: all of it, before it is committed */
    int (*bytes)(void *arg, uint64_t n);     /* so many more are done; not 0: EABORTED */
    void *arg;
};
struct mu_remote_done {
    uint64_t moved;   /* bytes that went over the network */
    uint64_t there;   /* bytes that were there already */
    uint64_t retries; /* requests that were made again */
};
struct mu_remote_generation {
    struct mu_ckpt_commit commit; /* votes: malloc'ed, NULL when COMMIT cannot be used */
    uint64_t generation, epoch, nonce, bytes;
    bool complete, pinned;
    bool locked;                    /* it is encrypted, and its key is not there */
    bool incremental;               /* an incremental one, or a full one of that kind */
    struct mu_refs_holder *holders; /* what it cannot be read without; malloc'ed */
    uint32_t nholders;
    int code; /* 0, or why it is not complete */
    char why[300];
};

int mu_remote_open(const char *url, const struct mu_s3_given *, struct mu_remote **, struct mu_err *);
void mu_remote_close(struct mu_remote *); /* NULL is fine */

/* What is committed, newest first: by COMMIT, and by the lengths of all that belongs to it. *v is for
 * mu_remote_generations_free. */
int mu_remote_list(struct mu_remote *, struct mu_remote_generation **v, size_t *n, struct mu_err *);
void mu_remote_generations_free(struct mu_remote_generation *, size_t n);
/* What an incremental push of this generation builds on: the newest older one, or NULL when there is none of the kind,
 * or when that would make more than `full` of them in a row. Of one that is there: what it was built on. */
const struct mu_remote_generation *mu_remote_base(const struct mu_remote_generation *, size_t n, uint64_t generation,
                                                  uint32_t full);
/* Which of them may go: gone[i] is set where that is wanted, and cleared where one that stays is built on it. */
void mu_remote_spare(const struct mu_remote_generation *, size_t n, bool *gone);

/* That whoever goes on there with these keys, or without any, does as whoever put the newest of what is there: EARG,
 * and what is to be done, when it is encrypted and could not be read, or is not and there are keys. */
int mu_remote_keys_fit(struct mu_remote *, struct mu_err *);

/* A generation of a directory. What is there already, of a push that was broken off, is not sent again. All that is
 * sent is compared with its CRCs first, and committed once the store has all of it. EEPOCH: the store has another
 * checkpoint with this number. EARG: as for mu_remote_keys_fit. */
int mu_remote_push(struct mu_remote *, const char *dir, uint64_t generation, const struct mu_remote_way *,
                   struct mu_remote_done *, struct mu_err *);
/* Into a directory, which is made, and must be used by nobody: EBUSY. It appears there once all of it has been read
 * back. What an earlier pull has left is used. */
int mu_remote_pull(struct mu_remote *, const struct mu_remote_generation *, const char *dir,
                   const struct mu_remote_way *, struct mu_remote_done *, struct mu_err *);
/* Removes what pulls that were broken off have left in a directory that nobody uses. */
void mu_remote_pull_tidy(const char *dir);
/* As a pull, for whoever owns the directory. */
int mu_remote_fetch(struct mu_remote *, const struct mu_remote_generation *, const char *dir,
                    const struct mu_remote_way *, struct mu_remote_done *, struct mu_err *);
/* Reads all of it and compares. */
int mu_remote_verify(struct mu_remote *, const struct mu_remote_generation *, const struct mu_remote_way *,
                     struct mu_err *);
/* COMMIT goes first. */
int mu_remote_remove(struct mu_remote *, const struct mu_remote_generation *, struct mu_err *);
int mu_remote_pin(struct mu_remote *, const struct mu_remote_generation *, bool on, struct mu_err *);
/* What pushes have left unfinished of generations before `below`; *n: how many. dry: only counts. */
int mu_remote_sweep(struct mu_remote *, uint64_t below, bool dry, size_t *n, struct mu_err *);

#endif
