/* What comes over a connection between ranks: whatever it is and however it is cut, it is stayed within; frames come
 * out as they went in; a hello without the secret is none.
 *
 * sources: collectives/tcp_link.c collectives/tcp_net.c collectives/frame.c collectives/domain.c topo/cpuset.c
 *
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "collectives/tcp_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The stream in pieces as long as its own bytes say. Returns the frames that were whole. */
static unsigned feed(struct mu_pool *pool, const uint8_t *stream, size_t size, const uint8_t *cuts, size_t ncuts,
                     bool *refused)
{
    struct mu_link l = {.peer = 1, .greeted = true};
    struct mu_frames arrived = {0};
    struct mu_err err;
    unsigned n = 0;

    *refused = false;
    for (size_t at = 0, i = 0; at < size && !*refused; i++) {
        size_t each = ncuts ? 1 + (size_t)cuts[i % ncuts] * cuts[i % ncuts] : size, left = size - at;

        if (!l.in && !(l.in = mu_frame_new(pool, MU_CHUNK)))
            exit(0);
        if (each > left)
            each = left;
        if (each > sizeof l.in->head + MU_CHUNK - l.got) /* as mu_link_read asks for */
            each = sizeof l.in->head + MU_CHUNK - l.got;
        memcpy((char *)&l.in->head + l.got, stream + at, each);
        at += each;
        *refused = mu_link_take(&l, pool, each, &arrived, &err) < 0;
    }
    for (struct mu_frame *f; (f = mu_frames_pop(&arrived)); n++) {
        if (f->head.magic != MU_FRAME_MAGIC || f->head.bytes > f->room)
            abort();
        mu_frame_free(pool, f);
    }
    mu_frame_free(pool, l.in);
    return n;
}

/* Each byte stands for a frame. */
static void ours(struct mu_pool *pool, const uint8_t *data, size_t size)
{
    unsigned char *stream = calloc(64 + MU_CHUNK, 16), *at = stream;
    unsigned n = 0, most = size < 16 ? (unsigned)size : 16;
    bool refused;

    if (!stream)
        exit(0);
    for (; n < most; n++) {
        struct mu_frame_head h = {.magic = MU_FRAME_MAGIC, .bytes = (uint32_t)(data[n] * 240)};

        memcpy(at, &h, sizeof h);
        at += sizeof h + h.bytes;
    }
    if (feed(pool, stream, (size_t)(at - stream), data, size, &refused) != n || refused)
        abort();
    free(stream);
}

static void hello(const uint8_t *data, size_t size)
{
    static const struct mu_tcp_card mine = {.secret = {7, 7, 7}};
    struct mu_tcp_hello h;
    int from = -1;

    if (size < sizeof h)
        return;
    memcpy(&h, data, sizeof h);
    if (mu_tcp_hello_ok(&h, &mine, 1, 4, &from) && memcmp(h.secret, mine.secret, sizeof h.secret) != 0)
        abort();
    memcpy(h.secret, mine.secret, sizeof h.secret);
    if (mu_tcp_hello_ok(&h, &mine, 1, 4, &from) && (from < 0 || from == 1 || from > 3))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mu_pool pool;
    char list[200];
    struct mu_tcp_addr a = {.family = size % 2 ? 4 : 6};
    bool refused;

    hello(data, size);
    if (size > 0) {
        feed(&pool, data, size, data, size, &refused);
        ours(&pool, data, size);
    }
    if (size < sizeof list) {
        memcpy(list, data, size);
        list[size] = 0;
        (void)mu_tcp_listed(list, "eth0", &a);
    }
    return 0;
}
