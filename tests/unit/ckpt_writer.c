/* Saves that are cut off or fail at every single call: what is restored afterwards is the old state or the new one,
 * exactly. */
#include "tests/unit/ckpt_state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

/* --- calls that fail --------------------------------------------------------------------------------------------- */

enum mode { PASS, FAIL_ONCE, STOP, POWER_CUT };

static struct {
    enum mode mode;
    int at, error;
    atomic_int calls;
    atomic_bool stopped;
    struct {
        int fd; /* a duplicate of ours */
        int user;
        bool dirty;
    } open[64]; /* for POWER_CUT: files with data that no sync has covered */
    int nopen;
    pthread_mutex_t lock;
} fault = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fault_set(enum mode mode, int at, int error)
{
    for (int i = 0; i < fault.nopen; i++)
        close(fault.open[i].fd);
    fault.nopen = 0;
    fault.mode = mode;
    fault.at = at;
    fault.error = error;
    fault.calls = 0;
    fault.stopped = false;
}

/* True when this call is to fail. After STOP and POWER_CUT nothing reaches the disk any more: the process is dead. */
static bool fails(void)
{
    int n = ++fault.calls;

    if (fault.stopped || (fault.mode >= STOP && n >= fault.at)) {
        if (!atomic_exchange(&fault.stopped, true) && fault.mode == POWER_CUT) {
            pthread_mutex_lock(&fault.lock);
            for (int i = 0; i < fault.nopen; i++)
                if (fault.open[i].dirty && ftruncate(fault.open[i].fd, 0))
                    abort();
            pthread_mutex_unlock(&fault.lock);
        }
        errno = EIO;
        return true;
    }
    if (fault.mode == FAIL_ONCE && n == fault.at) {
        errno = fault.error;
        return true;
    }
    return false;
}

static void track(int fd, bool opened, bool dirty)
{
    if (fault.mode != POWER_CUT)
        return;
    pthread_mutex_lock(&fault.lock);
    if (opened && fault.nopen < 64) {
        fault.open[fault.nopen].fd = dup(fd);
        fault.open[fault.nopen].user = fd;
        fault.open[fault.nopen++].dirty = true;
    }
    for (int i = fault.nopen; !opened && i-- > 0;)
        if (fault.open[i].user == fd) {
            fault.open[i].dirty = dirty;
            break;
        }
    pthread_mutex_unlock(&fault.lock);
}

static int f_open(const struct mu_ckpt_io *io, const char *path, int flags, mode_t mode)
{
    int fd = fails() ? -1 : mu_ckpt_io_posix.open(io, path, flags, mode);

    if (fd >= 0)
        track(fd, true, true);
    return fd;
}
static ssize_t f_pwrite(const struct mu_ckpt_io *io, int fd, const void *buf, size_t n, off_t at)
{
    if (fails())
        return -1;
    track(fd, false, true);
    return mu_ckpt_io_posix.pwrite(io, fd, buf, n > 5000 ? 5000 : n, at); /* short writes, always */
}
static int f_fsync(const struct mu_ckpt_io *io, int fd)
{
    if (fails())
        return -1;
    track(fd, false, false);
    return mu_ckpt_io_posix.fsync(io, fd);
}
static int f_reserve(const struct mu_ckpt_io *io, int fd, off_t n)
{
    return fails() ? -1 : mu_ckpt_io_posix.reserve(io, fd, n);
}
static int f_rename(const struct mu_ckpt_io *io, const char *a, const char *b)
{
    return fails() ? -1 : mu_ckpt_io_posix.rename(io, a, b);
}
static int f_mkdir(const struct mu_ckpt_io *io, const char *p)
{
    return fails() ? -1 : mu_ckpt_io_posix.mkdir(io, p);
}
static int f_unlink(const struct mu_ckpt_io *io, const char *p)
{
    return fails() ? -1 : mu_ckpt_io_posix.unlink(io, p);
}
static int f_rmdir(const struct mu_ckpt_io *io, const char *p)
{
    return fails() ? -1 : mu_ckpt_io_posix.rmdir(io, p);
}

static int f_link(const struct mu_ckpt_io *io, const char *a, const char *b)
{
    return fails() ? -1 : mu_ckpt_io_posix.link(io, a, b);
}

