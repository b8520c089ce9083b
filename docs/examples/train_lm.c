/* train_lm: trains a small language model with muster, from the first byte to the last checkpoint.
 *
 * The model reads the last few bytes of a text and predicts the next one: an embedding for each byte, hidden layers
 * with residual connections, a softmax over 256 bytes. Training is data-parallel: every rank holds all weights, works
 * through its share of each batch, and muster averages the gradients. After a failure the next attempt goes on from the
 * newest checkpoint and ends with the same weights, bit for bit, as a run that nothing disturbed.
 *
 *     muster run -n 4 ./train_lm
 *
 * Read main() first, then train(); what they use stands above them. Everything about muster is in the parts called
 * "Ranks", "Checkpoint" and "Training". */
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

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
enum { BYTES = 256, MAX_LAYERS = 16, MAX_FILES = 64, ERROR_TEXT = 512 };

/* --- Options ---------------------------------------------------------------------------------------------------- */

struct options {
    uint64_t steps, stop_at, batch, context, hidden, embed, layers, seed, log_every, last_save_tries;
    double lr;
    const char *ckpt, *step_time_file;
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
    {"--context", "N", WHOLE, FIELD(context), "16", 1, 4096, "bytes that the model sees"},
    {"--hidden", "N", WHOLE, FIELD(hidden), "704", 1, 1 << 14, "width of a hidden layer"},
    {"--embed", "N", WHOLE, FIELD(embed), "32", 1, 4096, "width of a byte's embedding"},
    {"--layers", "N", WHOLE, FIELD(layers), "2", 1, MAX_LAYERS, "hidden layers"},
    {"--lr", "X", REAL, FIELD(lr), "0.002", 1e-9, 10, "peak learning rate"},
    {"--seed", "N", WHOLE, FIELD(seed), "1", 0, 1e15, "of the first weights and of the order of the samples"},
    {"--data", "FILE", FILES, FIELD(data), NULL, 0, 0, "text to train on instead of the licences; repeatable"},
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
    printf("\nWithout --data it reads the files in /usr/share/common-licenses.\n");
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
    if (!*error && opt->stop_at && opt->no_ckpt)
        snprintf(error, ERROR_TEXT, "--stop-at needs checkpoints: leave --no-ckpt out");
}

/* --- Ranks ------------------------------------------------------------------------------------------------------ */

static muster_comm *world;
static int rank, size;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
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

