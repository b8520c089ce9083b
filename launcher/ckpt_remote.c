/* muster ckpt on an object store. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/ckpt.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/ckpt/daemon/remote.h"

#define PART (16ull << 20)
#define PART_MIN (5ull << 20) /* of S3 */
#define PART_MAX (1ull << 30)
#define LANES 4

#define auto_remote __attribute__((cleanup(close_remote)))
static void close_remote(struct mu_remote **r)
{
    mu_remote_close(*r);
}

static int open_remote(const char *url, const struct mu_ckpt_opts *o, struct mu_remote **r, struct mu_err *err)
{
    struct mu_s3_given given = {
        .endpoint = o->endpoint, .credentials = o->credentials, .key = o->key, .patience = o->patience};

    if (o->part && (o->part < PART_MIN || o->part > PART_MAX))
        return mu_err_set(err, MUSTER_EARG, "--part-size is 5M to 1G");
    return mu_remote_open(url, &given, r, err);
}

static struct mu_remote_way way_of(const struct mu_ckpt_opts *o, struct mu_ckpt_progress *p)
{
    return (struct mu_remote_way){.lanes = o->lanes ? (unsigned)o->lanes : LANES,
                                  .part = o->part ? o->part : PART,
                                  .read_back = o->read_back,
                                  .bytes = mu_ckpt_advance,
                                  .arg = p};
}

static struct mu_ckpt_seen seen_of(const struct mu_remote_generation *g)
{
    struct mu_ckpt_seen s = {.number = g->generation, .verified = -1, .complete = g->complete, .pinned = g->pinned};

    memcpy(s.why, g->why, sizeof s.why);
    if (!g->commit.votes)
        return s;
    s.step = g->commit.id.step;
    s.ranks = g->commit.id.world;
    s.attempt = g->commit.id.attempt;
    s.wall = g->commit.wall;
    s.bytes = g->bytes;
    memcpy(s.job, g->commit.job, sizeof s.job);
    return s;
}

/* What the store has: those that are named, or all, newest first. */
struct remote_list {
    struct mu_remote_generation *all;
    size_t nall;
    const struct mu_remote_generation **v; /* of all */
    struct mu_ckpt_seen *seen;
    size_t n;
};
#define auto_list __attribute__((cleanup(list_free)))
static void list_free(struct remote_list *l)
{
    mu_remote_generations_free(l->all, l->nall);
    free(l->v);
    free(l->seen);
}

static int list_take(struct remote_list *l, const struct mu_remote_generation *g)
{
    l->seen[l->n] = seen_of(g);
    l->v[l->n++] = g;
    return 0;
}

static int list_of(struct mu_remote *r, const char *url, int argc, char **argv, struct remote_list *l,
                   struct mu_err *err)
{
    int rc = mu_remote_list(r, &l->all, &l->nall, err);
    size_t room = l->nall + (size_t)argc + 1;

