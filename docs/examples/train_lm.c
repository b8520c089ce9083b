/* train_lm: trains a small language model with muster, from the first byte to the last checkpoint.
 *
 * The model reads the last few bytes of a text and predicts the next one: an embedding for each byte, hidden layers
 * with residual connections, a softmax over 256 bytes. Training is data-parallel: every rank holds all weights, works
 * through its share of each batch, and muster averages the gradients. After a failure the next attempt goes on from the
 * newest checkpoint and ends with the same weights, bit for bit, as a run that nothing disturbed.
 *
 *     muster run -n 4 ./train_lm
 *
 * Read main() first, then train(); what they use stands above them. Everything about muster is in this file, in the
 * parts called "Ranks", "Checkpoint" and "Training"; the model is in train_lm/model.c, its GPU in train_lm/gpu.c. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <muster.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "train_lm/model.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
enum { MAX_FILES = 64, ERROR_TEXT = 512, NO_GPU = 4 };

/* --- Options ---------------------------------------------------------------------------------------------------- */

struct options {
    struct shape shape;
    uint64_t steps, stop_at, batch, seed, log_every, last_save_tries;
    double lr;
    const char *device, *gpu_code, *ckpt, *step_time_file;
    const char *data[MAX_FILES];
    size_t ndata;
    bool no_ckpt, gradcheck, help;
};

enum kind { FLAG, WHOLE, REAL, TEXT, FILES };
#define FIELD(f) offsetof(struct options, f)

/* To add an option: a field above, a row here. WHOLE and REAL values lie within min and max. */
static const struct option_row {
    const char *name, *arg;
    enum kind kind;
    size_t field;
    const char *preset; /* NULL: zero */
    double min, max;
    const char *help;
} option_rows[] = {
    {"--steps", "N", WHOLE, FIELD(steps), "300", 1, 1e9, "train until N steps are done"},
    {"--stop-at", "N", WHOLE, FIELD(stop_at), NULL, 1, 1e9, "save and end after step N, to be resumed later"},
    {"--batch", "N", WHOLE, FIELD(batch), "512", 1, 1 << 20, "samples in a step, over all ranks"},
    {"--context", "N", WHOLE, FIELD(shape.context), "16", 1, 4096, "bytes that the model sees"},
    {"--hidden", "N", WHOLE, FIELD(shape.hidden), "704", 1, 1 << 14, "width of a hidden layer"},
    {"--embed", "N", WHOLE, FIELD(shape.embed), "32", 1, 4096, "width of a byte's embedding"},
    {"--layers", "N", WHOLE, FIELD(shape.layers), "2", 1, MAX_LAYERS, "hidden layers"},
    {"--lr", "X", REAL, FIELD(lr), "0.002", 1e-9, 10, "peak learning rate"},
    {"--seed", "N", WHOLE, FIELD(seed), "1", 0, 1e15, "of the first weights and of the order of the samples"},
    {"--data", "FILE", FILES, FIELD(data), NULL, 0, 0, "text to train on instead of the licences; repeatable"},
    {"--device", "NAME", TEXT, FIELD(device), "cpu", 0, 0, "cpu or gpu: where the model is computed"},
    {"--gpu-code", "FILE", TEXT, FIELD(gpu_code), NULL, 0, 0, "for --device gpu, instead of train_lm_gpu.so beside it"},
    {"--ckpt", "OPTIONS", TEXT, FIELD(ckpt), "interval=20steps", 0, 0, "for muster_ckpt_open"},
    {"--last-save", "N", WHOLE, FIELD(last_save_tries), "30", 1, 1e6, "tries of the last save, a second apart"},
    {"--no-ckpt", "", FLAG, FIELD(no_ckpt), NULL, 0, 0, "neither save nor resume"},
    {"--log-every", "N", WHOLE, FIELD(log_every), "10", 1, 1e9, "steps between two lines of progress"},
    {"--step-time-file", "FILE", TEXT, FIELD(step_time_file), NULL, 0, 0, "append \"SECONDS STEP\" after each step"},
    {"--gradcheck", "", FLAG, FIELD(gradcheck), NULL, 0, 0, "compare gradients with differences of the loss, and end"},
    {"--help", "", FLAG, FIELD(help), NULL, 0, 0, "this text"},
};

