#include "runtime/wire/msg.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"

enum kind { K_u32, K_u64, K_i32, K_str, K_bytes, K_strv, K_u32v };

struct field {
    enum kind kind;
    uint32_t offset;
};
struct row {
    uint16_t type;
    uint16_t nfields;
    uint32_t size;
    const char *name;
    const struct field *fields;
};

#define FIELDS(num, name) static const struct field fields_##name[] = {MU_F_##name(FIELD_OF_##name)};
#define FIELD(m, type, name) {K_##type, offsetof(struct mu_m_##m, name)},
#define FIELD_OF_hello(t, n) FIELD(hello, t, n)
#define FIELD_OF_welcome(t, n) FIELD(welcome, t, n)
#define FIELD_OF_error(t, n) FIELD(error, t, n)
#define FIELD_OF_submit(t, n) FIELD(submit, t, n)
#define FIELD_OF_submitted(t, n) FIELD(submitted, t, n)
#define FIELD_OF_attach(t, n) FIELD(attach, t, n)
#define FIELD_OF_state(t, n) FIELD(state, t, n)
#define FIELD_OF_output(t, n) FIELD(output, t, n)
#define FIELD_OF_output_ack(t, n) FIELD(output_ack, t, n)
#define FIELD_OF_input(t, n) FIELD(input, t, n)
#define FIELD_OF_input_ack(t, n) FIELD(input_ack, t, n)
#define FIELD_OF_signal(t, n) FIELD(signal, t, n)
#define FIELD_OF_cancel(t, n) FIELD(cancel, t, n)
#define FIELD_OF_hold(t, n) FIELD(hold, t, n)
#define FIELD_OF_requeue(t, n) FIELD(requeue, t, n)
#define FIELD_OF_ended(t, n) FIELD(ended, t, n)
#define FIELD_OF_query(t, n) FIELD(query, t, n)
#define FIELD_OF_reply(t, n) FIELD(reply, t, n)
#define FIELD_OF_stop(t, n) FIELD(stop, t, n)
#define FIELD_OF_nodes_add(t, n) FIELD(nodes_add, t, n)
#define FIELD_OF_nodes_remove(t, n) FIELD(nodes_remove, t, n)
#define FIELD_OF_nodes_resume(t, n) FIELD(nodes_resume, t, n)
#define FIELD_OF_nodes_drain(t, n) FIELD(nodes_drain, t, n)
#define FIELD_OF_nodes_check(t, n) FIELD(nodes_check, t, n)
#define FIELD_OF_nodes_label(t, n) FIELD(nodes_label, t, n)
#define FIELD_OF_event(t, n) FIELD(event, t, n)
#define FIELD_OF_recall(t, n) FIELD(recall, t, n)
#define FIELD_OF_recalled(t, n) FIELD(recalled, t, n)
#define FIELD_OF_agent(t, n) FIELD(agent, t, n)
#define FIELD_OF_agent_ready(t, n) FIELD(agent_ready, t, n)
#define FIELD_OF_beat(t, n) FIELD(beat, t, n)
#define FIELD_OF_lease(t, n) FIELD(lease, t, n)
#define FIELD_OF_line(t, n) FIELD(line, t, n)
#define FIELD_OF_parent(t, n) FIELD(parent, t, n)
#define FIELD_OF_relay(t, n) FIELD(relay, t, n)
#define FIELD_OF_stay(t, n) FIELD(stay, t, n)
#define FIELD_OF_start(t, n) FIELD(start, t, n)
#define FIELD_OF_kill(t, n) FIELD(kill, t, n)
#define FIELD_OF_release(t, n) FIELD(release, t, n)
#define FIELD_OF_stream(t, n) FIELD(stream, t, n)
#define FIELD_OF_bye(t, n) FIELD(bye, t, n)
#define FIELD_OF_fence(t, n) FIELD(fence, t, n)
#define FIELD_OF_fenced(t, n) FIELD(fenced, t, n)
#define FIELD_OF_modex(t, n) FIELD(modex, t, n)
#define FIELD_OF_abort(t, n) FIELD(abort, t, n)
#define FIELD_OF_report(t, n) FIELD(report, t, n)
#define FIELD_OF_rank_exit(t, n) FIELD(rank_exit, t, n)
#define FIELD_OF_hang(t, n) FIELD(hang, t, n)
#define FIELD_OF_look(t, n) FIELD(look, t, n)
#define FIELD_OF_flight(t, n) FIELD(flight, t, n)
#define FIELD_OF_flown(t, n) FIELD(flown, t, n)
#define FIELD_OF_misbound(t, n) FIELD(misbound, t, n)
#define FIELD_OF_shard(t, n) FIELD(shard, t, n)
#define FIELD_OF_check(t, n) FIELD(check, t, n)
#define FIELD_OF_checked(t, n) FIELD(checked, t, n)
#define FIELD_OF_spec(t, n) FIELD(spec, t, n)
#define FIELD_OF_jobrow(t, n) FIELD(jobrow, t, n)
#define FIELD_OF_vitals(t, n) FIELD(vitals, t, n)
#define FIELD_OF_gpus(t, n) FIELD(gpus, t, n)
#define FIELD_OF_mark(t, n) FIELD(mark, t, n)
#define FIELD_OF_approve(t, n) FIELD(approve, t, n)
#define FIELD_OF_withdraw(t, n) FIELD(withdraw, t, n)
#define FIELD_OF_inventory(t, n) FIELD(inventory, t, n)
MU_MESSAGES(FIELDS)

