/* muster bench pair: latency and bandwidth between each two ranks, each direction by itself, in rounds of disjoint
 * pairs (bench/pairs.h), or between those of a list, over MPI's own messages or UCX's. The last one is looked at. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "bench/rank/link.h"
#include "bench/rank/load.h"
#include "bench/rank/mpi_wire.h"
#include "bench/rank/rank.h"
#include "bench/rank/ucx_wire.h"
#include "bench/stats.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

struct opts {
    struct mu_room_opts room;
    uint64_t small, large;
    int rounds, samples, transport;
    const char *tests;
    char **pairs;
};

static const struct mu_opt table[] = {
    MU_ROOM_ROWS(struct opts, room),
    {"small", 0, MU_OPT_SIZE, offsetof(struct opts, small), "SIZE", "message that latency is measured with"},
    {"large", 0, MU_OPT_SIZE, offsetof(struct opts, large), "SIZE", "message that bandwidth is measured with"},
    {"rounds", 0, MU_OPT_INT, offsetof(struct opts, rounds), "N", "rounds of the tournament at most", .min = 1,
     .max = 1000000},
    {"samples", 0, MU_OPT_INT, offsetof(struct opts, samples), "N", "samples of each measurement at most", .min = 6,
     .max = 100000},
    {"tests", 0, MU_OPT_STRING, offsetof(struct opts, tests), "NAME,...", "lat, bw"},
    {"pairs", 0, MU_OPT_STRV, offsetof(struct opts, pairs), "FROM>TO,...", "hosts, in place of the tournament"},
    {"transport", 0, MU_OPT_CHOICE, offsetof(struct opts, transport), "mpi|ucx", "whose messages are measured"},
};

enum { WARM = 16, CHUNK = 20 }; /* round trips at first, and between two looks at the series */
enum { SYNC_ROUNDS = 3 };       /* from one look at the clocks to the next */
#define SAMPLE_NS (4 * MU_MS)   /* of bandwidth at most: so much at a time, or one message */
enum { SAMPLES_LEAST = 8 };     /* of bandwidth */
#define FAR_FROM_SURE 0.25
enum { OF_EIGHT = 7, OF_LIST = 4 }; /* rounds that --within is for, waves */
enum { END = 0, LOOK = -1 };        /* in place of a number of messages */

struct pair {
    struct mu_room *room;
    const struct opts *o;
    const struct mu_link *link;
    int peer, trial;
    double length; /* of a trial, in those that --within is for */
    char *buf;
    struct mu_series a, b, c; /* round trips; one way there and back */
    struct mu_load load;
};

static void fill(struct mu_record *m, const struct pair *p, const char *name, const char *unit, int from, int to,
                 double t)
{
    const struct mu_room *r = p->room;

    *m = (struct mu_record){.name = name,
                            .unit = unit,
                            .scope = MU_RECORD_PAIR,
                            .from = from,
                            .to = to,
                            .from_host = r->hosts[r->host_of[from]],
                            .to_host = r->hosts[r->host_of[to]],
                            .direction = "one",
                            .transport = p->link->name,
                            .late = -1,
                            .wrong = MU_RECORD_UNCHECKED,
                            .trial = p->trial,
                            .order = r->order,
                            .t = t};
}

static int add(struct pair *p, struct mu_record *m, struct mu_series *s, struct mu_err *err)
{
    struct mu_stats st;

    m->values = s->v;
    m->n = s->n;
    if (mu_series_stats(s, &st) && mu_stats_width(&st) > s->rule.width)
        m->flags |= MU_RECORD_NOISY;
    return mu_room_add(p->room, m, err);
}

/* The end: who has answered says how long it waited for its CPU, and who has measured takes the longer of the two. */
static int end_here(struct pair *p, struct mu_err *err)
{
    double waited = mu_load_end(&p->load, 1);

    return p->link->send(&waited, sizeof waited, p->peer, err);
}

static int end_there(struct pair *p, double *waited, struct mu_err *err)
{
    int none = END;
    double ours = mu_load_end(&p->load, 1);
    int rc = p->link->send(&none, sizeof none, p->peer, err);

    rc = rc ? rc : p->link->recv(waited, sizeof *waited, p->peer, err);
    *waited = fmax(*waited, ours);
    return rc;
}

