/* A safetensors file becomes a generation of a directory, as one rank that holds all of it would have saved it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "launcher/ckpt_export.h"
#include "launcher/safetensors.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/ckpt/owner.h"
#include "runtime/ckpt/writer.h"

#define WAIT (24 * 3600 * MU_SEC)
#define TICK (200 * MU_MS)             /* of the progress while a thread writes */
#define PIECE (8u << 20)               /* and while we read */
#define STEP_MAX ((uint64_t)INT64_MAX) /* of what is printed as JSON */

/* The tensors are where they are in the file, and the writer has them read from there: a file that is cut short
 * meanwhile is an error, not a signal. */
struct file {
    struct mu_ckpt_mover mover;
    struct mu_ckpt_io io; /* of the writer, which counts what it has written */
    const char *name;
    int fd;
    struct mu_safetensors is;
    int (*bytes)(void *arg, uint64_t n, uint64_t of);
    void *arg;
    _Atomic uint64_t written;
};

static int advance(const struct file *f, uint64_t n, struct mu_err *err)
{
    return f->bytes(f->arg, n, 2 * f->is.list.bytes) ? mu_err_set(err, MUSTER_EABORTED, "given up") : 0;
}

static int nothing(struct mu_ckpt_mover *m, struct mu_err *err)
{
    (void)m;
    (void)err;
    return 0;
}

static int get(struct mu_ckpt_mover *m, void *to, const void *place, size_t n, struct mu_err *err)
{
    const struct file *f = (struct file *)((char *)m - offsetof(struct file, mover));
    uint64_t at = (uint64_t)(uintptr_t)place;
    unsigned char *p = to;

    while (n) {
        size_t piece = n < PIECE ? n : PIECE;
        int rc = mu_ckpt_read_all(f->fd, p, piece, at, f->name, err);

        if (rc || (rc = advance(f, piece, err)))
            return rc;
        p += piece;
        at += piece;
        n -= piece;
    }
    return 0;
}

static ssize_t count_pwrite(const struct mu_ckpt_io *io, int fd, const void *buf, size_t n, off_t at)
{
    struct file *f = (struct file *)((char *)io - offsetof(struct file, io));
    ssize_t got = mu_ckpt_io_posix.pwrite(&mu_ckpt_io_posix, fd, buf, n, at);

    if (got > 0)
        f->written += (uint64_t)got;
    return got;
}

