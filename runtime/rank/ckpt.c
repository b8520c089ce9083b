/* muster_ckpt_*: joins runtime/ckpt, which knows files and threads, to a communicator. What ranks must agree on is
 * agreed here, by collectives of muster.h; the files are written and committed without any. */
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/slot.h"
#include "runtime/ckpt/reader.h"
#include "runtime/rank/ckpt_priv.h"
#include "runtime/rank/far.h"
#include "runtime/rank/session.h"
#include "runtime/rank/staging.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define SLICE (20 * MU_MS) /* between two looks at the abort word */
#define ADOPT_WAIT MU_SEC  /* for a drain of the last attempt to see that its time is over */

int mu_rank_ckpt_check(const muster_ckpt *c, const char *call)
{
    if (!c)
        return mu_rank_fail(MUSTER_EARG, "%s: no checkpoint handle", call);
    if (c->pid != getpid())
        return mu_rank_fail(MUSTER_EJOB,
                            "%s: called in a child process; checkpoints stay with the process that opened them", call);
    return 0;
}

static bool aborted(void)
{
    const struct mu_slot_head *head = mu_rank_slots();

    return head && atomic_load_explicit((_Atomic uint32_t *)&head->abort, memory_order_acquire);
}

/* Every rank brings a code; all return the first bad rank's code, with its text. */
static int agree(muster_ckpt *c, const char *call, int code, const struct mu_err *err)
{
    int32_t mine = code;
    char host[64] = "";
    int rc, bad = 0;

    if ((rc = muster_allgather(&mine, c->codes, 1, MUSTER_INT32, c->comm)))
        return rc;
    while (bad < c->size && c->codes[bad] >= 0)
        bad++;
    if (bad == c->size)
        return 0;
    memset(c->why, 0, sizeof c->why);
    if (bad == c->rank) {
        gethostname(host, sizeof host - 1);
        snprintf(c->why, sizeof c->why, "rank %d on %s: %.400s", bad, host, err->text);
    }
    if ((rc = muster_broadcast(c->why, sizeof c->why, MUSTER_UINT8, bad, c->comm)))
        return rc;
    c->why[sizeof c->why - 1] = 0;
    return mu_rank_fail(c->codes[bad], "%s: %s", call, c->why);
}

/* --- open ------------------------------------------------------------------------------------------------------- */

/* What rank 0 found and decided, for the others. */
struct opening {
    int32_t code;
    uint32_t keep, every, attempt, parities, mirror, open;
    bool far;
    uint64_t epoch, nonce, next, interval_ns, interval_steps;
    char dir[MU_CKPT_DIR_MAX], text[500];
};

static int absolute(char dir[MU_CKPT_DIR_MAX], struct mu_err *err)
{
    char cwd[MU_CKPT_DIR_MAX], given[MU_CKPT_DIR_MAX];
    const char *rest = given;

    if (dir[0] == '/')
        return 0;
    if (!getcwd(cwd, sizeof cwd))
        return mu_err_errno(err, MUSTER_EIO, "current directory");
    memcpy(given, dir, sizeof given);
    while (rest[0] == '.' && rest[1] == '/')
        rest += 2;
    if (strlen(cwd) + 1 + strlen(rest) >= MU_CKPT_DIR_MAX)
        return mu_err_set(err, MUSTER_EARG, "the path of the checkpoint directory is too long");
    stpcpy(stpcpy(stpcpy(dir, cwd), "/"), rest);
    return 0;
}