static const struct mu_ckpt_io faulty = {
    .open = f_open,
    .pwrite = f_pwrite,
    .fsync = f_fsync,
    .reserve = f_reserve,
    .rename = f_rename,
    .mkdir = f_mkdir,
    .unlink = f_unlink,
    .rmdir = f_rmdir,
    .link = f_link,
};

/* --- a disk without room ----------------------------------------------------------------------------------------- */

static enum { ROOM, NO_ROOM, NO_ROOM_THEN, NO_INODES } disk;

static int d_open(const struct mu_ckpt_io *io, const char *path, int flags, mode_t mode)
{
    static const char *const of_rank_1[] = {"/seg.1", "/FAILED", "/FAILED.1", "/EPOCH.new"};
    bool hers = false;

    if (disk == NO_ROOM_THEN && strstr(path, "/seg.1"))
        usleep(300000); /* until rank 0 has given up */
    for (size_t i = 0; i < sizeof of_rank_1 / sizeof of_rank_1[0]; i++)
        hers |= !strcmp(strrchr(path, '/'), of_rank_1[i]);
    if (disk == NO_INODES && flags & O_CREAT && hers && access(path, F_OK)) {
        errno = EDQUOT;
        return -1;
    }
    return mu_ckpt_io_posix.open(io, path, flags, mode);
}
static int d_reserve(const struct mu_ckpt_io *io, int fd, off_t n)
{
    char link[64], path[400] = "";

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (disk == ROOM || disk == NO_INODES || readlink(link, path, sizeof path - 1) < 0)
        return mu_ckpt_io_posix.reserve(io, fd, n);
    if (strstr(path, disk == NO_ROOM ? "/seg.1" : "/seg.0")) {
        mu_ckpt_io_posix.reserve(io, fd, n / 2); /* as file systems do */
        errno = ENOSPC;
        return -1;
    }
    return mu_ckpt_io_posix.reserve(io, fd, n);
}
static struct mu_ckpt_io full_disk;

