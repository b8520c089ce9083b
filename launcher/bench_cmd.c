/* muster bench: benchmark ranks are a program of their own in libexec, started as an ordinary job. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/bench.h"
#include "launcher/commands.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

struct opts {
    /* of `muster run` */
    int ranks, nodes, ppn;
    char **hosts, **hostfiles, **exports;
    const char *ssh, *engine, *bind, *timeout;
    bool oversubscribe;
    /* ours */
    const char *raw;
    bool json, quiet;
    /* of the ranks */
    int launch, trials, at_once, samples, rounds, count, targets, op, dtype, memory, place, timing, transport,
        gpu_matrix;
    uint64_t seed, small, large, memory_size, disk_size, gpu_size, whole, window;
    const char *min, *max, *time, *tests, *dir, *floor;
    char **pairs;
    bool bisect;
};
#define AT(field) offsetof(struct opts, field)

#define OPS "allreduce|reduce|reduce_scatter|allgather|broadcast|alltoall|sendrecv|barrier|all"
#define MAX_SIZE (1ull << 40)
#define DTYPES "float32|float64|int32|int64|uint8|int8|uint32|uint64|float16|bfloat16|float8_e4m3|float8_e5m2"

/* The first RUN_ROWS rows go to `muster run`, the next OUR_ROWS nowhere, the others to the ranks. */
enum { RUN_ROWS = 11, OUR_ROWS = 3 };
#define COMMON_ROWS(n)                                                                                                 \
    {"ranks", 'n', MU_OPT_INT, AT(ranks), "N", "number of ranks" n, .aliases = "np", .min = 1, .max = 1000000},        \
        {"nodes", 'N', MU_OPT_INT, AT(nodes), "N", "number of nodes", .min = 1, .max = 1000000},                       \
        {"ppn", 0, MU_OPT_INT, AT(ppn), "N", "ranks on each node", .aliases = "npernode", .min = 1, .max = 1000000},   \
        {"hosts", 'H', MU_OPT_STRV, AT(hosts), "HOST[:SLOTS],...", "hosts to run on", .aliases = "host"},              \
        {"hostfile", 0, MU_OPT_STRV, AT(hostfiles), "FILE", "file of hosts to run on", .aliases = "machinefile"},      \
        {"ssh", 0, MU_OPT_STRING, AT(ssh), "COMMAND", "in place of ssh"},                                              \
        {"engine", 0, MU_OPT_STRING, AT(engine), "ssh|slurm|hand", "how agents are started on other hosts"},           \
        {"bind", 0, MU_OPT_STRING, AT(bind), "none|core|numa|gpu", "as for muster run"},                               \
        {"export", 'x', MU_OPT_STRV, AT(exports), "VAR[=VALUE]", "set a variable for the ranks"},                      \
        {"timeout", 0, MU_OPT_STRING, AT(timeout), "TIME", "end it after so long, with exit code 124"},                \
        {"oversubscribe", 0, MU_OPT_FLAG, AT(oversubscribe), NULL, "more ranks than slots"},                           \
        {"raw", 0, MU_OPT_STRING, AT(raw), "FILE", "append all that is measured, each sample, as JSON lines"},         \
        {"json", 0, MU_OPT_FLAG, AT(json), NULL, "print JSON, schema muster.bench/1"},                                 \
        {"quiet", 'q', MU_OPT_FLAG, AT(quiet), NULL, "no progress on stderr"},                                         \
        {"launch", 0, MU_OPT_INT, AT(launch), "N", "number of this launch in its series", .max = 1000000},             \
        {"trials", 0, MU_OPT_INT, AT(trials), "N", "repetitions (1)", .min = 1, .max = 1000},                          \
        {"seed", 0, MU_OPT_U64, AT(seed), "N", "of the random order (the time of day)"},                               \
    {                                                                                                                  \
        "time", 0, MU_OPT_STRING, AT(time), "TIME", "for each measurement at most"                                     \
    }
#define AT_ONCE(what)                                                                                                  \
    {                                                                                                                  \
        "at-once", 0, MU_OPT_INT, AT(at_once), "N", what " that measure at a time (all)", .min = 1, .max = 1000000     \
    }
