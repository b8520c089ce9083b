#include "runtime/keeper/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/keeper/hang.h"

#define FIGURES_EVERY (5 * MU_SEC)

struct mu_slots {
    struct mu_slot_head *head;
    uint64_t figures_at; /* not before */
    struct saved {
        uint32_t saves;
        uint64_t ns, last;
    } * saved; /* of each rank, as seen last */
    uint32_t n;
    int fd;
    char path[48];
};

int mu_slots_new(uint32_t nslots, uint32_t attempt, uint32_t world_size, uint64_t deadline_ns, struct mu_slots **out,
                 struct mu_err *err)
{
    size_t bytes = (size_t)mu_slot_bytes(nslots);
    mu_auto_free struct mu_slots *s = calloc(1, sizeof *s);
    mu_auto_fd int fd = memfd_create("muster-slots", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    mu_auto_free struct saved *saved = calloc(nslots + 1u, sizeof *saved);

    if (!s || !saved)
        return mu_err_set(err, MUSTER_ENOMEM, "slots: out of memory");
    if (fd < 0)
        return mu_err_errno(err, 0, "slots: memfd");
    if (ftruncate(fd, (off_t)bytes) < 0)
        return mu_err_errno(err, 0, "slots: %zu bytes", bytes);
    /* A rank that could cut it would kill the keeper with SIGBUS. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return mu_err_errno(err, 0, "slots: seal");
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return mu_err_errno(err, 0, "slots: mmap");
    s->head = map;
    s->n = nslots;
    s->saved = MU_STEAL(saved, NULL);
    s->head->magic = MU_SLOT_MAGIC;
    s->head->version = MU_SLOT_VERSION;
    s->head->nslots = nslots;
    s->head->attempt = attempt;
    s->head->world_size = world_size;
    s->head->deadline_ns = deadline_ns;
    snprintf(s->path, sizeof s->path, "/proc/%ld/fd/%d", (long)getpid(), fd);
    s->fd = MU_STEAL(fd, -1);
    *out = MU_STEAL(s, NULL);
    return 0;
}

void mu_slots_free(struct mu_slots *s)
{
    if (!s)
        return;
    munmap(s->head, (size_t)mu_slot_bytes(s->n));
    close(s->fd);
    free(s->saved);
    free(s);
}

const char *mu_slots_path(const struct mu_slots *s)
{
    return s->path;
}

void mu_slots_hang(struct mu_slots *s, uint64_t hang_ns)
{
    s->head->hang_ns = hang_ns;
}

const struct mu_slot *mu_slots_get(const struct mu_slots *s, uint32_t index)
{
    return mu_slot_at(s->head, index);
}

/* n and not the head's nslots, which a rank can write over. */
const struct mu_flight *mu_slots_flight(const struct mu_slots *s, uint32_t index)
{
    return (const struct mu_flight *)(const void *)mu_slot_at(s->head, s->n) + index;
}

void mu_slots_abort(struct mu_slots *s, uint32_t rank, int32_t status, const char *node)
{
    if (atomic_load(&s->head->abort))
        return;
    s->head->abort_rank = rank;
    s->head->abort_status = status;
    snprintf(s->head->abort_node, sizeof s->head->abort_node, "%s", node);
    atomic_store_explicit(&s->head->abort, 1, memory_order_release);
}

void mu_slots_notice(struct mu_slots *s, uint32_t bits)
{
    atomic_fetch_or(&s->head->notice, bits);
}

#define READ(slot, field) atomic_load_explicit(&(slot)->field, memory_order_relaxed)

bool mu_slots_read(const struct mu_slots *s, struct mu_m_report *r)
{
    uint64_t steps = UINT64_MAX, step = UINT64_MAX, first = 0, last = 0, ckpt = 0, restored = 0;
    uint32_t joined = 0, stepped = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        const struct mu_slot *slot = mu_slot_at(s->head, i);

        if (atomic_load_explicit(&slot->state, memory_order_acquire) < MU_RANK_READY)
            continue;
        uint64_t n = READ(slot, steps), at = READ(slot, step), wall = READ(slot, first_step_wall);
        joined++;
        if (n < steps)
            steps = n;
        if (n && at < step)
            step = at;
        if (wall) {
            stepped++;
            if (wall > first)
                first = wall;
        }
        if (READ(slot, step_wall) > last)
            last = READ(slot, step_wall);
        if (READ(slot, ckpt_plus1) > ckpt)
            ckpt = READ(slot, ckpt_plus1);
        if (READ(slot, restored_plus1) > restored)
            restored = READ(slot, restored_plus1);
    }
    if (steps == UINT64_MAX)
        steps = 0;
    if (step == UINT64_MAX || !steps)
        step = 0;
    if (stepped < s->n)
        first = 0;
    bool changed = r->njoined != joined || r->steps != steps || r->step != step || r->first_step_wall != first ||
                   r->step_wall != last || r->ckpt_plus1 != ckpt || r->restored_plus1 != restored;
    r->njoined = joined;
    r->steps = steps;
    r->step = step;
    r->first_step_wall = first;
    r->step_wall = last;
    r->ckpt_plus1 = ckpt;
    r->restored_plus1 = restored;
    return changed;
}

/* The rings that are in use are the first ones. */
static uint64_t bytes_of(const struct mu_flight *f)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MU_FLIGHT_COMMS && READ(&f->ring[i], ctx); i++)
        sum += READ(&f->ring[i], bytes);
    return sum;
}