/* Answers until it is told to stop; with the common time, where that is asked for (n below 0). */
static int echo(struct pair *p, struct mu_err *err)
{
    int rc, n = 0;

    for (;;) {
        if ((rc = p->link->recv_lazily(&n, sizeof n, p->peer, err)) || n == END)
            return rc ? rc : end_here(p, err);
        if ((rc = p->link->send(&n, sizeof n, p->peer, err)))
            return rc;
        for (int i = 0; i < (n < 0 ? -n : n); i++) {
            if ((rc = p->link->recv(p->buf, p->o->small, p->peer, err)))
                return rc;
            if (n < 0) {
                uint64_t now = mu_room_common(p->room, mu_now());
                memcpy(p->buf, &now, sizeof now);
            }
            if ((rc = p->link->send(p->buf, p->o->small, p->peer, err)))
                return rc;
        }
    }
}

/* count round trips, their times into us[2 i] (there and back) and, stamped, us[2 i + 1] (there). */
static int chunk(struct pair *p, int count, bool stamped, double us[2 * CHUNK], struct mu_err *err)
{
    int rc, n = stamped ? -count : count;

    if ((rc = p->link->send(&n, sizeof n, p->peer, err)) || (rc = p->link->recv(&n, sizeof n, p->peer, err)))
        return rc;
    for (int i = 0; i < count; i++) {
        uint64_t theirs, sent = mu_now();
        if ((rc = p->link->send(p->buf, p->o->small, p->peer, err)) ||
            (rc = p->link->recv(p->buf, p->o->small, p->peer, err)))
            return rc;
        uint64_t back = mu_now();
        us[2 * i] = (double)(back - sent) / 1e3;
        memcpy(&theirs, p->buf, sizeof theirs);
        if (stamped)
            us[2 * i + 1] = (double)(int64_t)(theirs - mu_room_common(p->room, sent)) / 1e3;
    }
    return 0;
}

static int ask(struct pair *p, double t, struct mu_err *err)
{
    enum mu_series_state state = MU_SERIES_MORE;
    double us[2 * CHUNK];
    struct mu_record m;
    struct mu_stats st;
    double waited;
    int rc = chunk(p, WARM, false, us, err), me = p->room->rank;

    while (!rc && state == MU_SERIES_MORE) {
        rc = chunk(p, CHUNK, false, us, err);
        for (int i = 0; i < CHUNK && !rc && state == MU_SERIES_MORE; i++)
            state = mu_series_add(&p->a, us[2 * i] / 2, mu_now());
    }
    state = MU_SERIES_MORE;
    while (!rc && state == MU_SERIES_MORE) {
        rc = chunk(p, CHUNK, true, us, err);
        for (int i = 0; i < CHUNK && !rc && state == MU_SERIES_MORE; i++) {
            mu_series_add(&p->c, us[2 * i] - us[2 * i + 1], mu_now());
            state = mu_series_add(&p->b, us[2 * i + 1], mu_now());
        }
    }
    if (rc || (rc = end_there(p, &waited, err)))
        return rc;
    fill(&m, p, "pair.lat", "us", me, p->peer, t);
    m.direction = "both";
    m.size = p->o->small;
    m.waited = waited;
    if ((rc = add(p, &m, &p->a, err)) || !mu_series_stats(&p->a, &st))
        return rc;
    double unsure = p->room->clock.residual / 1e3;
    for (int way = 0; way < 2 && !rc; way++) {
        fill(&m, p, "pair.oneway", "us", way ? p->peer : me, way ? me : p->peer, t);
        m.size = p->o->small;
        m.waited = waited;
        m.flags = unsure > FAR_FROM_SURE * st.p50 ? MU_RECORD_UNSYNCED : 0;
        rc = add(p, &m, way ? &p->c : &p->b, err);
    }
    return rc;
}

/* What the last message of rank `from` holds, so that no other one looks like it. Also used to count what differs, in
 * words of 8 bytes. */
static uint64_t fill_or_count(const struct pair *p, int from, bool count)
{
    uint64_t seed = p->room->seed ^ ((uint64_t)from << 32 | (uint64_t)p->room->order), wrong = 0;

    for (size_t at = 0; at < p->o->large; at += sizeof seed) {
        size_t n = p->o->large - at < sizeof seed ? p->o->large - at : sizeof seed;
        uint64_t word = mu_pairs_random(&seed);
        if (count)
            wrong += memcmp(p->buf + at, &word, n) != 0;
        else
            memcpy(p->buf + at, &word, n);
    }
    return wrong;
}

static int take_last(struct pair *p, struct mu_err *err)
{
    uint64_t wrong = 0;
    int rc;

    memset(p->buf, 0, p->o->large);
    if ((rc = p->link->post_recvs(p->buf, p->o->large, 1, &p->peer, 1, err)) ||
        (rc = p->link->send(&wrong, sizeof wrong, p->peer, err)) || (rc = p->link->finish(err)))
        return rc;
    wrong = fill_or_count(p, p->peer, true);
    return p->link->send(&wrong, sizeof wrong, p->peer, err);
}

