#include "runtime/keeper/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/opt.h"
#include "runtime/base/path.h"
#include "runtime/base/procstate.h"
#include "runtime/base/str.h"
#include "runtime/ckpt/daemon/drain.h"
#include "runtime/ckpt/daemon/ship.h"
#include "runtime/keeper/peers.h"
#include "runtime/wire/daemon.h"

#define OTHERS_WAIT (2 * MU_SEC) /* for parts of other nodes, once the job is over */
#define CALM (10 * MU_SEC)       /* a process that lived so long did not die of what it does */
#define DEATHS_MAX 5             /* in a row */
#define LOOK_EVERY (500 * MU_MS) /* at whether it is stopped; LOOKS in a row, and it is killed */
#define LOOKS 4
#define NICE 10
#define HEAP_IDLE (128 << 20)
#define STORE_ENV "AWS_"

struct mu_ram {
    struct mu_arena_head *head;
    int fd;
    char path[48];
    mode_t mask;
    char trouble[400]; /* of the object store */
    char **store_env;  /* what the job's environment says of object stores */
    pid_t drain;
    uint64_t started, again, look; /* mu_now() */
    unsigned deaths, stopped;      /* stopped: so many looks in a row */
    uint64_t before;               /* what was written when the attempt began */
};

struct mu_ram *mu_ram_new(void)
{
    struct mu_ram *r = calloc(1, sizeof *r);
    mu_auto_fd int fd = memfd_create("muster-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *map = MAP_FAILED;

    if (r && fd >= 0 && ftruncate(fd, (off_t)MU_ARENA_BYTES) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        map = mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        mu_log(MU_LOG_WARN, "keeper", "no memory for checkpoints (%s): ranks write them by themselves",
               strerror(errno));
        free(r);
        return NULL;
    }
    r->head = map;
    r->head->magic = MU_ARENA_MAGIC;
    r->head->version = MU_ARENA_VERSION;
    r->head->cell_bytes = sizeof r->head->cells[0];
    r->head->keeper = (uint32_t)getpid();
    snprintf(r->path, sizeof r->path, "/proc/%ld/fd/%d", (long)getpid(), fd);
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        r->head->parity[i].fd = memfd_create("muster-parity", MFD_CLOEXEC);
    r->fd = MU_STEAL(fd, -1);
    return r;
}

static uint32_t ranks(const struct mu_ram *r)
{
    return atomic_load(&r->head->nranks);
}

void mu_ram_free(struct mu_ram *r)
{
    if (!r)
        return;
    if (r->drain)
        kill(r->drain, SIGKILL);
    for (uint32_t i = 0; i < ranks(r) * MU_ARENA_SLOTS; i++)
        if (r->head->cells[i].fd >= 0)
            close(r->head->cells[i].fd);
    for (uint32_t i = 0; i < MU_ARENA_SLOTS; i++)
        if (r->head->parity[i].fd >= 0)
            close(r->head->parity[i].fd);
    munmap(r->head, MU_ARENA_BYTES);
    mu_strv_free(r->store_env);
    close(r->fd);
    free(r);
}

/* The store's key is the job's, not the agent's. */
static void take_env(struct mu_ram *r, char *const *env)
{
    mu_strv_free(MU_STEAL(r->store_env, NULL));
    for (; env && *env; env++)
        if (!strncmp(*env, STORE_ENV, strlen(STORE_ENV)) && mu_strv_append(&r->store_env, *env))
            mu_log(MU_LOG_WARN, "keeper", "out of memory: no key for an object store");
}

void mu_ram_begin(struct mu_ram *r, uint32_t attempt, uint32_t nranks, mode_t mask, char *const *env)
{
    if (!r)
        return;
    if (nranks > MU_ARENA_RANKS)
        nranks = MU_ARENA_RANKS;
    for (uint32_t i = ranks(r); i < nranks; i++) {
        for (uint32_t k = 0; k < MU_ARENA_SLOTS; k++)
            mu_arena_cell(r->head, i, k)->fd = memfd_create("muster-ckpt", MFD_CLOEXEC);
        atomic_store(&r->head->nranks, i + 1);
    }
    r->mask = mask;
    take_env(r, env);
    r->before = atomic_load(&r->head->written);
    atomic_store(&r->head->attempt, attempt);
}

const char *mu_ram_path(const struct mu_ram *r)
{
    return r ? r->path : NULL;
}

static void start(struct mu_ram *r)
{
    char name[] = "muster", cmd[] = "drain", arena[] = "--arena", umsk[] = "--umask", parent[] = "--parent";
    char mask[12], pid[24];
    char *argv[] = {name, cmd, arena, r->path, umsk, mask, parent, pid, NULL};
    struct mu_err err;

    snprintf(mask, sizeof mask, "%u", (unsigned)r->mask);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    r->started = mu_now();
    r->look = r->started + LOOK_EVERY;
    r->stopped = 0;
    if (mu_daemon_helper(argv, -1, STORE_ENV, r->store_env, &r->drain, &err)) {
        r->drain = 0;
        mu_log(MU_LOG_ERROR, "keeper", "%s", err.text);
        mu_ram_reap(r, 0, 0);
    }
}

/* Ranks wait for it: one that is stopped is killed, and another one does its work. Looks are counted, not time: what we
 * ourselves missed proves nothing. */
static void look(struct mu_ram *r, uint64_t now)
{
    char letter;

    if (now < r->look)
        return;
    r->look = now + LOOK_EVERY;
    letter = mu_proc_stopped(r->drain);
    r->stopped = letter == 'T' || letter == 'F' ? r->stopped + 1 : 0;
    if (r->stopped < LOOKS)
        return;
    mu_log(MU_LOG_WARN, "keeper", "the drain (pid %ld) does not go on: %s; it is killed", (long)r->drain,
           mu_proc_state_text(letter));
    kill(r->drain, SIGKILL);
    r->stopped = 0;
}

void mu_ram_tick(struct mu_ram *r)
{
    uint64_t now = mu_now();

    if (r && r->drain)
        look(r, now);
    else if (r && atomic_load(&r->head->users) && now >= r->again)
        start(r);
}

bool mu_ram_reap(struct mu_ram *r, pid_t pid, int status)
{
    uint64_t now = mu_now();

    if (!r || pid != r->drain)
        return false;
    r->drain = 0;
    if (now - r->started > CALM)
        r->deaths = 0;
    r->deaths++;
    r->again = now + r->deaths * 50 * MU_MS;
    mu_log(MU_LOG_WARN, "keeper", "the drain has ended (wait status 0x%x); it is started again", (unsigned)status);
    if (r->deaths >= DEATHS_MAX) {
        mu_drain_give_up(r->head, "the process that writes checkpoints dies again and again");
        r->deaths = 0;
        r->again = now + MU_SEC;
    }
    return true;
}

pid_t mu_ram_pid(const struct mu_ram *r)
{
    return r ? r->drain : 0;
}

uint64_t mu_ram_durable_plus1(const struct mu_ram *r)
{
    return r ? atomic_load(&r->head->durable_plus1) : 0;
}

bool mu_ram_stored(struct mu_ram *r, struct mu_m_report *m)
{
    const struct mu_arena_ship *s = r ? &r->head->ship : NULL;
    uint64_t step, bytes, retries;
    bool changed;

    if (r) /* no news either */
        m->ckpt_bytes = atomic_load(&r->head->written) - r->before;
    if (!s || !atomic_load(&s->set))
        return false;
    step = atomic_load(&s->step_plus1);
    bytes = atomic_load(&s->bytes);
    retries = atomic_load(&s->retries);
    mu_ship_trouble(r->head, r->trouble);
    /* bytes alone are no news: they come with the rest */
    changed = step > m->stored_plus1 || strcmp(r->trouble, m->store_trouble ? m->store_trouble : "") != 0;
    if (step > m->stored_plus1)
        m->stored_plus1 = step;
    m->store_bytes = bytes;
    m->store_retries = retries;
    m->store_trouble = r->trouble[0] ? r->trouble : NULL;
    return changed;
}

bool mu_ram_ending(struct mu_ram *r)
{
    if (!r || (!mu_drain_pending(r->head) && !mu_ship_pending(r->head)))
        return false;
    if (!atomic_load(&r->head->hurry))
        atomic_store(&r->head->hurry, mu_now() + OTHERS_WAIT);
    mu_ram_tick(r);
    return true;
}

/* --- the process -------------------------------------------------------------------------------------------------- */

struct options {
    const char *arena;
    uint64_t mask, parent;
};

static const struct mu_opt table[] = {
    {"arena", 0, MU_OPT_STRING, offsetof(struct options, arena), "PATH", "the keeper's arena"},
    {"umask", 0, MU_OPT_U64, offsetof(struct options, mask), "N", "of the files", .max = 0777},
    {"parent", 0, MU_OPT_U64, offsetof(struct options, parent), "PID", "the keeper, with which it ends"},
};

struct company {
    struct mu_arena_head *head;
    struct mu_peers *peers;
    struct mu_ship *ship;
    bool tried;
};

/* Once the ranks ask for it. What goes wrong shows in their waiting in vain. */
static void meet(void *arg)
{
    struct company *c = arg;
    struct mu_paths paths;
    mu_auto_key struct mu_key key;
    struct mu_err err;

    if (!c->ship && atomic_load(&c->head->ship.set) && mu_ship_start(c->head, &c->ship, &err))
        mu_log(MU_LOG_WARN, "drain", "%s", err.text);
    if (c->tried || !atomic_load(&c->head->meet))
        return;
    c->tried = true;
    if (mu_paths_find(&paths, &err) || mu_peers_key(&paths, &key, &err) ||
        mu_peers_start(c->head, &key, NULL, &c->peers, &err))
        mu_log(MU_LOG_WARN, "drain", "no copies on peers: %s", err.text);
}

/* It ends with its keeper, by signal: what it was about is begun again by the next one, or was never promised. */
int mu_drain_main(int argc, char **argv)
{
    static _Atomic uint32_t never;
    struct options o = {0};
    struct mu_arena_head *head;
    struct mu_err err = {0};
    int operand, rc = mu_opt_parse(table, MU_COUNT(table), argc, argv, 0, &o, &operand, &err);

    if (rc == 1) {
        mu_opt_help(stdout, "muster drain --arena PATH (started by the keeper)", table, MU_COUNT(table));
        return 0;
    }
    if (!rc && (operand < argc || !o.arena || !o.parent))
        rc = mu_err_set(&err, MUSTER_EARG, "usage: muster drain --arena PATH --parent PID (started by the keeper)");
    if (rc) {
        fprintf(stderr, "muster drain: %s\n", err.text);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != (pid_t)o.parent)
        return 1;
    umask((mode_t)o.mask);
    signal(SIGPIPE, SIG_IGN);
    setpriority(PRIO_PROCESS, 0, NICE); /* threads inherit it */
    mu_daemon_heap();
    mallopt(M_TRIM_THRESHOLD, HEAP_IDLE); /* more is under way here, save after save */
    rc = mu_arena_open(o.arena, &head, &err);
    if (!rc)
        head->listen.port = 0; /* a predecessor's */
    if (!rc)
        rc = mu_drain_run(head, &never, meet, &(struct company){.head = head}, &err);
    return rc ? 1 : 0;
}