#define SAMPLES                                                                                                        \
    {                                                                                                                  \
        "samples", 0, MU_OPT_INT, AT(samples), "N", "samples of each measurement at most", .min = 6, .max = 100000     \
    }

static const struct mu_opt node_rows[] = {
    COMMON_ROWS(" (one on each node)"),
    AT_ONCE("hosts"),
    {"tests", 0, MU_OPT_STRING, AT(tests), "NAME,...", "mem, memtest, cpu, disk, gpu, or one's whole name (all)"},
    {"memory-size", 0, MU_OPT_SIZE, AT(memory_size), "SIZE", "memory that is used (256M)"},
    {"disk-size", 0, MU_OPT_SIZE, AT(disk_size), "SIZE", "size of the file (256M)"},
    {"dir", 0, MU_OPT_STRING, AT(dir), "DIR", "where the file is made (TMPDIR, or /tmp)"},
    {"gpu-size", 0, MU_OPT_SIZE, AT(gpu_size), "SIZE", "what is copied to a GPU at a time (256M)"},
    {"gpu-matrix", 0, MU_OPT_INT, AT(gpu_matrix), "N", "rows and columns of matrices on a GPU (8192)", .min = 16,
     .max = 16384},
};
static const struct mu_opt pair_rows[] = {
    COMMON_ROWS(" (one on each node)"),
    AT_ONCE("pairs"),
    SAMPLES,
    {"small", 0, MU_OPT_SIZE, AT(small), "SIZE", "message that latency is measured with (8)"},
    {"large", 0, MU_OPT_SIZE, AT(large), "SIZE", "message that bandwidth is measured with (1M)"},
    {"rounds", 0, MU_OPT_INT, AT(rounds), "N", "rounds of the tournament (all up to 32 ranks, 5 beyond)", .min = 1,
     .max = 1000000},
    {"tests", 0, MU_OPT_STRING, AT(tests), "NAME,...", "lat, bw (all)"},
    {"pairs", 0, MU_OPT_STRV, AT(pairs), "FROM>TO,...", "of hosts, each in this direction (a tournament of all)"},
    {"transport", 0, MU_OPT_CHOICE, AT(transport), "mpi|ucx", "whose messages are measured (mpi)"},
};
static const struct mu_opt fabric_rows[] = {
    COMMON_ROWS(" (one on each node)"),
    SAMPLES,
    {"large", 0, MU_OPT_SIZE, AT(large), "SIZE", "size of a message (1M)"},
    {"count", 0, MU_OPT_INT, AT(count), "N", "messages to each peer in a sample (1)", .min = 1, .max = 1024},
    {"targets", 0, MU_OPT_INT, AT(targets), "N", "ranks that all others send to, one after another (32)", .min = 1,
     .max = 1000000},
};
static const struct mu_opt overlap_rows[] = {
    COMMON_ROWS(" (one on each node)"),
    SAMPLES,
    {"large", 0, MU_OPT_SIZE, AT(large), "SIZE", "what is reduced (4M)"},
};
static const struct mu_opt soak_rows[] = {
    COMMON_ROWS(" (one on each node)"),
    {"for", 0, MU_OPT_DURATION, AT(whole), "TIME", "how long in all (1h)"},
    {"window", 0, MU_OPT_DURATION, AT(window), "TIME", "how long a window is (1m)"},
    {"memory-size", 0, MU_OPT_SIZE, AT(memory_size), "SIZE", "memory that is tested (256M)"},
    {"large", 0, MU_OPT_SIZE, AT(large), "SIZE", "what is reduced (4M)"},
};
static const struct mu_opt coll_rows[] = {
    COMMON_ROWS(" (2)"),
    {"samples", 0, MU_OPT_INT, AT(samples), "N", "samples of each size at most (1000)", .min = 3, .max = 100000},
    {"op", 0, MU_OPT_CHOICE, AT(op), OPS, "operation (allreduce)"},
    {"dtype", 0, MU_OPT_CHOICE, AT(dtype), DTYPES, "data type (float32)"},
    {"min", 0, MU_OPT_STRING, AT(min), "SIZE", "smallest message (8)"},
    {"max", 0, MU_OPT_STRING, AT(max), "SIZE", "largest message (64M)"},
    {"memory", 0, MU_OPT_CHOICE, AT(memory), "private|mapped|device", "malloc, muster_mem_alloc, or a GPU's (private)"},
    {"place", 0, MU_OPT_CHOICE, AT(place), "usual|in|out", "result over the input, or beside it (usual)"},
    {"timing", 0, MU_OPT_CHOICE, AT(timing), "batch|start", "batches, or calls from a common start (batch)"},
    {"transport", 0, MU_OPT_CHOICE, AT(transport), "muster|mpi", "whose operations are measured (muster)"},
    {"bisect", 0, MU_OPT_FLAG, AT(bisect), NULL, "find the hosts with which results are wrong, or slow"},
    {"floor", 0, MU_OPT_STRING, AT(floor), "GB/s", "bus bandwidth below which it is slow, for --bisect"},
};