    if (rc)
        return rc;
    if (!(l->v = calloc(room, sizeof *l->v)) || !(l->seen = calloc(room, sizeof *l->seen)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; !argc && i < l->nall; i++)
        list_take(l, &l->all[i]);
    for (int k = 0; k < argc; k++) {
        const struct mu_remote_generation *found = NULL;
        uint64_t want;

        if ((rc = mu_ckpt_number(argv[k], &want, err)))
            return rc;
        for (size_t i = 0; !found && i < l->nall; i++)
            if (l->all[i].generation == want)
                found = &l->all[i];
        if (!found)
            return mu_err_set(err, MUSTER_EARG, "there is no generation %" PRIu64 " in %.200s", want, url);
        list_take(l, found);
    }
    return 0;
}

/* That says nothing about the checkpoints. */
static int need_keys(const struct remote_list *l, size_t n, struct mu_err *err)
{
    for (size_t i = 0; i < n && i < l->n; i++)
        if (l->v[i]->locked)
            return mu_err_set(err, MUSTER_EARG, "%s", l->v[i]->why);
    return 0;
}

int mu_ckpt_remote_list(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    auto_remote struct mu_remote *r = NULL;
    auto_list struct remote_list l = {0};
    int rc = open_remote(url, o, &r, err);

    if (rc || (rc = list_of(r, url, argc, argv, &l, err)))
        return rc;
    return mu_ckpt_show_list(o, l.seen, l.n, err);
}

int mu_ckpt_remote_verify(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    auto_remote struct mu_remote *r = NULL;
    auto_list struct remote_list l = {0};
    uint64_t total = 0;
    int rc = open_remote(url, o, &r, err), bad = 0;

    if (rc || (rc = list_of(r, url, argc, argv, &l, err)) || (rc = need_keys(&l, l.n, err)))
        return rc;
    for (size_t i = 0; i < l.n; i++)
        total += l.seen[i].bytes;
    struct mu_ckpt_progress p = mu_ckpt_progress(o, "verify", total);
    struct mu_remote_way way = way_of(o, &p);
    for (size_t i = 0; i < l.n && !rc; i++) {
        struct mu_err why = {0};
        int got = mu_remote_verify(r, l.v[i], &way, &why);

        if (got && got != MUSTER_ECORRUPT && got != MUSTER_EVERSION) /* says nothing about the checkpoint */
            rc = mu_err_set(err, got, "%s", why.text);
        l.seen[i].verified = !got;
        if (got) {
            snprintf(l.seen[i].why, sizeof l.seen[i].why, "%.299s", why.text);
            bad++;
        }
    }
    mu_ckpt_finish(&p);
    if (rc || (rc = mu_ckpt_show_list(o, l.seen, l.n, err)))
        return rc;
    if (!l.n)
        return mu_err_set(err, MUSTER_ENOCKPT, "no checkpoint in %s", url);
    return bad ? mu_err_set(err, MUSTER_ECORRUPT, "%d of %zu generations cannot be restored", bad, l.n) : 0;
}

/* As in a directory, and what older pushes have left unfinished. */
int mu_ckpt_remote_prune(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    auto_remote struct mu_remote *r = NULL;
    auto_list struct remote_list l = {0};
    uint64_t good = 0, keep = o->keep ? o->keep : 3, oldest = 0;
    mu_auto_free bool *gone = NULL;
    size_t left = 0;
    int rc = open_remote(url, o, &r, err);

    /* with no key for what is there it would find nothing to remove, each time */
    if (rc || (rc = mu_remote_keys_fit(r, err)) || (rc = list_of(r, url, argc, argv, &l, err)))
        return rc;
    if (!(gone = calloc(l.nall + 1, sizeof *gone)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i < l.n; i++) { /* all: none is named */
        const struct mu_ckpt_seen *g = &l.seen[i];

        if (g->pinned || l.v[i]->code == MUSTER_EVERSION)
            continue;
        if (good < keep) {
            good += g->complete;
            oldest = g->complete ? g->number : oldest;
            continue;
        }
        gone[i] = !mu_ckpt_kept_for_ever(g->number, (uint32_t)o->every);
    }
    mu_remote_spare(l.all, l.nall, gone);
    for (size_t i = 0; !rc && i < l.n; i++) {
        const struct mu_ckpt_seen *g = &l.seen[i];

        if (!gone[i])
            continue;
        if (o->dry || !(rc = mu_remote_remove(r, l.v[i], err)))
            printf("%s generation %" PRIu64 " (step %" PRIu64 ")\n", o->dry ? "would remove" : "removed", g->number,
                   g->step);
    }
    if (!rc && !(rc = mu_remote_sweep(r, oldest, o->dry, &left, err)) && left)
        printf("%s what %zu unfinished push%s left\n", o->dry ? "would remove" : "removed", left,
               left == 1 ? " has" : "es have");
    return rc;
}

static int pin(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, bool on, struct mu_err *err)
{
    auto_remote struct mu_remote *r = NULL;
    auto_list struct remote_list l = {0};
    int rc = open_remote(url, o, &r, err);

    if (!rc)
        rc = list_of(r, url, argc, argv, &l, err);
    for (size_t i = 0; !rc && i < l.n; i++)
        rc = mu_remote_pin(r, l.v[i], on, err);
    return rc;
}

int mu_ckpt_remote_set_pin(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    return pin(url, o, argc, argv, true, err);
}

int mu_ckpt_remote_unset_pin(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    return pin(url, o, argc, argv, false, err);
}

/* --- copies ------------------------------------------------------------------------------------------------------- */

/* What push and pull say of each generation that they have copied. */
struct copies {
    const struct mu_ckpt_opts *o;
    const char *verb, *sent; /* "push", "sent" */
    json_t *root, *list;
    size_t n;
};

static struct copies copies(const struct mu_ckpt_opts *o, const char *verb, const char *sent)
{
    struct copies c = {.o = o, .verb = verb, .sent = sent};

    if (o->json)
        c.root = mu_ckpt_document(&c.list);
    return c;
}

static void copied(struct copies *c, const struct mu_ckpt_seen *g, const struct mu_remote_done *d, uint64_t ns)
{
    char a[32], b[32];

    c->n++;
    if (c->root) {
        json_t *x = mu_ckpt_as_json(g);

        json_object_set_new(x, "moved_bytes", json_integer((json_int_t)d->moved));
        json_object_set_new(x, "there_bytes", json_integer((json_int_t)d->there));
        json_object_set_new(x, "retries", json_integer((json_int_t)d->retries));
        json_object_set_new(x, "seconds", json_real((double)ns / 1e9));
        json_array_append_new(c->list, x);
        return;
    }
    printf("generation %" PRIu64 ", step %" PRIu64 ": %s %s", g->number, g->step, mu_ckpt_size_text(d->moved, a),
           c->sent);
    if (d->there)
        printf(", %s were there", mu_ckpt_size_text(d->there, b));
    if (d->retries)
        printf(", %" PRIu64 " request%s made again", d->retries, d->retries == 1 ? "" : "s");
    printf(", in %.1f s\n", (double)ns / 1e9);
    fflush(stdout);
}

/* Goes over the candidates, newest first; one that is damaged is passed over unless it was asked for. copy: one. */
static int copy_each(struct copies *c, const struct mu_ckpt_seen *v, size_t n, bool named, const char *from,
                     int (*copy)(void *arg, size_t i, const struct mu_remote_way *, struct mu_remote_done *,
                                 struct mu_err *),
                     void *arg, struct mu_err *err)
{
    int rc = 0;

    for (size_t i = 0; !rc && i < n && (named || c->o->all || !c->n); i++) {
        struct mu_ckpt_progress p = mu_ckpt_progress(c->o, c->verb, v[i].bytes * (c->o->read_back ? 2 : 1));
        struct mu_remote_way way = way_of(c->o, &p);
        struct mu_remote_done done = {0};
        struct mu_err why = {0};

        rc = copy(arg, i, &way, &done, &why);
        mu_ckpt_finish(&p);
        if (!rc) {
            copied(c, &v[i], &done, mu_now() - p.began);
        } else if (rc == MUSTER_ECORRUPT && !named) {
            fprintf(stderr, "muster ckpt %s: generation %" PRIu64 " cannot be used: %s\n", c->verb, v[i].number,
                    why.text);
            rc = 0;
        } else {
            *err = why;
        }
    }
    if (c->root && (!rc || c->n)) {
        struct mu_err why = {0};
        int printed = mu_ckpt_print_json(c->root, &why);

        if (!rc && printed) {
            *err = why;
            return printed;
        }
    } else if (c->root) {
        json_decref(c->root);
    }
    if (!rc && !c->n)
        rc = mu_err_set(err, MUSTER_ENOCKPT,
                        n ? "none of the checkpoints in %.200s can be used" : "no checkpoint in %.200s", from);
    return rc;
}

struct push {
    struct mu_remote *r;
    const char *dir;
    const struct mu_ckpt_seen *v;
    bool incremental;
};

#define FULL 10 /* one of so many is pushed whole */

static int push_incremental(const struct push *p, uint64_t generation, struct mu_remote_way way,
                            struct mu_remote_done *done, struct mu_err *err)
{
    struct mu_remote_generation *v = NULL;
    size_t n = 0;
    int rc = mu_remote_list(p->r, &v, &n, err);

    way.incremental = true;
    way.base = mu_remote_base(v, n, generation, FULL);
    if (!rc)
        rc = mu_remote_push(p->r, p->dir, generation, &way, done, err);
    mu_remote_generations_free(v, n);
    return rc;
}

static int push_one(void *arg, size_t i, const struct mu_remote_way *way, struct mu_remote_done *done,
                    struct mu_err *err)
{
    struct push *p = arg;

    return p->incremental ? push_incremental(p, p->v[i].number, *way, done, err)
                          : mu_remote_push(p->r, p->dir, p->v[i].number, way, done, err);
}

int mu_ckpt_remote_push(const char *dir, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    auto_remote struct mu_remote *r = NULL;
    mu_auto_free struct mu_ckpt_seen *v = NULL;
    size_t n = 0;
    int rc;

    if (!mu_s3_is_url(argv[0]))
        return mu_err_set(err, MUSTER_EARG, "%.200s: the second operand is s3://BUCKET/PREFIX", argv[0]);
    if ((rc = open_remote(argv[0], o, &r, err)) || (rc = mu_ckpt_collect(dir, argc - 1, argv + 1, &v, &n, err)))
        return rc;
    struct push p = {.r = r, .dir = dir, .v = v, .incremental = o->incremental};
    struct copies c = copies(o, "push", "sent");
    return copy_each(&c, v, n, argc > 1, dir, push_one, &p, err);
}

struct pull {
    struct mu_remote *r;
    const char *dir;
    const struct remote_list *l;
};

static int pull_one(void *arg, size_t i, const struct mu_remote_way *way, struct mu_remote_done *done,
                    struct mu_err *err)
{
    struct pull *p = arg;

    return mu_remote_pull(p->r, p->l->v[i], p->dir, way, done, err);
}

int mu_ckpt_remote_pull(const char *url, const struct mu_ckpt_opts *o, int argc, char **argv, struct mu_err *err)
{
    auto_remote struct mu_remote *r = NULL;
    auto_list struct remote_list l = {0};
    int rc;

    if (mu_s3_is_url(argv[0]) || strlen(argv[0]) >= MU_CKPT_DIR_MAX)
        return mu_err_set(err, MUSTER_EARG, "%.200s: the second operand is a directory", argv[0]);
    if ((rc = open_remote(url, o, &r, err)) || (rc = list_of(r, url, argc - 1, argv + 1, &l, err)) ||
        (rc = need_keys(&l, argc > 1 || o->all ? l.n : 1, err)))
        return rc;
    struct pull p = {.r = r, .dir = argv[0], .l = &l};
    struct copies c = copies(o, "pull", "fetched");
    if (!(rc = copy_each(&c, l.seen, l.n, argc > 1, url, pull_one, &p, err)))
        mu_remote_pull_tidy(argv[0]);
    return rc;
}
