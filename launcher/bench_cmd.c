/* muster bench: benchmark ranks are a program of their own in libexec, started as an ordinary job. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/opt.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

struct opts {
    int ranks, op, dtype, memory, samples;
    const char *bind, *min, *max, *time;
    bool oversubscribe, json, quiet;
};

#define OPS "allreduce|reduce|reduce_scatter|allgather|broadcast|alltoall"
#define MAX_SIZE (1ull << 40)
#define DTYPES "float32|float64|int32|int64|uint8"

static const struct mu_opt table[] = {
    {"ranks", 'n', MU_OPT_INT, offsetof(struct opts, ranks), "N", "number of ranks (2)", .aliases = "np", .min = 1,
     .max = 1000000},
    {"bind", 0, MU_OPT_STRING, offsetof(struct opts, bind), "none|core|numa|gpu", "as for muster run (core)"},
    {"oversubscribe", 0, MU_OPT_FLAG, offsetof(struct opts, oversubscribe), NULL, "more ranks than slots"},
    {"op", 0, MU_OPT_CHOICE, offsetof(struct opts, op), OPS, "operation (allreduce)"},
    {"dtype", 0, MU_OPT_CHOICE, offsetof(struct opts, dtype), DTYPES, "data type (float32)"},
    {"min", 0, MU_OPT_STRING, offsetof(struct opts, min), "SIZE", "smallest message (8)"},
    {"max", 0, MU_OPT_STRING, offsetof(struct opts, max), "SIZE", "largest message (64M)"},
    {"time", 0, MU_OPT_STRING, offsetof(struct opts, time), "TIME", "measure each size for so long at most (2s)"},
    {"samples", 0, MU_OPT_INT, offsetof(struct opts, samples), "N", "samples of each size at most (1000)", .min = 3,
     .max = 100000},
    {"memory", 0, MU_OPT_CHOICE, offsetof(struct opts, memory), "private|mapped",
     "malloc, or muster_mem_alloc (private)"},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "print JSON, schema muster.bench/1"},
    {"quiet", 'q', MU_OPT_FLAG, offsetof(struct opts, quiet), NULL, "no progress on stderr"},
};

static int usage_error(const char *text)
{
    fprintf(stderr, "muster bench coll: %s\n", text);
    return 2;
}

/* n-th of the words "a|b|c". */
static const char *word(const char *words, int n, char *buf, size_t len)
{
    for (; n; n--)
        words = strchr(words, '|') + 1;
    snprintf(buf, len, "%.*s", (int)strcspn(words, "|"), words);
    return buf;
}

static int get_size(const char *name, const char *value, uint64_t *n, char *text, size_t len)
{
    if (!value || !mu_str_size(value, n))
        return 0;
    snprintf(text, len, "--%s %s: not a size; use for example 8, 64K or 1G", name, value);
    return 2;
}

/* The rank checks again; here it costs no job. */
static int check_sizes(const struct opts *o, char *text, size_t len)
{
    static const unsigned widths[] = {4, 8, 4, 8, 1}; /* of DTYPES */
    uint64_t min = 8, max = 64 << 20;
    unsigned width = widths[o->dtype];
    char dtype[32];

    if (get_size("min", o->min, &min, text, len) || get_size("max", o->max, &max, text, len))
        return 2;
    if (min < width)
        snprintf(text, len, "--min %s: smaller than one %s; give at least %u", o->min,
                 word(DTYPES, o->dtype, dtype, 32), width);
    else if (max > MAX_SIZE)
        snprintf(text, len, "--max %s: larger than 1T; give less", o->max);
    else if (max < min && o->min)
        snprintf(text, len, "--min %s is more than --max %s; give a smaller --min or a larger --max", o->min,
                 o->max ? o->max : "64M, the default");
    else if (max < min)
        snprintf(text, len, "--max %s is less than --min 8, the default; give --min, too", o->max);
    else
        return 0;
    return 2;
}

int mu_cmd_bench(int argc, char **argv)
{
    struct opts o = {.ranks = 2};
    struct mu_err err = {0};
    char rank[4200], ranks[16], op[32], dtype[32], memory[32], samples[16], text[300], exe[4096];
    uint64_t ns;
    int first;

    if (argc < 2 || !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
        FILE *out = argc < 2 ? stderr : stdout;
        mu_opt_help(out, "muster bench coll [OPTIONS]", table, MU_COUNT(table));
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "coll")) {
        fprintf(stderr, "muster bench: no benchmark '%s'; there is: coll\n", mu_str_show(text, sizeof text, argv[1]));
        return MU_EXIT_USAGE;
    }
    int rc = mu_opt_parse(table, MU_COUNT(table), argc - 1, argv + 1, MU_OPT_PERMUTE, &o, &first, &err);
    if (rc > 0) {
        mu_opt_help(stdout, "muster bench coll [OPTIONS]", table, MU_COUNT(table));
        return 0;
    }
    if (rc)
        return usage_error(err.text);
    if (first < argc - 1) {
        snprintf(text, sizeof text, "unexpected argument '%s'", argv[1 + first]);
        return usage_error(text);
    }
    if (check_sizes(&o, text, sizeof text))
        return usage_error(text);
    if (o.time && mu_str_duration(o.time, &ns)) {
        snprintf(text, sizeof text, "--time %s: not a duration; use for example 500ms or 2s", o.time);
        return usage_error(text);
    }
    if (mu_path_exe(exe, sizeof exe, &err))
        return usage_error(err.text);
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    snprintf(rank, sizeof rank, "%s/../libexec/muster/bench-rank", exe);
    if (access(rank, X_OK)) {
        fprintf(stderr, "muster bench coll: %s is missing; install muster whole (make install)\n", rank);
        return 1;
    }
    char *args[48];
    int n = 0;
    snprintf(ranks, sizeof ranks, "%d", o.ranks);
    snprintf(samples, sizeof samples, "%d", o.samples);
#define ARG(a) args[n++] = (char *)(uintptr_t)(a)
    ARG("bench coll"); /* as errors call it */
    ARG("-n");
    ARG(ranks);
    ARG("--name");
    ARG("bench.coll");
    ARG("--restarts");
    ARG("0");
    if (o.bind) {
        ARG("--bind");
        ARG(o.bind);
    }
    if (o.oversubscribe)
        ARG("--oversubscribe");
    ARG(rank);
    ARG("coll");
    ARG("--op");
    ARG(word(OPS, o.op, op, sizeof op));
    ARG("--dtype");
    ARG(word(DTYPES, o.dtype, dtype, sizeof dtype));
    ARG("--memory");
    ARG(word("private|mapped", o.memory, memory, sizeof memory));
    const char *pairs[][2] = {{"--min", o.min}, {"--max", o.max}, {"--time", o.time}};
    for (size_t i = 0; i < MU_COUNT(pairs); i++) {
        if (pairs[i][1]) {
            ARG(pairs[i][0]);
            ARG(pairs[i][1]);
        }
    }
    if (o.samples) {
        ARG("--samples");
        ARG(samples);
    }
    if (o.json)
        ARG("--json");
    if (o.quiet)
        ARG("--quiet");
#undef ARG
    args[n] = NULL;
    return mu_cmd_run(n, args);
}
