/* The codec over the whole message table: what goes in comes out, whatever is cut off or made up is refused. */
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/core.h"
#include "tests/unit/tap.h"

static uint64_t seed = 0x9e3779b97f4a7c15ull;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}
enum fill { ZERO, FULL, RANDOM };

static bool want(enum fill f)
{
    return f == FULL || (f == RANDOM && rnd() % 3);
}
static char *random_text(enum fill f)
{
    size_t n = f == FULL ? 5 : rnd() % 40;
    char *s = calloc(1, n + 1);

    for (size_t i = 0; i < n; i++)
        s[i] = (char)(1 + rnd() % 255);
    return s;
}
static void f_u32(uint32_t *v, enum fill f)
{
    *v = f == FULL ? UINT32_MAX : want(f) ? (uint32_t)rnd() : 0;
}
static void f_i32(int32_t *v, enum fill f)
{
    *v = f == FULL ? INT32_MIN : want(f) ? (int32_t)rnd() : 0;
}
static void f_u64(uint64_t *v, enum fill f)
{
    *v = f == FULL ? UINT64_MAX : want(f) ? rnd() : 0;
}
static void f_str(char **v, enum fill f)
{
    *v = want(f) ? random_text(f) : NULL;
}
static void f_bytes(struct mu_bytes *v, enum fill f)
{
    *v = (struct mu_bytes){0};
    if (!want(f))
        return;
    v->len = (uint32_t)(1 + rnd() % 300);
    v->data = malloc(v->len);
    for (uint32_t i = 0; i < v->len; i++)
        v->data[i] = (uint8_t)rnd();
}
static void f_strv(char ***v, enum fill f)
{
    size_t n = want(f) ? 1 + rnd() % 6 : 0;

    *v = n ? calloc(n + 1, sizeof **v) : NULL;
    for (size_t i = 0; i < n; i++)
        (*v)[i] = random_text(f);
}
static void f_u32v(struct mu_u32v *v, enum fill f)
{
    *v = (struct mu_u32v){0};
    if (!want(f))
        return;
    v->n = (uint32_t)(1 + rnd() % 20);
    v->v = malloc(v->n * sizeof *v->v);
    for (uint32_t i = 0; i < v->n; i++)
        v->v[i] = (uint32_t)rnd();
}

static bool s_u32(uint32_t a, uint32_t b)
{
    return a == b;
}
static bool s_i32(int32_t a, int32_t b)
{
    return a == b;
}
static bool s_u64(uint64_t a, uint64_t b)
{
    return a == b;
}
static bool s_str(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}
static bool s_bytes(struct mu_bytes a, struct mu_bytes b)
{
    return a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len));
}
static bool s_strv(char *const *a, char *const *b)
{
    size_t n = mu_strv_len(a);

    for (size_t i = 0; i < n; i++)
        if (i >= mu_strv_len(b) || strcmp(a[i], b[i]))
            return false;
    return n == mu_strv_len(b);
}
static bool s_u32v(struct mu_u32v a, struct mu_u32v b)
{
    return a.n == b.n && (!a.n || !memcmp(a.v, b.v, a.n * sizeof *a.v));
}

/* The functions of each message, from the same table as the codec. */
#define FILL(type, name) f_##type(&m->name, f);
#define SAME(type, name) same = same && s_##type(a->name, b->name);
#define FUNCTIONS(num, msg)                                                                                            \
    static void fill_##msg(struct mu_m_##msg *m, enum fill f)                                                          \
    {                                                                                                                  \
        MU_F_##msg(FILL)                                                                                               \
    }                                                                                                                  \
    static bool same_##msg(const struct mu_m_##msg *a, const struct mu_m_##msg *b)                                     \
    {                                                                                                                  \
        bool same = true;                                                                                              \
        MU_F_##msg(SAME) return same;                                                                                  \
    }
MU_MESSAGES(FUNCTIONS)

