#include "runtime/ckpt/daemon/s3xml.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

#define DEPTH_MAX 8
#define ITEMS_MAX (1u << 22)

struct span {
    const char *p;
    size_t n;
};

static bool same(struct span s, const char *text)
{
    return strlen(text) == s.n && !memcmp(s.p, text, s.n);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *find(const char *p, const char *end, const char *what)
{
    return end > p ? memmem(p, (size_t)(end - p), what, strlen(what)) : NULL;
}

/* Appends one character reference's value in UTF-8. */
static int put_code(struct mu_buf *out, unsigned long c)
{
    if (!c || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return -1;
    if (c < 0x80) {
        mu_buf_putc(out, (char)c);
    } else if (c < 0x800) {
        mu_buf_putc(out, (char)(0xc0 | c >> 6));
        mu_buf_putc(out, (char)(0x80 | (c & 63)));
    } else {
        if (c < 0x10000) {
            mu_buf_putc(out, (char)(0xe0 | c >> 12));
        } else {
            mu_buf_putc(out, (char)(0xf0 | c >> 18));
            mu_buf_putc(out, (char)(0x80 | (c >> 12 & 63)));
        }
        mu_buf_putc(out, (char)(0x80 | (c >> 6 & 63)));
        mu_buf_putc(out, (char)(0x80 | (c & 63)));
    }
    return 0;
}

static int unescape(struct span s, struct mu_buf *out)
{
    static const struct {
        const char *name;
        char c;
    } names[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};
    const char *end = s.p + s.n;

    for (const char *p = s.p; p < end;) {
        size_t i = 0;

        if (!*p)
            return -1;
        if (*p != '&') {
            mu_buf_putc(out, *p++);
            continue;
        }
        p++;
        if (p < end && *p == '#') {
            char number[12] = "", *stop;
            const char *semi = memchr(p, ';', (size_t)(end - p));
            bool hex = p + 1 < end && (p[1] == 'x' || p[1] == 'X');
            const char *digits = p + 1 + hex;

            if (!semi || digits >= semi || semi - digits >= (int)sizeof number)
                return -1;
            memcpy(number, digits, (size_t)(semi - digits));
            if (strspn(number, hex ? "0123456789abcdefABCDEF" : "0123456789") != strlen(number) ||
                put_code(out, strtoul(number, &stop, hex ? 16 : 10)))
                return -1;
            p = semi + 1;
            continue;
        }
        while (i < MU_COUNT(names) &&
               ((size_t)(end - p) < strlen(names[i].name) || memcmp(p, names[i].name, strlen(names[i].name))))
            i++;
        if (i == MU_COUNT(names))
            return -1;
        mu_buf_putc(out, names[i].c);
        p += strlen(names[i].name);
    }
    return out->failed ? -1 : 0;
}

static void keep(char **field, const char *text)
{
    if (!*field)
        *field = strdup(text);
}

static void copy_cut(char *dst, size_t room, const char *text)
{
    snprintf(dst, room, "%s", text);
}

/* A leaf directly below the root. */
static int top_field(struct mu_s3_answer *a, struct span name, const char *text)
{
    if (same(name, "IsTruncated")) {
        if (strcmp(text, "true") && strcmp(text, "false"))
            return -1;
        a->more = !strcmp(text, "true");
    } else if (same(name, "NextContinuationToken")) {
        keep(&a->token, text);
    } else if (same(name, "NextKeyMarker") || same(name, "NextPartNumberMarker")) {
        keep(&a->marker, text);
    } else if (same(name, "NextUploadIdMarker")) {
        keep(&a->upload_marker, text);
    } else if (same(name, "UploadId")) {
        keep(&a->upload, text);
    } else if (same(name, "Code")) {
        copy_cut(a->code, sizeof a->code, text);
    } else if (same(name, "Message")) {
        copy_cut(a->message, sizeof a->message, text);
    }
    return 0;
}

/* A leaf of Contents, Upload or Part. */
static int item_field(struct mu_s3_item *o, struct span name, const char *text)
{
    uint64_t v;

    if (same(name, "Key")) {
        if (!*text || strlen(text) > MU_S3_KEY_MAX)
            return -1;
        keep(&o->key, text);
    } else if (same(name, "UploadId")) {
        keep(&o->upload, text);
    } else if (same(name, "Size")) {
        return mu_str_u64(text, 0, INT64_MAX, &o->bytes);
    } else if (same(name, "PartNumber")) {
        if (mu_str_u64(text, 1, 10000, &v))
            return -1;
        o->part = (uint32_t)v;
    } else if (same(name, "ETag")) {
        size_t n = strlen(text);

        if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
            text++;
            n -= 2;
        }
        if (n < sizeof o->etag) {
            memcpy(o->etag, text, n);
            o->etag[n] = 0;
        }
    }
    return 0;
}

static bool is_item(struct span name)
{
    return same(name, "Contents") || same(name, "Upload") || same(name, "Part");
}

static int add_item(struct mu_s3_answer *a, size_t *room)
{
    if (a->n == *room) {
        size_t more = *room ? 2 * *room : 64;
        struct mu_s3_item *v = more <= ITEMS_MAX ? realloc(a->items, more * sizeof *v) : NULL;

        if (!v)
            return -1;
        a->items = v;
        *room = more;
    }
    a->items[a->n++] = (struct mu_s3_item){0};
    return 0;
}

static int parse(const char *p, const char *end, struct mu_s3_answer *a)
{
    struct span open[DEPTH_MAX];
    size_t depth = 0, room = 0;
    bool leaf = false, item = false, done = false;
    const char *text = p;

    for (;;) {
        const char *lt = end > p ? memchr(p, '<', (size_t)(end - p)) : NULL, *gt;

        if (!lt) /* nothing but blanks behind the end */
            break;
        if (!depth)
            for (; p < lt; p++)
                if (!blank(*p) && (unsigned char)*p != 0xef && (unsigned char)*p != 0xbb && (unsigned char)*p != 0xbf)
                    return -1;
        p = lt + 1;
        if (p < end && *p == '?') {
            if (depth || !(p = find(p, end, "?>")))
                return -1;
            p += 2;
            continue;
        }
        if (p < end && *p == '!') { /* no comments, no entities of its own: no store sends them */
            return -1;
        }
        if (!(gt = end > p ? memchr(p, '>', (size_t)(end - p)) : NULL))
            return -1;
        if (p < gt && *p == '/') {
            struct span name = {p + 1, (size_t)(gt - p - 1)};

            while (name.n && blank(name.p[name.n - 1]))
                name.n--;
            if (!depth || open[depth - 1].n != name.n || memcmp(open[depth - 1].p, name.p, name.n))
                return -1;
            if (leaf && (depth == 2 || (depth == 3 && item))) {
                mu_auto_buf struct mu_buf plain = {0};

                if (unescape((struct span){text, (size_t)(lt - text)}, &plain) ||
                    (depth == 2 ? top_field(a, name, mu_buf_str(&plain))
                                : item_field(&a->items[a->n - 1], name, mu_buf_str(&plain))))
                    return -1;
            }
            leaf = false;
            if (--depth == 1)
                item = false;
            done |= !depth;
        } else {
            bool closed = gt > p && gt[-1] == '/';
            struct span name = {p, 0};

            while (p + name.n < gt - closed && !blank(p[name.n]))
                name.n++;
            if (!name.n || done || depth == DEPTH_MAX)
                return -1;
            if (!depth) {
                if (name.n >= sizeof a->root)
                    return -1;
                memcpy(a->root, name.p, name.n);
            } else if (depth == 1 && is_item(name)) {
                if (add_item(a, &room))
                    return -1;
                item = !closed;
            }
            if (!closed)
                open[depth++] = name;
            else
                done |= !depth;
            leaf = !closed;
            text = gt + 1;
        }
        p = gt + 1;
    }
    while (p < end && blank(*p))
        p++;
    return depth || !done || p < end ? -1 : 0;
}

int mu_s3_answer_parse(const char *text, size_t n, struct mu_s3_answer *out, struct mu_err *err)
{
    struct mu_s3_answer a = {0};

    if ((n && memchr(text, 0, n)) ||
        parse(text, text + n, &a)) { /* no zero byte is in XML; names are kept as strings */
        mu_s3_answer_free(&a);
        return mu_err_set(err, MUSTER_ECORRUPT, "the answer is not that of an object store, or it is cut off");
    }
    *out = a;
    return 0;
}

void mu_s3_answer_free(struct mu_s3_answer *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->items[i].key);
        free(a->items[i].upload);
    }
    free(a->items);
    free(a->token);
    free(a->marker);
    free(a->upload);
    free(a->upload_marker);
    *a = (struct mu_s3_answer){0};
}
