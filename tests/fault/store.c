/* Seeded faults against a checkpoint directory and its arena, each in a process of its own on a store of a few KiB:
 *     LD_PRELOAD=io_shim.so store FIRST COUNT
 * A case: some saves; then one more, or an opening, with a fault at one of its calls, or a flipped bit in some file;
 * then what is there must be right:
 *   - what is restored is exactly the state of one step, never anything else,
 *   - not older than the newest one that was said to be durable, unless that has been damaged on purpose,
 *   - a copy in the arena that was complete is still restorable from there, and a new drain makes it durable,
 *   - the next save works, is restored, and leaves nothing unfinished behind.
 * Prints one line a failing case, with the seed that does it again. */
#include "runtime/ckpt/daemon/drain.h"
#include "tests/fault/shim/io.h"
#include "tests/unit/ckpt_help.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define WORLD_MOST 3
#define N_MOST 4000

static shim_arm_fn shim;
static uint64_t seed;
static int world_size, n_own, n_shared;
static uint32_t own[WORLD_MOST][N_MOST], shared[WORLD_MOST][N_MOST];
static struct mu_arena_head *head; /* NULL: this case goes without */
static char why[600];

/* What the parent keeps of what the children said; shared. */
static struct ledger {
    struct shim_plan plan;
    _Atomic uint64_t acked;   /* newest step that was said to be durable */
    _Atomic uint64_t ram;     /* newest step whose copies are complete in the arena */
    _Atomic int64_t restored; /* by the child that looked */
    _Atomic uint32_t wrong;
    char text[500], said[300]; /* of a restore, of a save */
} * book;

static uint32_t pick(uint32_t n)
{
    return (uint32_t)(rnd(&seed) % n);
}

static void set_state(uint64_t step)
{
    for (int r = 0; r < world_size; r++) {
        for (int i = 0; i < n_own; i++)
            own[r][i] = (uint32_t)(step * 2654435761u + (uint32_t)(r * n_own + i) * 977u);
        for (int i = 0; i < n_shared; i++)
            shared[r][i] = (uint32_t)(step * 40503u ^ (uint32_t)i);
    }
}
static bool is_state(uint64_t step)
{
    for (int r = 0; r < world_size; r++) {
        for (int i = 0; i < n_own; i++)
            if (own[r][i] != (uint32_t)(step * 2654435761u + (uint32_t)(r * n_own + i) * 977u))
                return false;
        for (int i = 0; i < n_shared; i++)
            if (shared[r][i] != (uint32_t)(step * 40503u ^ (uint32_t)i))
                return false;
    }
    return true;
}

static int open_world(struct world *w, const char *dir, bool arena)
{
    const uint64_t all = (uint64_t)(world_size * n_own), n = (uint64_t)n_own, m = (uint64_t)n_shared;
    struct mu_err err = {0};
    int rc = world_open(w, dir, world_size, 2, 1500 * MU_MS, &mu_ckpt_io_posix, &err);

    if (rc)
        return rc;
    for (int r = 0; r < world_size; r++) {
        uint64_t off = (uint64_t)r * n;

        if (arena && head) {
            mu_ckpt_writer_stop(w->writer[r], MU_SEC, NULL);
            mu_ckpt_writer_start(&w->place[r], NULL, head, (uint32_t)r, &w->writer[r], NULL);
        }
        add(&w->tensors[r], "own", MUSTER_UINT32, 1, &all, &off, &n, own[r], 0, NULL);
        add(&w->tensors[r], "shared", MUSTER_UINT32, 1, &m, NULL, NULL, shared[r], MUSTER_REPLICATED, NULL);
    }
    return 0;
}

/* --- the arena ---------------------------------------------------------------------------------------------------- */

static void make_arena(void)
{
    head = mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (head == MAP_FAILED)
        abort();
    head->magic = MU_ARENA_MAGIC;
    head->version = MU_ARENA_VERSION;
    head->keeper = (uint32_t)getpid();
    head->nranks = (uint32_t)world_size;
    for (int i = 0; i < world_size * 2; i++)
        head->cells[i].fd = memfd_create("cell", MFD_CLOEXEC);
}

static void drop_arena(void)
{
    for (int i = 0; head && i < world_size * 2; i++)
        close(head->cells[i].fd);
    if (head)
        munmap(head, MU_ARENA_BYTES);
    head = NULL;
}

static void *drain_one(void *cell)
{
    mu_drain_cell(head, cell, &mu_ckpt_io_posix);
    return NULL;
}