static int give_last(struct pair *p, int64_t *wrong, struct mu_err *err)
{
    int rc, n = LOOK;

    fill_or_count(p, p->room->rank, false);
    if ((rc = p->link->send(&n, sizeof n, p->peer, err)) || (rc = p->link->recv(wrong, sizeof *wrong, p->peer, err)) ||
        (rc = p->link->post_sends(p->buf, p->o->large, 1, &p->peer, 1, err)) || (rc = p->link->finish(err)))
        return rc;
    return p->link->recv(wrong, sizeof *wrong, p->peer, err);
}

static int take(struct pair *p, struct mu_err *err)
{
    int rc, n;

    for (;;) {
        if ((rc = p->link->recv_lazily(&n, sizeof n, p->peer, err)) || n == END)
            return rc ? rc : end_here(p, err);
        if (n == LOOK) {
            if ((rc = take_last(p, err)))
                return rc;
            continue;
        }
        if ((rc = p->link->post_recvs(p->buf, p->o->large, n, &p->peer, 1, err)) ||
            (rc = p->link->send(&n, sizeof n, p->peer, err)) || (rc = p->link->finish(err)) ||
            (rc = p->link->send(&n, sizeof n, p->peer, err)))
            return rc;
    }
}

static int give(struct pair *p, double t, struct mu_err *err)
{
    enum mu_series_state state = MU_SERIES_MORE;
    struct mu_record m;
    int rc = 0, n = 1, ready;
    int64_t wrong = 0;
    double waited;

    for (int i = 0; state == MU_SERIES_MORE; i++) {
        if ((rc = p->link->send(&n, sizeof n, p->peer, err)) ||
            (rc = p->link->recv(&ready, sizeof ready, p->peer, err)))
            return rc;
        uint64_t t0 = mu_now();
        if ((rc = p->link->post_sends(p->buf, p->o->large, n, &p->peer, 1, err)) || (rc = p->link->finish(err)) ||
            (rc = p->link->recv(&ready, sizeof ready, p->peer, err)))
            return rc;
        uint64_t ns = mu_now() - t0;
        if (i >= 2) {
            state = mu_series_add(&p->a, (double)p->o->large * n / (double)(ns ? ns : 1), mu_now());
        } else { /* the first ones warm up, and say how many make a sample */
            double fit = fmin((double)SAMPLE_NS, (double)p->o->room.budget / SAMPLES_LEAST) / ((double)(ns + 1) / n);
            n = fit < 1 ? 1 : fit > 64 ? 64 : (int)fit;
        }
    }
    if ((rc = give_last(p, &wrong, err)) || (rc = end_there(p, &waited, err)))
        return rc;
    fill(&m, p, "pair.bw", "GB/s", p->room->rank, p->peer, t);
    m.more_is_better = true;
    m.waited = waited;
    m.wrong = wrong;
    m.size = p->o->large;
    return add(p, &m, &p->a, err);
}

static bool wanted(const struct opts *o, const char *test)
{
    size_t len = strlen(test);

    for (const char *w = o->tests; w && *w; w += strcspn(w, ","), w += *w == ',')
        if (strcspn(w, ",") == len && !strncmp(w, test, len))
            return true;
    return !o->tests;
}

enum phase { LATENCY, BANDWIDTH, BACK, PHASES };

/* leads: measures latency, and sends first. */
static int play(struct pair *p, enum phase phase, bool leads, struct mu_err *err)
{
    size_t most = (size_t)p->o->samples;
    uint64_t budget = p->o->room.budget;
    struct mu_series_rule lat = {20, most, 0.01, budget / 4}, bw = {SAMPLES_LEAST, most, 0.01, budget};
    double t = (double)mu_wall() / 1e9;
    int rc;

    if ((rc = mu_series_begin(&p->a, phase == LATENCY ? &lat : &bw, err)) || (rc = mu_series_begin(&p->b, &lat, err)) ||
        (rc = mu_series_begin(&p->c, &lat, err)))
        goto out;
    mu_load_begin(&p->load);
    if (phase == LATENCY)
        rc = leads ? ask(p, t, err) : echo(p, err);
    else
        rc = leads == (phase == BANDWIDTH) ? give(p, t, err) : take(p, err);
    if (!rc && p->link->settle)
        rc = p->link->settle(err);
out:
    mu_series_free(&p->a);
    mu_series_free(&p->b);
    mu_series_free(&p->c);
    return rc;
}