static void *zeroed(size_t count, size_t bytes)
{
    void *p = calloc(count ? count : 1, bytes);

    if (!p)
        fail("out of memory (%zu x %zu bytes)", count, bytes);
    return p;
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
    size_t least = 40 * (opt->context + 1); /* both slices hold samples */

    for (size_t i = 0; i < opt->ndata && !*error; i++)
        append_file(text, opt->data[i], error);
    if (!opt->ndata)
        append_licences(text, error);
    if (!*error && text->len < least)
        snprintf(error, ERROR_TEXT, "the text has %zu bytes, --context %llu needs at least %zu", text->len,
                 (unsigned long long)opt->context, least);
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

/* --- Random numbers --------------------------------------------------------------------------------------------- */

/* Counter-based: a number depends on its key and counter only, so every rank can draw any of them in any order. */
static uint64_t random_bits(uint64_t key, uint64_t counter)
{
    uint64_t z = (key + 1) * 0x9e3779b97f4a7c15 + counter * 0xd1342543de82ef95;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1). */
static float random_float(uint64_t key, uint64_t counter)
{
    return (float)(random_bits(key, counter) >> 40) * 0x1p-23f - 1;
}

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

/* --- Matrices --------------------------------------------------------------------------------------------------- */

/* Fused where the processor can: ISO C mode keeps the compiler from doing it by itself. */
#if defined(__FP_FAST_FMAF) || defined(__FMA__)
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

enum { TILE_ROWS = 8, TILE_COLS = 32 }; /* sums that stay in vector registers */

/* A matrix whose element (i, k) is at[i * row + k * col]: a transposed view costs nothing. */
struct view {
    const float *at;
    size_t row, col;
};

/* c += a b for a tile of c. Inlined with constant rows and cols it becomes vector code; the order of the sums is the
 * same however the matrix is cut. */
static inline __attribute__((always_inline)) void add_tile(float *c, size_t c_row, struct view a, const float *b,
                                                           size_t b_row, size_t depth, size_t rows, size_t cols)
{
    float sum[TILE_ROWS][TILE_COLS];

    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            sum[i][j] = c[i * c_row + j];
    for (size_t k = 0; k < depth; k++)
        for (size_t i = 0; i < rows; i++) {
            float x = a.at[i * a.row + k * a.col];

            for (size_t j = 0; j < cols; j++)
                sum[i][j] = MULTIPLY_ADD(x, b[k * b_row + j], sum[i][j]);
        }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            c[i * c_row + j] = sum[i][j];
}

/* c (rows x cols, dense) += a (rows x depth) b (depth x cols, dense). */
static void add_product(float *c, size_t rows, size_t cols, struct view a, size_t depth, const float *b)
{
    for (size_t j = 0; j < cols; j += TILE_COLS)
        for (size_t i = 0; i < rows; i += TILE_ROWS) {
            struct view a_tile = {a.at + i * a.row, a.row, a.col};
            float *c_tile = c + i * cols + j;
            size_t r = rows - i, w = cols - j;

            if (r >= TILE_ROWS && w >= TILE_COLS)
                add_tile(c_tile, cols, a_tile, b + j, cols, depth, TILE_ROWS, TILE_COLS);
            else if (w >= TILE_COLS)
                add_tile(c_tile, cols, a_tile, b + j, cols, depth, r, TILE_COLS);
            else
                add_tile(c_tile, cols, a_tile, b + j, cols, depth, r < TILE_ROWS ? r : TILE_ROWS, w);
        }
}

static void transpose(float *restrict to, const float *restrict from, size_t rows, size_t cols)
{
    enum { BLOCK = 16 };

    for (size_t i0 = 0; i0 < rows; i0 += BLOCK)
        for (size_t j = 0; j < cols; j++)
            for (size_t i = i0; i < rows && i < i0 + BLOCK; i++)
                to[j * rows + i] = from[i * cols + j];
}

/* --- Model ------------------------------------------------------------------------------------------------------ */

/* One tensor of weights: where it lies in the array of all weights. */
struct tensor {
    char name[16];
    size_t rows, cols, offset;
};

/* z = x weight + bias. A hidden layer's activation(z), from the second one on plus x, is x of the next layer; the last
 * layer's z are the logits; the first one's x is the embedded context. */
struct layer {
    size_t in, out, weight, bias; /* widths, offsets */
    float *x, *z;
};

struct model {
    size_t context, embed, hidden, nlayers; /* nlayers counts the output layer too */
    size_t ntensors, nweights, capacity;    /* capacity: rows that fit into the buffers */
    struct tensor tensors[2 * MAX_LAYERS + 3];
    struct layer layers[MAX_LAYERS + 1];
    float *weights, *gradient; /* gradient has one element more, for the loss */
    float *slope_x, *slope_z, *slope_in, *transposed;
    muster_bucket *buckets; /* of the gradient: the loss, then the layers from the last one, then the embedding */
    uint8_t *samples;       /* capacity rows of context + 1 bytes */
};

/* Returns the tensor's offset. */
static size_t add_tensor(struct model *m, const char *kind, size_t number, size_t rows, size_t cols)
{
    struct tensor *t = &m->tensors[m->ntensors++];

    *t = (struct tensor){.rows = rows, .cols = cols, .offset = m->nweights};
    snprintf(t->name, sizeof t->name, "%s%zu", kind, number);
    m->nweights += rows * cols;
    return t->offset;
}

/* Weights start uniform with variance 1 / inputs; biases at zero, the output small: all bytes equally likely. */
static void init_weights(struct model *m, uint64_t seed)
{
    for (size_t n = 0; n < m->ntensors; n++) {
        const struct tensor *t = &m->tensors[n];
        uint64_t key = random_bits(~seed, n);
        float scale = t->rows == 1 ? 0 : n == 0 ? sqrtf(3) : sqrtf(3 / (float)t->rows);

        if (t->offset == m->layers[m->nlayers - 1].weight)
            scale *= 0.1f;
        for (size_t i = 0; i < t->rows * t->cols; i++)
            m->weights[t->offset + i] = scale * random_float(key, i);
    }
}

static void make_model(struct model *m, const struct options *opt, size_t capacity)
{
    size_t widest = opt->hidden > BYTES ? opt->hidden : BYTES, inputs = opt->context * opt->embed;

    *m = (struct model){.context = opt->context, .embed = opt->embed, .hidden = opt->hidden, .capacity = capacity};
    m->nlayers = opt->layers + 1;
    add_tensor(m, "embedding", 0, BYTES, m->embed);
    for (size_t n = 0; n < m->nlayers; n++) {
        struct layer *l = &m->layers[n];

        l->in = n ? m->hidden : inputs;
        l->out = n + 1 < m->nlayers ? m->hidden : BYTES;
        l->weight = add_tensor(m, "weight", n, l->in, l->out);
        l->bias = add_tensor(m, "bias", n, 1, l->out);
        l->x = zeroed(capacity * l->in, sizeof(float));
        l->z = zeroed(capacity * l->out, sizeof(float));
    }
    m->weights = zeroed(m->nweights, sizeof(float));
    m->slope_x = zeroed(capacity * m->hidden, sizeof(float));
    m->slope_z = zeroed(capacity * widest, sizeof(float));
    m->slope_in = zeroed(capacity * inputs, sizeof(float));
    m->transposed = zeroed((inputs > widest ? inputs : widest) * widest, sizeof(float));
    m->samples = zeroed(capacity, m->context + 1);
    m->gradient = muster_mem_alloc((m->nweights + 1) * sizeof(float)); /* the ranks of a node share it */
    if (!m->gradient)
        fail("no memory for gradients: %s", muster_last_error());
    init_weights(m, opt->seed);
}

static void free_model(struct model *m)
{
    for (size_t n = 0; n < m->nlayers; n++) {
        free(m->layers[n].x);
        free(m->layers[n].z);
    }
    free(m->weights);
    free(m->slope_x);
    free(m->slope_z);
    free(m->slope_in);
    free(m->transposed);
    free(m->samples);
    muster_bucket_close(m->buckets);
    muster_mem_free(m->gradient);
}

/* Where the embedding of a loaded byte lies among the weights; it comes first. */
static size_t embedding_of(const struct model *m, size_t row, size_t place)
{
    return m->samples[row * (m->context + 1) + place] * m->embed;
}

static void load_sample(struct model *m, size_t row, const struct text *text, size_t start)
{
    memcpy(m->samples + row * (m->context + 1), text->bytes + start, m->context + 1);
}

/* Squared ReLU: smooth enough for a gradient check, and no libm in the inner loop. */
static inline float activation(float z)
{
    return z > 0 ? z * z : 0;
}

static inline float activation_slope(float z)
{
    return z > 0 ? 2 * z : 0;
}

/* Predicts the last byte of the loaded rows: returns the sum of their losses in nats and leaves the logits' slopes of
 * that sum, times scale, in slope_z. */
static double forward(struct model *m, size_t rows, float scale)
{
    double loss = 0;

    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < m->context; c++)
            memcpy(m->layers[0].x + (r * m->context + c) * m->embed, m->weights + embedding_of(m, r, c),
                   m->embed * sizeof(float));
    for (size_t n = 0; n < m->nlayers; n++) {
        struct layer *l = &m->layers[n];

        for (size_t r = 0; r < rows; r++)
            memcpy(l->z + r * l->out, m->weights + l->bias, l->out * sizeof(float));
        add_product(l->z, rows, l->out, (struct view){l->x, l->in, 1}, l->in, m->weights + l->weight);
        for (size_t i = 0; n + 1 < m->nlayers && i < rows * l->out; i++)
            l[1].x[i] = activation(l->z[i]) + (n ? l->x[i] : 0);
    }
    for (size_t r = 0; r < rows; r++) {
        const float *logit = m->layers[m->nlayers - 1].z + r * BYTES;
        float *slope = m->slope_z + r * BYTES, max = logit[0], sum = 0;
        uint8_t next = m->samples[r * (m->context + 1) + m->context];

        for (int b = 1; b < BYTES; b++)
            max = logit[b] > max ? logit[b] : max;
        for (int b = 0; b < BYTES; b++)
            sum += slope[b] = expf(logit[b] - max);
        for (int b = 0; b < BYTES; b++)
            slope[b] *= scale / sum;
        slope[next] -= scale;
        loss += log(sum) + max - logit[next];
    }
    return loss;
}

