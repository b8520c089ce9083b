#include "launcher/audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define MAGIC "muster-audit 1 "
#define SUFFIX ".log"
enum { HEX = MU_AUDIT_HASH - 1, DIGITS = 20, TAIL = 65536, READ_MAX = 1 << 30 };

struct mu_audit {
    char dir[PATH_MAX];
    int fd; /* -1: the next line begins a file */
    uint64_t size, file_max;
    struct mu_audit_head at;
    bool unsynced;
};

void mu_audit_zero(struct mu_audit_head *h)
{
    h->n = 0;
    memset(h->hash, '0', HEX);
    h->hash[HEX] = 0;
}

/* Of the line before and this one. */
static bool hash_line(const char *before, const char *json, size_t len, char out[MU_AUDIT_HASH])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned n = 0;
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, before, HEX) == 1 &&
              EVP_DigestUpdate(ctx, " ", 1) == 1 && EVP_DigestUpdate(ctx, json, len) == 1 &&
              EVP_DigestFinal_ex(ctx, sum, &n) == 1 && n == HEX / 2;

    EVP_MD_CTX_free(ctx);
    for (unsigned i = 0; ok && i < n; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", sum[i]);
    return ok;
}

static bool is_hash(const char *s, size_t n)
{
    return n >= HEX && strspn(s, "0123456789abcdef") >= HEX;
}

/* --- lines and files --------------------------------------------------------------------------------------------- */

struct line {
    const char *hash, *json;
    size_t len; /* of json */
    uint64_t n;
};

