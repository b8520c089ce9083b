#include "launcher/ckpt_export.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "launcher/safetensors.h"
#include "runtime/base/clean.h"
#include "runtime/ckpt/reader.h"
#include "runtime/ckpt/verify.h"

#define AT_ONCE (64ull << 20) /* bytes that are in memory */

/* --- the file, under a name of its own until it is whole ---------------------------------------------------------- */

static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static char part[MU_CKPT_PATH_MAX];
static struct sigaction was[MU_COUNT(ends)];

static void on_end(int sig)
{
    unlink(part);
    raise(sig); /* by now it is the default, and comes when this has returned */
}

/* No signal comes between a file and the note of it. */
static void hold_signals(sigset_t *before)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < MU_COUNT(ends); i++)
        sigaddset(&set, ends[i]);
    sigprocmask(SIG_BLOCK, &set, before);
}

static void watch_signals(bool on)
{
    struct sigaction sa = {.sa_handler = on_end, .sa_flags = (int)SA_RESETHAND};

    for (size_t i = 0; i < MU_COUNT(ends); i++) {
        if (!on)
            sigaction(ends[i], &was[i], NULL);
        else if (sigaction(ends[i], NULL, &was[i]) == 0 && was[i].sa_handler != SIG_IGN)
            sigaction(ends[i], &sa, NULL);
    }
}

/* EIO and ECORRUPT are the generation's, for which an older one may do. */
static int target_failed(int rc, struct mu_err *err)
{
    if (rc != MUSTER_EIO)
        return rc;
    if (err)
        err->code = MUSTER_ENODE;
    return MUSTER_ENODE;
}

static int cannot_create(const char *file, struct mu_err *err)
{
    bool room = errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EMFILE || errno == ENFILE;

    return target_failed(mu_err_errno(err, room ? 0 : MUSTER_EARG, "cannot write %.300s", file), err);
}

static int check_target(const char *file, struct mu_err *err)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    struct stat st;
    int rc;

    if (!*file)
        return mu_err_set(err, MUSTER_EARG, "the name of the file is empty");
    if (strlen(file) >= sizeof part - 32)
        return mu_err_set(err, MUSTER_EARG, "the file's path is too long: %.200s", file);
    /* the file is put in the place of what has its name: root would take a device away from everybody */
    if (!*base || (!(rc = stat(file, &st)) && !S_ISREG(st.st_mode)))
        return mu_err_set(err, MUSTER_EARG, "%.200s is %s: give the name of a file", file,
                          !*base || S_ISDIR(st.st_mode) ? "a directory" : "not a plain file");
    if (rc && errno != ENOENT && errno != ELOOP) /* a link is replaced, wherever it leads */
        return cannot_create(file, err);
    return 0;
}