/* Part of the gradient can be averaged while the rest is computed. */
static void ready(const struct model *m, size_t part)
{
    if (m->buckets)
        check(muster_bucket_ready(m->buckets, part), "average the gradients");
}

static void make_buckets(struct model *m)
{
    check(muster_bucket_open(world, MUSTER_FLOAT32, MUSTER_AVG, 0, &m->buckets), "make buckets");
    check(muster_bucket_add(m->buckets, m->gradient + m->nweights, 1), "make buckets");
    for (size_t n = m->nlayers; n-- > 0;) {
        const struct layer *l = &m->layers[n];

        check(muster_bucket_add(m->buckets, m->gradient + l->weight, l->bias + l->out - l->weight), "make buckets");
    }
    check(muster_bucket_add(m->buckets, m->gradient, m->layers[0].weight), "make buckets");
}

/* From slope_z to the gradient of all weights; loss goes with it. */
static void backward(struct model *m, size_t rows, float loss)
{
    memset(m->gradient, 0, m->nweights * sizeof(float));
    m->gradient[m->nweights] = loss;
    ready(m, 0);
    memset(m->slope_x, 0, rows * m->hidden * sizeof(float));
    memset(m->slope_in, 0, rows * m->layers[0].in * sizeof(float));
    for (size_t n = m->nlayers; n-- > 0;) {
        const struct layer *l = &m->layers[n];

        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < l->out; j++)
                m->gradient[l->bias + j] += m->slope_z[r * l->out + j];
        add_product(m->gradient + l->weight, l->in, l->out, (struct view){l->x, 1, l->in}, rows, m->slope_z);
        /* slope_x already holds what came through the residual connection. */
        transpose(m->transposed, m->weights + l->weight, l->in, l->out);
        add_product(n ? m->slope_x : m->slope_in, rows, l->in, (struct view){m->slope_z, l->out, 1}, l->out,
                    m->transposed);
        for (size_t i = 0; n && i < rows * l->in; i++)
            m->slope_z[i] = m->slope_x[i] * activation_slope(l[-1].z[i]);
        ready(m, m->nlayers - n);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < m->context; c++) {
            const float *from = m->slope_in + (r * m->context + c) * m->embed;
            float *to = m->gradient + embedding_of(m, r, c);

            for (size_t e = 0; e < m->embed; e++)
                to[e] += from[e];
        }
    ready(m, m->nlayers + 1);
}