static void must_open(struct world *w, const char *dir, uint64_t timeout, const struct mu_ckpt_io *io)
{
    struct mu_err err;

    if (world_open(w, dir, WORLD, 2, timeout, io, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    add_state(w);
}

static void must_save(struct world *w, uint64_t step)
{
    set_state(step);
    if (world_save(w, step)) {
        printf("Bail out! save: %s %s\n", w->err[0].text, w->err[1].text);
        exit(1);
    }
}

/* Restores as a new attempt would: the step, -1 when what came back is not that step's state. */
static int64_t comes_back(const char *dir)
{
    struct world w;
    struct mu_err first = {0};
    int64_t step;

    must_open(&w, dir, 5 * MU_SEC, &mu_ckpt_io_posix);
    memset(own, 0xee, sizeof own);
    memset(shared, 0xee, sizeof shared);
    step = world_restore(&w, &first);
    if (step < 0)
        printf("# %s\n", first.text);
    else if (!is_state((uint64_t)step))
        step = -1;
    world_close(&w);
    return step;
}

static int count(const char *dir, const char *pattern)
{
    char cmd[500];
    FILE *f;
    int n = -1;

    snprintf(cmd, sizeof cmd, "ls -d %s/%s 2>/dev/null | wc -l", dir, pattern);
    if ((f = popen(cmd, "r"))) {
        if (fscanf(f, "%d", &n) != 1)
            n = -1;
        pclose(f);
    }
    return n;
}

/* Two old generations, then a third through calls that fail at the n-th, for every n. */
static void every_call(const char *name, enum mode mode, int error, uint64_t timeout)
{
    int wrong = 0, lied = 0, slow = 0, fine = 0, unnamed = 0, news = 0, n;
    bool last = false;

    for (n = 1; !last; n++) {
        char *dir = scratch();
        struct world w;
        uint64_t began;
        int64_t step;
        int rc;

        fault_set(PASS, 0, 0);
        must_open(&w, dir, 20 * MU_SEC, &faulty);
        must_save(&w, 1);
        must_save(&w, 2);
        world_close(&w);
        must_open(&w, dir, timeout, &faulty);
        set_state(3);
        fault_set(mode, n, error);
        began = mu_now();
        rc = world_save(&w, 3);
        slow += mode == FAIL_ONCE && mu_now() - began > timeout / 2;
        for (int r = 0; r < WORLD; r++) {
            unnamed += w.rc[r] && !w.err[r].text[0];
            fine += !w.rc[r];
        }
        last = fault.calls < n; /* the save took fewer calls: nothing failed */
        fault_set(PASS, 0, 0);
        world_close(&w);
        step = comes_back(dir);
        wrong += step != 2 && step != 3;
        news += step == 3;
        for (int r = 0; r < WORLD; r++)
            lied += !w.rc[r] && step != 3;
        lied += last && rc;
        /* and life goes on */
        must_open(&w, dir, 20 * MU_SEC, &mu_ckpt_io_posix);
        must_save(&w, 4);
        world_close(&w);
        wrong += comes_back(dir) != 4 || count(dir, "*.tmp") || count(dir, "*.del") || count(dir, "g*") != 2;
        scratch_remove(dir);
    }
    TAP_OK(wrong == 0, "%s at each of %d calls: the old or the new state comes back (%d times the new)", name, n - 2,
           news);
    TAP_OK(lied == 0 && fine > 0, "%s: who was told that the new one is safe can restore it", name);
    TAP_OK(slow == 0 && unnamed == 0, "%s: failures are explained and do not wait for the deadline", name);
}

/* One rank finds no room: all learn of it, what the save has taken is given back, and the next one is made. */
static void no_room(void)
{
    char *dir = scratch(), left[400];
    struct world w;
    uint64_t began;

    full_disk = mu_ckpt_io_posix;
    full_disk.open = d_open;
    full_disk.reserve = d_reserve;
    disk = ROOM;
    if (world_open(&w, dir, WORLD, 4, 20 * MU_SEC, &full_disk, &w.err[0]))
        abort();
    add_state(&w);
    for (uint64_t step = 1; step <= 4; step++)
        must_save(&w, step);
    world_close(&w);
    must_open(&w, dir, 20 * MU_SEC, &full_disk);
    snprintf(left, sizeof left, "%s/g%08d.del", dir, 1);
    mkdir(left, 0700);
    TAP_OK(count(dir, "g*") == 5, "more than keep=2 are there, as after a retention that was cut off");
    disk = NO_ROOM;
    set_state(5);
    TAP_OK(world_save(&w, 5) == MUSTER_ENOSPC && w.rc[0] == MUSTER_ENOSPC && w.rc[1] == MUSTER_ENOSPC,
           "no room on one rank: all ranks say so: %s", w.err[0].text);
    TAP_OK(strstr(w.err[0].text, "rank 1: ") && strstr(w.err[0].text, "No space left on device"),
           "with the rank and the cause");
    TAP_OK(count(dir, "*.tmp/seg.*") == 0 && count(dir, "*.tmp/man.*") == 0, "nothing of it takes space");
    TAP_OK(count(dir, "*.del") == 0 && count(dir, "g*") == 3, "nor what was left to remove");
    TAP_OK(world_save(&w, 5) == MUSTER_ENOSPC, "again");
    disk = NO_ROOM_THEN;
    TAP_OK(world_save(&w, 5) == MUSTER_ENOSPC && count(dir, "*.tmp/seg.*") == 0, "rank 0 before the others");
    disk = ROOM;
    must_save(&w, 6);
    world_close(&w);
    TAP_OK(comes_back(dir) == 6, "with room again the next one is made");
    scratch_remove(dir);

    dir = scratch();
    disk = ROOM;
    must_open(&w, dir, 20 * MU_SEC, &full_disk);
    must_save(&w, 1);
    disk = NO_INODES;
    set_state(2);
    began = mu_now();
    TAP_OK(world_save(&w, 2) == MUSTER_ENOSPC && mu_now() - began < 10 * MU_SEC,
           "one rank cannot make a file: nobody waits for the deadline: %s", w.err[0].text);
    world_close(&w);
    TAP_OK(!world_open(&w, dir, WORLD, 2, 20 * MU_SEC, &full_disk, NULL), "the directory can still be opened");
    disk = ROOM;
    add_state(&w);
    must_save(&w, 3);
    world_close(&w);
    TAP_OK(comes_back(dir) == 3 && count(dir, "*.tmp") == 0, "and written to when there are files again");
    scratch_remove(dir);
}

/* Memory that only it can read; what it has begun it does when it is asked whether it is done. */
struct mover {
    struct mu_ckpt_mover m;
    struct {
        void *to;
        const void *from;
        size_t n;
    } begun[64];
    unsigned n, series;
    bool fails;
};

static int mover_begin(struct mu_ckpt_mover *m, struct mu_err *err)
{
    (void)err;
    ((struct mover *)(void *)m)->series++;
    return 0;
}

static int mover_copy(struct mu_ckpt_mover *m, void *to, const void *from, size_t n, struct mu_err *err)
{
    struct mover *x = (struct mover *)(void *)m;

    if (x->n == 64)
        return mu_err_set(err, MUSTER_ENOMEM, "too many");
    x->begun[x->n].to = to;
    x->begun[x->n].from = from;
    x->begun[x->n++].n = n;
    return 0;
}

static int mover_done(struct mu_ckpt_mover *m, struct mu_err *err)
{
    struct mover *x = (struct mover *)(void *)m;

    usleep(100000);
    for (unsigned i = 0; i < x->n; i++)
        memcpy(x->begun[i].to, x->begun[i].from, x->begun[i].n);
    x->n = 0;
    return x->fails ? mu_err_set(err, MUSTER_ENODE, "it does not move") : 0;
}

/* A thread copies what only a mover can read. */
static void later(void)
{
    char *dir = scratch();
    struct mover movers[WORLD] = {0};
    struct world w;
    struct mu_err err = {0};
    bool good = true;

    must_open(&w, dir, 20 * MU_SEC, &mu_ckpt_io_posix);
    for (int r = 0; r < WORLD; r++) {
        movers[r].m =
            (struct mu_ckpt_mover){.begin = mover_begin, .get = mover_copy, .put = mover_copy, .done = mover_done};
        w.tensors[r].mover = &movers[r].m;
        w.tensors[r].v[0].device = true;
        mu_ckpt_writer_layout(w.writer[r], &w.tensors[r], &err);
        mu_ckpt_writer_idle(w.writer[r], MU_SEC);
    }
    set_state(20);
    for (int r = 0; r < WORLD; r++)
        good = good && mu_ckpt_writer_save_later(w.writer[r], w.next, 20, &err) == 0;
    w.next++;
    TAP_OK(good && movers[0].series == 1 && mu_ckpt_writer_copied(w.writer[0], 0, &err) == 1 &&
               mu_ckpt_writer_durable(w.writer[0], 0, &err) == 1 && mu_ckpt_writer_busy(w.writer[0]),
           "a save that is still to copy");
    for (int r = 0; r < WORLD; r++)
        good = good && mu_ckpt_writer_copied(w.writer[r], 20 * MU_SEC, &err) == 0;
    set_state(78);
    for (int r = 0; r < WORLD; r++)
        good = good && mu_ckpt_writer_durable(w.writer[r], 20 * MU_SEC, &err) == 0;
    for (int r = 0; r < WORLD; r++)
        mu_ckpt_writer_idle(w.writer[r], 20 * MU_SEC);
    TAP_OK(good && world_restore(&w, &err) == 20 && is_state(20), "has what there was until it had copied: %s",
           err.text);

    movers[1].fails = true;
    for (int r = 0; r < WORLD; r++)
        mu_ckpt_writer_save_later(w.writer[r], w.next, 21, &err);
    TAP_OK(mu_ckpt_writer_copied(w.writer[1], 20 * MU_SEC, &err) == MUSTER_ENODE &&
               !strcmp(err.text, "it does not move") &&
               mu_ckpt_writer_durable(w.writer[1], 20 * MU_SEC, &err) == MUSTER_ENODE &&
               mu_ckpt_writer_copied(w.writer[0], 20 * MU_SEC, &err) == 0,
           "a copy that fails is its rank's error");
    mu_ckpt_writer_cancel(w.writer[0]);
    TAP_OK(mu_ckpt_writer_save(w.writer[1], w.next + 1, 22, &err) == MUSTER_ENODE && !mu_ckpt_writer_busy(w.writer[1]),
           "also one that is waited for");
    world_close(&w);
    TAP_OK(comes_back(dir) == 20, "and what was there stays");
    scratch_remove(dir);
}

int main(void)
{
    char *dir = scratch();
    struct world w, x;
    struct mu_err err;

    must_open(&w, dir, 20 * MU_SEC, &mu_ckpt_io_posix);
    TAP_OK(mu_ckpt_writer_durable(w.writer[0], 0, &err) == 0 && comes_back(dir) == MUSTER_ENOCKPT,
           "nothing saved: nothing restored");
    world_close(&w);

    must_open(&w, dir, 20 * MU_SEC, &mu_ckpt_io_posix);
    for (uint64_t step = 1; step <= 5; step++)
        must_save(&w, step);
    TAP_OK(count(dir, "g*") == 2 && count(dir, "*.tmp") == 0, "keep=2 leaves two of five");
    char pin[400];
    snprintf(pin, sizeof pin, "%s/g%08d/PIN", dir, 4);
    fclose(fopen(pin, "w"));
    for (uint64_t step = 6; step <= 9; step++)
        must_save(&w, step);
    snprintf(pin, sizeof pin, "%s/g%08d", dir, 4);
    TAP_OK(count(dir, "g*") == 3 && access(pin, F_OK) == 0, "a pinned one stays, beside the two newest");

    /* the data may change as soon as save has returned */
    set_state(10);
    for (int r = 0; r < WORLD; r++)
        mu_ckpt_writer_save(w.writer[r], w.next, 10, &err);
    w.next++;
    set_state(77);
    TAP_OK(mu_ckpt_writer_durable(w.writer[0], 20 * MU_SEC, &err) == 0 &&
               mu_ckpt_writer_durable(w.writer[1], 20 * MU_SEC, &err) == 0,
           "saved in the background");
    for (int r = 0; r < WORLD; r++)
        mu_ckpt_writer_idle(w.writer[r], 20 * MU_SEC);
    int64_t step = world_restore(&w, &err);
    TAP_OK(step == 10 && is_state(10), "what was saved is the state at the time of the call");

    /* somebody else opens the directory: the older one may not commit any more */
    must_open(&x, dir, 20 * MU_SEC, &mu_ckpt_io_posix);
    set_state(11);
    int rc = world_save(&w, 11);
    TAP_OK(rc == MUSTER_EEPOCH && w.rc[0] == MUSTER_EEPOCH && w.rc[1] == MUSTER_EEPOCH,
           "a writer of an older epoch is refused: %s", w.err[0].text);
    must_save(&x, 12);
    world_close(&x);
    TAP_OK(comes_back(dir) == 12, "and leaves the newer one's alone");
    world_close(&w);

    /* a rank that never writes: the others end at the deadline */
    must_open(&w, dir, 300 * MU_MS, &mu_ckpt_io_posix);
    mu_ckpt_writer_layout(w.writer[0], &w.tensors[0], &err);
    mu_ckpt_writer_idle(w.writer[0], MU_SEC);
    mu_ckpt_writer_save(w.writer[0], w.next++, 13, &err);
    TAP_OK(mu_ckpt_writer_durable(w.writer[0], 10 * MU_MS, &err) == 1, "still going on");
    TAP_OK(mu_ckpt_writer_durable(w.writer[0], 20 * MU_SEC, &err) == MUSTER_ETIMEOUT && strstr(err.text, "rank 1"),
           "a silent rank is named at the deadline: %s", err.text);
    world_close(&w);

    /* giving up */
    must_open(&w, dir, 60 * MU_SEC, &mu_ckpt_io_posix);
    mu_ckpt_writer_layout(w.writer[1], &w.tensors[1], &err);
    mu_ckpt_writer_idle(w.writer[1], MU_SEC);
    mu_ckpt_writer_save(w.writer[1], w.next++, 14, &err);
    mu_ckpt_writer_cancel(w.writer[1]);
    uint64_t began = mu_now();
    TAP_OK(mu_ckpt_writer_durable(w.writer[1], 20 * MU_SEC, &err) == MUSTER_EABORTED && mu_now() - began < 5 * MU_SEC,
           "a cancelled save ends: %s", err.text);
    world_close(&w);
    TAP_OK(comes_back(dir) == 12 && count(dir, "*.tmp") == 0, "unfinished ones are cleared away by the next opening");
    must_open(&w, dir, 60 * MU_SEC, &mu_ckpt_io_posix);
    mu_ckpt_writer_cancel(w.writer[1]);
    set_state(15);
    TAP_OK(!world_save(&w, 15) && comes_back(dir) == 15, "what is cancelled is not what comes later");
    world_close(&w);
    scratch_remove(dir);

    later();
    no_room();
    every_call("EIO", FAIL_ONCE, EIO, 20 * MU_SEC);
    every_call("a full disk", FAIL_ONCE, ENOSPC, 20 * MU_SEC);
    every_call("SIGKILL", STOP, EIO, 60 * MU_MS);
    every_call("a power cut", POWER_CUT, EIO, 60 * MU_MS);
    return tap_done();
}