static int open_first(muster_ckpt *c, const char *options, struct opening *o, struct mu_err *err)
{
    struct mu_ckpt_options opt;
    int rc = mu_ckpt_options_parse(options, getenv("MUSTER_CKPT"), getenv("MUSTER_CKPT_DIR"), &opt, err);

    if (rc || (rc = absolute(opt.dir, err)))
        return rc;
    memcpy(c->place.dir, opt.dir, sizeof opt.dir);
    c->place.keep = opt.keep;
    c->place.every = opt.every;
    if ((rc = mu_ckpt_owner_take(&c->place, &mu_ckpt_patience, &c->owner, err)) ||
        (rc = mu_ckpt_store_open(&c->place, &o->next, err)) || (opt.store[0] && (rc = mu_rank_far_order(c, &opt, err))))
        return rc;
    mu_rank_pace_open(c, &opt);
    o->far = opt.store[0];
    o->every = opt.every;
    memcpy(o->dir, opt.dir, sizeof o->dir);
    o->keep = opt.keep;
    o->parities = opt.parities;
    o->mirror = opt.mirror;
    o->open = opt.open;
    o->attempt = c->place.attempt;
    o->interval_ns = opt.interval_ns;
    o->interval_steps = opt.interval_steps;
    o->epoch = c->place.epoch;
    o->nonce = c->place.nonce;
    return 0;
}

static void durable(uint64_t step)
{
    struct mu_slot *slot = mu_rank_slot();

    if (slot)
        atomic_store_explicit(&slot->ckpt_plus1, step + 1, memory_order_release);
}

static void held_up(muster_ckpt *c, uint64_t ns)
{
    struct mu_slot *slot = mu_rank_slot();

    if (slot)
        mu_slot_saved(slot, ns);
    mu_rank_pace_saved(c, ns);
}

static void free_ckpt(muster_ckpt *c)
{
    mu_rank_peers_free(&c->peers);
    mu_rank_ram_close(&c->ram);
    mu_ckpt_owner_release(c->owner);
    mu_staging_free(c->tensors.mover);
    mu_ckpt_tensors_free(&c->tensors);
    free(c->codes);
    free(c->intents);
    free(c);
}

/* Numbers above all that are still in memory, too. */
static int number_on(muster_ckpt *c, struct mu_err *err)
{
    mu_auto_free struct mu_rank_save *saves = NULL;
    size_t n = 0;
    int rc = mu_rank_ram_list(&c->ram, &saves, &n, err);

    if (!rc && n && saves[0].order >= c->generation)
        c->generation = saves[0].order + 1;
    return rc;
}