/* --- Gradient check --------------------------------------------------------------------------------------------- */

/* The loss of the loaded rows once more, in double precision and as plainly as it can be written. */
static double plain_loss(const struct model *m, const double *w, size_t rows, double *x, double *z)
{
    double loss = 0;

    for (size_t r = 0; r < rows; r++) {
        double sum = 0;

        for (size_t i = 0; i < m->layers[0].in; i++)
            x[i] = w[embedding_of(m, r, i / m->embed) + i % m->embed];
        for (size_t n = 0; n < m->nlayers; n++) {
            const struct layer *l = &m->layers[n];

            memcpy(z, w + l->bias, l->out * sizeof *z);
            for (size_t i = 0; i < l->in; i++)
                for (size_t j = 0; j < l->out; j++)
                    z[j] += x[i] * w[l->weight + i * l->out + j];
            for (size_t j = 0; n + 1 < m->nlayers && j < l->out; j++)
                x[j] = (z[j] > 0 ? z[j] * z[j] : 0) + (n ? x[j] : 0);
        }
        for (int b = 0; b < BYTES; b++)
            sum += exp(z[b]);
        loss += log(sum) - z[m->samples[r * (m->context + 1) + m->context]];
    }
    return loss;
}

/* Compares backward() with central differences of plain_loss(), tensor by tensor. The error of a tensor is its largest
 * difference over its largest slope. */
