/* What a node says of itself, from another host: what it is made of, as a message and as pairs of any text, and how its
 * GPUs are, as a message and as a table of any numbers.
 * sources: runtime/wire/inventory.c runtime/wire/gpus.c runtime/wire/msg.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"
#include "runtime/wire/gpus.h"
#include "runtime/wire/inventory.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {
    "a",        "b",    "id.gpu.0.uuid", "kernel.release", "x_y:z-1", "6.1", " ",    "\t",   "\n",           "\n", "\n",
    "\x1b[31m", "\xff", "\xc3",          "\xa9",           "\\",      "?",   "key=", "%s%n", "\xe2\x80\xae", "."};

static void tell(void *arg, const char *key, const char *was, const char *is)
{
    if (!*key || (!was && !is) || (was && is && !strcmp(was, is)))
        abort();
    ++*(unsigned *)arg;
}

/* One that was taken is bounded, and compared with any other. */
static void look(const struct mu_m_inventory *m, const struct mu_m_inventory *other)
{
    char text[200];
    unsigned n = 0;

    if (!mu_inventory_valid(m))
        return;
    if (mu_strv_len(m->keys) > MU_INVENTORY_PAIRS || mu_inventory_diff(m, m, NULL, NULL))
        abort();
    for (size_t i = 0; m->keys && m->keys[i]; i++)
        if (strlen(m->keys[i]) >= MU_INVENTORY_KEY || strlen(m->values[i]) >= MU_INVENTORY_VALUE ||
            mu_inventory_value(m, m->keys[i]) != m->values[i])
            abort();
    unsigned k = mu_inventory_diff(m, other, tell, &n);
    if (k != n || k != mu_inventory_tell(other, m, text, sizeof text) || !k != !*text)
        abort();
}

static void try(char *text, size_t n)
{
    static struct mu_inventory_pairs made;
    struct mu_m_inventory given = {0}, built = {0};
    char *save = NULL;
    bool key = true;

    made.n = 0;
    text[n] = 0;
    mu_auto_buf struct mu_buf last = {0};
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), key = !key) {
        if (mu_strv_append(key ? &given.keys : &given.values, line))
            abort();
        if (!key)
            mu_inventory_put(&made, mu_buf_str(&last), line);
        mu_buf_clear(&last);
        mu_buf_puts(&last, line);
    }
    if (mu_inventory_make(&made, &built) || !mu_inventory_valid(&built))
        abort(); /* whatever is put in, what comes out is one */
    look(&given, &built);
    look(&built, &built);
    mu_msg_free_body(MU_MSG_inventory, &given);
    mu_msg_free_body(MU_MSG_inventory, &built);
}

/* Of one that was taken all that is made of it is text, and bounded. */
static void look_at_gpus(const struct mu_m_gpus *m)
{
    char text[MU_GPUS_TROUBLE];
    struct mu_gpu g;

    if (!mu_gpus_valid(m))
        return;
    unsigned n = mu_gpus_count(m);
    if (n > MU_GPUS_MOST || m->xids.n / 3 > MU_GPUS_XIDS)
        abort();
    for (unsigned i = 0; i <= n; i++)
        mu_gpus_row(m, i, &g);
    for (unsigned i = 0; i < m->xids.n / 3; i++) {
        mu_gpus_tell_xid(m, i, text, sizeof text);
        if (!*text || !*mu_xid_text(m->xids.v[3 * i + 2]))
            abort();
    }
    mu_gpus_fault(m, text, sizeof text);
    bool fault = *text;
    mu_gpus_trouble(m, text, sizeof text);
    if (fault && !*text)
        abort();
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20)
            abort();
}

/* A byte stands for a GPU, an Xid or a number, so that random bytes are often one. */
static void make_gpus(const uint8_t *data, size_t size)
{
    char *texts[] = {(char[]){"GPU-1"}, (char[]){"GPU-2"}, (char[]){"a\nb"}, (char[]){""}};
    struct mu_m_gpus m = {.since = 1};
    uint32_t values[600], xids[60], nx = 0;
    size_t n = size ? data[0] % 5 : 0, width = size > 1 ? data[1] % 70 : 0;

    for (size_t i = 0; i < n; i++)
        if (mu_strv_append(&m.uuids, texts[data[i % size] % 16 ? i % 2 : 2 + i % 2]) ||
            mu_strv_append(&m.names, texts[i % 2]))
            abort();
    for (size_t i = 0; i < 600; i++)
        values[i] = size ? (data[i % size] % 7 ? data[i % size] : MU_GPU_UNKNOWN) : 0;
    for (size_t i = 0; i + 2 < size && nx + 3 <= 60; i += 3) {
        xids[nx++] = data[i];
        xids[nx++] = data[i + 1] % 8 ? data[i + 1] % (n ? n : 1) : MU_GPU_UNKNOWN;
        xids[nx++] = data[i + 2];
    }
    m.values = (struct mu_u32v){.v = values, .n = (uint32_t)(n * width + (size > 2 && data[2] == 1))};
    m.xids = (struct mu_u32v){.v = xids, .n = nx};
    look_at_gpus(&m);
    m.values = m.xids = (struct mu_u32v){0};
    mu_msg_free_body(MU_MSG_gpus, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_bytes blob = {.data = malloc(size + 2), .len = (uint32_t)size + 2};
    struct mu_m_inventory m = {0}, none = {0};
    struct mu_m_gpus gpus = {0};

    if (!blob.data)
        return 0;
    blob.data[0] = MU_MSG_inventory;
    blob.data[1] = 0;
    memcpy(blob.data + 2, data, size);
    if (!mu_msg_unpack(&blob, MU_MSG_inventory, &m, NULL)) {
        look(&m, &none);
        mu_msg_free_body(MU_MSG_inventory, &m);
    }
    blob.data[0] = MU_MSG_gpus;
    if (!mu_msg_unpack(&blob, MU_MSG_gpus, &gpus, NULL)) {
        look_at_gpus(&gpus);
        mu_msg_free_body(MU_MSG_gpus, &gpus);
    }
    free(blob.data);
    make_gpus(data, size);
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