int muster_ckpt_open(muster_comm *comm, const char *options, muster_ckpt **out)
{
    static const char call[] = "muster_ckpt_open";
    const char *attempt = getenv("MUSTER_ATTEMPT"), *job = getenv("MUSTER_JOB"), *mark = getenv("MUSTER_JOB_MARK");
    const char *node = getenv("MUSTER_NODE"), *local = getenv("MUSTER_SLOT_INDEX");
    mu_auto_free struct opening *o = calloc(1, sizeof *o);
    muster_ckpt *c = calloc(1, sizeof *c);
    struct mu_err err = {0};
    int rc;

    if (!comm || !out || !o || !c) {
        free(c);
        return mu_rank_fail(comm && out ? MUSTER_ENOMEM : MUSTER_EARG, "%s: %s", call,
                            comm && out ? "no memory" : "needs a communicator and a place for the handle");
    }
    c->comm = comm;
    c->rank = muster_rank(comm);
    c->size = muster_size(comm);
    if (c->rank < 0 || c->size < 1) {
        free(c);
        return mu_rank_fail(MUSTER_EARG, "%s: not a communicator", call);
    }
    c->pid = getpid();
    c->codes = calloc((size_t)c->size, sizeof *c->codes);
    c->intents = calloc((size_t)c->size, sizeof *c->intents);
    if (!c->codes || !c->intents) {
        free_ckpt(c);
        return mu_rank_fail(MUSTER_ENOMEM, "%s: no memory", call);
    }
    c->place = (struct mu_ckpt_place){
        .timeout = mu_rank_timeout(),
        .rank = (uint32_t)c->rank,
        .world = (uint32_t)c->size,
        .attempt = attempt && atoi(attempt) > 0 ? (uint32_t)atoi(attempt) : 1,
        .job_mark = mark ? strtoull(mark, NULL, 16) : 0,
        .io = &mu_ckpt_io_posix,
    };
    gethostname(c->place.host, sizeof c->place.host - 1);
    if (node)
        snprintf(c->place.host, sizeof c->place.host, "%s", node);
    snprintf(c->place.job, sizeof c->place.job, "%s", job ? job : "");

    c->ram = (struct mu_rank_ram){.comm = comm, .dir = c->place.dir};
    mu_rank_ram_open(&c->ram);
    if (c->rank == 0) {
        mu_rank_files(true);
        o->code = open_first(c, options, o, &err);
        mu_rank_files(false);
        memcpy(o->text, err.text, sizeof o->text);
    }
    if ((rc = muster_broadcast(o, sizeof *o, MUSTER_UINT8, 0, comm)))
        goto fail;
    if (o->code) {
        rc = mu_rank_fail(o->code, "%s: %s", call, o->text);
        goto fail;
    }
    memcpy(c->place.dir, o->dir, sizeof c->place.dir);
    c->place.keep = o->keep;
    c->place.every = o->every;
    c->far = o->far;
    c->place.attempt = o->attempt;
    c->place.epoch = o->epoch;
    c->place.nonce = o->nonce;
    c->generation = o->next;
    c->interval_ns = o->interval_ns;
    c->interval_steps = o->interval_steps;
    c->last_save = mu_now();
    c->dirty = true;
    if (o->far && (rc = mu_rank_far_fetch(c, &err))) {
        rc = mu_rank_fail(rc, "%s: %s", call, err.text);
        goto fail;
    }

    mu_rank_files(true);
    rc = c->rank ? mu_ckpt_store_join(&c->place, &err) : 0;
    mu_rank_files(false);
    if (!rc)
        rc = mu_ckpt_writer_start(&c->place, durable, c->ram.head, local ? (uint32_t)atoi(local) : UINT32_MAX,
                                  &c->writer, &err);
    c->ram.writer = c->writer;
    if ((rc = agree(c, call, rc, &err)))
        goto fail;
    if ((rc = mu_rank_peers_open(&c->peers, &c->ram, o->parities, o->mirror, o->open, o->nonce, &err)) ||
        (rc = number_on(c, &err))) {
        rc = mu_rank_fail(rc, "%s: %s", call, err.text);
        goto fail;
    }
    *out = c;
    return 0;

fail:
    if (c->writer)
        mu_ckpt_writer_stop(c->writer, MU_SEC, NULL);
    free_ckpt(c);
    return rc;
}

int muster_ckpt_add(muster_ckpt *c, const muster_tensor *t)
{
    struct mu_err err;
    int rc = mu_rank_ckpt_check(c, "muster_ckpt_add");

    if (rc)
        return rc;
    if ((rc = mu_ckpt_tensors_add(&c->tensors, t, &err)))
        return mu_rank_fail(rc, "muster_ckpt_add: %s", err.text);
    struct mu_ckpt_tensor *added = &c->tensors.v[c->tensors.n - 1];
    if ((rc = mu_staging_takes(c->comm, added->shape.bytes ? t->data : NULL, c->place.timeout, &c->tensors.mover,
                               &added->device, &err))) {
        rc = mu_rank_fail(rc, "muster_ckpt_add: tensor \"%.200s\": %s", t->name, err.text);
        mu_ckpt_tensors_drop(&c->tensors);
        return rc;
    }
    c->dirty = true;
    return 0;
}

/* --- save ------------------------------------------------------------------------------------------------------- */

/* Waits until the writer is idle, or (durable) until the save is: 0, its error, or 1 at the end of the time. When the
 * job is aborted the others' parts will not come. */
static int settled(muster_ckpt *c, bool until_durable, uint64_t timeout, struct mu_err *err)
{
    uint64_t end = mu_now() + timeout;

    for (;;) {
        uint64_t now = mu_now(), slice = now >= end ? 0 : end - now < SLICE ? end - now : SLICE;
        int rc = until_durable ? mu_ckpt_writer_durable(c->writer, slice, err) : mu_ckpt_writer_idle(c->writer, slice);

        if (rc != 1)
            return rc;
        if (now >= end)
            return 1;
        if (aborted())
            mu_ckpt_writer_cancel(c->writer);
    }
}