static bool gradient_check(void)
{
    enum { ROWS = 11, MOST = 500 }; /* of a large tensor every n-th element */
    const double bound = 1e-5, eps = 1e-5;
    /* No size is a multiple of the tiles; some tiles are full. */
    struct options opt = {.context = 3, .embed = 5, .hidden = 37, .layers = 3, .seed = 7};
    struct model m;
    double *w, *x, *z, loss, plain;
    bool good = true;

    make_model(&m, &opt, ROWS);
    w = zeroed(m.nweights, sizeof *w);
    x = zeroed(BYTES, sizeof *x);
    z = zeroed(BYTES, sizeof *z);
    for (size_t i = 0; i < m.nweights; i++)
        w[i] = m.weights[i] += 0.05f * random_float(8, i); /* biases too */
    for (size_t i = 0; i < ROWS * (m.context + 1); i++)
        m.samples[i] = random_bits(9, i) % 64; /* some bytes occur twice */
    loss = forward(&m, ROWS, 1);
    backward(&m, ROWS, 0);
    plain = plain_loss(&m, w, ROWS, x, z);
    if (!(fabs(loss - plain) <= 1e-5 * plain))
        good = false;
    printf("gradcheck loss %.6f reference %.6f%s\n", loss, plain, good ? "" : " BAD");
    for (size_t n = 0; n < m.ntensors; n++) {
        const struct tensor *t = &m.tensors[n];
        size_t count = t->rows * t->cols, every = count / MOST | 1;
        double worst = 0, largest = 0, error;

        for (size_t i = t->offset; i < t->offset + count; i += every) {
            double before = w[i], up, down, slope, off;

            w[i] = before + eps;
            up = plain_loss(&m, w, ROWS, x, z);
            w[i] = before - eps;
            down = plain_loss(&m, w, ROWS, x, z);
            w[i] = before;
            slope = (up - down) / (2 * eps);
            off = fabs(slope - (double)m.gradient[i]);
            worst = off >= 0 ? fmax(worst, off) : INFINITY; /* not a number is as wrong as can be */
            largest = fmax(largest, fabs(slope));
        }
        error = largest > 0 ? worst / largest : INFINITY;
        if (!(error <= bound))
            good = false;
        printf("gradcheck %-10s max error %.2e%s\n", t->name, error, error <= bound ? "" : " BAD");
    }
    printf("gradcheck %s, bound %.0e\n", good ? "passed" : "FAILED", bound);
    free(w);
    free(x);
    free(z);
    free_model(&m);
    return good;
}

/* --- Training --------------------------------------------------------------------------------------------------- */

struct training {
    const struct options *opt;
    struct text text;
    struct model model;
    float *mean, *variance; /* Adam's moments of the gradient */
    struct position at;
    uint64_t step; /* steps done */
    muster_ckpt *ckpt;
    bool unsaved; /* the checkpoint that the job was to end with is not there */
};

static uint64_t samples_of(const struct training *t)
{
    return t->text.train_len - t->opt->context;
}

/* Warms up over the first steps, then decays along a cosine to a tenth. */
static double learning_rate(const struct options *opt, uint64_t step)
{
    const double warm_up = fmin(20, (double)opt->steps), done = (double)step / (double)opt->steps;

    return opt->lr * fmin(1, ((double)step + 1) / warm_up) * (0.55 + 0.45 * cos(3.14159265358979 * done));
}