static void fill_any(struct mu_msg *m, enum mu_msg_type type, enum fill f)
{
    memset(m, 0, sizeof *m);
    m->type = type;
#define ROW(num, msg)                                                                                                  \
    if (type == num)                                                                                                   \
        fill_##msg(&m->msg, f);
    MU_MESSAGES(ROW)
#undef ROW
}
static bool same_any(const struct mu_msg *a, const struct mu_msg *b)
{
#define ROW(num, msg)                                                                                                  \
    if (a->type == num)                                                                                                \
        return b->type == num && same_##msg(&a->msg, &b->msg);
    MU_MESSAGES(ROW)
#undef ROW
    return false;
}

static bool round_trip(enum mu_msg_type type, enum fill f)
{
    MU_AUTO_MSG struct mu_msg in, out = {0}, copy = {.type = type};
    mu_auto_buf struct mu_buf b = {0};

    fill_any(&in, type, f);
    return !mu_msg_encode(&b, type, &in.hello) && mu_msg_frame(b.data, b.len) == (int64_t)b.len &&
           !mu_msg_decode(b.data, b.len, &out, NULL) && same_any(&in, &out) &&
           !mu_msg_copy(type, &copy.hello, &in.hello) && same_any(&in, &copy);
}

static void put_len(struct mu_buf *b)
{
    for (unsigned i = 0; i < 4; i++)
        b->data[i] = (char)((b->len - 4) >> (8 * i));
}

/* Cut at each byte, with the old length and with one that fits: refused, or decoded as a shorter message. */
static bool cuts(enum mu_msg_type type)
{
    MU_AUTO_MSG struct mu_msg in;
    mu_auto_buf struct mu_buf b = {0};
    bool good = true;

    fill_any(&in, type, FULL);
    if (mu_msg_encode(&b, type, &in.hello))
        return false;
    for (size_t n = 0; n < b.len; n++) {
        MU_AUTO_MSG struct mu_msg out = {0};
        mu_auto_buf struct mu_buf cut = {0};
        good = good && mu_msg_decode(b.data, n, &out, NULL) == MUSTER_ECORRUPT && !out.type;
        good = good && mu_msg_frame(b.data, n) == 0;
        if (n < 6)
            continue;
        mu_buf_append(&cut, b.data, n);
        put_len(&cut);
        int rc = mu_msg_decode(cut.data, cut.len, &out, NULL);
        good = good && (rc == 0 || rc == MUSTER_ECORRUPT) && (rc == 0) == (out.type != 0);
    }
    return good;
}

static bool unknown_field(enum mu_msg_type type)
{
    MU_AUTO_MSG struct mu_msg in, out = {0};
    mu_auto_buf struct mu_buf b = {0};

    fill_any(&in, type, FULL);
    if (mu_msg_encode(&b, type, &in.hello))
        return false;
    mu_buf_append(&b, "\xfa\3\0\0\0abc", 8);
    mu_buf_append(&b, "\0\0\0\0\0", 5);
    put_len(&b);
    return !mu_msg_decode(b.data, b.len, &out, NULL) && same_any(&in, &out);
}

static bool flips(enum mu_msg_type type)
{
    MU_AUTO_MSG struct mu_msg in;
    mu_auto_buf struct mu_buf b = {0};
    bool good = true;

    fill_any(&in, type, FULL);
    if (mu_msg_encode(&b, type, &in.hello))
        return false;
    for (int i = 0; i < 2000 && good; i++) {
        MU_AUTO_MSG struct mu_msg out = {0};
        size_t at = rnd() % b.len;
        char was = b.data[at];
        b.data[at] = (char)rnd();
        int rc = mu_msg_decode(b.data, b.len, &out, NULL);
        good = rc == 0 || ((rc == MUSTER_ECORRUPT || rc == MUSTER_EVERSION) && !out.type);
        b.data[at] = was;
    }
    return good;
}