static int settle(muster_ckpt *c, bool until_durable, uint64_t timeout, struct mu_err *err)
{
    mu_rank_files(true);
    int rc = settled(c, until_durable, timeout, err);
    mu_rank_files(false);
    return rc;
}

static void sweep(muster_ckpt *c, uint64_t generation)
{
    mu_rank_files(true);
    mu_ckpt_store_sweep(&c->place, generation);
    mu_rank_files(false);
}

/* The writer is idle and laid out for the tensors there are. */
static int ready(muster_ckpt *c, struct mu_err *err)
{
    int rc;

    if (settle(c, false, c->place.timeout, err))
        return mu_err_set(err, MUSTER_ETIMEOUT, "the previous checkpoint is still being written after %.0f s",
                          (double)c->place.timeout / 1e9);
    if (!c->dirty)
        return 0;
    if ((rc = mu_ckpt_writer_layout(c->writer, &c->tensors, err)))
        return rc;
    c->dirty = false;
    return 0;
}

/* Everything that can go wrong before the copy, agreed in one round. */
static int agree_on_save(muster_ckpt *c, const char *call, struct mu_ckpt_intent *mine, const struct mu_err *err)
{
    struct mu_ckpt_intent *all = c->intents;
    int rc = muster_allgather(mine, all, sizeof *mine, MUSTER_UINT8, c->comm);
    bool bad = false;

    for (int r = 0; !rc && r < c->size; r++)
        bad |= all[r].code != 0;
    for (int r = 1; !rc && !bad && r < c->size; r++) {
        if (all[r].step != all[0].step)
            rc = mu_rank_fail(MUSTER_EMISMATCH, "%s: rank 0 saves step %" PRIu64 ", rank %d step %" PRIu64, call,
                              all[0].step, r, all[r].step);
        else if (all[r].replicas != all[0].replicas)
            rc = mu_rank_fail(MUSTER_EMISMATCH,
                              "%s: ranks 0 and %d have added different replicated tensors, or in another order", call,
                              r);
    }
    if (!rc && bad)
        rc = agree(c, call, mine->code, err);
    if (!rc) {
        uint32_t node = 0;
        uint64_t chunk = mu_rank_peers_chunk(&c->peers, &all[0].block, sizeof *all, &node);

        mine->generation = all[0].generation;
        mu_ckpt_writer_peers(c->writer, chunk, node);
    }
    return rc;
}

static int save(muster_ckpt *c, const char *call, uint64_t step, bool later)
{
    uint64_t began = mu_now();
    struct mu_err err = {0}, failure;
    struct mu_ckpt_intent mine = {.step = step};
    bool failed;
    int rc = mu_rank_ckpt_check(c, call);

    if (rc)
        return rc;
    rc = ready(c, &err);
    failed = !rc && c->saved && mu_ckpt_writer_durable(c->writer, 0, &failure) < 0;
    if (failed && c->rank == 0) { /* the number may be taken, by whoever was the reason */
        mu_auto_free uint64_t *list = NULL;
        size_t n = 0;

        if (!mu_ckpt_store_scan(c->place.dir, &list, &n, NULL) && n && list[0] >= c->generation)
            c->generation = list[0] + 1;
    }
    if (failed && !c->told) {
        err = failure;
        rc = mu_err_prefix(&err, "the previous checkpoint failed (step %" PRIu64 ", the one of %" PRIu64 " not made)",
                           c->saving, step);
    }
    if (step == UINT64_MAX && !rc)
        rc = mu_err_set(&err, MUSTER_EARG, "step out of range");
    mine.code = rc;
    mine.generation = c->generation;
    mine.block = mu_ckpt_writer_block(c->writer);
    mine.replicas = mu_ckpt_tensors_replica_sum(&c->tensors);
    rc = agree_on_save(c, call, &mine, &err);
    if (failed)
        c->told = true;
    if (rc)
        return rc;

    settle(c, false, c->place.timeout, NULL); /* the layout's */
    if (failed && c->rank == 0)
        sweep(c, mine.generation);
    c->generation = mine.generation + 1;
    c->last_save = mu_now();
    c->calls = 0;
    c->answered |= c->seen;
    c->hasten = false;
    rc = (later ? mu_ckpt_writer_save_later : mu_ckpt_writer_save)(c->writer, mine.generation, step, &err);
    if (rc)
        return mu_rank_fail(rc, "%s: %s", call, err.text);
    c->saved = true;
    c->told = false;
    c->saving = step;
    c->last = mine.generation;
    held_up(c, mu_now() - began);
    return 0;
}