/* How long its newest save has held it up. */
static uint64_t last_of(struct saved *was, uint32_t saves, uint64_t ns)
{
    if (saves != was->saves)
        *was = (struct saved){.saves = saves, .ns = ns, .last = (ns - was->ns) / (saves - was->saves)};
    return was->last;
}

bool mu_slots_figures(struct mu_slots *s, uint64_t now, struct mu_m_report *r)
{
    uint64_t ops = 0, bytes = 0, longest = 0, last = 0;
    uint32_t saves = 0;

    if (now < s->figures_at)
        return false;
    s->figures_at = now + FIGURES_EVERY;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct mu_slot *slot = mu_slot_at(s->head, i);

        if (atomic_load_explicit(&slot->state, memory_order_acquire) < MU_RANK_READY)
            continue;
        uint32_t n = atomic_load_explicit(&slot->saves, memory_order_acquire);
        uint64_t ns = READ(slot, save_ns), newest = last_of(&s->saved[i], n, ns);
        ops += READ(slot, op_seq);
        bytes += bytes_of(mu_slots_flight(s, i));
        longest = ns > longest ? ns : longest;
        if (n > saves || (n == saves && newest > last)) {
            saves = n;
            last = newest;
        }
    }
    bool news = r->ops != ops || r->op_bytes != bytes || r->saves != saves || r->save_ns != longest;
    r->ops = ops;
    r->op_bytes = bytes;
    r->saves = saves;
    r->save_ns = longest;
    r->save_last_ns = last;
    return news;
}

uint64_t mu_slots_wait(const struct mu_slots *s, uint32_t index, struct mu_hang_rank *out)
{
    const struct mu_slot *slot = mu_slot_at(s->head, index);
    struct mu_slot_op op;

    out->state = atomic_load_explicit(&slot->state, memory_order_acquire);
    if (mu_slot_op(slot, &op))
        out->op = op;
    out->op_seq = READ(slot, op_seq);
    out->last_ctx = READ(slot, last_ctx);
    out->last_number = READ(slot, last_number);
    out->late_kind = atomic_load_explicit(&slot->late_kind, memory_order_acquire);
    if (READ(slot, late_seq) != (uint32_t)out->op_seq)
        out->late_kind = 0;
    out->late_peer = READ(slot, late_peer);
    out->late_ctx = READ(slot, late_ctx);
    out->late_number = READ(slot, late_number);
    out->late_ns = READ(slot, late_ns);
    out->gave_up =
        READ(slot, user_error) == (uint32_t)-MUSTER_ETIMEOUT && READ(slot, error_seq) == (uint32_t)out->op_seq;
    return READ(slot, beat) + out->op_seq;
}

/* What a map of a process tells about its MPI. lib: path of libmpi, "" for none; started: MPI_Init has chosen how
 * messages go (Open MPI loads its pml then). */
struct mpi_map {
    char lib[256];
    bool started, foreign;
    bool alone; /* Open MPI 4's part for singletons is loaded; for a moment that is so in every rank */
};

static void look(int pid, struct mpi_map *out)
{
    mu_auto_buf struct mu_buf maps = {0};
    char path[40];

    memset(out, 0, sizeof *out);
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    if (mu_path_read(path, 16 << 20, &maps, NULL))
        return;
    for (char *line = maps.data, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        char *file = strchr(line, '/');
        char *base = file ? strrchr(file, '/') + 1 : NULL;
        if (!base)
            continue;
        if (!strncmp(base, "mca_pml_", 8))
            out->started = true;
        if (!strncmp(base, "mca_ess_singleton", 17))
            out->alone = true;
        if (!out->lib[0] && (!strncmp(base, "libmpi.so", 9) || !strncmp(base, "libmpich.so", 11))) {
            /* The soname of MPICH, Intel MPI and their relatives; Open MPI's is 40. */
            out->foreign = !strncmp(base, "libmpich", 8) || !strncmp(base, "libmpi.so.12", 12);
            mu_str_show(out->lib, sizeof out->lib, file);
        }
    }
}

void mu_slots_singleton(const struct mu_slots *s, uint32_t index, uint32_t world_size, int pid, bool connected,
                        uint64_t age_ns, unsigned *alone, char *text, size_t n)
{
    const struct mu_slot *slot = mu_slot_at(s->head, index);
    uint32_t size = READ(slot, mpi_size); /* 0: MPI has not started, or there is no libmuster to say so */
    struct mpi_map map;

    *text = 0;
    if (world_size < 2 || size == world_size)
        return;
    if (size) {
        look(pid, &map);
        snprintf(text, n,
                 "came up as an MPI singleton: MPI says %u, the job has %u ranks. Its MPI library is %s; it must be an "
                 "Open MPI with PMIx, and the PMIX_ and OMPI_MCA_schizo variables must reach the program",
                 size, world_size, map.lib[0] ? map.lib : "linked statically");
        return;
    }
    if (connected)
        return;
    /* A rank connects before it loads the parts that make it `started`, but on a busy machine we may hear of it later.
     */
    look(pid, &map);
    *alone = map.alone || map.started ? *alone + 1 : 0;
    if (*alone > 1)
        snprintf(text, n,
                 "came up as an MPI singleton: its MPI library %s has started without a connection to muster's PMIx "
                 "server; check that the PMIX_ and OMPI_MCA_schizo variables reach the program",
                 map.lib[0] ? map.lib : "(linked statically)");
    else if (map.foreign && age_ns > 10 * MU_SEC)
        snprintf(text, n,
                 "will probably come up as an MPI singleton: its MPI library %s is not an Open MPI and has not "
                 "connected to muster's PMIx server; link the program with Open MPI",
                 map.lib);
}