static void drain_all(void)
{
    pthread_t t[WORLD_MOST * 2];
    int n = 0;

    for (int i = 0; i < world_size * 2; i++) {
        struct mu_arena_cell *c = &head->cells[i];

        if (c->drain == MU_DRAIN_BUSY)
            c->drain = MU_DRAIN_WANTED; /* its drain has died */
        if (c->drain == MU_DRAIN_SAFE)
            c->drain = MU_DRAIN_DONE;
        if (c->drain == MU_DRAIN_WANTED)
            pthread_create(&t[n++], NULL, drain_one, c);
    }
    while (n)
        pthread_join(t[--n], NULL);
}

/* From the arena alone; the tensors of w. */
static int64_t from_ram(struct world *w, uint64_t step, struct mu_err *err)
{
    struct mu_ckpt_held h = {.parts = calloc((size_t)world_size, sizeof *h.parts)};
    int rc = 0;

    for (int i = 0; i < world_size * 2 && !rc; i++) {
        struct mu_arena_cell *c = &head->cells[i];
        struct mu_ckpt_held_part *p = &h.parts[c->rank];

        if (c->state != MU_ARENA_FULL || c->id.step != step || p->image)
            continue;
        h.id = c->id;
        p->bytes = mu_arena_bytes(c->segment, c->manifest, c->extents);
        if (!(rc = mu_arena_map(head, c, p->bytes, false, &p->image, err)))
            rc = mu_arena_manifest(c, p->image, &p->man, &p->summed, err);
    }
    for (int r = 0; r < world_size && !rc; r++)
        if (!h.parts[r].image)
            rc = mu_err_set(err, MUSTER_ENOCKPT, "a part is not there");
    memset(own, 0xee, sizeof own);
    memset(shared, 0xee, sizeof shared);
    for (int r = 0; r < world_size && !rc; r++)
        rc = mu_ckpt_held_verify(&h, &w->tensors[r], err);
    for (int r = 0; r < world_size && !rc; r++)
        rc = mu_ckpt_held_apply(&h, &w->tensors[r], err);
    mu_ckpt_held_free(&h);
    return rc ? rc : is_state(step) ? (int64_t)step : -1000;
}

/* --- what the children do ----------------------------------------------------------------------------------------- */

static void save_one(struct world *w, uint64_t step)
{
    int bad = 0;

    set_state(step);
    for (int r = 0; r < world_size; r++) {
        mu_ckpt_writer_idle(w->writer[r], 10 * MU_SEC);
        w->rc[r] = mu_ckpt_writer_layout(w->writer[r], &w->tensors[r], &w->err[r]);
        mu_ckpt_writer_idle(w->writer[r], 10 * MU_SEC);
        if (!w->rc[r])
            w->rc[r] = mu_ckpt_writer_save(w->writer[r], w->next, step, &w->err[r]);
        bad |= w->rc[r];
    }
    w->next++;
    if (head && !bad)
        book->ram = step;
    set_state(step + 500); /* the program goes on */
    if (head)
        drain_all();
    for (int r = 0; r < world_size; r++) {
        if (!w->rc[r])
            w->rc[r] = mu_ckpt_writer_durable(w->writer[r], 10 * MU_SEC, &w->err[r]);
        if (!w->rc[r] && book->acked < step) /* whoever was told may believe it */
            book->acked = step;
        if (w->rc[r])
            snprintf(book->said, sizeof book->said, "%.*s", (int)sizeof book->said - 1,
                     w->rc[r] > 0 ? "it goes on" : w->err[r].text);
    }
    for (int r = 0; r < world_size; r++)
        mu_ckpt_writer_idle(w->writer[r], 10 * MU_SEC);
}

static void do_saves(const char *dir, uint64_t from, int n)
{
    struct world w;

    if (open_world(&w, dir, true))
        return;
    for (int i = 0; i < n; i++)
        save_one(&w, from + (uint64_t)i);
    world_close(&w);
}

static void do_open_only(const char *dir)
{
    struct world w;

    if (!open_world(&w, dir, true))
        world_close(&w);
}

static void do_look(const char *dir)
{
    struct mu_err first = {0};
    struct world w;
    int64_t step;

    shim(NULL);
    book->restored = MUSTER_EIO;
    if (open_world(&w, dir, false))
        return;
    memset(own, 0xee, sizeof own);
    memset(shared, 0xee, sizeof shared);
    step = world_restore(&w, &first);
    if (step >= 0 && !is_state((uint64_t)step))
        book->wrong = 1;
    book->restored = step;
    snprintf(book->text, sizeof book->text, "%s", first.text);
    world_close(&w);
}

