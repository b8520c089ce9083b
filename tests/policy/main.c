/* trace [--seeds N] [--start S] [--kind NAME] [--mutant NAME], or --bench: runs traces of all kinds; exit 1 and the
 * seed where something did not hold. With --mutant that is what is wanted: exit 0 when it is found. --list prints the
 * mutations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/policy/trace.h"

static const struct {
    const char *name, *text;
} mutations[] = {
#define ROW(name, text) {#name, text},
    MU_POLICY_MUTATIONS(ROW)
#undef ROW
};

static int usage(const char *what)
{
    fprintf(stderr, "trace: %s\n", what);
    return 2;
}

static const char *one(const struct trace_kind *kind, uint64_t seed, struct trace *t)
{
    kind->make(t, seed);
    const char *wrong = trace_run(t) ? kind->judge ? kind->judge(t) : NULL : t->wrong;

    if (wrong)
        printf("%s, seed %llu: %s\n", kind->name, (unsigned long long)seed, wrong);
    return wrong;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 20, start = 1, decisions = 0, jobs = 0, preempted = 0, n = 0;
    const char *mutant = NULL, *only = NULL;
    struct trace t;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--list")) {
            for (size_t k = 0; k < MU_COUNT(mutations); k++)
                printf("%s\t%s\n", mutations[k].name, mutations[k].text);
            return 0;
        } else if (!strcmp(argv[i], "--bench"))
            return trace_bench(start);
        else if (i + 1 < argc && !strcmp(argv[i], "--seeds"))
            seeds = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--start"))
            start = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && !strcmp(argv[i], "--kind"))
            only = argv[++i];
        else if (i + 1 < argc && !strcmp(argv[i], "--mutant"))
            mutant = argv[++i];
        else
            return usage("unknown argument");
    }
    if (mutant) {
#ifdef MU_MUTANTS
        for (size_t k = 0; k < MU_COUNT(mutations); k++)
            if (!strcmp(mutations[k].name, mutant))
                mu_policy_mutation = (enum mu_policy_mutation)(k + 1);
        if (mu_policy_mutation == MU_POLICY_MUT_NONE)
            return usage("no such mutation; --list prints them");
#else
        return usage("this build has no mutations, use trace-mutants");
#endif
    }
    for (uint64_t s = start; s < start + seeds; s++)
        for (unsigned k = 0; k < trace_nkinds; k++) {
            if (only ? strcmp(only, trace_kinds[k].name) != 0 : s % trace_kinds[k].every != 1 % trace_kinds[k].every)
                continue;
            const char *wrong = one(&trace_kinds[k], s, &t);
            n++;
            decisions += t.decisions;
            jobs += t.njobs;
            preempted += t.preemptions;
            trace_free(&t);
            if (wrong && mutant)
                printf("caught after %llu traces\n", (unsigned long long)n);
            if (wrong)
                return mutant ? 0 : 1;
        }
    printf("%llu traces, %llu jobs, %llu decisions, %llu preemptions: nothing violated\n", (unsigned long long)n,
           (unsigned long long)jobs, (unsigned long long)decisions, (unsigned long long)preempted);
    return mutant ? 1 : 0;
}