static const struct row rows[] = {
#define ROW(num, name)                                                                                                 \
    {num, sizeof fields_##name / sizeof fields_##name[0], sizeof(struct mu_m_##name), #name, fields_##name},
    MU_MESSAGES(ROW)
#undef ROW
};
#define NROWS (sizeof rows / sizeof rows[0])

static const struct row *row_of(unsigned type)
{
    for (size_t i = 0; i < NROWS; i++)
        if (rows[i].type == type)
            return &rows[i];
    return NULL;
}

const char *mu_msg_name(enum mu_msg_type type)
{
    const struct row *row = row_of(type);

    return row ? row->name : "?";
}

enum mu_msg_type mu_msg_nth(unsigned n)
{
    return n < NROWS ? (enum mu_msg_type)rows[n].type : (enum mu_msg_type)0;
}

size_t mu_msg_size(enum mu_msg_type type)
{
    const struct row *row = row_of(type);

    return row ? row->size : 0;
}

static void put_le(struct mu_buf *b, uint64_t v, unsigned bytes)
{
    uint8_t raw[8];

    for (unsigned i = 0; i < bytes; i++)
        raw[i] = (uint8_t)(v >> (8 * i));
    mu_buf_append(b, raw, bytes);
}

static uint64_t get_le(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void put_head(struct mu_buf *b, unsigned number, uint64_t len)
{
    put_le(b, number, 1);
    put_le(b, len, 4);
}

static int put_field(struct mu_buf *b, unsigned number, enum kind kind, const void *p)
{
    switch (kind) {
    case K_u32:
    case K_i32: {
        uint32_t v;
        memcpy(&v, p, sizeof v);
        if (v) {
            put_head(b, number, 4);
            put_le(b, v, 4);
        }
        return 0;
    }
    case K_u64: {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        if (v) {
            put_head(b, number, 8);
            put_le(b, v, 8);
        }
        return 0;
    }
    case K_str: {
        const char *s = *(char *const *)p;
        if (s && *s) {
            size_t n = strlen(s);
            if (n > MU_FRAME_MAX)
                return MUSTER_EARG;
            put_head(b, number, n);
            mu_buf_append(b, s, n);
        }
        return 0;
    }
    case K_bytes: {
        const struct mu_bytes *v = p;
        if (v->len) {
            put_head(b, number, v->len);
            mu_buf_append(b, v->data, v->len);
        }
        return 0;
    }
    case K_strv: {
        char *const *v = *(char **const *)p;
        bool apart = false; /* decoded ones lie behind each other */
        uint64_t n = 0;
        for (size_t i = 0; v && v[i]; i++) {
            apart = apart || v[i] != v[0] + n;
            n += strlen(v[i]) + 1;
        }
        if (n > MU_FRAME_MAX)
            return MUSTER_EARG;
        if (n)
            put_head(b, number, n);
        if (n && !apart)
            mu_buf_append(b, v[0], n);
        for (size_t i = 0; apart && v[i]; i++)
            mu_buf_append(b, v[i], strlen(v[i]) + 1);
        return 0;
    }
    case K_u32v: {
        const struct mu_u32v *v = p;
        if (v->n) {
            put_head(b, number, 4ull * v->n);
            for (uint32_t i = 0; i < v->n; i++)
                put_le(b, v->v[i], 4);
        }
        return 0;
    }
    }
    return MUSTER_EARG;
}

int mu_msg_encode(struct mu_buf *out, enum mu_msg_type type, const void *body)
{
    const struct row *row = row_of(type);
    size_t start = out->len;
    int rc = 0;

    if (!row)
        return MUSTER_EARG;
    put_le(out, 0, 4);
    put_le(out, type, 2);
    for (unsigned i = 0; i < row->nfields && !rc; i++)
        rc = put_field(out, i + 1, row->fields[i].kind, (const char *)body + row->fields[i].offset);
    if (out->failed)
        return MUSTER_ENOMEM;
    uint64_t len = out->len - start - 4;
    if (rc || len > MU_FRAME_MAX) {
        out->len = start;
        return MUSTER_EARG;
    }
    for (unsigned i = 0; i < 4; i++)
        out->data[start + i] = (char)(len >> (8 * i));
    return 0;
}

int mu_msg_encode_head(struct mu_buf *out, enum mu_msg_type type, const void *body, size_t tail)
{
    const struct row *row = row_of(type);
    size_t start = out->len;
    int rc;

    if (!row || !row->nfields || row->fields[row->nfields - 1].kind != K_bytes || !tail || tail > MU_FRAME_MAX)
        return MUSTER_EARG;
    if ((rc = mu_msg_encode(out, type, body)))
        return rc;
    put_head(out, row->nfields, tail);
    uint64_t len = out->len - start - 4 + tail;
    if (out->failed || len > MU_FRAME_MAX) {
        out->len = start;
        return out->failed ? MUSTER_ENOMEM : MUSTER_EARG;
    }
    for (unsigned i = 0; i < 4; i++)
        out->data[start + i] = (char)(len >> (8 * i));
    return 0;
}

int64_t mu_msg_frame(const void *data, size_t len)
{
    if (len < 4)
        return 0;
    uint64_t n = get_le(data, 4);
    if (n < 2 || n > MU_FRAME_MAX)
        return MUSTER_ECORRUPT;
    return len >= n + 4 ? (int64_t)(n + 4) : 0;
}

/* In one block with the strings behind: a start names all nodes. mu_strv_free() knows it. */
static int get_strv(char ***out, const uint8_t *p, size_t n)
{
    size_t count = 0;

    if (n && p[n - 1])
        return MUSTER_ECORRUPT;
    for (size_t i = 0; i < n; i++)
        count += !p[i];
    char **v = malloc((count + 1) * sizeof *v + n);
    if (!v)
        return MUSTER_ENOMEM;
    char *text = (char *)(v + count + 1);
    if (n)
        memcpy(text, p, n);
    for (size_t i = 0; i < count; i++) {
        v[i] = text;
        text += strlen(text) + 1;
    }
    v[count] = NULL;
    *out = v;
    return 0;
}

/* lend: bytes stay where they are. */
static int get_field(void *at, enum kind kind, const uint8_t *p, uint32_t n, bool lend)
{
    switch (kind) {
    case K_u32:
    case K_i32: {
        uint32_t v = (uint32_t)get_le(p, n == 4 ? 4 : 0);
        if (n != 4)
            return MUSTER_ECORRUPT;
        memcpy(at, &v, sizeof v);
        return 0;
    }
    case K_u64: {
        uint64_t v = get_le(p, n == 8 ? 8 : 0);
        if (n != 8)
            return MUSTER_ECORRUPT;
        memcpy(at, &v, sizeof v);
        return 0;
    }
    case K_str: {
        char **s = at;
        if (*s || (n && memchr(p, 0, n)))
            return MUSTER_ECORRUPT;
        *s = strndup((const char *)p, n);
        return *s ? 0 : MUSTER_ENOMEM;
    }
    case K_bytes: {
        struct mu_bytes *v = at;
        if (v->data)
            return MUSTER_ECORRUPT;
        v->data = lend ? (uint8_t *)(uintptr_t)p : malloc(n ? n : 1);
        if (!v->data)
            return MUSTER_ENOMEM;
        if (!lend)
            memcpy(v->data, p, n);
        v->len = n;
        return 0;
    }
    case K_strv:
        return *(char ***)at ? MUSTER_ECORRUPT : get_strv(at, p, n);
    case K_u32v: {
        struct mu_u32v *v = at;
        if (v->v || n % 4)
            return MUSTER_ECORRUPT;
        v->v = malloc(n ? n : 4);
        if (!v->v)
            return MUSTER_ENOMEM;
        v->n = n / 4;
        for (uint32_t i = 0; i < v->n; i++)
            v->v[i] = (uint32_t)get_le(p + 4ull * i, 4);
        return 0;
    }
    }
    return MUSTER_ECORRUPT;
}

static void free_body(const struct row *row, void *body, bool lent)
{
    for (unsigned i = 0; i < row->nfields; i++) {
        void *at = (char *)body + row->fields[i].offset;
        switch (row->fields[i].kind) {
        case K_str:
            free(*(char **)at);
            break;
        case K_bytes:
            if (!lent)
                free(((struct mu_bytes *)at)->data);
            break;
        case K_strv:
            mu_strv_free(*(char ***)at);
            break;
        case K_u32v:
            free(((struct mu_u32v *)at)->v);
            break;
        case K_u32:
        case K_u64:
        case K_i32:
            break;
        }
    }
    memset(body, 0, row->size);
}

/* p: type word and fields, n bytes. body: zeroed. */
static int decode_body(const struct row *row, const uint8_t *p, size_t n, void *body, bool lend, struct mu_err *err)
{
    memset(body, 0, row->size);
    for (size_t at = 2; at < n;) {
        if (n - at < 5)
            goto corrupt;
        unsigned number = p[at];
        uint64_t len = get_le(p + at + 1, 4);
        at += 5;
        if (len > n - at)
            goto corrupt;
        if (number >= 1 && number <= row->nfields) {
            const struct field *f = &row->fields[number - 1];
            int rc = get_field((char *)body + f->offset, f->kind, p + at, (uint32_t)len, lend);
            if (rc) {
                free_body(row, body, lend);
                return mu_err_set(err, rc, "message %s: field %u: %s", row->name, number, muster_strerror(rc));
            }
        }
        at += len;
    }
    return 0;
corrupt:
    free_body(row, body, lend);
    return mu_err_set(err, MUSTER_ECORRUPT, "message %s is cut off", row->name);
}

static int decode(const void *frame, size_t len, struct mu_msg *out, bool lend, struct mu_err *err)
{
    const uint8_t *p = frame;
    struct mu_msg msg;

    if (len < MU_FRAME_HEAD || mu_msg_frame(frame, len) != (int64_t)len)
        return mu_err_set(err, MUSTER_ECORRUPT, "not a message");
    unsigned type = (unsigned)get_le(p + 4, 2);
    const struct row *row = row_of(type);
    if (!row)
        return mu_err_set(err, MUSTER_EVERSION, "message type %u is not known to this version", type);
    memset(&msg, 0, sizeof msg);
    msg.type = (enum mu_msg_type)type;
    int rc = decode_body(row, p + 4, len - 4, &msg.hello, lend, err);
    if (!rc)
        *out = msg;
    return rc;
}

int mu_msg_decode(const void *frame, size_t len, struct mu_msg *out, struct mu_err *err)
{
    return decode(frame, len, out, false, err);
}

int mu_msg_decode_lent(const void *frame, size_t len, struct mu_msg *out, struct mu_err *err)
{
    return decode(frame, len, out, true, err);
}

int mu_msg_piece(struct mu_buf *have, const void *data, size_t len)
{
    mu_buf_append(have, data, len);
    int64_t want = have->failed ? MUSTER_ENOMEM : mu_msg_frame(have->data, have->len);

    if (want < 0)
        return (int)want;
    return want && (size_t)want < have->len ? MUSTER_ECORRUPT : want > 0;
}

static void free_msg(struct mu_msg *msg, bool lent)
{
    const struct row *row = row_of(msg->type);

    if (row)
        free_body(row, &msg->hello, lent);
    memset(msg, 0, sizeof *msg);
}

void mu_msg_free(struct mu_msg *msg)
{
    free_msg(msg, false);
}

void mu_msg_free_lent(struct mu_msg *msg)
{
    free_msg(msg, true);
}

void mu_msg_free_body(enum mu_msg_type type, void *body)
{
    const struct row *row = row_of(type);

    if (row)
        free_body(row, body, false);
}

int mu_msg_pack(struct mu_bytes *out, enum mu_msg_type type, const void *body)
{
    struct mu_buf b = {0};
    int rc = mu_msg_encode(&b, type, body);

    if (!rc) {
        uint8_t *data = malloc(b.len - 4);
        if (data) {
            memcpy(data, b.data + 4, b.len - 4);
            out->data = data;
            out->len = (uint32_t)(b.len - 4);
        } else {
            rc = MUSTER_ENOMEM;
        }
    }
    mu_buf_free(&b);
    return rc;
}

int mu_msg_unpack(const struct mu_bytes *blob, enum mu_msg_type want, void *body, struct mu_err *err)
{
    const struct row *row = row_of(want);

    if (!row || blob->len < 2 || get_le(blob->data, 2) != (uint64_t)want)
        return mu_err_set(err, MUSTER_ECORRUPT, "not a %s record", row ? row->name : "?");
    return decode_body(row, blob->data, blob->len, body, false, err);
}

int mu_msg_copy(enum mu_msg_type type, void *dst, const void *src)
{
    struct mu_bytes blob = {0};
    int rc = mu_msg_pack(&blob, type, src);

    if (!rc)
        rc = mu_msg_unpack(&blob, type, dst, NULL);
    free(blob.data);
    return rc;
}
