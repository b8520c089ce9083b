/* A cluster that is made up: what its measurements would be, with what is planted in it. A world is a seed. */
#ifndef TESTS_JUDGE_WORLD_H
#define TESTS_JUDGE_WORLD_H

#include "bench/judge/blame.h"
#include "bench/judge/data.h"

enum plant {
    PLANT_NONE,
    PLANT_CPU,      /* a host computes slowly */
    PLANT_NET,      /* a host sends and receives slowly */
    PLANT_OUT,      /* sends */
    PLANT_IN,       /* receives */
    PLANT_LINK,     /* one direction of one pair */
    PLANT_BOUNDARY, /* between two switches, one way or both */
    PLANT_RANK,     /* one of a host's ranks */
    PLANT_LATE,     /* a rank that comes late to collectives */
    PLANT_SPOIL,    /* a rank that spoils what it sends */
    PLANT_SPOIL_LINK,
    PLANTS
};

/* What disturbs the measurements although nothing is broken. */
enum weather {
    WEATHER_CALM,   /* a little noise, sometimes somebody else's load on one host for a while */
    WEATHER_TAILS,  /* every other sample is far off */
    WEATHER_PHASES, /* hosts are slow one after the other, for a while, and nothing on them shows why */
    WEATHER_CROWD,  /* all hosts share a few processors; who gets less of them changes every few moments */
    WEATHER_HOG,    /* somebody else's load on one host, for as long as it likes */
    WEATHER_WAVES,  /* everything is slow for a while, whoever happens to measure then */
    WEATHERS
};

struct world {
    uint64_t rng, sky; /* sky: of what the weather does, the same whatever is measured */
    enum weather weather;
    unsigned hosts, per_host, trials;
    enum plant plant;
    double drop; /* of the planted one */
    int32_t a, b, rank;
    bool both_ways;
    double spoil; /* probability that a measurement shows it */
    double noise; /* of a sample */
    double tail;  /* share of samples that something has disturbed */
    int32_t hog;  /* a host with somebody else's load from hog_from to hog_to, in shares of the run; -1: none */
    double hog_from, hog_to, hog_drop;
    double *host_part, *out_part, *in_part; /* how even the hosts are */
    double drift;                           /* of the whole cluster, over the run */
    double rough, dwell;                    /* how hard the weather is, and for how much of the run at a time */
};

double world_uniform(struct world *, double from, double to);
void world_make(struct world *, uint64_t seed, unsigned hosts, bool standard, enum weather);
void world_free(struct world *);
int world_first_pass(struct world *, struct mu_data *);
int world_asked(struct world *, struct mu_data *, const struct mu_ask *, unsigned n, unsigned round);
const char *world_plant_name(enum plant);
const char *world_weather_name(enum weather);
/* Of what was planted: whether the suspect is it, or (kind_too) whether it is called what it is. */
bool world_is(const struct world *, const struct mu_data *, const struct mu_suspect *, bool kind_too);

#endif