static void do_ram(const char *dir)
{
    struct mu_err err = {0};
    struct world w;

    shim(NULL);
    if (open_world(&w, dir, false))
        return;
    int64_t step = from_ram(&w, book->ram, &err);
    if (step == -1000)
        book->wrong = 1;
    book->restored = step;
    snprintf(book->text, sizeof book->text, "%s", err.text);
    world_close(&w);
}

/* A drain that takes the place of one that died: the same epoch, no shim. */
static void do_drain(void)
{
    shim(NULL);
    drain_all();
    for (int i = 0; i < world_size * 2; i++)
        if (head->cells[i].drain == MU_DRAIN_FAILED) {
            snprintf(book->text, sizeof book->text, "%s", head->cells[i].error.text);
            book->wrong = 2;
        }
}

/* --- one case ----------------------------------------------------------------------------------------------------- */

enum what { SAVES, MORE, OPEN, LOOK, RAM, DRAIN };

/* In a child, which the fault may kill. False: it hung or died otherwise. */
static bool child(enum what what, const char *dir, uint64_t from, int n)
{
    uint64_t until = mu_now() + 30 * MU_SEC;
    pid_t pid = fork();
    int status;

    if (!pid) {
        switch (what) {
        case SAVES:
            shim(NULL);
            do_saves(dir, from, n);
            break;
        case MORE:
            shim(&book->plan);
            do_saves(dir, from, n);
            break;
        case OPEN:
            shim(&book->plan);
            do_open_only(dir);
            break;
        case LOOK:
            do_look(dir);
            break;
        case RAM:
            do_ram(dir);
            break;
        case DRAIN:
            do_drain();
            break;
        }
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (mu_now() > until) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            snprintf(why, sizeof why, "a child hung");
            return false;
        }
        usleep(200);
    }
    if (WIFSIGNALED(status) && (WTERMSIG(status) != SIGKILL || what > OPEN)) {
        snprintf(why, sizeof why, "a child died of signal %d", WTERMSIG(status));
        return false;
    }
    return true;
}

/* A bit of some file of the newest generation, or beside it. The step that may be lost by it. */
static uint64_t flip_some(const char *dir, uint64_t newest)
{
    char pattern[600];
    glob_t g = {0};
    uint64_t hit = 0;

    snprintf(pattern, sizeof pattern, "%.300s/%s", dir, pick(8) ? "g*/*" : "EPOCH");
    if (!glob(pattern, 0, NULL, &g) && g.gl_pathc) {
        const char *path = g.gl_pathv[pick((uint32_t)g.gl_pathc)];
        unsigned char byte;
        struct stat st;
        int fd = open(path, O_RDWR | O_CLOEXEC);

        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size) {
            off_t at = (off_t)(rnd(&seed) % (uint64_t)st.st_size);

            if (pread(fd, &byte, 1, at) == 1) {
                byte ^= (unsigned char)(1u << pick(8));
                if (pwrite(fd, &byte, 1, at) != 1)
                    abort();
            }
            /* generations are numbered as steps here */
            if (sscanf(path + strlen(dir), "/g%lu/", &hit) != 1)
                hit = 0;
        }
        if (fd >= 0)
            close(fd);
    }
    globfree(&g);
    return hit > newest ? newest : hit;
}

static bool bad(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return false;
}