static int read_header(struct file *f, uint64_t bytes, struct mu_err *err)
{
    mu_auto_free char *text = NULL;
    unsigned char length[8];
    uint64_t n = 0;
    int rc;

    if (bytes < sizeof length)
        return mu_err_set(err, MUSTER_EARG, "%.200s is not a safetensors file: it has %" PRIu64 " bytes", f->name,
                          bytes);
    if ((rc = mu_ckpt_read_all(f->fd, length, sizeof length, 0, f->name, err)))
        return rc;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)length[i] << (8 * i);
    if (n > MU_SAFETENSORS_HEADER_MAX || n > bytes - sizeof length)
        return mu_err_set(err, MUSTER_EARG,
                          "%.200s is not a safetensors file, or it is cut short: a header of %" PRIu64
                          " bytes in %" PRIu64,
                          f->name, n, bytes);
    if (!(text = malloc(n + 1)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the header of %.200s", f->name);
    if ((rc = mu_ckpt_read_all(f->fd, text, n, sizeof length, f->name, err)))
        return rc;
    return mu_safetensors_parse(f->name, text, n, bytes - sizeof length - n, &f->is, err);
}

static int open_file(struct file *f, struct mu_err *err)
{
    const char *name = f->name;
    struct stat st;
    int rc;

    f->mover = (struct mu_ckpt_mover){.begin = nothing, .get = get, .done = nothing};
    f->io = mu_ckpt_io_posix;
    f->io.pwrite = count_pwrite;
    if ((rc = mu_path_open_regular(name, 0, &st, err)) < 0)
        return errno == EINVAL && *name ? mu_err_set(err, MUSTER_EARG, "%.200s is not a plain file", name)
                                        : MUSTER_EARG;
    f->fd = rc;
    if ((rc = read_header(f, (uint64_t)st.st_size, err)))
        return rc;
    f->is.list.mover = &f->mover;
    for (size_t i = 0; i < f->is.list.n; i++)
        f->is.list.v[i].device = true;
    return 0;
}

static void close_file(struct file *f)
{
    mu_safetensors_free(&f->is);
    mu_clean_fd(&f->fd);
}

static int find_step(const struct file *f, const uint64_t *given, uint64_t *step, struct mu_err *err)
{
    if (given && *given > STEP_MAX)
        return mu_err_set(err, MUSTER_EARG, "--step takes a number up to %" PRIu64 ", not %" PRIu64, STEP_MAX, *given);
    *step = given ? *given : 0;
    if (!given && f->is.step && mu_str_u64(f->is.step, 0, STEP_MAX, step))
        return mu_err_set(err, MUSTER_EARG,
                          "%.200s: the step of its metadata, \"%.80s\", is not a number from 0 to %" PRIu64
                          "; give the right one with --step",
                          f->name, f->is.step, STEP_MAX);
    return 0;
}

/* The writer writes a little more than the tensors have. */
static int wait_written(struct file *f, struct mu_ckpt_writer *w, struct mu_err *err)
{
    uint64_t end = mu_now() + WAIT, total = f->is.list.bytes, told = 0;
    int rc;

    while ((rc = mu_ckpt_writer_durable(w, TICK, err)) == 1 && mu_now() < end) {
        uint64_t n = f->written < total ? f->written : total;

        if ((rc = advance(f, n - told, err))) {
            mu_ckpt_writer_cancel(w);
            return rc;
        }
        told = n;
    }
    return rc == 1 ? mu_err_set(err, MUSTER_ETIMEOUT, "%.200s: it takes more than a day to write this", f->name) : rc;
}

/* The way of a job of one rank. */
static int save(struct file *f, const char *dir, uint64_t step, uint64_t *generation, struct mu_err *err)
{
    struct mu_ckpt_place place = {.timeout = WAIT, .world = 1, .keep = UINT32_MAX, .job = "muster ckpt import"};
    struct mu_ckpt_owner *owner = NULL;
    struct mu_ckpt_writer *w = NULL;
    int rc;

    place.io = &f->io;
    snprintf(place.dir, sizeof place.dir, "%s", dir);
    gethostname(place.host, sizeof place.host - 1);
    if ((rc = mu_ckpt_owner_take(&place, &mu_ckpt_patience, &owner, err)))
        return rc;
    if (!(rc = mu_ckpt_store_open(&place, generation, err)) &&
        !(rc = mu_ckpt_writer_start(&place, NULL, NULL, 0, &w, err)) &&
        !(rc = mu_ckpt_writer_layout(w, &f->is.list, err)) &&
        !(rc = mu_ckpt_writer_idle(w, WAIT) ? mu_err_set(err, MUSTER_ETIMEOUT, "%.200s hangs", dir) : 0) &&
        !(rc = mu_ckpt_writer_save(w, *generation, step, err)))
        rc = wait_written(f, w, err);
    if (w)
        mu_ckpt_writer_stop(w, 60 * MU_SEC, NULL);
    mu_ckpt_owner_release(owner);
    return rc;
}

int mu_ckpt_import(const char *name, const char *dir, const uint64_t *step,
                   int (*bytes)(void *arg, uint64_t n, uint64_t of), void *arg, uint64_t *generation, uint64_t *saved,
                   struct mu_err *err)
{
    static struct file f; /* a writer that hangs in the file system keeps it */
    struct stat st;
    uint64_t is;
    int rc;

    f = (struct file){.name = name, .fd = -1, .bytes = bytes, .arg = arg};
    rc = open_file(&f, err);

    if (!rc)
        rc = find_step(&f, step, &is, err);
    if (!rc && !*dir)
        rc = mu_err_set(err, MUSTER_EARG, "the name of the directory is empty");
    if (!rc && stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        rc = mu_err_set(err, MUSTER_EARG, "%.200s is not a directory", dir);
    if (!rc && !(rc = save(&f, dir, is, generation, err)))
        *saved = is;
    close_file(&f);
    return rc;
}