/* Which turn of a round a pair has, where not all of them may measure at once: by their order. */
static int turn_of(const struct mu_pairs *pairs, uint32_t round, int rank, int at_once)
{
    uint32_t peer = mu_pairs_with(pairs, round, (uint32_t)rank), low = (uint32_t)rank < peer ? (uint32_t)rank : peer;
    int before = 0;

    for (uint32_t i = 0; i < low; i++) {
        uint32_t k = mu_pairs_with(pairs, round, i);
        before += k != UINT32_MAX && k > i;
    }
    return before / at_once;
}

static int most_at_once(const struct pair *p)
{
    return p->o->room.at_once ? p->o->room.at_once : p->room->size;
}

static int turns_of(const struct pair *p)
{
    return (p->room->size / 2 + most_at_once(p) - 1) / most_at_once(p);
}

static int play_round(struct pair *p, const struct mu_pairs *pairs, uint32_t round, double *done, double step,
                      struct mu_err *err)
{
    struct mu_room *r = p->room;
    uint32_t peer = mu_pairs_with(pairs, round, (uint32_t)r->rank);
    int at_once = most_at_once(p), turns = turns_of(p);
    int mine = peer == UINT32_MAX ? -1 : turn_of(pairs, round, r->rank, at_once);
    int rc = wanted(p->o, "lat") && round % SYNC_ROUNDS == 0 ? mu_room_sync(r, err) : 0;

    for (int turn = 0; turn < turns && !rc; turn++) {
        for (enum phase phase = LATENCY; phase < PHASES && !rc; phase++, r->order++) {
            if (!wanted(p->o, phase == LATENCY ? "lat" : "bw"))
                continue;
            if (mine == turn) {
                p->peer = (int)peer;
                rc = play(p, phase, r->rank < p->peer, err);
            }
            if (!rc)
                rc = mu_wire_rest(err);
        }
        *done += step / turns;
        if (!rc)
            rc = mu_room_flush(r, *done, err);
    }
    return rc;
}

/* --- a list ---------------------------------------------------------------------------------------------------------
 */

struct listed {
    int from, to; /* ranks */
    int wave;     /* those of one wave share no host, and measure at once */
};

struct list {
    struct listed *v;
    uint32_t n;
    int waves;
};

static int rank_on(const struct mu_room *r, const char *host, size_t len)
{
    for (int h = 0; h < r->nhosts; h++)
        if (strlen(r->hosts[h]) == len && !memcmp(r->hosts[h], host, len))
            return r->leader[h];
    return -1;
}