/* The descriptor. Never takes a file that is there. */
static int open_part(const char *file, struct mu_err *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    int fd = -1, dir = (int)(base - file);
    sigset_t before;

    hold_signals(&before);
    for (int tries = 0; fd < 0 && tries < 100; tries++) {
        unsigned char random[7];
        char mark[8] = "";

        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
            break;
        for (size_t i = 0; i < sizeof random; i++)
            mark[i] = letters[random[i] % (sizeof letters - 1)];
        snprintf(part, sizeof part, "%.*s%.200s.%s.part", dir, file, base, mark);
        fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    int rc = fd < 0 ? cannot_create(file, err) : 0;
    if (fd >= 0)
        watch_signals(true);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return rc ? rc : fd;
}

/* rc: how the writing has ended. */
static int close_part(int fd, const char *file, int rc, struct mu_err *err)
{
    struct mu_ckpt_path dir = mu_ckpt_path("%s", file);
    char *slash = strrchr(dir.s, '/');
    sigset_t before;
    bool closed;

    if (!rc && fsync(fd))
        rc = target_failed(mu_err_errno(err, 0, "sync %.300s", file), err);
    closed = close(fd) == 0;
    if (!rc && !closed)
        rc = target_failed(mu_err_errno(err, 0, "close %.300s", file), err);
    hold_signals(&before);
    if (!rc && rename(part, file))
        rc = target_failed(mu_err_errno(err, 0, "rename %.200s to %.200s", part, file), err);
    if (rc)
        unlink(part);
    watch_signals(false);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return rc;
    if (slash)
        slash[slash == dir.s] = 0;
    return target_failed(mu_ckpt_sync_dir(&mu_ckpt_io_posix, slash ? dir.s : ".", err), err);
}

/* --- what is in it ------------------------------------------------------------------------------------------------ */

/* So much of the tensors as is in memory at once: rows, which lie one behind the other. All tensors are in the list,
 * because the reader looks for them where they are in it; of most of them nothing is wanted. */
struct window {
    const struct mu_ckpt_tensors *all;
    struct mu_ckpt_tensors list; /* data: the place in the file */
    size_t first, at;            /* [first, at) are wanted, and rows of `at` that end before `row` */
    uint64_t row, limit, bytes, place;
    struct mu_ckpt_mover mover; /* takes what was read to its place */
    const char *file;
    int fd;
};

static struct window *window_of(struct mu_ckpt_mover *m)
{
    return (struct window *)((char *)m - offsetof(struct window, mover));
}

static int nothing(struct mu_ckpt_mover *m, struct mu_err *err)
{
    (void)m;
    (void)err;
    return 0;
}

static int put(struct mu_ckpt_mover *m, void *place, const void *from, size_t n, struct mu_err *err)
{
    const struct window *w = window_of(m);

    return target_failed(mu_ckpt_write_all(&mu_ckpt_io_posix, w->fd, from, n, (off_t)(uintptr_t)place, w->file, err),
                         err);
}

static void want(struct mu_ckpt_tensor *t, uint64_t from, uint64_t rows, uint64_t bytes)
{
    struct mu_ckpt_shape *s = &t->shape;

    memset(&s->box, 0, sizeof s->box);
    s->bytes = bytes;
    for (int d = 0; rows && d < s->ndim; d++)
        s->box.local[d] = s->global[d];
    s->box.offset[0] = from;
    s->box.local[0] = rows;
}

static int window_open(struct window *w, const struct mu_ckpt_tensors *all, uint64_t limit, uint64_t place,
                       const char *file, int fd, struct mu_err *err)
{
    *w = (struct window){
        .all = all, .limit = limit, .place = place, .file = file, .fd = fd, .list = {.n = all->n}, .mover = {0}};
    w->mover = (struct mu_ckpt_mover){.begin = nothing, .put = put, .done = nothing};
    w->list.mover = &w->mover;
    if (!(w->list.v = malloc((all->n + 1) * sizeof *w->list.v)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %zu tensors", all->n);
    for (size_t i = 0; i < all->n; i++) {
        w->list.v[i] = all->v[i];
        w->list.v[i].device = true;
        want(&w->list.v[i], 0, 0, 0);
    }
    return 0;
}

static void window_next(struct window *w)
{
    for (size_t i = w->first; i < w->all->n && i <= w->at; i++)
        want(&w->list.v[i], 0, 0, 0);
    w->first = w->at;
    w->place += w->bytes;
    w->bytes = 0;
    while (w->at < w->all->n) {
        const struct mu_ckpt_shape *s = &w->all->v[w->at].shape;
        uint64_t each = s->bytes ? s->bytes / s->global[0] : 1, left = s->bytes ? s->global[0] - w->row : 0;
        uint64_t room = w->bytes < w->limit ? (w->limit - w->bytes) / each : 0;
        uint64_t rows = w->bytes || room ? room : 1; /* one at least, however long */

        rows = rows < left ? rows : left;
        want(&w->list.v[w->at], w->row, rows, rows * each);
        w->list.v[w->at].data = (void *)(uintptr_t)(w->place + w->bytes);
        w->bytes += rows * each;
        if (rows < left) {
            w->row += rows;
            return;
        }
        w->row = 0;
        w->at++;
    }
}

static int copy_window(const char *dir, uint64_t generation, const struct window *w, struct mu_err *err)
{
    struct mu_ckpt_loaded got = {0};
    int rc = mu_ckpt_load(dir, generation, &w->list, &got, err);

    if (rc)
        return rc;
    rc = mu_ckpt_loaded_apply(&got, &w->list, err);
    mu_ckpt_loaded_free(&got);
    return rc;
}

static int copy(const char *dir, uint64_t generation, struct window *w,
                int (*bytes)(void *arg, uint64_t n, uint64_t of), void *arg, struct mu_err *err)
{
    int rc;

    do {
        window_next(w);
        if ((rc = copy_window(dir, generation, w, err)))
            return rc;
        if (bytes(arg, w->bytes, w->all->bytes))
            return mu_err_set(err, MUSTER_EABORTED, "given up");
    } while (w->at < w->all->n);
    return 0;
}

static int write_file(const char *dir, uint64_t generation, const struct mu_ckpt_commit *k,
                      const struct mu_ckpt_tensors *list, const struct mu_buf *head, const char *file, int fd,
                      int (*bytes)(void *arg, uint64_t n, uint64_t of), void *arg, struct mu_err *err)
{
    const struct mu_ckpt_io *io = &mu_ckpt_io_posix;
    uint64_t total = head->len + list->bytes, limit = 0;
    struct window w;
    int rc;

    for (uint32_t r = 0; r < k->id.world; r++)
        limit += 2 * k->votes[r].manifest; /* each window reads them all again, and has them in memory */
    limit = limit > AT_ONCE ? limit : AT_ONCE;
    /* a full disk shows here, before the long part */
    if (io->reserve(io, fd, (off_t)total) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return mu_err_errno(err, 0, "reserve %llu bytes for %.300s", (unsigned long long)total, file);
    if ((rc = mu_ckpt_write_all(io, fd, head->data, head->len, 0, file, err)))
        return target_failed(rc, err);
    if (!(rc = window_open(&w, list, limit, head->len, file, fd, err)))
        rc = copy(dir, generation, &w, bytes, arg, err);
    free(w.list.v);
    return rc;
}

int mu_ckpt_export(const char *dir, uint64_t generation, const char *file,
                   int (*bytes)(void *arg, uint64_t n, uint64_t of), void *arg, struct mu_err *err)
{
    mu_auto_buf struct mu_buf head = {0};
    struct mu_ckpt_tensors list = {0};
    struct mu_ckpt_commit k;
    int fd, rc;

    if ((rc = check_target(file, err)) || (rc = mu_ckpt_whole(dir, generation, &k, &list, err)))
        return rc;
    if (!(rc = mu_safetensors_header(&list, k.id.step, generation, &head, err)) &&
        (rc = fd = open_part(file, err)) >= 0) {
        rc = write_file(dir, generation, &k, &list, &head, file, fd, bytes, arg, err);
        rc = close_part(fd, file, rc, err);
    }
    free(k.votes);
    mu_ckpt_tensors_free(&list);
    return rc;
}
