/* judge [--seeds N] [--start S] [--hosts N] [--profile quick|standard] [--plant NAME] [--weather NAME] [--rounds N]
 * [--show]: made-up clusters with one thing planted, or nothing, before the judge; what it found is counted. Exit 1
 * where it misses what must hold: in calm weather what is planted must be found, in rough weather (all but calm) the
 * innocent must be left alone.
 * --plan N: how long the schedule takes on so many hosts, in modelled time. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "runtime/base/clean.h"
#include "tests/judge/world.h"

enum { CLASSES = 2 };
static unsigned rounds = 3; /* of confirmation */

struct tally {
    unsigned planted[PLANTS][CLASSES], found[PLANTS][CLASSES]; /* below 10 %, and from there on */
    unsigned named, right, kind_right, healthy, accused;
    unsigned unsure, silent; /* of what was planted and not named: whether it was at least said that nobody knows */
    unsigned rounds;         /* of confirmation, of all that are healthy */
};

static struct mu_blame_config config(bool standard)
{
    return (struct mu_blame_config){.effect = standard ? 0.035 : 0.06, .need = 2, .of = rounds};
}

static int judge(struct world *w, struct mu_data *d, struct mu_blame *b, bool standard, unsigned *made, unsigned *waves,
                 unsigned *asks)
{
    struct mu_blame_config c = config(standard);
    int rc = world_first_pass(w, d);

    if (!rc)
        rc = mu_blame_find(b, d, &c);
    for (unsigned i = 0; i < b->n && !rounds; i++)
        b->v[i].state = MU_CONFIRMED; /* to see that it would not do */
    for (unsigned r = 1; r <= mu_blame_rounds(&c) && !rc; r++) {
        mu_auto_free struct mu_ask *asked = NULL;
        unsigned n = 0;
        if ((rc = mu_blame_ask(b, d, r, &asked, &n)) || !n)
            return rc;
        *made = r;
        rc = world_asked(w, d, asked, n, r);
        rc = rc ? rc : mu_blame_settle(b, d, &c);
        unsigned most = 0;
        for (unsigned i = 0; i < n; i++)
            most = asked[i].wave + 1 > most ? asked[i].wave + 1 : most;
        *waves += most;
        *asks += n;
    }
    return rc;
}

static void show(const struct world *w, const struct mu_data *d, const struct mu_blame *b, uint64_t seed)
{
    char id[200];

    printf("seed %llu: planted %s at %d, %d, rank %d, %.0f %%%s; noise %.1f %%, hog %d\n", (unsigned long long)seed,
           world_plant_name(w->plant), w->a, w->b, w->rank, 100 * w->drop, w->both_ways ? " (both)" : "",
           100 * w->noise, w->hog);
    for (unsigned i = 0; i < b->n; i++) {
        const struct mu_suspect *s = &b->v[i];
        printf("    %s %s %s (%s%s, %s): %.1f %%, score %.1f; %s\n",
               s->state == MU_CONFIRMED ? "CONFIRMED"
               : s->state == MU_CLEARED ? "cleared"
               : s->state == MU_UNSURE  ? "unsure"
                                        : "suspected",
               mu_suspect_kind_name(s->kind), mu_suspect_id(s, d, id, sizeof id), mu_direction_name(s->dir),
               s->corrupt ? ", corrupt" : "", d->tests[s->test].name, 100 * s->drop, s->score, s->why);
    }
}

/* True: as it should be. */
static bool count(const struct world *w, const struct mu_data *d, const struct mu_blame *b, unsigned made,
                  struct tally *t)
{
    unsigned class = w->drop >= 0.0999 || w->plant >= PLANT_SPOIL;
    bool found = false, kind = false, clean = true, unsure = false;

    for (unsigned i = 0; i < b->n; i++) {
        unsure = unsure || b->v[i].state == MU_UNSURE;
        if (b->v[i].state != MU_CONFIRMED)
            continue;
        bool is = world_is(w, d, &b->v[i], false);
        t->named++;
        t->right += is;
        clean = clean && is;
        found = found || is;
        kind = kind || world_is(w, d, &b->v[i], true);
    }
    if (w->plant == PLANT_NONE) {
        t->healthy++;
        t->accused += !clean;
        t->rounds += made;
        return clean;
    }
    t->planted[w->plant][class]++;
    t->found[w->plant][class] += found;
    t->unsure += !found && unsure;
    t->silent += !found && !unsure;
    t->kind_right += kind;
    return clean && kind;
}

static double share(unsigned part, unsigned of)
{
    return of ? 100.0 * part / of : 100;
}

static int report(const struct tally *t, bool standard, enum weather weather)
{
    unsigned planted[CLASSES] = {0}, found[CLASSES] = {0};

    for (unsigned p = 1; p < PLANTS; p++) {
        if (!(t->planted[p][0] + t->planted[p][1]))
            continue;
        printf("    %-10s at 5 %%: %u of %u   from 10 %% on: %u of %u\n", world_plant_name((enum plant)p),
               t->found[p][0], t->planted[p][0], t->found[p][1], t->planted[p][1]);
        for (unsigned c = 0; c < CLASSES; c++) {
            planted[c] += t->planted[p][c];
            found[c] += t->found[p][c];
        }
    }
    double precision = share(t->right, t->named), small = share(found[0], planted[0]),
           large = share(found[1], planted[1]), kind = share(t->kind_right, found[0] + found[1]);
    printf("%s: precision %.2f %%, recall %.2f %% at 5 %%, %.2f %% from 10 %% on, kind right %.2f %%; %u of %u healthy "
           "ones accused, measured again %.2f times; of those not found %u unsure, %u silent\n",
           world_weather_name(weather), precision, small, large, kind, t->accused, t->healthy,
           t->healthy ? (double)t->rounds / t->healthy : 0, t->unsure, t->silent);
    bool fair = precision >= 99 && t->accused * 1000 <= t->healthy;
    return !fair || (weather == WEATHER_CALM && !(large >= 99 && (!standard || small >= 90) && kind >= 95));
}