static int read_list(const struct mu_room *r, char *const *texts, struct list *l, struct mu_err *err)
{
    uint32_t most = 0;

    for (char *const *t = texts; *t; t++)
        for (const char *p = *t; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
            most++;
    if (!(l->v = malloc((most + 1) * sizeof *l->v)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a list of %u pairs", most);
    for (char *const *t = texts; *t; t++) {
        for (const char *p = *t; *p; p += strcspn(p, ","), p += *p == ',') {
            size_t len = strcspn(p, ","), from = strcspn(p, ">,");
            struct listed x = {.from = rank_on(r, p, from),
                               .to = from < len ? rank_on(r, p + from + 1, len - from - 1) : -1};
            if (x.from < 0 || x.to < 0 || x.from == x.to)
                return mu_err_set(err, MUSTER_EARG, "--pairs %.*s: takes two hosts of the job, FROM>TO",
                                  (int)(len < 120 ? len : 120), p);
            l->v[l->n++] = x;
        }
    }
    return l->n ? 0 : mu_err_set(err, MUSTER_EARG, "--pairs: no pairs");
}

/* Each as early as its hosts are free, in an order that the seed draws. */
static int make_waves(const struct mu_room *r, struct list *l, int at_once, uint64_t seed, struct mu_err *err)
{
    mu_auto_free uint32_t *order = malloc((l->n + 1) * sizeof *order);
    mu_auto_free int *next = calloc((size_t)r->size, sizeof *next), *used = calloc(l->n + 1, sizeof *used);

    if (!order || !next || !used)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a list of %u pairs", l->n);
    for (uint32_t i = 0; i < l->n; i++)
        order[i] = i;
    mu_pairs_shuffle(order, l->n, &seed);
    l->waves = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        struct listed *x = &l->v[order[i]];
        x->wave = next[x->from] > next[x->to] ? next[x->from] : next[x->to];
        while (at_once && used[x->wave] >= at_once)
            x->wave++;
        used[x->wave]++;
        next[x->from] = next[x->to] = x->wave + 1;
        l->waves = x->wave >= l->waves ? x->wave + 1 : l->waves;
    }
    return 0;
}

static int play_list(struct pair *p, const struct list *l, double *done, double step, struct mu_err *err)
{
    struct mu_room *r = p->room;
    int rc = 0;

    p->length = fmax(1, (double)l->waves / OF_LIST);
    for (int wave = 0; wave < l->waves && !rc; wave++) {
        const struct listed *mine = NULL;
        for (uint32_t i = 0; i < l->n; i++)
            if (l->v[i].wave == wave && (l->v[i].from == r->rank || l->v[i].to == r->rank))
                mine = &l->v[i];
        if (wanted(p->o, "lat") && wave % SYNC_ROUNDS == 0)
            rc = mu_room_sync(r, err);
        for (enum phase phase = LATENCY; phase < BACK && !rc; phase++, r->order++) {
            if (!wanted(p->o, phase == LATENCY ? "lat" : "bw"))
                continue;
            if (mine) {
                p->peer = mine->from == r->rank ? mine->to : mine->from;
                rc = play(p, phase, mine->from == r->rank, err);
            }
            if (!rc)
                rc = mu_wire_rest(err);
        }
        *done += step / l->waves;
        if (!rc)
            rc = mu_room_flush(r, *done, err);
    }
    return rc;
}

static int check(const struct opts *o, const struct mu_room *room, struct mu_err *err)
{
    if (room->size < 2)
        return mu_err_set(err, MUSTER_EARG, "a pair needs two ranks; give -n 2 or more hosts");
    if (o->small < sizeof(uint64_t) || o->large < 1 || o->small > 1 << 30 || o->large > 1 << 30)
        return mu_err_set(err, MUSTER_EARG, "--small must be 8 bytes or more, --large 1, both 1G at most");
    for (const char *p = o->tests; p && *p; p += strcspn(p, ","), p += *p == ',') {
        size_t len = strcspn(p, ",");
        if (!(len == 3 && !strncmp(p, "lat", 3)) && !(len == 2 && !strncmp(p, "bw", 2)))
            return mu_err_set(err, MUSTER_EARG, "--tests %.*s: not a test; there are lat, bw",
                              (int)(len < 40 ? len : 40), p);
    }
    return 0;
}

static int tournament(struct pair *p, uint64_t seed, double *done, double step, struct mu_err *err)
{
    struct mu_pairs pairs;
    int rc = mu_pairs_new(&pairs, (uint32_t)p->room->size, (uint32_t)p->o->rounds, seed, err);

    if (rc)
        return rc;
    p->length = fmax(1, (double)pairs.rounds * turns_of(p) / OF_EIGHT);
    for (uint32_t k = 0; k < pairs.rounds && !rc; k++)
        rc = play_round(p, &pairs, k, done, step / pairs.rounds, err);
    mu_pairs_free(&pairs);
    return rc;
}

enum { OVER_MPI, OVER_UCX };

static int measure(struct mu_room *room, const struct opts *o, struct list *list, struct mu_err *err)
{
    mu_auto_free char *buf = calloc(1, o->large > o->small ? o->large : o->small);
    struct pair p = {
        .room = room, .o = o, .link = o->transport == OVER_UCX ? &mu_ucx_link : &mu_mpi_link, .buf = buf, .length = 1};
    double done = 0, step = 1.0 / o->room.trials;
    bool go = true;
    int rc = 0;

    if (!buf)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for messages of %llu bytes", (unsigned long long)o->large);
    for (; !rc && !(rc = mu_room_another(room, &o->room, p.trial, p.length, &go, err)) && go; p.trial++) {
        uint64_t seed = room->seed + (uint64_t)p.trial;
        if (!o->pairs)
            rc = tournament(&p, seed, &done, step, err);
        else if (!(rc = make_waves(room, list, o->room.at_once, seed, err)))
            rc = play_list(&p, list, &done, step, err);
    }
    return rc;
}

int mu_bench_pair(struct mu_room *room, int argc, char **argv, struct mu_err *err)
{
    struct opts o = {.room = {.trials = 1, .budget = 500 * MU_MS}, .small = 8, .large = 1 << 20, .samples = 2000};
    struct list list = {0};
    int rc = mu_room_begin(room, table, MU_COUNT(table), argc, argv, &o, &o.room, err);

    rc = rc ? rc : check(&o, room, err);
    if (!rc && o.pairs)
        rc = read_list(room, o.pairs, &list, err);
    if (!rc && o.transport == OVER_UCX)
        rc = mu_ucx_wire_open(room, err);
    rc = rc ? rc : measure(room, &o, &list, err);
    mu_ucx_wire_close(rc == 0);
    free(list.v);
    mu_opt_free(table, MU_COUNT(table), &o);
    return rc;
}