/* n-th of the words "a|b|c". */
static const char *word(const char *words, int n, char *buf, size_t len)
{
    for (; n; n--)
        words = strchr(words, '|') + 1;
    snprintf(buf, len, "%.*s", (int)strcspn(words, "|"), words);
    return buf;
}

static int get_size(const char *name, const char *value, uint64_t *n, struct mu_err *err)
{
    if (!value || !mu_str_size(value, n))
        return 0;
    return mu_err_set(err, MUSTER_EARG, "--%s %s: not a size; use for example 8, 64K or 1G", name, value);
}

/* The ranks check again; here it costs no job. */
static int check_coll(const struct opts *o, struct mu_err *err)
{
    static const unsigned widths[] = {4, 8, 4, 8, 1, 1, 4, 8, 2, 2, 1, 1}; /* of DTYPES */
    uint64_t min = 8, max = 64 << 20;
    unsigned width = widths[o->dtype];
    char dtype[32], op[32], *end;

    if (get_size("min", o->min, &min, err) || get_size("max", o->max, &max, err))
        return MUSTER_EARG;
    if (o->floor && (!o->bisect || !(strtod(o->floor, &end) > 0) || *end))
        return mu_err_set(err, MUSTER_EARG, "--floor: takes a number of GB/s, beside --bisect");
    if (o->bisect && !strcmp(word(OPS, o->op, op, 32), "all"))
        return mu_err_set(err, MUSTER_EARG, "--bisect: takes one operation; give another --op");
    if (o->transport && (o->bisect || o->memory == 2))
        return mu_err_set(err, MUSTER_EARG, "--transport mpi: not with --bisect or --memory device");
    if (o->transport && max / width > INT_MAX)
        return mu_err_set(err, MUSTER_EARG, "--transport mpi: MPI counts to 2^31 - 1 elements; give a smaller --max");
    if (o->transport && strchr(word(DTYPES, o->dtype, dtype, 32), 'f') && width < 4)
        return mu_err_set(err, MUSTER_EARG, "--transport mpi: MPI has no floats of 8 or 16 bits; give another --dtype");
    if (min < width)
        return mu_err_set(err, MUSTER_EARG, "--min %s: smaller than one %s; give at least %u", o->min,
                          word(DTYPES, o->dtype, dtype, 32), width);
    if (max > MAX_SIZE)
        return mu_err_set(err, MUSTER_EARG, "--max %s: larger than 1T; give less", o->max);
    if (max < min && o->min)
        return mu_err_set(err, MUSTER_EARG, "--min %s is more than --max %s; give a smaller --min or a larger --max",
                          o->min, o->max ? o->max : "64M, the default");
    if (max < min)
        return mu_err_set(err, MUSTER_EARG, "--max %s is less than --min 8, the default; give --min, too", o->max);
    return 0;
}

static int check_names(const struct opts *o, const char *const names[], size_t n, const char *text, struct mu_err *err)
{
    char shown[80];

    for (const char *p = o->tests; p; p = *p == ',' ? p + 1 : NULL) {
        size_t len = strcspn(p, ",");
        bool known = false;
        for (size_t i = 0; i < n; i++)
            known = known || (strlen(names[i]) == len && !strncmp(p, names[i], len));
        if (!known)
            return mu_err_set(err, MUSTER_EARG, "--tests %s: not all of them are tests; there are %s",
                              mu_str_show(shown, sizeof shown, o->tests), text);
        p += len;
    }
    return 0;
}

