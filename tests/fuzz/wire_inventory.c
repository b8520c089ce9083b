/* What a node says that it is made of: from another host, as a message and as pairs of any text.
 * sources: runtime/wire/inventory.c runtime/wire/msg.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_bytes blob = {.data = malloc(size + 2), .len = (uint32_t)size + 2};
    struct mu_m_inventory m = {0}, none = {0};

    if (!blob.data)
        return 0;
    blob.data[0] = MU_MSG_inventory;
    blob.data[1] = 0;
    memcpy(blob.data + 2, data, size);
    if (!mu_msg_unpack(&blob, MU_MSG_inventory, &m, NULL)) {
        look(&m, &none);
        mu_msg_free_body(MU_MSG_inventory, &m);
    }
    free(blob.data);
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