/* "HASH {"n":17,...}" without its end. */
static bool split(const char *s, size_t n, struct line *out)
{
    static const char begin[] = "{\"n\":";
    char number[DIGITS + 2];
    size_t digits;

    if (n < HEX + 1 + sizeof begin || !is_hash(s, n) || s[HEX] != ' ' ||
        memcmp(s + HEX + 1, begin, sizeof begin - 1) != 0)
        return false;
    const char *from = s + HEX + sizeof begin;
    for (digits = 0; from + digits < s + n && from[digits] >= '0' && from[digits] <= '9'; digits++)
        ;
    if (!digits || digits > DIGITS)
        return false;
    memcpy(number, from, digits);
    number[digits] = 0;
    *out = (struct line){.hash = s, .json = s + HEX + 1, .len = n - HEX - 1};
    return !mu_str_u64(number, 1, UINT64_MAX, &out->n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the files, oldest first; their number, or an error. None where there is no directory. */
static int list_files(const char *dir, char ***out, struct mu_err *err)
{
    mu_auto_dir DIR *d = opendir(dir);
    char **v = NULL;
    size_t n = 0;

    *out = NULL;
    if (!d && errno == ENOENT)
        return 0;
    if (!d)
        return mu_err_errno(err, 0, "audit log %s", dir);
    for (struct dirent *e; (e = readdir(d));) {
        if (strlen(e->d_name) != DIGITS + sizeof SUFFIX - 1 || strspn(e->d_name, "0123456789") != DIGITS ||
            strcmp(e->d_name + DIGITS, SUFFIX) != 0)
            continue;
        char **more = realloc(v, (n + 2) * sizeof *v);
        if (!more || !(more[n] = strdup(e->d_name))) {
            if (more)
                more[n] = NULL;
            mu_strv_free(more ? more : v);
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        }
        v = more;
        v[++n] = NULL;
    }
    if (n)
        qsort(v, n, sizeof *v, by_name);
    *out = v;
    return (int)n;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

/* The last whole line of a file, or what its first line says; false: neither can be read. */
static bool last_of(const char *path, struct mu_audit_head *at, bool *clean, uint64_t *size)
{
    struct stat st;
    struct line l;
    mu_auto_fd int fd = mu_path_open_regular(path, O_NOFOLLOW, &st, NULL);
    mu_auto_free char *buf = malloc(TAIL + 1);

    if (fd < 0 || !buf)
        return false;
    off_t from = st.st_size > TAIL ? st.st_size - TAIL : 0;
    ssize_t n = pread(fd, buf, TAIL, from);
    if (n <= 0)
        return false;
    *size = (uint64_t)st.st_size;
    *clean = buf[n - 1] == '\n';
    while (n > 0) {
        while (n > 0 && buf[n - 1] != '\n')
            n--;
        size_t end = n > 0 ? (size_t)n - 1 : 0, start = end;
        while (start > 0 && buf[start - 1] != '\n')
            start--;
        if (split(buf + start, end - start, &l)) {
            at->n = l.n;
            memcpy(at->hash, l.hash, HEX);
            at->hash[HEX] = 0;
            return true;
        }
        *clean = false;
        n = (ssize_t)start;
    }
    return false;
}

int mu_audit_open(const char *dir, const struct mu_audit_head *anchor, uint64_t file_max, struct mu_audit **out,
                  struct mu_err *err)
{
    struct mu_audit *a = calloc(1, sizeof *a);
    char path[PATH_MAX], **files = NULL;
    bool clean = false;

    if (!a)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    a->fd = -1;
    a->file_max = file_max ? file_max : MU_AUDIT_FILE_MAX;
    mu_audit_zero(&a->at);
    int n = mu_str_copy(a->dir, sizeof a->dir, dir)
                ? mu_err_set(err, MUSTER_EARG, "the path of the audit log is too long")
                : list_files(dir, &files, err);
    if (n < 0) {
        free(a);
        return n;
    }
    for (int i = n; i-- > 0;) {
        bool here = !mu_path_join(path, sizeof path, dir, files[i], NULL) && last_of(path, &a->at, &clean, &a->size);
        clean = clean && here && i == n - 1;
        if (here)
            break;
    }
    if (clean && a->size < a->file_max)
        a->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    mu_strv_free(files);
    if (anchor && anchor->n > a->at.n) { /* the gap stays */
        if (a->fd >= 0)
            close(MU_STEAL(a->fd, -1));
        a->at = *anchor;
    }
    *out = a;
    return 0;
}

void mu_audit_close(struct mu_audit *a)
{
    if (!a)
        return;
    if (a->fd >= 0)
        close(a->fd);
    free(a);
}

/* All of it, or the file is not written to any more: a part of a line ends it. */
static int put(struct mu_audit *a, const char *data, size_t len, struct mu_err *err)
{
    ssize_t n;

    do
        n = write(a->fd, data, len);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)len) {
        a->size += len;
        a->unsynced = true;
        return 0;
    }
    if (n >= 0)
        errno = ENOSPC;
    int rc = mu_err_errno(err, 0, "audit log %s", a->dir);
    close(MU_STEAL(a->fd, -1));
    return rc;
}

static int sync_dir(const char *dir)
{
    mu_auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -1 : fsync(fd);
}

/* One whose name is taken has no line that could be read: what was begun at a full disk, or damaged. It is kept. */
static int begin_file(struct mu_audit *a, struct mu_err *err)
{
    char path[PATH_MAX], was[PATH_MAX + 8], name[DIGITS + 8], head[HEX + 64];
    int rc = mu_path_mkdirs(a->dir, 0700, err);

    snprintf(name, sizeof name, "%020llu" SUFFIX, (unsigned long long)a->at.n + 1);
    if (rc || (rc = mu_path_join(path, sizeof path, a->dir, name, err)))
        return rc;
    int n = snprintf(head, sizeof head, MAGIC "%llu %s\n", (unsigned long long)a->at.n + 1, a->at.hash);
    snprintf(was, sizeof was, "%s.was", path);
    if (rename(path, was) && errno != ENOENT)
        return mu_err_errno(err, 0, "audit log %s", path);
    a->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (a->fd < 0 || sync_dir(a->dir)) {
        rc = mu_err_errno(err, 0, "audit log %s", path);
        if (a->fd >= 0)
            close(MU_STEAL(a->fd, -1));
        return rc;
    }
    a->size = 0;
    return put(a, head, (size_t)n, err);
}

/* Somebody has removed the file: what is written there nobody will read. */
static bool removed(const struct mu_audit *a)
{
    struct stat st;

    return a->fd >= 0 && !fstat(a->fd, &st) && !st.st_nlink;
}

int mu_audit_add(struct mu_audit *a, double t, json_t *entry, uint64_t *n, struct mu_err *err)
{
    mu_auto_free char *json = json_dumps(entry, JSON_COMPACT);
    mu_auto_buf struct mu_buf line = {0};
    struct mu_audit_head next = {.n = a->at.n + 1};
    int rc;

    json_decref(entry);
    if (!json)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_buf_appendf(&line, "%*s {\"n\":%llu,\"t\":%.6f%s%s\n", HEX, "", (unsigned long long)next.n, t,
                   json[1] == '}' ? "" : ",", json + 1);
    if (line.failed || !hash_line(a->at.hash, line.data + HEX + 1, line.len - HEX - 2, next.hash))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    memcpy(line.data, next.hash, HEX);
    if (removed(a) && (!mkdir(a->dir, 0700) || errno == EEXIST)) /* not what it lies in, which may have been moved */
        close(MU_STEAL(a->fd, -1));
    if (a->fd >= 0 && a->size >= a->file_max) {
        if ((rc = mu_audit_sync(a, err)))
            return rc;
        close(MU_STEAL(a->fd, -1));
    }
    if ((a->fd < 0 && (rc = begin_file(a, err))) || (rc = put(a, line.data, line.len, err)))
        return rc;
    a->at = next;
    if (n)
        *n = next.n;
    return 0;
}

int mu_audit_sync(struct mu_audit *a, struct mu_err *err)
{
    if (a->fd >= 0 && a->unsynced && fdatasync(a->fd))
        return mu_err_errno(err, 0, "audit log %s", a->dir);
    a->unsynced = false;
    return 0;
}

bool mu_audit_unsynced(const struct mu_audit *a)
{
    return a->unsynced;
}

const struct mu_audit_head *mu_audit_at(const struct mu_audit *a)
{
    return &a->at;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

struct reader {
    struct mu_audit_walk *w;
    struct mu_audit_head at; /* the last line; n 0: none yet */
    const char *file;
    unsigned number; /* of the line in it */
    bool begun, found_hash, torn;
};

static void wrong(struct reader *r, const char *fmt, ...) MU_PRINTF(2, 3);
static void wrong(struct reader *r, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    int n = r->file ? snprintf(text, sizeof text, "%s:%u: ", r->file, r->number) : 0;

    va_start(ap, fmt);
    vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
    va_end(ap);
    r->w->bad++;
    if (r->w->wrong)
        r->w->wrong(r->w->arg, text);
}

static void missing(struct reader *r, uint64_t next)
{
    unsigned long long from = r->at.n + 1, to = next - 1;

    if (next <= r->at.n)
        wrong(r, "line %llu comes after line %llu", (unsigned long long)next, (unsigned long long)r->at.n);
    else if (from == to)
        wrong(r, "line %llu is missing before it", from);
    else
        wrong(r, "lines %llu to %llu are missing before it", from, to);
}

/* A file says where in the chain it begins. */
static void take_head(struct reader *r, const char *s, size_t n)
{
    char text[HEX + 64], hash[MU_AUDIT_HASH];
    unsigned long long first;
    int end = 0;

    snprintf(text, sizeof text, "%.*s", n < sizeof text ? (int)n : 0, s);
    if (sscanf(text, MAGIC "%20llu %64[0-9a-f]%n", &first, hash, &end) != 2 || strlen(hash) != HEX || !first ||
        text[end]) {
        wrong(r, "it does not begin as an audit log does");
        return;
    }
    if (r->begun && first != r->at.n + 1)
        missing(r, first);
    else if (r->begun && strcmp(hash, r->at.hash) != 0)
        wrong(r, "it does not follow line %llu of the file before", (unsigned long long)r->at.n);
    else if (!r->begun && first == 1 && strspn(hash, "0") != HEX)
        wrong(r, "it begins with line 1 and follows another one");
    r->begun = true;
    r->at.n = first - 1;
    memcpy(r->at.hash, hash, sizeof hash);
}

static void pass_anchor(struct reader *r, uint64_t n, const char *hash)
{
    const struct mu_audit_head *anchor = r->w->anchor;

    if (anchor && n == anchor->n && memcmp(hash, anchor->hash, HEX) != 0)
        wrong(r, "line %llu is not the one that the job store has in mind: it was written anew", (unsigned long long)n);
    if (r->w->hash && !memcmp(hash, r->w->hash, HEX))
        r->found_hash = true;
}

static void take_line(struct reader *r, const char *s, size_t n)
{
    char sum[MU_AUDIT_HASH] = "";
    struct line l;

    if (!split(s, n, &l)) {
        wrong(r, "this is no line of an audit log");
        return;
    }
    bool follows = l.n == r->at.n + 1;
    if (!follows)
        missing(r, l.n);
    /* after a gap nothing can be said of the first line behind it */
    bool whole = !follows || (hash_line(r->at.hash, l.json, l.len, sum) && !memcmp(sum, l.hash, HEX));
    if (!whole)
        wrong(r, "line %llu was changed, or one before it", (unsigned long long)l.n);
    r->at.n = l.n;
    memcpy(r->at.hash, l.hash, HEX);
    pass_anchor(r, l.n, l.hash);
    r->w->first = r->w->lines ? r->w->first : l.n;
    r->w->last = l.n > r->w->last ? l.n : r->w->last;
    r->w->lines++;
    if (r->w->line)
        r->w->line(r->w->arg, &r->at, l.json, l.len, whole && follows);
}

static int read_file(struct reader *r, const char *path, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read_regular(path, READ_MAX, &text, err);

    r->number = 1;
    if (rc)
        return rc;
    for (size_t at = 0; at < text.len; r->number++) {
        const char *nl = memchr(text.data + at, '\n', text.len - at);
        size_t n = nl ? (size_t)(nl - text.data) - at : text.len - at;
        if (!nl)
            r->torn = true; /* its writer was ended, or had no room: a line that follows is in the next file */
        else if (r->number == 1)
            take_head(r, text.data + at, n);
        else
            take_line(r, text.data + at, n);
        at += n + 1;
    }
    return 0;
}

int mu_audit_read(const char *dir, struct mu_audit_walk *w, struct mu_err *err)
{
    struct reader r = {.w = w};
    char path[PATH_MAX], **files;
    int n = list_files(dir, &files, err), rc = n < 0 ? n : 0;

    w->first = w->last = w->lines = w->bad = 0;
    mu_audit_zero(&r.at);
    for (int i = 0; i < n && !rc; i++) {
        r.file = files[i];
        if (!(rc = mu_path_join(path, sizeof path, dir, files[i], err)))
            rc = read_file(&r, path, err);
    }
    r.file = NULL;
    if (!rc && w->anchor && w->anchor->n && r.at.n < w->anchor->n)
        wrong(&r, "the end is missing: the last line is %llu, the job store has seen %llu", (unsigned long long)r.at.n,
              (unsigned long long)w->anchor->n);
    if (!rc && w->hash && !r.found_hash)
        wrong(&r, "no line has the hash %.64s", w->hash);
    memcpy(w->end, r.at.hash, sizeof w->end);
    mu_strv_free(files);
    return rc;
}

/* Puts the newest lines of a file, at most so many, in front of out; how many, or an error. */
static int tail_of(const char *path, unsigned most, struct mu_buf *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read_regular(path, READ_MAX, &text, err);
    unsigned n = 0;

    while (text.len && text.data[text.len - 1] != '\n') /* a part of a line */
        text.len--;
    size_t at = text.len;
    for (; at && n < most && !rc; n++) {
        size_t from = at - 1;
        while (from && text.data[from - 1] != '\n')
            from--;
        if (!from) /* the head */
            break;
        at = from;
    }
    if (rc || !n)
        return rc;
    struct mu_buf both = {0};
    mu_buf_append(&both, text.data + at, text.len - at);
    if (out->len)
        mu_buf_append(&both, out->data, out->len);
    mu_buf_free(out);
    *out = both;
    return (int)n;
}

int mu_audit_tail(const char *dir, unsigned most, struct mu_buf *out, struct mu_err *err)
{
    char path[PATH_MAX], **files;
    int n = list_files(dir, &files, err), rc = n < 0 ? n : 0;

    for (int i = n; i-- > 0 && most && rc >= 0; most -= rc > 0 ? (unsigned)rc : 0)
        if (!(rc = mu_path_join(path, sizeof path, dir, files[i], err)))
            rc = tail_of(path, most, out, err);
    mu_strv_free(files);
    return out->failed ? mu_err_set(err, MUSTER_ENOMEM, "out of memory") : rc < 0 ? rc : 0;
}
