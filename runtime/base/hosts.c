#include "runtime/base/hosts.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { FILE_MAX = 16 << 20 };

/* A list under construction. bare: mentions without a number, by index of the host. */
struct build {
    struct mu_hosts h;
    int *bare;
    uint32_t *index; /* open addressing: host + 1, 0 = empty; size is a power of two */
    size_t mask;
};

static void drop(struct build *b)
{
    mu_hosts_free(&b->h);
    free(b->bare);
    free(b->index);
}

void mu_hosts_free(struct mu_hosts *h)
{
    free(h->v);
    *h = (struct mu_hosts){0};
}

const char *mu_host_name(const char *dest)
{
    const char *at = strchr(dest, '@');

    return at ? at + 1 : dest;
}

/* Where the host is in the index, with whatever user, or belongs. */
static size_t place(const struct build *b, const char *name)
{
    const char *host = mu_host_name(name);
    size_t i = mu_str_hash(host, strlen(host)) & b->mask;

    while (b->index[i] && strcmp(mu_host_name(b->h.v[b->index[i] - 1].name), host))
        i = (i + 1) & b->mask;
    return i;
}

static int grow(struct build *b)
{
    size_t cap = b->h.cap ? b->h.cap * 2 : 16;
    struct mu_host *v = realloc(b->h.v, cap * sizeof *v);

    if (v)
        b->h.v = v;
    int *bare = v ? realloc(b->bare, cap * sizeof *bare) : NULL;
    if (bare)
        b->bare = bare;
    uint32_t *index = bare ? calloc(cap * 4, sizeof *index) : NULL;
    if (!index)
        return MUSTER_ENOMEM;
    free(b->index);
    b->index = index;
    b->mask = cap * 4 - 1;
    b->h.cap = cap;
    for (size_t i = 0; i < b->h.n; i++)
        b->index[place(b, b->h.v[i].name)] = (uint32_t)i + 1;
    return 0;
}

/* A word of the input, made safe for a message and cut. Returns buf. */
static char *shown(char buf[80], const char *word, size_t len)
{
    char copy[64];

    snprintf(copy, sizeof copy, "%.*s", (int)(len > 60 ? 60 : len), word);
    return mu_str_show(buf, 80, copy);
}

/* Letters, digits and what stands in names and addresses. A leading dash would be an option to ssh. */
static int check_name(const char *name, size_t len, struct mu_err *err)
{
    static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@:%";
    char buf[80];

    if (!len)
        return mu_err_set(err, MUSTER_EARG, "a host name is missing");
    if (len >= sizeof((struct mu_host *)0)->name)
        return mu_err_set(err, MUSTER_EARG, "host name '%s...' is too long", shown(buf, name, len));
    const char *at = memchr(name, '@', len);
    bool bad = name[0] == '-' || name[0] == '@' || name[len - 1] == '@' || (at && at[1] == '-') ||
               (at && memchr(at + 1, '@', len - (size_t)(at + 1 - name)));
    for (size_t i = 0; i < len; i++)
        bad |= !name[i] || !strchr(fine, name[i]);
    return bad ? mu_err_set(err, MUSTER_EARG, "'%s' is not a host name", shown(buf, name, len)) : 0;
}

bool mu_hosts_is_node(const char *name)
{
    return !strchr(name, '@') && !check_name(name, strlen(name), NULL);
}

/* slots < 0: not said (a bare mention). */
static int add(struct build *b, const char *name, size_t len, int slots, int max_slots, struct mu_err *err)
{
    char key[sizeof b->h.v->name];
    int rc = check_name(name, len, err);

    if (rc < 0)
        return rc;
    memcpy(key, name, len);
    key[len] = 0;
    if (b->h.n == b->h.cap && grow(b) < 0)
        return mu_err_set(err, MUSTER_ENOMEM, "host list: %s", muster_strerror(MUSTER_ENOMEM));
    size_t at = place(b, key);
    if (!b->index[at]) {
        if (b->h.n == MU_HOSTS_MAX)
            return mu_err_set(err, MUSTER_EARG, "more than %d hosts", MU_HOSTS_MAX);
        struct mu_host *h = &b->h.v[b->h.n];
        memset(h, 0, sizeof *h);
        memcpy(h->name, key, len + 1);
        b->bare[b->h.n] = 0;
        b->index[at] = (uint32_t)++b->h.n;
    }
    size_t i = b->index[at] - 1;
    struct mu_host *h = &b->h.v[i];
    if (strcmp(h->name, key))
        return mu_err_set(err, MUSTER_EARG, "'%s' and '%s' are one host: name it in one way", h->name, key);
    int bare = b->bare[i] + (slots < 0), given = h->slots + (slots < 0 ? 0 : slots);
    if (bare + given > MU_HOSTS_SLOTS_MAX)
        return mu_err_set(err, MUSTER_EARG, "host %s has more than %d slots", key, MU_HOSTS_SLOTS_MAX);
    b->bare[i] = bare;
    h->slots = given;
    if (max_slots)
        h->max_slots = max_slots;
    return 0;
}