/* Modelled: launches, what a pair takes in each direction, what a host takes; those of a wave at once. */
static int plan(unsigned hosts, bool standard)
{
    const double launch_s = 1.5, pair_s = standard ? 0.12 : 0.04, node_s = standard ? 2.5 : 0.8;
    struct world w;
    struct mu_data d = {0};
    struct mu_blame b = {0};
    unsigned made = 0, waves = 0, asks = 0;
    uint64_t rng = hosts;

    world_make(&w, mu_pairs_random(&rng), hosts, standard, WEATHER_CALM);
    while (w.plant != PLANT_NET || w.drop < 0.0999) {
        world_free(&w);
        world_make(&w, mu_pairs_random(&rng), hosts, standard, WEATHER_CALM);
    }
    int rc = judge(&w, &d, &b, standard, &made, &waves, &asks);
    unsigned turns = hosts <= MU_PAIRS_ALL ? hosts - 1 + hosts % 2 : MU_PAIRS_SOME;
    bool found = false, others = false;
    for (unsigned i = 0; i < b.n; i++) {
        bool is = world_is(&w, &d, &b.v[i], true);
        found = found || (is && b.v[i].state == MU_CONFIRMED);
        others = others || (!is && b.v[i].state == MU_CONFIRMED);
    }
    double first = launch_s * w.trials + w.trials * (turns * 2 * pair_s + node_s);
    double again = rounds * launch_s + waves * w.trials * pair_s + rounds * node_s;
    printf("%u hosts, %s: %u rounds of pairs, %u trials: %.1f s; %u suspects measured again in %u waves of %u "
           "measurements: %.1f s; modelled time %.1f s; the planted host is %s%s\n",
           hosts, standard ? "standard" : "quick", turns, w.trials, first, b.n, waves, asks, again, first + again,
           found ? "named" : "NOT named", others ? ", OTHERS TOO" : ", nobody else");
    mu_blame_free(&b);
    mu_data_free(&d);
    world_free(&w);
    return rc || !found || others;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 500, start = 1;
    unsigned hosts = 8, of_plan = 0;
    bool standard = true, all = false;
    int only = -1, rc = 0, bad = 0;
    unsigned first = WEATHER_CALM, last = WEATHER_CALM;

    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--show")) {
            all = true;
            continue;
        }
        i++;
        if (!strcmp(argv[i - 1], "--seeds"))
            seeds = strtoull(v, NULL, 10);
        else if (!strcmp(argv[i - 1], "--start"))
            start = strtoull(v, NULL, 10);
        else if (!strcmp(argv[i - 1], "--hosts"))
            hosts = (unsigned)strtoul(v, NULL, 10);
        else if (!strcmp(argv[i - 1], "--rounds"))
            rounds = (unsigned)strtoul(v, NULL, 10);
        else if (!strcmp(argv[i - 1], "--plan"))
            of_plan = (unsigned)strtoul(v, NULL, 10);
        else if (!strcmp(argv[i - 1], "--profile"))
            standard = !strcmp(v, "standard");
        else if (!strcmp(argv[i - 1], "--plant"))
            for (unsigned p = 0; p < PLANTS; p++)
                only = strcmp(world_plant_name((enum plant)p), v) ? only : (int)p;
        else if (!strcmp(argv[i - 1], "--weather")) {
            first = !strcmp(v, "rough") ? WEATHER_CALM + 1 : 0;
            last = WEATHERS - 1;
            for (unsigned k = 0; k < WEATHERS; k++)
                if (!strcmp(world_weather_name((enum weather)k), v))
                    first = last = k;
        } else {
            fprintf(stderr, "judge: unknown argument %s\n", argv[i - 1]);
            return 2;
        }
    }
    if (of_plan)
        return plan(of_plan, standard);
    for (unsigned k = first; k <= last; k++) {
        struct tally t = {0};
        for (uint64_t s = start; s < start + seeds && !rc; s++) {
            struct world w;
            struct mu_data d = {0};
            struct mu_blame b = {0};
            unsigned made = 0, waves = 0, asks = 0;
            world_make(&w, s, hosts, standard, (enum weather)k);
            if (only < 0 || (int)w.plant == only) {
                rc = judge(&w, &d, &b, standard, &made, &waves, &asks);
                if ((!count(&w, &d, &b, made, &t) && (k == WEATHER_CALM || !w.plant)) || all)
                    show(&w, &d, &b, s);
            }
            mu_blame_free(&b);
            mu_data_free(&d);
            world_free(&w);
        }
        bad = report(&t, standard, (enum weather)k) || bad;
    }
    return rc || bad;
}