static bool one_case(char *label, size_t n)
{
#define SHIM_TEXT(name, text) text,
    static const char *const kinds[] = {SHIM_KINDS(SHIM_TEXT)};
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EIO};
    char *dir = scratch();
    int before = 1 + (int)pick(3);
    uint64_t acked, hit = 0, newest = (uint64_t)before;
    bool fine = true, flips = pick(4) == 0, opens = !flips && pick(6) == 0;

    world_size = 1 + (int)pick(WORLD_MOST);
    n_own = 1 + (int)pick(N_MOST - 1);
    n_shared = 1 + (int)pick(N_MOST - 1);
    memset(book, 0, sizeof *book);
    if (pick(2))
        make_arena();
    snprintf(book->plan.dir, sizeof book->plan.dir, "%.280s/", dir);
    book->plan.kind = (enum shim_kind)(1 + pick(SHIM_SHORT));
    book->plan.at = 1 + (int)pick(opens ? 8 : 12 + 22 * (uint32_t)world_size);
    book->plan.error = errors[pick(4)];
    book->plan.seed = rnd(&seed);
    snprintf(label, n, "%d ranks%s, %s at call %d of %s", world_size, head ? ", arena" : "",
             flips ? "a flipped bit" : kinds[book->plan.kind], book->plan.at,
             flips   ? "none"
             : opens ? "an opening"
                     : "a save");

    if (!child(SAVES, dir, 1, before) || book->acked != newest)
        fine = bad("the saves before: %d of %d (%s)", (int)book->acked, before, why);
    if (fine && flips)
        hit = flip_some(dir, newest);
    else if (fine)
        fine = child(opens ? OPEN : MORE, dir, newest + 1, 1);
    acked = book->acked;

    /* what is in memory is there whatever the directory went through */
    if (fine && head && book->ram) {
        fine = child(RAM, dir, 0, 0);
        if (fine && (book->wrong || book->restored != (int64_t)book->ram))
            fine = bad("memory: step %d came back as %d%s: %s", (int)book->ram, (int)book->restored,
                       book->wrong ? ", wrong" : "", book->text);
    }
    if (fine) {
        fine = child(LOOK, dir, 0, 0);
        int64_t least = hit && hit == acked ? (int64_t)acked - 1 : (int64_t)acked;

        if (fine && book->wrong)
            fine = bad("step %d is not what was saved", (int)book->restored);
        else if (fine && book->restored < least && least > 0)
            fine = bad("step %d is durable, %d came back: %s", (int)acked, (int)book->restored, book->text);
        else if (fine && book->restored > (int64_t)newest + 1)
            fine = bad("step %d was never saved", (int)book->restored);
    }
    /* life goes on */
    if (fine) {
        book->plan.kind = SHIM_NONE;
        fine = child(SAVES, dir, newest + 2, 1) && child(LOOK, dir, 0, 0);
        if (fine && book->acked != newest + 2)
            fine = bad("afterwards: the save of step %d: %s", (int)newest + 2, book->said);
        if (fine && (book->wrong || book->restored != (int64_t)newest + 2))
            fine = bad("afterwards: %d came back%s: %s", (int)book->restored, book->wrong ? ", wrong" : "", book->text);
        char cmd[900];
        snprintf(cmd, sizeof cmd, "ls -d %s/*.tmp %s/*.del >/dev/null 2>&1", dir, dir);
        if (fine && system(cmd) == 0)
            fine = bad("afterwards: something unfinished is left");
    }
    drop_arena();
    scratch_remove(dir);
    return fine;
}

/* A drain that is killed at each of its calls in turn, and the next one. */
static bool killed_drain(char *label, size_t n)
{
    char *dir = scratch();
    bool fine = true;

    world_size = 1 + (int)pick(WORLD_MOST);
    n_own = n_shared = 50;
    memset(book, 0, sizeof *book);
    make_arena();
    snprintf(book->plan.dir, sizeof book->plan.dir, "%.280s/", dir);
    book->plan.kind = pick(2) ? SHIM_KILL : SHIM_AFTER;
    book->plan.at = 12 + (int)pick(22 * (uint32_t)world_size); /* behind the opening */
    snprintf(label, n, "%d ranks, a drain that is killed at call %d, and the next one", world_size, book->plan.at);
    fine = child(MORE, dir, 1, 1);
    if (fine && book->ram) {
        fine = child(DRAIN, dir, 0, 0);
        if (fine && book->wrong)
            fine = bad("the next drain failed: %s", book->text);
        fine = fine && child(LOOK, dir, 0, 0);
        if (fine && (book->wrong || book->restored != 1))
            fine = bad("%d came back: %s", (int)book->restored, book->text);
    }
    drop_arena();
    scratch_remove(dir);
    return fine;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    int failed = 0;

    *(void **)&shim = dlsym(RTLD_DEFAULT, "shim_arm");
    book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!shim || book == MAP_FAILED) {
        fprintf(stderr, "store: needs LD_PRELOAD=io_shim.so\n");
        return 2;
    }
    for (uint64_t i = first; i < first + count; i++) {
        char label[300];

        seed = i * 0x9e3779b97f4a7c15ull + 12345;
        why[0] = 0;
        if (pick(5) ? one_case(label, sizeof label) : killed_drain(label, sizeof label))
            continue;
        failed++;
        printf("seed %lu: %s: %s\n", (unsigned long)i, label, why);
        fflush(stdout);
    }
    printf("%lu cases, %d failed\n", (unsigned long)count, failed);
    return failed ? 1 : 0;
}