static int check_pair(const struct opts *o, struct mu_err *err)
{
    static const char *const names[] = {"lat", "bw"};

    if (o->small && (o->small < 8 || o->small > 1 << 30))
        return mu_err_set(err, MUSTER_EARG, "--small: takes 8 bytes to 1G");
    if (o->large > 1 << 30)
        return mu_err_set(err, MUSTER_EARG, "--large: takes 1G at most");
    for (char **p = o->pairs; p && *p; p++)
        if (!strchr(*p, '>'))
            return mu_err_set(err, MUSTER_EARG, "--pairs: takes hosts as in a>b,b>c");
    return check_names(o, names, MU_COUNT(names), "lat, bw", err);
}

static int check_large(const struct opts *o, struct mu_err *err)
{
    return o->large && (o->large < 4 || o->large > 1 << 30)
               ? mu_err_set(err, MUSTER_EARG, "--large: takes 4 bytes to 1G")
               : 0;
}

static int check_soak(const struct opts *o, struct mu_err *err)
{
    if (o->window && o->window < 100 * MU_MS)
        return mu_err_set(err, MUSTER_EARG, "--window: takes 100ms or more");
    return check_large(o, err);
}

static int check_node(const struct opts *o, struct mu_err *err)
{
    static const char *const names[] = {"mem",
                                        "memtest",
                                        "cpu",
                                        "disk",
                                        "gpu",
                                        "node.mem.copy",
                                        "node.mem.scale",
                                        "node.mem.add",
                                        "node.mem.triad",
                                        "node.mem.test",
                                        "node.cpu.fma",
                                        "node.cpu.gemm",
                                        "node.disk.write",
                                        "node.disk.read",
                                        "node.gpu.count",
                                        "node.gpu.hbm",
                                        "node.gpu.h2d",
                                        "node.gpu.d2h",
                                        "node.gpu.gemm"};

    if (o->disk_size && o->disk_size < 4 << 20)
        return mu_err_set(err, MUSTER_EARG, "--disk-size: takes 4M or more");
    if (o->gpu_size && o->gpu_size < 4 << 10)
        return mu_err_set(err, MUSTER_EARG, "--gpu-size: takes 4K or more");
    return check_names(o, names, MU_COUNT(names), "mem, memtest, cpu, disk, gpu", err);
}

/* To add a benchmark: its option rows, a row here; see bench/rank/rank.h for the other half. */
static const struct bench {
    const char *name, *summary, *usage;
    const struct mu_opt *rows;
    size_t nrows;
    int (*check)(const struct opts *, struct mu_err *);
    const char *ranks, *bind; /* what `muster run` gets where nothing is said */
} benches[] = {
    {"node", "memory, processors, disk and GPUs of each host", "muster bench node [OPTIONS]", node_rows,
     MU_COUNT(node_rows), check_node, "--ppn=1", "none"},
    {"pair", "latency and bandwidth between each two", "muster bench pair [OPTIONS]", pair_rows, MU_COUNT(pair_rows),
     check_pair, "--ppn=1", NULL},
    {"coll", "collectives, with their results checked", "muster bench coll [OPTIONS]", coll_rows, MU_COUNT(coll_rows),
     check_coll, "--ranks=2", NULL},
    {"fabric", "what the network gives to many at a time", "muster bench fabric [OPTIONS]", fabric_rows,
     MU_COUNT(fabric_rows), check_large, "--ppn=1", NULL},
    {"overlap", "communication hidden behind computation", "muster bench overlap [OPTIONS]", overlap_rows,
     MU_COUNT(overlap_rows), check_large, "--ppn=1", NULL},
    {"soak", "hours of work in windows, and their trend", "muster bench soak [OPTIONS]", soak_rows, MU_COUNT(soak_rows),
     check_soak, "--ppn=1", "none"},
};