int muster_ckpt_save(muster_ckpt *c, uint64_t step)
{
    return save(c, "muster_ckpt_save", step, false);
}

int muster_ckpt_isave(muster_ckpt *c, uint64_t step)
{
    return save(c, "muster_ckpt_isave", step, true);
}

/* May the tensors be changed? */
static int copied(muster_ckpt *c, uint64_t timeout, struct mu_err *err)
{
    int rc;

    mu_rank_files(true);
    rc = mu_ckpt_writer_copied(c->writer, timeout, err);
    mu_rank_files(false);
    return rc;
}

/* Peers that are still at it are waited for, in the store or not: who asks for them may be about to lose the store.
 * What they have given up is as safe in the store. What the
 * commit has refused nobody can restore, wherever it is. */
static int protected(muster_ckpt *c, uint64_t timeout, struct mu_err *err)
{
    uint64_t end = mu_now() + timeout;
    struct mu_err why = {0};
    int rc;

    mu_rank_files(true);
    for (;;) {
        uint64_t now = mu_now();
        int stored;

        rc = mu_ckpt_writer_protected(c->writer, now >= end ? 0 : end - now < SLICE ? end - now : SLICE, err);
        stored = rc == 1 ? 1 : mu_ckpt_writer_durable(c->writer, 0, &why);
        if (rc < 0 && !stored)
            rc = 0;
        else if (!rc && stored == MUSTER_EMISMATCH)
            rc = mu_err_set(err, stored, "%s", why.text);
        if (rc != 1 || now >= end || aborted())
            break;
    }
    mu_rank_files(false);
    return rc;
}

int muster_ckpt_wait(muster_ckpt *c, int level, int timeout_ms)
{
    static const char call[] = "muster_ckpt_wait";
    struct mu_err err = {0};
    uint64_t timeout = 0;
    int rc = mu_rank_ckpt_check(c, call);

    if (rc)
        return rc;
    timeout = timeout_ms < 0 ? c->place.timeout : (uint64_t)timeout_ms * MU_MS;
    if (level < MUSTER_LEVEL_RAM || level > MUSTER_LEVEL_STORE)
        return mu_rank_fail(MUSTER_EARG, "%s: no such level: %d", call, level);
    if (!c->saved)
        return mu_rank_fail(MUSTER_ENOCKPT, "%s: nothing has been saved yet", call);
    uint64_t end = mu_now() + timeout;
    rc = level == MUSTER_LEVEL_RAM     ? copied(c, timeout, &err)
         : level == MUSTER_LEVEL_PEERS ? protected(c, timeout, &err)
                                       : settle(c, true, timeout, &err);
    if (!rc && level == MUSTER_LEVEL_STORE && c->far) {
        mu_rank_files(true);
        rc = mu_rank_far_wait(c, c->last, mu_now() < end ? end - mu_now() : 0);
        mu_rank_files(false);
        if (rc)
            return mu_rank_fail(MUSTER_ETIMEOUT,
                                "%s: the checkpoint of step %" PRIu64 " is in %s, but not in the object store yet",
                                call, c->saving, c->place.dir);
    }
    if (rc == MUSTER_ENOSYS)
        return mu_rank_fail(MUSTER_ENOSYS,
                            "%s: this checkpoint has no copies on peers (protect=mirror or rs:K, and several nodes); "
                            "wait for MUSTER_LEVEL_STORE",
                            call);
    if (rc == 1 && level == MUSTER_LEVEL_RAM)
        return mu_rank_fail(MUSTER_ETIMEOUT, "%s: the tensors of step %" PRIu64 " are still being copied", call,
                            c->saving);
    if (rc == 1 && level == MUSTER_LEVEL_PEERS)
        return mu_rank_fail(MUSTER_ETIMEOUT, "%s: the peers do not have the checkpoint of step %" PRIu64 " yet", call,
                            c->saving);
    if (rc == 1)
        return mu_rank_fail(MUSTER_ETIMEOUT, "%s: the checkpoint is still being written to %s", call, c->place.dir);
    if (rc) {
        c->told = true;
        return mu_rank_fail(rc, "%s: the checkpoint of step %" PRIu64 " failed: %s", call, c->saving, err.text);
    }
    return 0;
}