static void print_help(void)
{
    printf("Usage: train_lm [OPTION]...\nTrains a byte-level language model on the ranks of a muster or MPI job.\n\n");
    for (size_t i = 0; i < COUNT(option_rows); i++) {
        const struct option_row *row = &option_rows[i];

        printf("  %-16s %-7s  %s", row->name, row->arg, row->help);
        printf(row->preset ? " (%s)\n" : "\n", row->preset);
    }
    printf("\nWithout --data it reads the files in /usr/share/common-licenses. Ends with 1 after an error, 2: a wrong "
           "command\n"
           "line, 3: the last checkpoint could not be stored, 4: no GPU that can be used.\n");
}

static bool parse_value(const struct option_row *row, const char *value, struct options *opt)
{
    void *field = (char *)opt + row->field;
    char *end;
    double x;

    if (row->kind == FLAG) {
        *(bool *)field = true;
        return true;
    }
    if (row->kind == TEXT) {
        *(const char **)field = value;
        return true;
    }
    if (row->kind == FILES) {
        if (opt->ndata == MAX_FILES)
            return false;
        opt->data[opt->ndata++] = value;
        return true;
    }
    x = strtod(value, &end);
    if (end == value || *end || !(x >= row->min && x <= row->max) || (row->kind == WHOLE && x != floor(x)))
        return false;
    if (row->kind == WHOLE)
        *(uint64_t *)field = (uint64_t)x;
    else
        *(double *)field = x;
    return true;
}

/* Fills opt, or says in error what is wrong with the command line. */
static void parse_options(int argc, char **argv, struct options *opt, char error[ERROR_TEXT])
{
    *opt = (struct options){0};
    for (size_t k = 0; k < COUNT(option_rows); k++)
        if (option_rows[k].preset)
            parse_value(&option_rows[k], option_rows[k].preset, opt);
    for (int i = 1; i < argc && !*error; i++) {
        const struct option_row *row = NULL;
        const char *name = argv[i];

        for (size_t k = 0; k < COUNT(option_rows) && !row; k++)
            if (!strcmp(option_rows[k].name, name))
                row = &option_rows[k];
        if (!row)
            snprintf(error, ERROR_TEXT, "unknown option '%s', try --help", name);
        else if (row->kind != FLAG && ++i == argc)
            snprintf(error, ERROR_TEXT, "option %s needs a value", name);
        else if (!parse_value(row, argv[i], opt))
            snprintf(error, ERROR_TEXT, "option %s cannot be '%s', try --help", name, argv[i]);
    }
    if (!*error && strcmp(opt->device, "cpu") != 0 && strcmp(opt->device, "gpu") != 0)
        snprintf(error, ERROR_TEXT, "option --device cannot be '%s', try --help", opt->device);
    if (!*error && opt->stop_at && opt->no_ckpt)
        snprintf(error, ERROR_TEXT, "--stop-at needs checkpoints: leave --no-ckpt out");
}

/* --- Ranks ------------------------------------------------------------------------------------------------------ */

static muster_comm *world;
static int rank, size;