/* The option as it is passed on, added to out; nothing where it was not given. */
static int pass(const struct mu_opt *row, const struct opts *o, char ***out)
{
    const char *at = (const char *)o + row->offset;
    mu_auto_buf struct mu_buf b = {0};
    char text[64];
    int n;
    uint64_t u;
    const char *s;
    char **v;

    mu_buf_appendf(&b, "--%s", row->name);
    switch (row->kind) {
    case MU_OPT_FLAG:
        if (!*(const bool *)at)
            return 0;
        break;
    case MU_OPT_INT:
    case MU_OPT_CHOICE:
        memcpy(&n, at, sizeof n);
        if (!n)
            return 0;
        if (row->kind == MU_OPT_INT)
            mu_buf_appendf(&b, "=%d", n);
        else
            mu_buf_appendf(&b, "=%s", word(row->metavar, n, text, sizeof text));
        break;
    case MU_OPT_SIZE:
    case MU_OPT_U64:
        memcpy(&u, at, sizeof u);
        if (!u)
            return 0;
        mu_buf_appendf(&b, "=%llu", (unsigned long long)u);
        break;
    case MU_OPT_DURATION:
        memcpy(&u, at, sizeof u);
        if (!u)
            return 0;
        mu_buf_appendf(&b, "=%lluns", (unsigned long long)u);
        break;
    case MU_OPT_STRV:
        memcpy(&v, at, sizeof v);
        for (; v && *v; v++) {
            mu_auto_buf struct mu_buf each = {0};
            mu_buf_appendf(&each, "--%s=%s", row->name, *v);
            if (each.failed || mu_strv_append(out, mu_buf_str(&each)))
                return MUSTER_ENOMEM;
        }
        return 0;
    default:
        memcpy(&s, at, sizeof s);
        if (!s)
            return 0;
        mu_buf_appendf(&b, "=%s", s);
    }
    return b.failed ? MUSTER_ENOMEM : mu_strv_append(out, mu_buf_str(&b));
}

struct sight {
    FILE *raw;
    json_t *measurements, *skipped, *culprits;
    bool bar, quiet, raw_failed;
    uint64_t began, said;
    const char *name;
};

static void progress(struct sight *s, double done)
{
    char gone[32], left[32], bar[31];
    uint64_t now = mu_now(), took = now - s->began;

    if (s->quiet || done <= 0 || (!s->bar && now - s->said < 10 * MU_SEC))
        return;
    s->said = now;
    mu_str_fmt_duration(gone, sizeof gone, took);
    mu_str_fmt_duration(left, sizeof left, (uint64_t)((double)took * (1 - done) / done));
    if (!s->bar) {
        fprintf(stderr, "bench %s: %.0f %%, %s gone, about %s left\n", s->name, done * 100, gone, left);
        return;
    }
    size_t full = (size_t)(done * 30);
    memset(bar, '#', full);
    memset(bar + full, '.', 30 - full);
    bar[30] = 0;
    fprintf(stderr, "\r\033[Kbench %s [%s] %3.0f %%, %s gone, about %s left", s->name, bar, done * 100, gone, left);
}

static void on_line(void *arg, const char *line, json_t *root)
{
    struct sight *s = arg;
    const char *kind = json_string_value(json_object_get(root, "kind"));

    if (!strcmp(kind, "progress")) {
        double done = json_number_value(json_object_get(root, "done"));
        progress(s, done > 1 ? 1 : done);
        return;
    }
    if (!strcmp(kind, "run"))
        s->began = s->said = mu_now();
    if (s->raw && (fputs(line, s->raw) < 0 || fflush(s->raw)))
        s->raw_failed = true;
    if (!strcmp(kind, "measurement"))
        json_array_append(s->measurements, root);
    else if (!strcmp(kind, "skip"))
        json_array_append(s->skipped, root);
    else if (!strcmp(kind, "culprits"))
        json_array_append(s->culprits, root);
}