int muster_ckpt_close(muster_ckpt *c)
{
    static const char call[] = "muster_ckpt_close";
    struct mu_err err = {0};
    int rc = mu_rank_ckpt_check(c, call), stopped;

    if (rc)
        return rc;
    if (settle(c, false, c->place.timeout, &err)) {
        rc = mu_err_set(&err, MUSTER_ETIMEOUT, "the last checkpoint is still being written");
        mu_ckpt_writer_cancel(c->writer);
    } else if (c->saved && !c->told) {
        if ((rc = mu_ckpt_writer_durable(c->writer, 0, &err)) < 0)
            mu_err_prefix(&err, "the checkpoint of step %" PRIu64 " failed", c->saving);
    }
    rc = agree(c, call, rc, &err);
    if (!rc && c->far)
        rc = mu_rank_far_settle(c, call);
    if (c->rank == 0)
        sweep(c, UINT64_MAX);
    stopped = mu_ckpt_writer_stop(c->writer, MU_SEC, &err);
    if (stopped && !rc)
        rc = mu_rank_fail(stopped, "%s: %s", call, err.text);
    free_ckpt(c);
    return rc;
}

/* --- restore ---------------------------------------------------------------------------------------------------- */

/* Rank 0 says which one is tried next: its number, 0 when there are no more. */
struct candidate {
    uint64_t memory, generation;
};

static void restored(muster_ckpt *c, uint64_t step, uint64_t generation, uint64_t newest, const char *why,
                     bool is_durable)
{
    struct mu_slot *slot = mu_rank_slot();
    uint32_t error = slot ? atomic_load(&slot->user_error) : 0;

    if (slot) {
        atomic_store_explicit(&slot->restored_plus1, step + 1, memory_order_release);
        if (is_durable)
            atomic_store_explicit(&slot->ckpt_plus1, step + 1, memory_order_release);
    }
    if (generation == newest) {
        mu_rank_forget(); /* what is there after a restore is why it took an older one */
        return;
    }
    mu_ckpt_writer_bad(c->writer, generation, newest);
    mu_rank_fail(MUSTER_ECORRUPT, "restored step %" PRIu64 " from generation %" PRIu64 " instead of %" PRIu64 ": %s",
                 step, generation, newest, why);
    if (slot) /* a remark, not an error */
        atomic_store(&slot->user_error, error);
}

/* What is tried, newest first: by number, what is in memory before what is in the directory. */
struct tries {
    struct mu_rank_save *saves; /* the same on all ranks */
    size_t nsaves, at;
    uint64_t *list; /* rank 0's */
    size_t n, i;
};

static void free_tries(struct tries *t)
{
    free(t->saves);
    free(t->list);
}

/* Rank 0's choice. */
static void choose(struct tries *t, struct candidate *x)
{
    uint64_t dir = t->i < t->n ? t->list[t->i] : 0, ram = t->at < t->nsaves ? t->saves[t->at].order : 0;

    x->memory = t->at < t->nsaves && ram >= dir;
    x->generation = x->memory ? ram : dir;
    if (!x->memory && t->i < t->n)
        t->i++;
}

