/* sim [--seeds N] [--start S] [--seconds T] [--mutant NAME] [--trace]: runs schedules; exit 1 and the seed on the first
 * violation. With --mutant the violation is what is wanted: exit 0 when it is found. --list prints the mutations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/sim/sim.h"

static const struct {
    const char *name, *text;
} mutations[] = {
#define ROW(name, text) {#name, text},
    MU_MUTATIONS(ROW)
#undef ROW
};

int main(int argc, char **argv)
{
    uint64_t seeds = 1000, start = 1, seconds = 0, begin = mu_now(), n = 0;
    const char *mutant = NULL;
    bool trace = false;
    struct world_stats sum = {0}, s;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--trace"))
            trace = true;
        else if (!strcmp(argv[i], "--list")) {
            for (size_t k = 0; k < MU_COUNT(mutations); k++)
                printf("%s\t%s\n", mutations[k].name, mutations[k].text);
            return 0;
        } else if (i + 1 < argc && !strcmp(argv[i], "--seeds"))
            seeds = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--start"))
            start = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--seconds"))
            seconds = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--mutant"))
            mutant = argv[++i];
        else {
            fprintf(stderr, "sim: unknown argument %s\n", argv[i]);
            return 2;
        }
    }
    if (mutant) {
#ifdef MU_MUTANTS
        for (size_t k = 0; k < MU_COUNT(mutations); k++)
            if (!strcmp(mutations[k].name, mutant))
                mu_mutation = (enum mu_mutation)(k + 1);
        if (mu_mutation == MU_MUT_NONE) {
            fprintf(stderr, "sim: no mutation %s; --list prints them\n", mutant);
            return 2;
        }
#else
        fprintf(stderr, "sim: this build has no mutations, use sim-mutants\n");
        return 2;
#endif
    }
    for (; seconds ? mu_now() - begin < seconds * MU_SEC : n < seeds; n++) {
        struct world *w = world_new(start + n, trace);
        if (!w)
            return 1;
        const char *bad = world_run(w);
        world_stats(w, &s);
        sum.events += s.events;
        sum.faults += s.faults;
        sum.checks += s.checks;
        sum.jobs += s.jobs;
        sum.attempts += s.attempts;
        sum.streams += s.streams;
        sum.virtual_ns += s.virtual_ns;
        if (bad) {
            printf("seed %llu: %s\n", (unsigned long long)(start + n), bad);
            world_free(w);
            if (mutant)
                printf("caught after %llu schedules\n", (unsigned long long)n + 1);
            return mutant ? 0 : 1;
        }
        world_free(w);
    }
    printf("%llu schedules, %llu events, %llu faults, %llu jobs, %llu attempts, %llu ways through others, %llu checks, "
           "%.0f s of "
           "virtual time: nothing "
           "violated\n",
           (unsigned long long)n, (unsigned long long)sum.events, (unsigned long long)sum.faults,
           (unsigned long long)sum.jobs, (unsigned long long)sum.attempts, (unsigned long long)sum.streams,
           (unsigned long long)sum.checks, (double)sum.virtual_ns / 1e9);
    return mutant ? 1 : 0;
}