static void frames(void)
{
    static const struct {
        const char *bytes, *what;
        size_t len;
        int64_t want;
    } rows[] = {
        {"", "nothing", 0, 0},
        {"\2\0\0", "half a length", 3, 0},
        {"\2\0\0\0", "a length alone", 4, 0},
        {"\2\0\0\0\1\0", "the shortest frame", 6, 6},
        {"\2\0\0\0\1\0zz", "a frame and more", 8, 6},
        {"\0\0\0\0\1\0", "length 0", 6, MUSTER_ECORRUPT},
        {"\1\0\0\0\1\0", "length 1", 6, MUSTER_ECORRUPT},
        {"\0\0\0\4\1\0", "the longest length", 6, 0},
        {"\1\0\0\4\1\0", "a byte longer than that", 6, MUSTER_ECORRUPT},
        {"\xff\xff\xff\xff\1\0", "length 4 Gi", 6, MUSTER_ECORRUPT},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        TAP_OK(mu_msg_frame(rows[i].bytes, rows[i].len) == rows[i].want, "frame: %s", rows[i].what);
}

/* Bodies of a hello (1: u32 proto, 2: str role) that are whole frames and yet wrong. */
static void refused(void)
{
    static const struct {
        const char *body, *what;
        size_t len;
        int want;
    } rows[] = {
        {"\1\0\1\4\0\0\0\7\0\0\0", "a good one", 11, 0},
        {"\1\0\1\3\0\0\0\7\0\0", "a u32 of three bytes", 10, MUSTER_ECORRUPT},
        {"\1\0\1\5\0\0\0\7\0\0\0\0", "a u32 of five bytes", 12, MUSTER_ECORRUPT},
        {"\1\0\2\3\0\0\0a\0b", "a string with NUL", 10, MUSTER_ECORRUPT},
        {"\1\0\2\1\0\0\0a\2\1\0\0\0b", "a string twice", 14, MUSTER_ECORRUPT},
        {"\1\0\2\xff\xff\xff\xff"
         "a",
         "a string longer than all", 8, MUSTER_ECORRUPT},
        {"\1\0\2\1\0\0", "a cut head", 6, MUSTER_ECORRUPT},
        {"\xe7\3", "an unknown type", 2, MUSTER_EVERSION},
        {"\0\0", "type 0", 2, MUSTER_EVERSION},
        /* start, field 5: strv; 6: u32v */
        {"\x28\0\5\2\0\0\0ab", "strings without an end", 9, MUSTER_ECORRUPT},
        {"\x28\0\6\3\0\0\0abc", "numbers of three bytes", 10, MUSTER_ECORRUPT},
        {"\x28\0\6\4\0\0\0abcd\6\4\0\0\0abcd", "numbers twice", 20, MUSTER_ECORRUPT},
        {"\x28\0\5\1\0\0\0\0\5\1\0\0\0\0", "string lists twice", 14, MUSTER_ECORRUPT},
        {"\x28\0\3\1\0\0\0a\3\1\0\0\0a", "bytes twice", 14, MUSTER_ECORRUPT},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        MU_AUTO_MSG struct mu_msg out = {0};
        mu_auto_buf struct mu_buf b = {0};
        struct mu_err err = {0};
        mu_buf_append(&b, "\0\0\0\0", 4);
        mu_buf_append(&b, rows[i].body, rows[i].len);
        put_len(&b);
        int rc = mu_msg_decode(b.data, b.len, &out, &err);
        TAP_OK(rc == rows[i].want && (!rc || (*err.text && !out.type)), "%s: %s", rows[i].what,
               rc ? err.text : "taken");
    }
}

static void packing(void)
{
    struct mu_m_report in = {.job = 7, .attempt = 3, .steps = 1000}, out = {0};
    struct mu_bytes blob = {0}, empty = {0};

    TAP_OK(!mu_msg_pack(&blob, MU_MSG_report, &in) && !mu_msg_unpack(&blob, MU_MSG_report, &out, NULL) &&
               out.job == 7 && out.attempt == 3 && out.steps == 1000,
           "pack and unpack");
    mu_msg_free_body(MU_MSG_report, &out);
    TAP_OK(mu_msg_unpack(&blob, MU_MSG_spec, &out, NULL) == MUSTER_ECORRUPT, "a blob of another type is refused");
    TAP_OK(mu_msg_unpack(&empty, MU_MSG_spec, &out, NULL) == MUSTER_ECORRUPT, "so is an empty one");
    free(blob.data);

    mu_auto_buf struct mu_buf b = {0};
    mu_buf_puts(&b, "before");
    struct mu_m_output big = {.data = {.len = MU_FRAME_MAX}};
    big.data.data = calloc(1, MU_FRAME_MAX);
    TAP_OK(mu_msg_encode(&b, MU_MSG_output, &big) == MUSTER_EARG && b.len == 6, "no frame longer than can be read");
    free(big.data.data);
    TAP_OK(mu_msg_encode(&b, (enum mu_msg_type)999, &big) == MUSTER_EARG && b.len == 6, "no unknown type");
    TAP_OK(!strcmp(mu_msg_name(MU_MSG_jobrow), "jobrow") && !strcmp(mu_msg_name((enum mu_msg_type)999), "?"), "names");
}

static void actions(void)
{
    struct mu_acts acts = {0};

    mu_acts_send(&acts, 0, MU_MSG_bye, &(struct mu_m_bye){0});
    TAP_OK(acts.n == 0, "nothing is sent to connection 0");
    for (int i = 0; i < 100; i++)
        mu_acts_send(&acts, 5, MU_MSG_release, &(struct mu_m_release){.job = 1});
    TAP_OK(acts.n == 100 && !acts.failed && acts.v[99].frame.len > MU_FRAME_HEAD, "a hundred actions");
    mu_acts_clear(&acts);
    TAP_OK(acts.n == 0 && acts.cap >= 100, "clear keeps the memory");
    mu_acts_free(&acts);
    TAP_OK(!acts.v && !acts.cap, "free does not");
}

/* A frame made of its head and what the caller puts behind is the frame that is made at once. */
static void in_two(void)
{
    uint8_t data[3000], id[] = "an id";
    struct mu_m_shard m = {.id = {.data = id, .len = sizeof id}, .kind = 1, .n = 8, .k = 2, .chunk = 1u << 20};
    mu_auto_buf struct mu_buf whole = {0}, parts = {0};
    struct mu_msg got;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)rnd();
    TAP_OK(mu_msg_encode_head(&parts, MU_MSG_shard, &m, sizeof data) == 0, "the head of a frame");
    mu_buf_append(&parts, data, sizeof data);
    m.data = (struct mu_bytes){.data = data, .len = sizeof data};
    mu_msg_encode(&whole, MU_MSG_shard, &m);
    TAP_OK(parts.len == whole.len && !memcmp(parts.data, whole.data, whole.len), "with its last field behind it");
    TAP_OK(mu_msg_decode(parts.data, parts.len, &got, NULL) == 0 && got.shard.data.len == sizeof data, "is a frame");
    mu_msg_free(&got);
    TAP_OK(mu_msg_encode_head(&parts, MU_MSG_look, &(struct mu_m_look){0}, 5) == MUSTER_EARG &&
               mu_msg_encode_head(&parts, MU_MSG_shard, &m, MU_FRAME_MAX) == MUSTER_EARG,
           "no bytes at its end, or too many");
}

int main(void)
{
    enum mu_msg_type type;

    for (unsigned i = 0; (type = mu_msg_nth(i)); i++) {
        bool good = true;
        TAP_OK(round_trip(type, ZERO) && round_trip(type, FULL), "%s: empty and full", mu_msg_name(type));
        for (int k = 0; k < 200; k++)
            good = good && round_trip(type, RANDOM);
        TAP_OK(good, "%s: 200 random ones", mu_msg_name(type));
        TAP_OK(cuts(type), "%s: cut at each byte", mu_msg_name(type));
        TAP_OK(unknown_field(type), "%s: unknown fields are skipped", mu_msg_name(type));
        TAP_OK(flips(type), "%s: 2000 changed bytes", mu_msg_name(type));
    }
    frames();
    refused();
    packing();
    in_two();
    actions();
    return tap_done();
}