/* The whole of a save in memory, verified on all ranks; no tensor is touched. */
static int load_ram(muster_ckpt *c, const char *call, const struct mu_rank_save *save, struct mu_ckpt_held *held)
{
    struct mu_err err = {0};
    int rc = mu_rank_ram_load(&c->ram, &save->id, &c->tensors, held, &err);
    int all = agree(c, call, rc < 0 ? rc : 0, &err), again;

    if (c->peers.on && all == MUSTER_ECORRUPT) { /* something of it is lost or damaged */
        mu_ckpt_held_free(held);
        mu_rank_files(true);
        rc = mu_rank_peers_rebuild(&c->peers, &save->id, save->order, c->place.timeout / 2, &err);
        mu_rank_files(false);
        if ((again = agree(c, call, rc < 0 ? rc : 0, &err)))
            return again;
        rc = mu_rank_ram_load(&c->ram, &save->id, &c->tensors, held, &err);
        all = agree(c, call, rc < 0 ? rc : 0, &err);
    }
    if (all)
        mu_ckpt_held_free(held);
    return all;
}

/* What is restored from memory gets into the directory under this attempt's epoch, straight from where it lies, unless
 * it is there: 1. Else 0, and all have agreed on *generation for it. */
static int find_place(muster_ckpt *c, const char *call, const struct mu_ckpt_id *id, uint64_t *generation)
{
    struct mu_ckpt_path dir = mu_ckpt_final(&c->place, id->generation);
    struct mu_ckpt_intent mine = {
        .step = id->step, .generation = c->generation, .block = mu_ckpt_writer_held(c->writer, id)};
    struct mu_ckpt_commit k = {0};
    int32_t there = 0;
    int rc;

    mu_rank_files(true);
    if (c->rank == 0 && !mu_ckpt_store_commit(dir.s, id->generation, &k, NULL))
        there = mu_ckpt_same_id(&k.id, id) ? 1 : 0;
    mu_rank_files(false);
    free(k.votes);
    if ((rc = muster_broadcast(&there, 1, MUSTER_INT32, 0, c->comm)) || there)
        return rc ? rc : 1;
    rc = agree_on_save(c, call, &mine, NULL);
    *generation = mine.generation;
    return rc;
}

/* The tensors have been written (rc), so nothing here is an error of the restore's any more. Where it cannot be, the
 * next `due` says so. */
static void make_durable(muster_ckpt *c, const struct mu_ckpt_id *id, uint64_t generation, int rc)
{
    int32_t all = rc, worst;

    mu_rank_files(true);
    if (!rc)
        all = mu_ckpt_writer_adopt(c->writer, id, generation, ADOPT_WAIT);
    mu_rank_files(false);
    c->generation = generation + 1;
    c->last = generation;
    c->saved |= !all;
    c->saving = id->step;
    c->told = true; /* it was no save of the program's */
    if ((rc = muster_allreduce(&all, &worst, 1, MUSTER_INT32, MUSTER_MIN, c->comm)))
        worst = rc;
    if (worst && !all) {
        mu_ckpt_writer_cancel(c->writer);
        mu_rank_files(true);
        mu_ckpt_writer_idle(c->writer, ADOPT_WAIT); /* so that the next `due` asks for a save */
        mu_rank_files(false);
    }
    c->hasten = worst != 0;
}

/* Into the tensors: all that ranks have to agree on comes before, as they stay untouched on any error but that of a
 * device. Returns whether it was durable, or the error. */
static int take_ram(muster_ckpt *c, const char *call, const struct mu_ckpt_id *id, const struct mu_ckpt_held *held)
{
    uint64_t generation = 0;
    struct mu_err err = {0};
    int there = find_place(c, call, id, &generation), rc;

    if (there < 0)
        return there;
    rc = mu_ckpt_held_apply(held, &c->tensors, &err);
    if (!there)
        make_durable(c, id, generation, rc);
    return rc ? mu_rank_fail(rc, "%s: %s", call, err.text) : there;
}

static int none_usable(const muster_ckpt *c, const char *call, uint64_t files, size_t copies, const char *why)
{
    char held[60] = "";

    if (copies)
        snprintf(held, sizeof held, "%zu save%s in the nodes' memory%s", copies, copies == 1 ? "" : "s",
                 files ? " and " : "");
    if (!files)
        return mu_rank_fail(MUSTER_ECORRUPT, "%s: none of %s can be used, and no checkpoint is in %s; the newest: %s",
                            call, held, c->place.dir, why);
    return mu_rank_fail(MUSTER_ECORRUPT, "%s: none of %s%" PRIu64 " checkpoint%s in %s can be used; the newest: %s",
                        call, held, files, files == 1 ? "" : "s", c->place.dir, why);
}