static void adam(struct training *t)
{
    const float beta1 = 0.9f, beta2 = 0.98f, n = (float)t->step + 1;
    const float rate = (float)learning_rate(t->opt, t->step) / (1 - powf(beta1, n)), correct = 1 / (1 - powf(beta2, n));
    float *restrict w = t->model.weights, *restrict mean = t->mean, *restrict variance = t->variance;
    const float *restrict g = t->model.gradient;

    for (size_t i = 0; i < t->model.nweights; i++) {
        mean[i] += (1 - beta1) * (g[i] - mean[i]);
        variance[i] += (1 - beta2) * (g[i] * g[i] - variance[i]);
        w[i] -= rate * mean[i] / (sqrtf(variance[i] * correct) + 1e-8f);
    }
}

/* One step; returns the mean loss of the batch. The batch depends on the position alone: ranks only share it out. */
static float train_step(struct training *t)
{
    struct model *m = &t->model;
    uint64_t batch = t->opt->batch, begin = batch * (uint64_t)rank / (uint64_t)size;
    size_t rows = batch * ((uint64_t)rank + 1) / (uint64_t)size - begin;
    float scale = (float)size / (float)batch; /* the mean over ranks becomes the mean over the batch */
    double loss;

    for (size_t r = 0; r < rows; r++)
        load_sample(m, r, &t->text, sample_at(&t->at, begin + r, samples_of(t)));
    loss = forward(m, rows, scale);
    backward(m, rows, (float)loss * scale);
    check(muster_bucket_wait(m->buckets), "average the gradients");
    adam(t);
    advance(&t->at, batch, samples_of(t));
    t->step++;
    return m->gradient[m->nweights];
}

/* This rank's share of evenly spaced samples of [begin, end) of the text: loss[0] += nats, loss[1] += samples. */
static void evaluate(struct training *t, size_t begin, size_t end, double loss[2])
{
    struct model *m = &t->model;
    size_t samples = end - begin - m->context, count = samples < 4096 ? samples : 4096, rows = 0;

    for (size_t i = (size_t)rank; i < count; i += (size_t)size) {
        load_sample(m, rows++, &t->text, begin + i * samples / count);
        if (rows == m->capacity || i + (size_t)size >= count) {
            loss[0] += forward(m, rows, 1);
            loss[1] += (double)rows;
            rows = 0;
        }
    }
}

static void report_end(struct training *t)
{
    double loss[4] = {0}, nats = 1 / log(2), train, held_out, unigram = unigram_entropy(&t->text);
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned hash_len;
    uint64_t head;

    evaluate(t, 0, t->text.train_len, loss);
    evaluate(t, t->text.train_len, t->text.len, loss + 2);
    check(muster_allreduce(loss, loss, 4, MUSTER_FLOAT64, MUSTER_SUM, world), "add up the losses");
    train = loss[0] / loss[1];
    held_out = loss[2] / loss[3];
    if (!EVP_Digest(t->model.weights, t->model.nweights * sizeof(float), hash, &hash_len, EVP_sha256(), NULL))
        fail("SHA-256 is not available");
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
        add_to_checkpoint(t, "adam.mean.", w->name, MUSTER_FLOAT32, w->rows, w->cols, t->mean + w->offset);
        add_to_checkpoint(t, "adam.variance.", w->name, MUSTER_FLOAT32, w->rows, w->cols, t->variance + w->offset);
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

int main(int argc, char **argv)
{
    char error[ERROR_TEXT] = "";
    struct options opt;
    struct training t = {.opt = &opt};
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
    if (opt.gradcheck)
        leave(rank || gradient_check() ? 0 : 1);

    load_text(&opt, &t.text);
    if (opt.step_time_file && !rank &&
        (time_fd = open(opt.step_time_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
        fail("cannot open '%s': %s", opt.step_time_file, strerror(errno));
    make_model(&t.model, &opt, opt.batch / (uint64_t)size + 1);
    make_buckets(&t.model);
    t.mean = zeroed(t.model.nweights, sizeof(float));
    t.variance = zeroed(t.model.nweights, sizeof(float));
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
    free(t.mean);
    free(t.variance);
    free(t.text.bytes);
    free_model(&t.model);
    leave(t.unsaved ? 3 : 0);
}