/* Splits "[v6]:4", "host:4", "host". Several colons without brackets are an IPv6 address. *count NULL: none. */
static int split(const char *word, size_t len, const char **name, size_t *nlen, const char **count, struct mu_err *err)
{
    const char *end = word + len, *colon = memchr(word, ':', len);
    char buf[80];

    *name = word;
    *nlen = len;
    *count = NULL;
    if (len && word[0] == '[') {
        const char *close = memchr(word, ']', len);
        if (!close || (close + 1 < end && close[1] != ':'))
            return mu_err_set(err, MUSTER_EARG, "'%s' lacks its ]", shown(buf, word, len));
        *name = word + 1;
        *nlen = (size_t)(close - word - 1);
        *count = close + 1 < end ? close + 2 : NULL;
    } else if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        *nlen = (size_t)(colon - word);
        *count = colon + 1;
    }
    return 0;
}

static int slots_of(const char *text, size_t len, const char *name, size_t nlen, int *out, struct mu_err *err)
{
    char word[8] = "", a[80], b[80];
    uint64_t v;

    if (len < sizeof word)
        memcpy(word, text, len);
    if (mu_str_u64(word, 1, MU_HOSTS_SLOTS_MAX, &v) < 0)
        return mu_err_set(err, MUSTER_EARG, "host %s: slots must be a number from 1 to %d, not '%s'",
                          shown(a, name, nlen), MU_HOSTS_SLOTS_MAX, shown(b, text, len));
    *out = (int)v;
    return 0;
}

static bool number(const char *text, size_t len, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < len && len < 10; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(text[i] - '0');
    }
    return len && len < 10;
}

/* Adds NAME, or each name of one like n[1-8,12]: brackets with numbers and ranges, zeros kept. done: what precedes it,
 * expanded. A name that begins with a bracket is no such list. */
static int add_names(struct build *b, const char *done, const char *name, size_t len, int slots, int max,
                     struct mu_err *err)
{
    const char *end = name + len, *open = len ? memchr(name, '[', len) : NULL;
    const char *close = open ? memchr(open, ']', (size_t)(end - open)) : NULL;
    mu_auto_buf struct mu_buf head = {0};
    char buf[80];
    int rc = 0;

    mu_buf_puts(&head, done);
    mu_buf_append(&head, name, (size_t)((close ? open : end) - name));
    if (head.failed)
        return mu_err_set(err, MUSTER_ENOMEM, "host list: %s", muster_strerror(MUSTER_ENOMEM));
    if (!close)
        return add(b, mu_buf_str(&head), head.len, slots, max, err);
    if (head.len >= sizeof b->h.v->name)
        return mu_err_set(err, MUSTER_EARG, "host name '%s...' is too long", shown(buf, name, len));
    for (const char *p = open + 1; !rc; p++) {
        size_t n = strcspn(p, ",-]"), width = n;
        uint64_t lo, hi;
        bool good = number(p, n, &lo);
        hi = lo;
        p += n;
        if (good && *p == '-') {
            n = strcspn(++p, ",-]");
            good = number(p, n, &hi);
            p += n;
        }
        if (!good || *p == '-' || lo > hi)
            return mu_err_set(err, MUSTER_EARG, "'%s' is not a host name", shown(buf, name, len));
        for (uint64_t i = lo; i <= hi && !rc; i++) {
            char one[300];
            snprintf(one, sizeof one, "%s%0*llu", mu_buf_str(&head), (int)width, (unsigned long long)i);
            rc = add_names(b, one, close + 1, (size_t)(end - close - 1), slots, max, err);
        }
        if (p == close)
            break;
    }
    return rc;
}