int muster_ckpt_restore(muster_ckpt *c, uint64_t *step)
{
    static const char call[] = "muster_ckpt_restore";
    __attribute__((cleanup(free_tries))) struct tries t = {0};
    char reason[sizeof c->why] = "";
    struct mu_err err = {0};
    int rc = mu_rank_ckpt_check(c, call), mine;

    if (rc)
        return rc;
    /* a save that is on its way is the newest, if it gets there; its error stays for the next call */
    mine = step ? 0 : mu_err_set(&err, MUSTER_EARG, "no place for the step");
    if (!mine && settle(c, false, c->place.timeout, &err))
        mine = mu_err_set(&err, MUSTER_ETIMEOUT, "a checkpoint is still being written");
    if (!mine && c->rank == 0)
        mine = mu_ckpt_store_scan(c->place.dir, &t.list, &t.n, &err);
    if ((rc = agree(c, call, mine, &err)))
        return rc;
    if ((rc = mu_rank_ram_list(&c->ram, &t.saves, &t.nsaves, &err)))
        return mu_rank_fail(rc, "%s: %s", call, err.text);
    struct candidate x = {0};
    for (uint64_t newest = 0, files = 0;; files += !x.memory) {
        struct mu_ckpt_loaded got = {0};

        if (c->rank == 0)
            choose(&t, &x);
        if ((rc = muster_broadcast(&x, sizeof x, MUSTER_UINT8, 0, c->comm)))
            return rc;
        if (!x.generation && !newest)
            rc = mu_rank_fail(MUSTER_ENOCKPT, "%s: no checkpoint in %s", call, c->place.dir);
        else if (!x.generation)
            rc = none_usable(c, call, files, t.at, reason);
        if (rc)
            break;
        if (!newest)
            newest = x.generation;
        if (x.memory) {
            const struct mu_rank_save *s = &t.saves[t.at++];
            struct mu_ckpt_held held = {0};

            if (!(rc = load_ram(c, call, s, &held))) {
                int there = take_ram(c, call, &s->id, &held);

                mu_ckpt_held_free(&held);
                if (there < 0)
                    return there;
                *step = s->id.step;
                restored(c, s->id.step, x.generation, newest, reason, there);
                break;
            }
            if (rc != MUSTER_ECORRUPT && rc != MUSTER_EMISMATCH && rc != MUSTER_EIO && rc != MUSTER_ENOMEM)
                return rc;
            if (!reason[0])
                memcpy(reason, c->why, sizeof reason);
            continue;
        }
        mu_rank_files(true);
        rc = mu_ckpt_load(c->place.dir, x.generation, &c->tensors, &got, &err);
        mu_rank_files(false);
        if (!(rc = agree(c, call, rc, &err))) {
            rc = mu_ckpt_loaded_apply(&got, &c->tensors, &err);
            if (rc) { /* a GPU has failed */
                mu_ckpt_loaded_free(&got);
                return mu_rank_fail(rc, "%s: %s", call, err.text);
            }
            *step = got.id.step;
            restored(c, got.id.step, x.generation, newest, reason, true);
            mu_ckpt_loaded_free(&got);
            break;
        }
        mu_ckpt_loaded_free(&got);
        if (rc != MUSTER_ECORRUPT && rc != MUSTER_EIO)
            return rc;
        if (!reason[0])
            memcpy(reason, c->why, sizeof reason);
    }
    if (c->rank == 0 && t.n && t.list[0] >= c->generation)
        c->generation = t.list[0] + 1;
    c->last_save = mu_now();
    c->calls = 0;
    /* now is the time to get the buffer: the first save finds it ready */
    if (c->dirty && !mu_ckpt_writer_layout(c->writer, &c->tensors, NULL))
        c->dirty = false;
    return rc;
}