static int run(const struct bench *b, const struct opts *o, struct mu_err *err)
{
    struct sight s = {.name = b->name, .quiet = o->quiet, .bar = isatty(2), .began = mu_now()};
    char **run = NULL, **rank = NULL;
    int rc = 0, code = 0;

    if (!o->ranks && !o->nodes && !o->ppn)
        rc = mu_strv_append(&run, b->ranks);
    if (!rc && b->bind && !o->bind)
        rc = mu_strv_append(&run, "--bind=none");
    for (size_t i = 0; i < b->nrows && !rc; i++)
        if (i < RUN_ROWS || i >= RUN_ROWS + OUR_ROWS)
            rc = pass(&b->rows[i], o, i < RUN_ROWS ? &run : &rank);
    s.measurements = json_array();
    s.skipped = json_array();
    s.culprits = json_array();
    if (rc || !s.measurements || !s.skipped || !s.culprits) {
        rc = mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
        goto out;
    }
    if (o->raw && !(s.raw = fopen(o->raw, "ae"))) {
        rc = mu_err_set(err, MUSTER_EARG, "--raw %s: %s", o->raw, strerror(errno));
        goto out;
    }
    struct mu_bench_job job = {.name = b->name, .run = run, .rank = rank, .line = on_line, .arg = &s};
    rc = code = mu_bench_run(&job, err);
    if (s.bar && !s.quiet)
        fputs("\r\033[K", stderr);
    if (rc < 0)
        goto out;
    rc = 0;
    if (json_array_size(s.measurements) || json_array_size(s.skipped) || json_array_size(s.culprits) || !code) {
        if (o->json)
            rc = mu_bench_show_json(stdout, s.measurements, s.skipped, s.culprits, err);
        else
            mu_bench_show(stdout, s.measurements, s.skipped, s.culprits, !strcmp(b->name, "soak"));
    }
    if (!rc && s.raw_failed)
        rc = mu_err_set(err, MUSTER_EIO, "--raw %s: not all could be written", o->raw);
out:
    if (s.raw)
        fclose(s.raw);
    json_decref(s.measurements);
    json_decref(s.skipped);
    json_decref(s.culprits);
    mu_strv_free(run);
    mu_strv_free(rank);
    return rc ? rc : code;
}

static void help(FILE *f)
{
    fputs("usage: muster bench NAME [OPTIONS]\n\n", f);
    for (size_t i = 0; i < MU_COUNT(benches); i++)
        fprintf(f, "  %-7s  %s\n", benches[i].name, benches[i].summary);
    fputs("\n`muster bench NAME -h` lists the options of one.\n", f);
}

static int fail(const struct bench *b, const struct mu_err *err)
{
    char name[32];

    snprintf(name, sizeof name, "bench %s", b->name);
    return mu_cmd_fail(name, err);
}

static int start(const struct bench *b, int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    char text[80];
    uint64_t ns;
    int first, rc = mu_opt_parse(b->rows, b->nrows, argc, argv, MU_OPT_PERMUTE, &o, &first, &err), code = 0;

    if (rc > 0) {
        mu_opt_help(stdout, b->usage, b->rows, b->nrows);
    } else {
        if (!rc && first < argc)
            rc = mu_err_set(&err, MUSTER_EARG, "unexpected argument '%s'", mu_str_show(text, sizeof text, argv[first]));
        if (!rc && o.time && mu_str_duration(o.time, &ns))
            rc = mu_err_set(&err, MUSTER_EARG, "--time %s: not a duration; use for example 500ms or 2s",
                            mu_str_show(text, sizeof text, o.time));
        if (!rc)
            rc = b->check(&o, &err);
        if (!rc)
            rc = run(b, &o, &err);
        code = rc < 0 ? fail(b, &err) : rc;
    }
    mu_opt_free(b->rows, b->nrows, &o);
    return code;
}

int mu_cmd_bench(int argc, char **argv)
{
    char text[80];

    if (argc < 2 || !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
        help(argc < 2 ? stderr : stdout);
        return argc < 2 ? MU_EXIT_USAGE : 0;
    }
    for (size_t i = 0; i < MU_COUNT(benches); i++)
        if (!strcmp(argv[1], benches[i].name))
            return start(&benches[i], argc - 1, argv + 1);
    fprintf(stderr, "muster bench: no benchmark '%s'; `muster bench --help` lists them\n",
            mu_str_show(text, sizeof text, argv[1]));
    return MU_EXIT_USAGE;
}