/* One "host[:slots]" word. bare: what a word without a number counts. */
static int add_word(struct build *b, const char *word, size_t len, int bare, int slots, int max, struct mu_err *err)
{
    const char *name, *count;
    size_t nlen;
    int rc = split(word, len, &name, &nlen, &count, err);

    if (rc == 0 && !memchr(name, '[', nlen))
        rc = check_name(name, nlen, err);
    if (rc < 0)
        return rc;
    if (count) {
        size_t clen = (size_t)(word + len - count);
        if (slots > 0)
            return mu_err_set(err, MUSTER_EARG, "host %.*s: slots are given twice", (int)nlen, name);
        if (clen == 1 && *count == '*')
            slots = 0;
        else if ((rc = slots_of(count, clen, name, nlen, &slots, err)) < 0)
            return rc;
    } else if (slots < 0) {
        slots = bare;
    }
    return add_names(b, "", name, nlen, slots, max, err);
}

size_t mu_hosts_word(const char *list)
{
    size_t n = 0;

    for (bool in = false; list[n] && (list[n] != ',' || in); n++)
        in = list[n] == '[' || (in && list[n] != ']');
    return n;
}

int mu_hosts_parse(const char *list, struct mu_hosts *out, struct mu_err *err)
{
    struct build b = {0};
    int rc = 0;

    for (const char *p = list;; p++) {
        size_t len = mu_hosts_word(p);
        rc = add_word(&b, p, len, 1, -1, 0, err);
        p += len;
        if (rc < 0 || !*p)
            break;
    }
    if (rc == 0) {
        *out = b.h;
        b.h = (struct mu_hosts){0};
    } else {
        mu_err_prefix(err, "host list");
    }
    drop(&b);
    return rc;
}

static size_t word_len(const char *p, const char *end)
{
    size_t n = 0;

    while (p + n < end && p[n] != ' ' && p[n] != '\t' && p[n] != '\r')
        n++;
    return n;
}

static int parse_line(struct build *b, const char *p, const char *end, struct mu_err *err)
{
    static const char *const keys[] = {"slots", "max_slots", "max-slots"};
    const char *hash = memchr(p, '#', (size_t)(end - p)), *host = NULL;
    size_t host_len = 0;
    int slots = -1, max = 0;
    char buf[80];

    if (hash)
        end = hash;
    while (p < end) {
        size_t len = word_len(p, end), k;
        if (!len) {
            p++;
            continue;
        }
        if (!host) {
            host = p;
            host_len = len;
        } else {
            const char *eq = memchr(p, '=', len);
            for (k = 0; eq && k < MU_COUNT(keys); k++)
                if (strlen(keys[k]) == (size_t)(eq - p) && !strncasecmp(keys[k], p, (size_t)(eq - p)))
                    break;
            if (!eq || k == MU_COUNT(keys)) {
                return mu_err_set(err, MUSTER_EARG, "'%s' is none of slots=N, max_slots=N", shown(buf, p, len));
            }
            int rc = slots_of(eq + 1, (size_t)(p + len - eq - 1), host, host_len, k ? &max : &slots, err);
            if (rc < 0)
                return rc;
        }
        p += len;
    }
    return host ? add_word(b, host, host_len, -1, slots, max, err) : 0;
}

int mu_hosts_parse_file(const char *text, size_t len, const char *origin, struct mu_hosts *out, struct mu_err *err)
{
    struct build b = {0};
    const char *end = text + len;
    unsigned line = 1;
    int rc = 0;

    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) /* the byte-order mark of some editors */
        text += 3;
    for (const char *p = text; p < end && rc == 0; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *stop = nl ? nl : end;
        if (memchr(p, 0, (size_t)(stop - p)))
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u: a zero byte, which no text has", origin, line);
        else if ((rc = parse_line(&b, p, stop, err)) < 0)
            mu_err_prefix(err, "%s:%u", origin, line);
        p = nl ? nl + 1 : end;
    }
    if (rc == 0 && !b.h.n)
        rc = mu_err_set(err, MUSTER_EARG, "%s names no host", origin);
    for (size_t i = 0; rc == 0 && i < b.h.n; i++)
        if (b.h.v[i].slots || b.bare[i] > 1)
            b.h.v[i].slots += b.bare[i];
    if (rc == 0) {
        *out = b.h;
        b.h = (struct mu_hosts){0};
    }
    drop(&b);
    return rc;
}

int mu_hosts_read_file(const char *path, struct mu_hosts *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read(path, FILE_MAX, &text, err);

    return rc < 0 ? mu_err_prefix(err, "hostfile"),
           rc     : mu_hosts_parse_file(mu_buf_str(&text), text.len, path, out, err);
}