void fail(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    fprintf(stderr, "train_lm: rank %d: ", rank);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

/* Calls into muster go through here (see went_well too): an error ends this rank, and muster run the others. */
static int check(int result, const char *what)
{
    if (result < 0)
        fail("%s: %s (%s)", what, muster_last_error(), muster_strerror(result));
    return result;
}

__attribute__((noreturn)) static void leave(int code)
{
    check(muster_finalize(), "finalize");
    exit(code);
}

/* For errors that many ranks may see at once, such as a missing file: the lowest rank that has one prints it, and all
 * end together. Ranks without an error pass "". */
static void end_if_any(const char *error, int code)
{
    int32_t mine = *error ? rank : INT32_MAX, first;

    check(muster_allreduce(&mine, &first, 1, MUSTER_INT32, MUSTER_MIN, world), "agree on errors");
    if (first == INT32_MAX)
        return;
    if (first == rank)
        fprintf(stderr, "train_lm: %s\n", error);
    leave(code);
}

static bool same_everywhere(uint64_t value)
{
    uint64_t low, high;

    check(muster_allreduce(&value, &low, 1, MUSTER_UINT64, MUSTER_MIN, world), "compare ranks");
    check(muster_allreduce(&value, &high, 1, MUSTER_UINT64, MUSTER_MAX, world), "compare ranks");
    return low == high;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- Text ------------------------------------------------------------------------------------------------------- */

/* The last 5 % are held out for validation. */
struct text {
    uint8_t *bytes;
    size_t len, train_len;
    uint64_t id; /* tells texts apart */
};

static void append_file(struct text *text, const char *path, char error[ERROR_TEXT])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t n = 0;
    size_t got = 0;

    if (fd < 0 || fstat(fd, &st)) {
        snprintf(error, ERROR_TEXT, "cannot open '%s': %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        snprintf(error, ERROR_TEXT, "'%s' is %s", path, S_ISREG(st.st_mode) ? "empty" : "not a regular file");
    } else {
        size_t bytes = (size_t)st.st_size;
        uint8_t *grown = realloc(text->bytes, text->len + bytes);

        if (!grown)
            fail("out of memory for '%s'", path);
        text->bytes = grown;
        while (got < bytes && (n = read(fd, grown + text->len + got, bytes - got)) > 0)
            got += (size_t)n;
        if (got < bytes)
            snprintf(error, ERROR_TEXT, "cannot read '%s': %s", path, n < 0 ? strerror(errno) : "it became shorter");
        text->len += got;
    }
    if (fd >= 0)
        close(fd);
}

/* Links are skipped: they name files that are there anyway. */
static void append_licences(struct text *text, char error[ERROR_TEXT])
{
    struct stat st;
    glob_t found;

    if (!glob("/usr/share/common-licenses/*", 0, NULL, &found))
        for (size_t i = 0; i < found.gl_pathc && !*error; i++)
            if (!lstat(found.gl_pathv[i], &st) && S_ISREG(st.st_mode))
                append_file(text, found.gl_pathv[i], error);
    globfree(&found);
    if (!*error && !text->len)
        snprintf(error, ERROR_TEXT, "no text in /usr/share/common-licenses: name one with --data FILE");
}

static void load_text(const struct options *opt, struct text *text)
{
    char error[ERROR_TEXT] = "";
    size_t least = 40 * (opt->shape.context + 1); /* both slices hold samples */

    for (size_t i = 0; i < opt->ndata && !*error; i++)
        append_file(text, opt->data[i], error);
    if (!opt->ndata)
        append_licences(text, error);
    if (!*error && text->len < least)
        snprintf(error, ERROR_TEXT, "the text has %zu bytes, --context %llu needs at least %zu", text->len,
                 (unsigned long long)opt->shape.context, least);
    end_if_any(error, 1);
    text->train_len = text->len - text->len / 20;
    text->id = 0xcbf29ce484222325;
    for (size_t i = 0; i < text->len; i++)
        text->id = (text->id ^ text->bytes[i]) * 0x100000001b3;
    if (!same_everywhere(text->id))
        end_if_any(rank ? "" : "the ranks read different texts: are the files the same on every node?", 1);
}

/* Nats a byte of a model that knows only how often each byte occurs. */
static double unigram_entropy(const struct text *text)
{
    double often[BYTES] = {0}, sum = 0;

    for (size_t i = 0; i < text->len; i++)
        often[text->bytes[i]]++;
    for (int b = 0; b < BYTES; b++)
        if (often[b] > 0)
            sum -= often[b] * log(often[b] / (double)text->len);
    return sum / (double)text->len;
}

/* --- Samples ---------------------------------------------------------------------------------------------------- */

/* Item i of the numbers 0..n-1 in the random order that key names: a Feistel network permutes the next power of four,
 * and is walked until it lands below n. */
static uint64_t shuffled(uint64_t i, uint64_t n, uint64_t key)
{
    unsigned half = 1;
    uint64_t mask;

    while (half < 31 && (1ull << 2 * half) < n)
        half++;
    mask = (1ull << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;

        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (random_bits(key, right << 2 | round) & mask);

            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* Where training stands in the text: it goes through all samples in an order drawn for each epoch. */
struct position {
    uint64_t seed, epoch; /* the random numbers' key */
    uint64_t cursor;      /* samples of the epoch that are used up */
};

/* Start in the text of the k-th sample from here; a sample is the context and the byte after it. */
static size_t sample_at(const struct position *at, uint64_t k, uint64_t samples)
{
    uint64_t i = at->cursor + k, epoch = at->epoch + i / samples;

    return shuffled(i % samples, samples, random_bits(at->seed, epoch));
}

static void advance(struct position *at, uint64_t k, uint64_t samples)
{
    at->cursor += k;
    at->epoch += at->cursor / samples;
    at->cursor %= samples;
}

static void load_sample(struct model *m, size_t row, const struct text *text, size_t start)
{
    memcpy(m->samples + row * (m->context + 1), text->bytes + start, m->context + 1);
}

/* --- Training --------------------------------------------------------------------------------------------------- */

struct training {
    const struct options *opt;
    struct text text;
    struct model model;
    struct position at;
    uint64_t step; /* steps done */
    muster_ckpt *ckpt;
    bool unsaved; /* the checkpoint that the job was to end with is not there */
};

static uint64_t samples_of(const struct training *t)
{
    return t->text.train_len - t->opt->shape.context;
}

/* Warms up over the first steps, then decays along a cosine to a tenth. */
static double learning_rate(const struct options *opt, uint64_t step)
{
    const double warm_up = fmin(20, (double)opt->steps), done = (double)step / (double)opt->steps;

    return opt->lr * fmin(1, ((double)step + 1) / warm_up) * (0.55 + 0.45 * cos(3.14159265358979 * done));
}

/* The ranks of a node share a gradient in host memory. */
static float *gradient_of(const struct model *m)
{
    size_t bytes = (m->nweights + 1) * sizeof(float);
    float *gradient = m->device->apart ? m->device->alloc(bytes) : muster_mem_alloc(bytes);

    if (!gradient)
        fail("no memory for gradients: %s", muster_last_error());
    return gradient;
}

static muster_bucket *buckets; /* the model's that learns */

/* A part of the gradient is averaged while the next ones are computed. */
static void part_ready(const struct model *m, size_t part)
{
    (void)m;
    check(muster_bucket_ready(buckets, part), "average the gradients");
}

/* Their tensors are the parts that the model makes ready, in that order. */
static void make_buckets(struct model *m)
{
    check(muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_AVG, 0, &buckets), "make buckets");
    check(muster_bucket_add(buckets, m->gradient + m->nweights, 1), "make buckets");
    for (size_t n = m->nlayers; n-- > 0;) {
        const struct layer *l = &m->layers[n];

        check(muster_bucket_add(buckets, m->gradient + l->weight, l->bias + l->out - l->weight), "make buckets");
    }
    check(muster_bucket_add(buckets, m->gradient, m->layers[0].weight), "make buckets");
    m->ready = part_ready;
}

static struct adam adam_at(const struct training *t)
{
    struct adam a = {.beta1 = 0.9f, .beta2 = 0.98f};
    float n = (float)t->step + 1;

    a.rate = (float)learning_rate(t->opt, t->step) / (1 - powf(a.beta1, n));
    a.correct = 1 / (1 - powf(a.beta2, n));
    return a;
}

/* One step; returns the mean loss of the batch. The batch depends on the position alone: ranks only share it out. */
static float train_step(struct training *t)
{
    struct model *m = &t->model;
    uint64_t batch = t->opt->batch, begin = batch * (uint64_t)rank / (uint64_t)size;
    size_t rows = batch * ((uint64_t)rank + 1) / (uint64_t)size - begin;
    float scale = (float)size / (float)batch; /* the mean over ranks becomes the mean over the batch */
    float loss;

    for (size_t r = 0; r < rows; r++)
        load_sample(m, r, &t->text, sample_at(&t->at, begin + r, samples_of(t)));
    m->device->learn(m, rows, scale);
    check(muster_bucket_wait(buckets), "average the gradients");
    m->device->adam(m, adam_at(t));
    if (m->device->apart) /* the waiting that has a deadline, and tells who is late or dead */
        check(muster_comm_sync(world), "average the gradients");
    m->device->get(&loss, m->gradient + m->nweights, sizeof loss);
    advance(&t->at, batch, samples_of(t));
    t->step++;
    return loss;
}

/* This rank's share of evenly spaced samples of [begin, end) of the text: loss[0] += nats, loss[1] += samples. */
static void evaluate(struct training *t, size_t begin, size_t end, double loss[2])
{
    struct model *m = &t->model;
    size_t samples = end - begin - m->context, count = samples < 4096 ? samples : 4096, rows = 0;

    for (size_t i = (size_t)rank; i < count; i += (size_t)size) {
        load_sample(m, rows++, &t->text, begin + i * samples / count);
        if (rows == m->capacity || i + (size_t)size >= count) {
            loss[0] += m->device->loss(m, rows);
            loss[1] += (double)rows;
            rows = 0;
        }
    }
}

static void report_end(struct training *t)
{
    double loss[4] = {0}, nats = 1 / log(2), train, held_out, unigram = unigram_entropy(&t->text);
    unsigned char hash[EVP_MAX_MD_SIZE];
    size_t bytes = t->model.nweights * sizeof(float);
    void *weights = zeroed(1, bytes);
    unsigned hash_len;
    uint64_t head;

    evaluate(t, 0, t->text.train_len, loss);
    evaluate(t, t->text.train_len, t->text.len, loss + 2);
    check(muster_allreduce(loss, loss, 4, MUSTER_FLOAT64, MUSTER_SUM, world), "add up the losses");
    train = loss[0] / loss[1];
    held_out = loss[2] / loss[3];
    t->model.device->get(weights, t->model.weights, bytes);
    if (!EVP_Digest(weights, bytes, hash, &hash_len, EVP_sha256(), NULL))
        fail("SHA-256 is not available");
    free(weights);
    memcpy(&head, hash, sizeof head);
    if (!same_everywhere(head))
        fail("the ranks ended with different weights");
    if (rank)
        return;
    printf("final loss %.4f validation %.4f unigram %.4f nats/byte, that is %.3f %.3f %.3f bits/byte\n", train,
           held_out, unigram, train * nats, held_out * nats, unigram * nats);
    printf("weights sha256 ");
    for (unsigned i = 0; i < hash_len; i++)
        printf("%02x", hash[i]);
    printf("\n");
}

/* --- Checkpoint ------------------------------------------------------------------------------------------------- */

static void add_to_checkpoint(struct training *t, const char *group, const char *name, muster_dtype dtype,
                              uint64_t rows, uint64_t cols, void *data)
{
    char full[64];
    muster_tensor tensor = {.name = full,
                            .dtype = dtype,
                            .ndim = 2,
                            .global = {rows, cols},
                            .local = {rows, cols},
                            .data = data,
                            .flags = MUSTER_REPLICATED};

    snprintf(full, sizeof full, "%s%s", group, name);
    check(muster_ckpt_add(t->ckpt, &tensor), full);
}

/* Registers all that a later attempt needs, and goes on from the newest checkpoint if there is one. */
static void open_checkpoint(struct training *t)
{
    uint64_t text_id = t->text.id;
    int result;

    result = muster_ckpt_open(world, t->opt->ckpt, &t->ckpt);
    if (result == MUSTER_EBUSY)
        end_if_any(rank ? "" : muster_last_error(), 1);
    check(result, "open checkpoints");
    for (size_t n = 0; n < t->model.ntensors; n++) {
        const struct tensor *w = &t->model.tensors[n];

        add_to_checkpoint(t, "", w->name, MUSTER_FLOAT32, w->rows, w->cols, t->model.weights + w->offset);
        add_to_checkpoint(t, "adam.mean.", w->name, MUSTER_FLOAT32, w->rows, w->cols, t->model.mean + w->offset);
        add_to_checkpoint(t, "adam.variance.", w->name, MUSTER_FLOAT32, w->rows, w->cols,
                          t->model.variance + w->offset);
    }
    add_to_checkpoint(t, "random.", "seed", MUSTER_UINT64, 1, 1, &t->at.seed);
    add_to_checkpoint(t, "random.", "epoch", MUSTER_UINT64, 1, 1, &t->at.epoch);
    add_to_checkpoint(t, "data.", "cursor", MUSTER_UINT64, 1, 1, &t->at.cursor);
    add_to_checkpoint(t, "data.", "text", MUSTER_UINT64, 1, 1, &t->text.id);
    result = muster_ckpt_restore(t->ckpt, &t->step);
    if (result == MUSTER_ENOCKPT)
        return;
    check(result, "resume from the checkpoint");
    if (t->text.id != text_id)
        end_if_any(rank ? "" : "the checkpoint is of another text: name another directory with --ckpt dir=DIR", 1);
    if (!rank)
        printf("resumed at step %llu from checkpoint\n", (unsigned long long)t->step);
}

/* Whether a checkpoint went well on every rank. A full or slow disk costs this one; other errors end the job. */
static bool went_well(int result, bool silent)
{
    int32_t mine = result < 0 ? rank : INT32_MAX, first;

    if (result != MUSTER_ENOSPC && result != MUSTER_EIO && result != MUSTER_ETIMEOUT)
        check(result, "save");
    check(muster_allreduce(&mine, &first, 1, MUSTER_INT32, MUSTER_MIN, world), "agree on the checkpoint");
    if (first == rank && !silent)
        fprintf(stderr, "train_lm: going on without a new checkpoint: %s\n", muster_last_error());
    return first == INT32_MAX;
}

/* The checkpoint that the job ends with: saved and in the store. A disk that is full may get room. */
static bool save_at_last(struct training *t)
{
    for (uint64_t tries = 0; tries < t->opt->last_save_tries; tries++) {
        int result = muster_ckpt_save(t->ckpt, t->step);

        if (went_well(result ? result : muster_ckpt_wait(t->ckpt, MUSTER_LEVEL_STORE, 120000), tries > 0))
            return true;
        sleep(1);
    }
    return false;
}

/* Saves when it is time to; returns the MUSTER_DUE_ reason. An error comes with the next save, which stays due. */
static int save_if_due(struct training *t, bool last)
{
    int why = MUSTER_DUE_NO, due;

    if (!t->ckpt)
        return why;
    due = check(muster_ckpt_due(t->ckpt, &why), "ask for checkpoints");
    if (last || why > MUSTER_DUE_INTERVAL)
        t->unsaved = !save_at_last(t);
    else if (due)
        went_well(muster_ckpt_save(t->ckpt, t->step), false);
    return why;
}

/* --- Main ------------------------------------------------------------------------------------------------------- */

static void append_time(int fd, uint64_t step)
{
    char line[64];
    struct timespec t;
    int n;

    clock_gettime(CLOCK_REALTIME, &t);
    n = snprintf(line, sizeof line, "%lld.%09ld %llu\n", (long long)t.tv_sec, t.tv_nsec, (unsigned long long)step);
    if (write(fd, line, (size_t)n) != n)
        fail("cannot write to --step-time-file: %s", strerror(errno));
}

/* Trains until all steps are done or the job is to end early: then it returns why. */
static const char *train(struct training *t, int time_fd)
{
    static const char *const early[] = {[MUSTER_DUE_SIGNAL] = "a signal came",
                                        [MUSTER_DUE_TIME_LIMIT] = "the time limit is near",
                                        [MUSTER_DUE_EVICTION] = "the node is taken away",
                                        [MUSTER_DUE_HALT] = "the job was halted"};
    const struct options *opt = t->opt;
    uint64_t until = opt->stop_at && opt->stop_at < opt->steps ? opt->stop_at : opt->steps, logged = t->step;
    double since = seconds();
    int why = MUSTER_DUE_NO;

    while (t->step < until && why <= MUSTER_DUE_INTERVAL) {
        float loss = train_step(t);

        if (!isfinite(loss))
            end_if_any(rank ? "" : "the loss is not a number any more: try a smaller --lr", 1);
        check(muster_step(t->step), "report the step");
        if (time_fd >= 0)
            append_time(time_fd, t->step);
        if (!rank && (t->step % opt->log_every == 0 || t->step == opt->steps)) {
            double now = seconds();

            printf("step %llu loss %.4f tokens/s %.0f\n", (unsigned long long)t->step, (double)loss,
                   (double)((t->step - logged) * opt->batch) / (now - since));
            since = now;
            logged = t->step;
        }
        why = save_if_due(t, t->step == until);
    }
    if (t->step >= opt->steps)
        return NULL;
    return why > MUSTER_DUE_INTERVAL ? early[why] : "--stop-at";
}

/* The device that is asked for, or why there is none in error. */
static const struct device *find_device(const struct options *opt, char error[ERROR_TEXT])
{
    const char *local = getenv("LOCAL_RANK"); /* muster's, else Open MPI's */
    const struct device *gpu;
    void *stream;

    if (!strcmp(opt->device, "cpu"))
        return &cpu;
    if (!local)
        local = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    gpu = open_gpu(opt->gpu_code, local ? atoi(local) : rank, &stream, error, ERROR_TEXT);
    if (gpu && muster_comm_set_stream(world, stream) < 0)
        snprintf(error, ERROR_TEXT, "--device gpu: %s", muster_last_error());
    return gpu;
}

int main(int argc, char **argv)
{
    char error[ERROR_TEXT] = "";
    struct options opt;
    struct training t = {.opt = &opt};
    const struct device *device;
    const char *stopped;
    int time_fd = -1;

    setvbuf(stdout, NULL, _IOLBF, 0);
    check(muster_init(&argc, &argv), "start");
    world = muster_world();
    rank = muster_rank(world);
    size = muster_size(world);

    parse_options(argc, argv, &opt, error);
    if (!*error && opt.batch < (uint64_t)size)
        snprintf(error, sizeof error, "--batch %llu has no sample for some of %d ranks", (unsigned long long)opt.batch,
                 size);
    end_if_any(error, 2);
    if (opt.help) {
        if (!rank)
            print_help();
        leave(0);
    }
    device = find_device(&opt, error);
    end_if_any(error, NO_GPU);
    if (opt.gradcheck)
        leave(rank || gradient_check(device) ? 0 : 1);

    load_text(&opt, &t.text);
    if (opt.step_time_file && !rank &&
        (time_fd = open(opt.step_time_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
        fail("cannot open '%s': %s", opt.step_time_file, strerror(errno));
    make_model(&t.model, device, &opt.shape, opt.batch / (uint64_t)size + 1, opt.seed);
    t.model.gradient = gradient_of(&t.model);
    make_buckets(&t.model);
    t.at.seed = opt.seed;
    if (!rank)
        printf("%zu bytes of text, %zu parameters, %d rank%s\n", t.text.len, t.model.nweights, size,
               size == 1 ? "" : "s");
    if (!opt.no_ckpt)
        open_checkpoint(&t);

    stopped = train(&t, time_fd);
    if (!stopped)
        report_end(&t);
    else if (!rank)
        printf("stopped after step %llu with%s checkpoint: %s\n", (unsigned long long)t.step,
               t.unsaved ? "out a new" : " a", stopped);

    if (t.ckpt)
        t.unsaved |= !went_well(muster_ckpt_close(t.ckpt), false);
    if (t.unsaved && !rank)
        fprintf(stderr, "train_lm: step %llu is in no checkpoint: its save failed\n", (unsigned long long)t.step);
    if (time_fd >= 0)
        close(time_fd);
    muster_bucket_close(buckets);
    if (device->apart)
        device->release(t.model.gradient);
    else
        muster_mem_free(t.model.gradient);
    free_model(&t.model);
    free(t.text.bytes);
    leave(t.unsaved ? 3 : 0);
}
