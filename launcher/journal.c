#include "launcher/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define MAGIC "muster-journal 1"
enum { HEAD = sizeof MAGIC + 20 + 3, COMMIT = 28, LIMIT = 1 << 30 }; /* of a line; before a commit's blobs; of a file */

struct mu_journal {
    int fd;
    uint64_t size, seq;
    bool holed;
    struct mu_buf batch;
};

static void put(uint8_t *at, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const void *at, unsigned bytes)
{
    const uint8_t *p = at;
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

int mu_journal_create(const char *path, const struct mu_journal_head *head, struct mu_journal **out, struct mu_err *err)
{
    struct mu_journal *j = calloc(1, sizeof *j);
    char line[HEAD + 1];

    if (!j)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    snprintf(line, sizeof line, MAGIC " %020llu %c\n", (unsigned long long)head->seq, head->first ? 'f' : '-');
    *j = (struct mu_journal){.size = HEAD, .seq = head->seq};
    j->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd >= 0 && pwrite(j->fd, line, HEAD, 0) == HEAD) {
        *out = j;
        return 0;
    }
    int rc = mu_err_errno(err, 0, "journal %s", path);
    if (j->fd >= 0)
        unlink(path);
    mu_journal_close(j);
    return rc;
}

void mu_journal_close(struct mu_journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0)
        close(j->fd);
    mu_buf_free(&j->batch);
    free(j);
}

void mu_journal_add(struct mu_journal *j, const struct mu_bytes *blob)
{
    uint8_t len[4];

    if (!j)
        return;
    put(len, blob->len, sizeof len);
    mu_buf_append(&j->batch, len, sizeof len);
    mu_buf_append(&j->batch, blob->data, blob->len);
}

void mu_journal_drop(struct mu_journal *j)
{
    if (j)
        mu_buf_clear(&j->batch);
}

/* A commit is: u32 length of what follows the hash, u64 hash of that, u64 from, u64 to, then u32 length and bytes of
 * each blob. */
void mu_journal_commit(struct mu_journal *j, uint64_t seq)
{
    mu_auto_buf struct mu_buf b = {0};
    uint8_t head[COMMIT];

    if (!j || !j->batch.len)
        return;
    put(head + 12, j->seq, 8);
    put(head + 20, seq, 8);
    mu_buf_append(&b, head, sizeof head);
    mu_buf_append(&b, j->batch.data, j->batch.len);
    bool failed = b.failed || j->batch.failed;
    mu_buf_clear(&j->batch);
    if (!failed) {
        put((uint8_t *)b.data, b.len - 12, 4);
        put((uint8_t *)b.data + 4, mu_str_hash(b.data + 12, b.len - 12), 8);
        failed = pwrite(j->fd, b.data, b.len, (off_t)j->size) != (ssize_t)b.len;
    }
    if (!failed) {
        j->size += b.len;
        j->seq = seq;
        return;
    }
    j->holed = true; /* seq stays: the next commit shows the gap */
    if (ftruncate(j->fd, (off_t)j->size))
        j->size = LIMIT;
}

uint64_t mu_journal_seq(const struct mu_journal *j)
{
    return j->seq;
}

uint64_t mu_journal_size(const struct mu_journal *j)
{
    return j->size;
}

bool mu_journal_holed(const struct mu_journal *j)
{
    return j->holed;
}

bool mu_journal_at(const struct mu_journal *j, const char *path)
{
    struct stat there, here;

    return !stat(path, &there) && !fstat(j->fd, &here) && there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

static int take(const char *at, size_t len, mu_journal_fn fn, void *arg)
{
    mu_auto_free struct mu_bytes *v = NULL;
    uint32_t n = 0, cap = 0;

    for (size_t i = COMMIT; i < len;) {
        uint64_t size = len - i >= 4 ? get(at + i, 4) : UINT64_MAX;
        if (size > len - i - 4)
            return MUSTER_ECORRUPT;
        if (n == cap) {
            struct mu_bytes *more = realloc(v, (cap = cap ? 2 * cap : 8) * sizeof *v);
            if (!more)
                return MUSTER_ENOMEM;
            v = more;
        }
        v[n++] = (struct mu_bytes){.data = (uint8_t *)(uintptr_t)(at + i + 4), .len = (uint32_t)size};
        i += 4 + size;
    }
    return fn ? fn(arg, get(at + 12, 8), get(at + 20, 8), v, n) : 0;
}

/* *whole: where the last whole commit ends; *seq: and to which event it led. */
static int read_all(const char *path, struct mu_journal_head *head, mu_journal_fn fn, void *arg, uint64_t *whole,
                    uint64_t *seq, struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned long long first;
    char kind;
    int rc = mu_path_read_regular(path, LIMIT, &b, err);

    if (rc)
        return rc;
    if (b.len < HEAD || sscanf(b.data, MAGIC " %20llu %c", &first, &kind) != 2 || b.data[HEAD - 1] != '\n')
        return mu_err_set(err, MUSTER_ECORRUPT, "journal %s is damaged at its beginning", path);
    if (head)
        *head = (struct mu_journal_head){.seq = first, .first = kind == 'f'};
    *whole = HEAD;
    *seq = first;
    while (b.len - *whole >= COMMIT) {
        const char *at = b.data + *whole;
        uint64_t len = get(at, 4);
        if (len < COMMIT - 12 || len > b.len - *whole - 12 || get(at + 4, 8) != mu_str_hash(at + 12, len))
            return 0;
        if ((rc = take(at, len + 12, fn, arg)))
            return mu_err_set(err, rc, "journal %s: %s", path, muster_strerror(rc));
        *seq = get(at + 20, 8);
        *whole += len + 12;
    }
    return 0;
}

int mu_journal_append(const char *path, struct mu_journal **out, struct mu_err *err)
{
    struct mu_journal *j = calloc(1, sizeof *j);
    int rc;

    if (!j)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    j->fd = -1;
    if ((rc = read_all(path, NULL, NULL, NULL, &j->size, &j->seq, err)))
        goto failed;
    j->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (j->fd < 0 || ftruncate(j->fd, (off_t)j->size)) {
        rc = mu_err_errno(err, 0, "journal %s", path);
        goto failed;
    }
    *out = j;
    return 0;
failed:
    mu_journal_close(j);
    return rc;
}

int mu_journal_read(const char *path, struct mu_journal_head *head, mu_journal_fn fn, void *arg, struct mu_err *err)
{
    uint64_t whole, seq;

    return read_all(path, head, fn, arg, &whole, &seq, err);
}
