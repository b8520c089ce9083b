#include "tests/judge/world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/pairs.h"

enum { SIZE_BW = 1 << 20, SIZE_LAT = 8, PER_LEAF = 4, PER_LEAF_LARGE = 16 };

const char *world_plant_name(enum plant p)
{
    static const char *const names[] = {"none",     "cpu",  "net",  "out",   "in",        "link",
                                        "boundary", "rank", "late", "spoil", "spoil-link"};

    return names[p];
}

const char *world_weather_name(enum weather w)
{
    static const char *const names[] = {"calm", "tails", "phases", "crowd", "hog", "waves"};

    return names[w];
}

double world_uniform(struct world *w, double from, double to)
{
    return from + (to - from) * (double)(mu_pairs_random(&w->rng) >> 11) / 9007199254740992.0;
}

static double gauss(struct world *w)
{
    double u = world_uniform(w, 1e-12, 1), v = world_uniform(w, 0, 1);

    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static int32_t below(struct world *w, unsigned n)
{
    return (int32_t)(mu_pairs_random(&w->rng) % n);
}

void world_make(struct world *w, uint64_t seed, unsigned hosts, bool standard, enum weather weather)
{
    *w = (struct world){.rng = seed * 0x9e3779b97f4a7c15u + 1,
                        .sky = seed ^ 0x5851f42d4c957f2du,
                        .weather = weather,
                        .hosts = hosts,
                        .trials = standard ? 5 : 3,
                        .hog = -1};
    w->per_host = below(w, 2) ? 1 : 4;
    w->noise = world_uniform(w, 0.003, 0.02);
    w->tail = world_uniform(w, 0, 0.05);
    w->drift = world_uniform(w, -0.05, 0.05);
    w->plant = below(w, 5) ? (enum plant)(1 + below(w, PLANTS - 1)) : PLANT_NONE;
    if (w->plant == PLANT_RANK || w->plant == PLANT_LATE)
        w->per_host = 4;
    static const double drops[] = {0.05, 0.10, 0.15, 0.20, 0.30, 0.50};
    w->drop = drops[below(w, 6)];
    w->spoil = world_uniform(w, 0.9, 1);
    w->a = below(w, hosts);
    w->b = (w->a + 1 + below(w, hosts - 1)) % (int32_t)hosts;
    w->rank = w->a * (int32_t)w->per_host + below(w, w->per_host);
    w->both_ways = below(w, 2);
    if (below(w, 3) == 0) {
        w->hog = below(w, hosts);
        w->hog_from = world_uniform(w, 0, 1);
        w->hog_to = w->hog_from + world_uniform(w, 0.05, 0.3);
        w->hog_drop = world_uniform(w, 0.1, 0.5);
    }
    if (weather == WEATHER_CROWD || weather == WEATHER_TAILS)
        w->rough = world_uniform(w, 0.03, weather == WEATHER_CROWD ? 0.5 : 0.2);
    if (weather == WEATHER_PHASES || weather == WEATHER_WAVES)
        w->rough = world_uniform(w, 0.1, 0.5);
    w->dwell = world_uniform(w, 0.005, 0.12);
    if (weather == WEATHER_HOG) {
        w->hog = below(w, hosts);
        w->hog_from = world_uniform(w, -0.5, 0.5);
        w->hog_to = w->hog_from + world_uniform(w, 0.3, 2);
        w->hog_drop = world_uniform(w, 0.05, 0.6);
    }
    w->host_part = calloc(hosts * 3, sizeof *w->host_part);
    w->out_part = w->host_part + hosts;
    w->in_part = w->out_part + hosts;
    for (unsigned i = 0; i < hosts * 3; i++)
        w->host_part[i] = 1 + 0.003 * gauss(w);
}

void world_free(struct world *w)
{
    free(w->host_part);
}

static double hogged(const struct world *w, int32_t host, double t)
{
    return host == w->hog && t >= w->hog_from && t < w->hog_to ? 1 - w->hog_drop : 1;
}

/* Of a place and a stretch of time the same number between 0 and 1, however often it is asked for. */
static double of_sky(const struct world *w, int64_t place, int64_t stretch)
{
    uint64_t s = w->sky ^ ((uint64_t)place * 0x9e3779b97f4a7c15u) ^ ((uint64_t)stretch * 0xd1342543de82ef95u);

    mu_pairs_random(&s);
    return (double)(mu_pairs_random(&s) >> 11) / 9007199254740992.0;
}

/* What the weather leaves of a host's rate, or (place -1) of everybody's. */
static double weather(const struct world *w, int32_t place, double t)
{
    int64_t stretch = (int64_t)floor((t + of_sky(w, place, -1)) / w->dwell);
    double u = of_sky(w, place, stretch), v = of_sky(w, place + 100000, stretch);

    switch (w->weather) {
    case WEATHER_PHASES:
        return place >= 0 && u < 0.15 ? 1 - w->rough * (0.5 + v / 2) : 1;
    case WEATHER_CROWD:
        return place >= 0 ? exp(-w->rough * sqrt(-2 * log(1e-9 + u)) * fabs(cos(6.283185307179586 * v))) : 1;
    case WEATHER_WAVES:
        return place < 0 && u < 0.3 ? 1 - w->rough * (0.5 + v / 2) : 1;
    default:
        return 1;
    }
}

static double place_rate(const struct world *w, int32_t host, double t)
{
    return hogged(w, host, t) * weather(w, host, t);
}

/* The share of the time that a host's ranks wait for their processors, as they see it. */
static double waited(struct world *w, int32_t host, double t)
{
    double part = 1 - hogged(w, host, t) + (w->weather == WEATHER_CROWD ? 1 - weather(w, host, t) : 0);

    return fmin(0.95, part > 0 ? part * world_uniform(w, 0.85, 1.05) : world_uniform(w, 0, 0.01));
}

static double sample(struct world *w, double rate, double t)
{
    rate *= (1 + w->noise * gauss(w)) * (1 + w->drift * t) * weather(w, -1, t);
    if (w->weather == WEATHER_CROWD)
        rate *= exp(w->rough / 2 * gauss(w));
    if (w->weather == WEATHER_TAILS && world_uniform(w, 0, 1) < 0.5) /* a ratio of normals: no variance at all */
        rate /= 1 + w->rough * fabs(gauss(w) / fmax(fabs(gauss(w)), 0.02));
    return world_uniform(w, 0, 1) < w->tail ? rate * world_uniform(w, 0.5, 0.95) : rate;
}

/* A trial is the median of a handful of samples, and what is the matter with its time and place hits all of them. */
static double trial(struct world *w, double rate, double t)
{
    double v[5];

    for (int i = 0; i < 5; i++)
        v[i] = sample(w, rate, t + i * 0.001);
    return mu_median(v, 5);
}

static double pair_rate(const struct world *w, const struct mu_data *d, int32_t from, int32_t to, double t)
{
    double out = w->out_part[from] * place_rate(w, from, t), in = w->in_part[to] * place_rate(w, to, t), link = 1.02;

    if ((w->plant == PLANT_NET || w->plant == PLANT_OUT) && from == w->a)
        out *= 1 - w->drop;
    if ((w->plant == PLANT_NET || w->plant == PLANT_IN) && to == w->a)
        in *= 1 - w->drop;
    if (w->plant == PLANT_LINK && from == w->a && to == w->b)
        link = 1 - w->drop;
    if (w->plant == PLANT_BOUNDARY && d->group[from] != d->group[to]) {
        int32_t a = d->group[from], b = d->group[to];
        if ((a == 0 && b == 1) || (w->both_ways && a == 1 && b == 0))
            link = 1 - w->drop;
    }
    return fmin(link, fmin(out, in));
}

static int measure_pair(struct world *w, struct mu_data *d, int32_t from, int32_t to, unsigned round, double t)
{
    struct mu_trials_key bw = {
        .test = 0, .from = from, .to = to, .rank = from * (int32_t)w->per_host, .round = round, .size = SIZE_BW};
    struct mu_trials *s = mu_data_trials(d, &bw, MU_SCOPE_PAIR);
    double rate = pair_rate(w, d, from, to, t);

    if (!s || mu_data_add(s, 10 * trial(w, rate, t)))
        return MUSTER_ENOMEM;
    s->samples += 5;
    mu_trials_waited(s, fmax(waited(w, from, t), waited(w, to, t)));
    bool spoils =
        (w->plant == PLANT_SPOIL && from == w->a) || (w->plant == PLANT_SPOIL_LINK && from == w->a && to == w->b);
    if (spoils && world_uniform(w, 0, 1) < w->spoil)
        s->wrong += 3;
    struct mu_trials_key lat = bw;
    lat.test = 1;
    lat.size = SIZE_LAT;
    if (!(s = mu_data_trials(d, &lat, MU_SCOPE_PAIR)))
        return MUSTER_ENOMEM;
    mu_trials_waited(s, fmax(waited(w, from, t), waited(w, to, t)));
    double both = place_rate(w, from, t) * place_rate(w, to, t);
    return mu_data_add(s, 2 / trial(w, both, t));
}

static int measure_node(struct world *w, struct mu_data *d, int32_t host, unsigned round, double t)
{
    int rc = 0;

    for (unsigned r = 0; r < w->per_host && !rc; r++) {
        int32_t rank = host * (int32_t)w->per_host + (int32_t)r;
        struct mu_trials_key k = {.test = 2, .from = host, .to = -1, .rank = rank, .round = round};
        double rate = w->host_part[host] * place_rate(w, host, t);
        if ((w->plant == PLANT_CPU && host == w->a) || (w->plant == PLANT_RANK && rank == w->rank))
            rate *= 1 - w->drop;
        struct mu_trials *s = mu_data_trials(d, &k, MU_SCOPE_NODE);
        rc = !s || mu_data_add(s, 100 * trial(w, rate, t)) ? MUSTER_ENOMEM : 0;
        if (s)
            mu_trials_waited(s, waited(w, host, t));
        k.test = 3;
        if (rc || !(s = mu_data_trials(d, &k, MU_SCOPE_NODE)))
            return MUSTER_ENOMEM;
        double lag = 0.02 + 0.005 * fabs(gauss(w)) + (hogged(w, host, t) < 1 ? 0.3 : 0) + 1 - weather(w, host, t);
        mu_trials_waited(s, waited(w, host, t));
        rc = mu_data_add(s, lag + (w->plant == PLANT_LATE && rank == w->rank ? w->drop : 0));
    }
    return rc;
}

int world_first_pass(struct world *w, struct mu_data *d)
{
    char name[32];
    struct mu_err err;
    struct mu_pairs p = {0};

    for (unsigned h = 0; h < w->hosts; h++) {
        snprintf(name, sizeof name, "n%u", h);
        /* names are new: a search among 10,000 for each would be long */
        if (mu_data_host(d, name) < 0)
            return MUSTER_ENOMEM;
        snprintf(name, sizeof name, "leaf%u", h / (w->hosts > 32 ? PER_LEAF_LARGE : PER_LEAF));
        if (mu_data_group(d, h, name))
            return MUSTER_ENOMEM;
    }
    d->nranks = w->hosts * w->per_host;
    d->rank_host = calloc(d->nranks, sizeof *d->rank_host);
    for (unsigned r = 0; d->rank_host && r < d->nranks; r++)
        d->rank_host[r] = (int32_t)(r / w->per_host);
    if (!d->rank_host || mu_data_test(d, "pair.bw", "GB/s", false) != 0 ||
        mu_data_test(d, "pair.lat", "us", true) != 1 || mu_data_test(d, "node.cpu.gemm", "GFLOP/s", false) != 2 ||
        mu_data_test(d, "coll.allreduce.lag", "ratio", true) != 3)
        return MUSTER_ENOMEM;
    int rc = mu_pairs_new(&p, w->hosts, 0, w->rng, &err);
    for (unsigned trial = 0; trial < w->trials && !rc; trial++) {
        for (unsigned r = 0; r < p.rounds && !rc; r++) {
            double t = 0.7 * (trial + (double)r / p.rounds) / w->trials;
            for (uint32_t h = 0; h < w->hosts && !rc; h++) {
                uint32_t with = mu_pairs_with(&p, r, h);
                if (with != UINT32_MAX)
                    rc = measure_pair(w, d, (int32_t)h, (int32_t)with, 0, t);
            }
        }
        for (uint32_t h = 0; h < w->hosts && !rc; h++)
            rc = measure_node(w, d, (int32_t)h, 0, 0.7 * trial / w->trials);
    }
    mu_pairs_free(&p);
    return rc;
}

int world_asked(struct world *w, struct mu_data *d, const struct mu_ask *a, unsigned n, unsigned round)
{
    int rc = 0;

    for (unsigned k = 0; k < w->trials; k++)
        for (unsigned i = 0; i < n && !rc; i++) {
            double t = 0.7 + 0.1 * (round - 1) + 0.1 * (k + (double)i / n) / w->trials;
            rc = a[i].to < 0 ? measure_node(w, d, a[i].from, round, t)
                             : measure_pair(w, d, a[i].from, a[i].to, round, t);
        }
    return rc;
}

bool world_is(const struct world *w, const struct mu_data *d, const struct mu_suspect *s, bool kind_too)
{
    static const struct {
        enum mu_suspect_kind kind;
        int dir; /* -1: any */
        bool corrupt;
    } rows[PLANTS] = {
        [PLANT_CPU] = {MU_SUSPECT_NODE, MU_DIR_NONE, false}, [PLANT_NET] = {MU_SUSPECT_NODE, MU_DIR_BOTH, false},
        [PLANT_OUT] = {MU_SUSPECT_NODE, MU_DIR_OUT, false},  [PLANT_IN] = {MU_SUSPECT_NODE, MU_DIR_IN, false},
        [PLANT_LINK] = {MU_SUSPECT_LINK, -1, false},         [PLANT_BOUNDARY] = {MU_SUSPECT_BOUNDARY, -1, false},
        [PLANT_RANK] = {MU_SUSPECT_RANK, -1, false},         [PLANT_LATE] = {MU_SUSPECT_RANK, -1, false},
        [PLANT_SPOIL] = {MU_SUSPECT_RANK, MU_DIR_OUT, true}, [PLANT_SPOIL_LINK] = {MU_SUSPECT_LINK, -1, true},
    };

    if (w->plant == PLANT_NONE)
        return false;
    if (kind_too && (s->kind != rows[w->plant].kind || s->corrupt != rows[w->plant].corrupt ||
                     (rows[w->plant].dir >= 0 && (int)s->dir != rows[w->plant].dir)))
        return false;
    if (kind_too && w->plant == PLANT_BOUNDARY && (s->dir == MU_DIR_BOTH) != w->both_ways)
        return false;
    switch (s->kind) {
    case MU_SUSPECT_BOUNDARY:
        return w->plant == PLANT_BOUNDARY && s->a + s->b == 1;
    case MU_SUSPECT_LINK:
        return (w->plant == PLANT_LINK || w->plant == PLANT_SPOIL_LINK) ? s->a == w->a && s->b == w->b
               : w->plant == PLANT_BOUNDARY                             ? d->group[s->a] + d->group[s->b] == 1
                                                                        : s->a == w->a || s->b == w->a;
    case MU_SUSPECT_RANK:
        return (w->plant == PLANT_RANK || w->plant == PLANT_LATE) ? s->rank == w->rank : s->a == w->a;
    default:
        return w->plant == PLANT_BOUNDARY ? d->group[s->a] < 2 : s->a == w->a;
    }
}
