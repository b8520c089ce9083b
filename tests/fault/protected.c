/* Seeded faults against saves that nodes protect for one another: a drain for each node, in a process of its own, and
 * the ranks' own half of it over collectives between threads:
 *     LD_PRELOAD=io_shim.so protected FIRST COUNT | NAME [a planted mistake: MU_PLANT_]
 * A case: saves, the last one with a fault at one of the calls of a drain; then nodes are lost and bits flip, in data,
 * manifests, parity, sums and tables; then a restore, which may meet a fault, too, and another one. What must hold:
 *   - what is restored is exactly the state of one step, never anything else,
 *   - as long as not more nodes are lost or damaged than there are parities, it is not older than the newest one that
 *     was said to be protected, whatever has become of a later one, or of an earlier attempt to restore it,
 *   - what is said to be protected has been sealed by all nodes,
 *   - the next save is protected, and k other nodes may be lost.
 * Prints one line a failing case, with the seed that does it again. By NAME: a case without chance, made for one of the
 * mistakes that are planted in protected-mutants. Exit 3: the machine was at fault, not what is tested. */
#include "runtime/base/clean.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/futex.h"
#include "runtime/keeper/peers_priv.h"
#include "runtime/rank/peers.h"
#include "tests/fault/shim/net.h"
#include "tests/unit/ckpt_help.h"
#include "tests/unit/coll_threads.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NODES 6
#define PER 2
#define WORLD (NODES * PER)
#define N_MOST 150000 /* several pieces a chunk */
#define DIR "/none"
#define CHILD_LIMIT (90 * MU_SEC)
#define START_LIMIT (60 * MU_SEC) /* for drains, where others use the machine, too */

static const struct mu_key key = {.bytes = "0123456789abcdef0123456789abcde"};
static shim_net_fn shim;
static uint64_t seed;
static char why[400];
static bool unwell; /* the machine */
static int nodes, per, world, k, n_own, n_shared;
static uint32_t own[WORLD][N_MOST], shared[WORLD][500];
static struct node {
    struct mu_arena_head *head;
    pid_t drain;
} node[NODES];
static bool stale[NODES]; /* an order that its rank did not live to see done */

/* What the children tell; shared. */
static struct book {
    struct shim_net net[NODES];
    int64_t restored;
    int wrong, idle; /* idle: somebody waited for drains in a way that keeps them from working */
    bool protected;
    int unsealed; /* 1 + a node that has not sealed what is said to be protected */
    char text[300];
} * book;

static uint32_t pick(uint32_t n)
{
    return (uint32_t)(rnd(&seed) % n);
}

static bool bad(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return false;
}

/* --- nodes, as their keepers have them ------------------------------------------------------------------------------
 */

static void start_drain(int i)
{
    struct node *n = &node[i];
    pid_t pid;

    n->head->listen.port = 0;
    if (!(pid = fork())) {
        struct mu_peers *p;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        shim(&book->net[i]);
        if (mu_peers_start(n->head, &key, "127.0.0.1", &p, NULL))
            _exit(1);
        for (;;)
            pause();
    }
    n->drain = pid;
}

/* A drain that died has a successor. */
static void keep(void)
{
    for (int i = 0; i < nodes; i++)
        if (node[i].drain && waitpid(node[i].drain, NULL, WNOHANG) == node[i].drain) {
            atomic_store(&book->net[i].kind, SHIM_NET_NONE);
            start_drain(i);
        }
}

static void node_up(int i)
{
    struct mu_arena_head *h =
        mmap(NULL, MU_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (h == MAP_FAILED)
        abort();
    h->magic = MU_ARENA_MAGIC;
    h->version = MU_ARENA_VERSION;
    h->cell_bytes = sizeof h->cells[0];
    h->keeper = (uint32_t)getpid();
    h->nranks = (uint32_t)per;
    for (int c = 0; c < per * 2; c++)
        h->cells[c].fd = memfd_create("cell", MFD_CLOEXEC);
    for (int c = 0; c < 2; c++)
        h->parity[c].fd = memfd_create("parity", MFD_CLOEXEC);
    node[i].head = h;
    start_drain(i);
}

static void node_down(int i)
{
    struct mu_arena_head *h = node[i].head;

    kill(node[i].drain, SIGKILL);
    waitpid(node[i].drain, NULL, 0);
    for (int c = 0; c < per * 2; c++)
        close(h->cells[c].fd);
    for (int c = 0; c < 2; c++)
        close(h->parity[c].fd);
    munmap(h, MU_ARENA_BYTES);
    node[i] = (struct node){0};
}

/* A new attempt: its ranks have met. */
static bool attempt(uint64_t nonce)
{
    uint64_t until = mu_now() + START_LIMIT;

    for (bool all = false; !all; usleep(200)) { /* at once: one may have died since it was looked at */
        all = true;
        keep();
        for (int i = 0; i < nodes; i++)
            all &= *(volatile uint32_t *)&node[i].head->listen.port != 0;
        if (!all && mu_now() > until) {
            unwell = true;
            return bad("a drain does not listen");
        }
    }
    for (int i = 0; i < nodes; i++) {
        struct mu_arena_group *g = &node[i].head->group;

        mu_arena_unorder(node[i].head);
        g->n = (uint32_t)nodes;
        g->k = (uint32_t)k;
        g->me = (uint32_t)i;
        g->nonce = nonce;
        for (int m = 0; m < nodes; m++)
            g->member[m] = node[m].head->listen;
        atomic_fetch_add(&g->set, 1);
    }
    return true;
}

/* --- the ranks ------------------------------------------------------------------------------------------------------
 */

static uint32_t value(uint64_t step, int r, int i)
{
    return (uint32_t)(step * 2654435761u + (uint32_t)r * 104729u + (uint32_t)i * 977u);
}
/* Rank r has r % 3 eighths less than the others. */
static int count(int r)
{
    return n_own - n_own / 8 * (r % 3);
}
static void set_state(uint64_t step)
{
    for (int r = 0; r < world; r++) {
        for (int i = 0; i < n_own; i++)
            own[r][i] = value(step, r, i);
        for (int i = 0; i < n_shared; i++)
            shared[r][i] = value(step, 77, i);
    }
}
static bool is_state(uint64_t step, int r)
{
    for (int i = 0; i < count(r); i++)
        if (own[r][i] != value(step, r, i))
            return false;
    for (int i = 0; i < n_shared; i++)
        if (shared[r][i] != value(step, 77, i))
            return false;
    return true;
}

static void add_tensors(struct mu_ckpt_tensors *t, int r)
{
    uint64_t all = 0, off = 0, n = (uint64_t)count(r), m = (uint64_t)n_shared;

    for (int i = 0; i < world; i++) {
        off += i < r ? (uint64_t)count(i) : 0;
        all += (uint64_t)count(i);
    }
    add(t, "own", MUSTER_UINT32, 1, &all, &off, &n, own[r], 0, NULL);
    add(t, "shared", MUSTER_UINT32, 1, &m, NULL, NULL, shared[r], MUSTER_REPLICATED, NULL);
}

/* What a drain does with a cell besides putting it into the directory. */
static void drained(struct mu_arena_head *h, struct mu_arena_cell *c)
{
    struct mu_ckpt_manifest m;
    unsigned char *map;
    bool summed;

    if (atomic_load(&c->drain) != MU_DRAIN_WANTED ||
        mu_arena_map(h, c, mu_arena_bytes(c->segment, c->manifest, c->extents), true, &map, NULL))
        return;
    if (!mu_arena_manifest(c, map, &m, &summed, NULL)) {
        for (size_t i = 0; i < m.nextents; i++) {
            uint32_t crc = mu_crc32c(0, map + m.extents[i].file, m.extents[i].bytes);
            memcpy(map + mu_arena_sums_at(c->segment, c->manifest) + 4 * i, &crc, 4);
        }
        atomic_store(&c->summed, 1);
        mu_ckpt_manifest_free(&m);
    }
    munmap(map, mu_arena_bytes(c->segment, c->manifest, c->extents));
    atomic_store(&c->drain, MU_DRAIN_DONE);
}

static bool start_writer(int r, uint64_t nonce, struct mu_ckpt_tensors *t, struct mu_ckpt_writer **w)
{
    struct mu_ckpt_place place = {.rank = (uint32_t)r,
                                  .world = (uint32_t)world,
                                  .keep = 2,
                                  .attempt = 1,
                                  .epoch = nonce,
                                  .nonce = nonce,
                                  .timeout = MU_SEC,
                                  .dir = DIR,
                                  .job = "fault",
                                  .host = "host"};

    add_tensors(t, r);
    if (mu_ckpt_writer_start(&place, NULL, node[r / per].head, (uint32_t)(r % per), w, NULL) ||
        mu_ckpt_writer_layout(*w, t, NULL))
        return false;
    mu_ckpt_writer_idle(*w, 10 * MU_SEC);
    return true;
}

/* id NULL: of a new save. */
static uint64_t chunk_of(struct mu_ckpt_writer **w, const struct mu_ckpt_id *id)
{
    uint64_t sum[NODES] = {0}, most = 0, rows = (uint64_t)(nodes - k);

    for (int r = 0; r < world; r++) {
        sum[r / per] += id ? mu_ckpt_writer_held(w[r], id) : mu_ckpt_writer_block(w[r]);
        most = sum[r / per] > most ? sum[r / per] : most;
    }
    return ((most + rows - 1) / rows + MU_CKPT_PAGE - 1) / MU_CKPT_PAGE * MU_CKPT_PAGE;
}

/* What node i has of parity for that step is in such a state. */
static bool parity_is(int i, uint64_t step, uint32_t state)
{
    for (uint32_t c = 0; c < MU_ARENA_SLOTS; c++) {
        const struct mu_arena_parity *x = &node[i].head->parity[c];

        if (atomic_load(&x->state) == state && x->id.step == step)
            return true;
    }
    return false;
}

static void wait_protected(struct mu_ckpt_writer **w, uint64_t step, uint64_t timeout)
{
    uint64_t until = mu_now() + timeout;
    bool all = true;

    for (int i = 0; i < nodes; i++)
        for (int c = 0; c < per * 2; c++)
            drained(node[i].head, &node[i].head->cells[c]);
    for (int r = 0; r < world; r++) {
        uint64_t now = mu_now();
        struct mu_err err = {0};
        int rc = mu_ckpt_writer_protected(w[r], now < until ? until - now : 0, &err);

        if (rc && all)
            snprintf(book->text, sizeof book->text, "rank %d: %.200s", r, rc > 0 ? "not in time" : err.text);
        all &= rc == 0;
    }
    for (int i = 0; all && i < nodes; i++)
        if (!parity_is(i, step, MU_ARENA_FULL))
            book->unsealed = i + 1;
    book->protected = all;
}

static void do_save(uint64_t step, uint64_t nonce, uint64_t timeout)
{
    struct mu_ckpt_writer *w[WORLD];
    static struct mu_ckpt_tensors t[WORLD];

    set_state(step);
    for (int r = 0; r < world; r++)
        if (!start_writer(r, nonce, &t[r], &w[r]))
            return;
    for (int r = 0; r < world; r++) {
        mu_ckpt_writer_peers(w[r], chunk_of(w, NULL), (uint32_t)per);
        if (mu_ckpt_writer_save(w[r], step, step, NULL)) {
            snprintf(book->text, sizeof book->text, "rank %d cannot save", r);
            return;
        }
    }
    wait_protected(w, step, timeout);
}

/* What was restored is to be protected again, and made durable, by this attempt: as it lies there. */
static void do_adopt(uint64_t step, uint64_t nonce, uint64_t timeout)
{
    struct mu_ckpt_writer *w[WORLD];
    static struct mu_ckpt_tensors t[WORLD];
    struct mu_ckpt_id id = {0};

    for (int c = 0; c < per * 2; c++)
        if (atomic_load(&node[0].head->cells[c].state) == MU_ARENA_FULL && node[0].head->cells[c].id.step == step)
            id = node[0].head->cells[c].id;
    for (int r = 0; r < world; r++)
        if (!start_writer(r, nonce, &t[r], &w[r]))
            return;
    uint64_t chunk = chunk_of(w, &id);
    for (int r = 0; r < world; r++) {
        mu_ckpt_writer_peers(w[r], chunk, (uint32_t)per);
        if (mu_ckpt_writer_adopt(w[r], &id, step + 1, MU_SEC)) {
            snprintf(book->text, sizeof book->text, "rank %d cannot take step %d over", r, (int)step);
            return;
        }
    }
    wait_protected(w, step, timeout);
}

static int agree(muster_comm *c, int rc)
{
    int32_t mine = rc < 0 ? rc : 0, least;

    muster_allreduce(&mine, &least, 1, MUSTER_INT32, MUSTER_MIN, c);
    return least;
}

/* As muster_ckpt_restore does it, for what is in memory. */
static void *rank_restores(void *arg)
{
    muster_comm comm = {.rank = (int)(intptr_t)arg};
    int r = comm.rank, all = MUSTER_ENOCKPT;
    struct mu_rank_ram ram = {.comm = &comm, .dir = DIR, .head = node[r / per].head};
    struct mu_rank_peers p = {.ram = &ram, .rank = r, .size = world, .on = true, .nodes = (uint32_t)nodes, .groups = 1};
    struct mu_rank_save *saves = NULL;
    struct mu_ckpt_tensors t = {0};
    struct mu_err err = {0};
    size_t n = 0;

    p.n = (uint32_t)nodes;
    p.k = (uint32_t)k;
    p.seats = calloc((size_t)world, sizeof *p.seats);
    for (int i = 0; i < world; i++)
        p.seats[i] = (struct mu_rank_seat){
            .node = i / per, .local = i % per, .leader = i / per * per, .arena = 1, .at = node[i / per].head->listen};
    add_tensors(&t, r);
    /* each node's first rank reads the cells; the others of it see the same */
    if (agree(&comm, mu_rank_ram_list(&ram, &saves, &n, &err)))
        n = 0;
    for (size_t i = 0; i < n && all; i++) {
        struct mu_ckpt_held held = {0};
        int rc = mu_rank_ram_load(&ram, &saves[i].id, &t, &held, &err);

        if ((all = agree(&comm, rc)) == MUSTER_ECORRUPT) {
            mu_ckpt_held_free(&held);
            rc = mu_rank_peers_rebuild(&p, &saves[i].id, saves[i].order, 8 * MU_SEC, &err);
            if (!(all = agree(&comm, rc))) {
                rc = mu_rank_ram_load(&ram, &saves[i].id, &t, &held, &err);
                all = agree(&comm, rc);
            }
        }
        size_t at = strlen(book->text);
        if (rc && rc != 1 && at < sizeof book->text / 2)
            snprintf(book->text + at, sizeof book->text - at, "; step %d, rank %d: %.200s", (int)saves[i].id.step, r,
                     err.text);
        if (!all) {
            mu_ckpt_held_apply(&held, &t, &err);
            if (!is_state(saves[i].id.step, r))
                book->wrong = 1;
            if (r == 0)
                book->restored = (int64_t)saves[i].id.step;
        }
        mu_ckpt_held_free(&held);
    }
    if (all && r == 0)
        book->restored = all;
    return NULL;
}

static bool is_ordered(int i)
{
    uint32_t is = atomic_load(&node[i].head->rebuild.state);

    return is == MU_DRAIN_WANTED || is == MU_DRAIN_BUSY;
}

/* Nobody may keep a processor busy while drains make parts again. */
static void look_for_orders(const muster_comm *c)
{
    for (int i = 0; i < nodes; i++)
        if (!stale[i] && is_ordered(i)) {
            snprintf(book->text, sizeof book->text, "rank %d waits in a collective while node %d makes a part again",
                     c->rank, i);
            book->idle = 1;
        }
}

static void do_restore(void)
{
    pthread_t t[WORLD];

    for (int i = 0; i < nodes; i++)
        stale[i] = is_ordered(i);
    coll_blocks = look_for_orders;
    memset(own, 0xee, sizeof own);
    memset(shared, 0xee, sizeof shared);
    coll_begin(world);
    for (int r = 0; r < world; r++)
        pthread_create(&t[r], NULL, rank_restores, (void *)(intptr_t)r);
    for (int r = 0; r < world; r++)
        pthread_join(t[r], NULL);
}

/* The ranks of an attempt, which are killed after a while if that is not 0. False: they hang, or die by themselves. */
enum doing { SAVE, RESTORE, ADOPT };
static bool ranks(enum doing doing, uint64_t step, uint64_t nonce, uint64_t timeout, uint64_t killed_after)
{
    uint64_t began = mu_now();
    pid_t pid;
    int status;

    book->restored = MUSTER_ENOCKPT;
    book->protected = false;
    book->unsealed = 0;
    book->idle = 0;
    book->text[0] = 0;
    fflush(stdout);
    if (!(pid = fork())) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (doing == SAVE)
            do_save(step, nonce, timeout);
        else if (doing == ADOPT)
            do_adopt(step, nonce, timeout);
        else
            do_restore();
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        uint64_t spent = mu_now() - began;

        keep();
        if (spent > CHILD_LIMIT || (killed_after && spent > killed_after))
            kill(pid, SIGKILL);
        usleep(200);
        if (spent > CHILD_LIMIT + MU_SEC)
            break;
    }
    keep();
    if (mu_now() - began > CHILD_LIMIT)
        return bad("the ranks hang while they %s", doing == RESTORE ? "restore" : "save");
    if (WIFSIGNALED(status) && !(killed_after && WTERMSIG(status) == SIGKILL))
        return bad("the ranks died of signal %d", WTERMSIG(status));
    if (book->idle)
        return bad("%s", book->text);
    if (book->unsealed)
        return bad("step %d is said to be protected, but node %d has not sealed it", (int)step, book->unsealed - 1);
    /* what is not drained any more is what a drain would do */
    for (int i = 0; i < nodes; i++)
        for (int c = 0; c < per * 2; c++)
            if (atomic_load(&node[i].head->cells[c].state) == MU_ARENA_FULL)
                drained(node[i].head, &node[i].head->cells[c]);
    return true;
}

/* --- damage ---------------------------------------------------------------------------------------------------------
 */

static bool flip_in(const struct mu_arena_head *h, int fd, uint64_t bytes)
{
    unsigned char *map;

    if (!bytes || mu_arena_map_fd(h, fd, bytes, true, &map, NULL))
        return false;
    map[rnd(&seed) % bytes] ^= (unsigned char)(1u << pick(8));
    munmap(map, bytes);
    return true;
}

/* A bit of what node i has of that step. What was flipped, NULL: it has nothing. */
static const char *flip(int i, uint64_t step)
{
    struct mu_arena_head *h = node[i].head;
    uint32_t what = pick(5);

    for (int c = 0; what < 2 && c < per * 2; c++) {
        struct mu_arena_cell *x = &h->cells[c];

        if (atomic_load(&x->state) != MU_ARENA_FULL || x->id.step != step)
            continue;
        if (what && flip_in(h, x->fd, x->segment))
            return "data";
        unsigned char *map;
        uint64_t bytes = mu_arena_bytes(x->segment, x->manifest, x->extents);
        if (mu_arena_map(h, x, bytes, true, &map, NULL))
            continue;
        map[x->segment + rnd(&seed) % (bytes - x->segment)] ^= (unsigned char)(1u << pick(8));
        munmap(map, bytes);
        return "a manifest";
    }
    for (int c = 0; what >= 2 && c < 2; c++) {
        struct mu_arena_parity *x = &h->parity[c];
        uint64_t tables = mu_arena_tables_at(x->n, x->k, x->chunk);
        unsigned char *map;

        if (atomic_load(&x->state) != MU_ARENA_FULL || x->id.step != step)
            continue;
        if (what == 2)
            return flip_in(h, x->fd, x->k * x->chunk) ? "parity" : NULL;
        if (mu_arena_map_fd(h, x->fd, mu_arena_parity_bytes(x->n, x->k, x->chunk), true, &map, NULL))
            return NULL;
        uint64_t from =
            what == 3 ? x->k * x->chunk : tables + pick(x->n) * sizeof(struct mu_arena_part) * MU_ARENA_RANKS;
        uint64_t n = what == 3 ? tables - from : (uint64_t)per * sizeof(struct mu_arena_part);
        map[from + rnd(&seed) % n] ^= (unsigned char)(1u << pick(8));
        munmap(map, mu_arena_parity_bytes(x->n, x->k, x->chunk));
        return what == 3 ? "the parity's sums" : "a table";
    }
    return NULL;
}

static void arm(int i, int kind, int at)
{
    struct shim_net *p = &book->net[i];

    atomic_store(&p->calls, 0);
    atomic_store(&p->hits, 0);
    atomic_store(&p->at, at);
    atomic_store(&p->kind, kind);
}
static void disarm(void)
{
    for (int i = 0; i < NODES; i++)
        atomic_store(&book->net[i].kind, SHIM_NET_NONE);
}

/* By a new attempt, which so many nodes that follow one another do not live to see. */
static bool restored_without(int n, uint64_t *nonce)
{
    int x = (int)pick((uint32_t)nodes);

    for (int i = 0; i < n; i++) {
        node_down((x + i) % nodes);
        node_up((x + i) % nodes);
    }
    return attempt(++*nonce) && ranks(RESTORE, 0, *nonce, 0, 0);
}

/* --- one case -------------------------------------------------------------------------------------------------------
 */

static bool one_case(char *label, size_t size)
{
#define SHIM_NET_TEXT(name, text) text,
    static const char *const kinds[] = {SHIM_NET_KINDS(SHIM_NET_TEXT)};
    uint64_t nonce = 1, step = 0, acked = 0;
    bool lost[NODES] = {false}, hurt[NODES] = {false}, fine = true;
    int ndamaged = 0, at, x;

    nodes = 2 + (int)pick(NODES - 1);
    per = 1 + (int)pick(PER);
    world = nodes * per;
    k = 1 + (int)pick(nodes > 3 ? 3 : (uint32_t)nodes - 1);
    n_own = pick(12) ? 64 + (int)pick(3000) : N_MOST - (int)pick(1000);
    n_shared = 1 + (int)pick(499);
    disarm();
    at = snprintf(label, size, "%d nodes of %d, k=%d", nodes, per, k);
    for (int i = 0; i < nodes; i++)
        node_up(i);
    fine = attempt(nonce);
    for (uint32_t i = 0, n = 1 + pick(2); fine && i < n; i++) {
        fine = ranks(SAVE, ++step, nonce, 60 * MU_SEC, 0);
        if (fine && !book->protected)
            fine = bad("step %d is not protected: %s", (int)step, book->text);
        acked = step;
    }
    if (fine && pick(4)) {
        int kind = 1 + (int)pick(SHIM_NET_SHORT), n = 1 + (int)pick(6 * (uint32_t)nodes + 10);

        x = (int)pick((uint32_t)nodes);
        at += snprintf(label + at, size - (size_t)at, "; a save, node %d, call %d: %s", x, n, kinds[kind]);
        arm(x, kind, n);
        fine = ranks(SAVE, ++step, nonce, 1500 * MU_MS, pick(6) ? 0 : pick(30) * MU_MS);
        disarm();
        acked = book->protected ? step : acked;
    }
    /* damage: of up to k + 1 nodes */
    for (uint32_t i = pick((uint32_t)k + 2); fine && i; i--) {
        x = (int)pick((uint32_t)nodes);
        if (pick(3)) {
            at += snprintf(label + at, size - (size_t)at, "; node %d is lost", x);
            node_down(x);
            node_up(x);
            ndamaged += !lost[x] && !hurt[x];
            lost[x] = true;
        } else if (!lost[x]) {
            uint64_t s = pick(4) ? acked : step;
            const char *what = flip(x, s);

            if (what)
                at += snprintf(label + at, size - (size_t)at, "; node %d has a bit flipped in %s of step %d", x, what,
                               (int)s);
            ndamaged += what && s == acked && !hurt[x];
            hurt[x] |= what && s == acked;
        }
    }
    at += snprintf(label + at, size - (size_t)at, "; restored");
    if (fine)
        fine = attempt(++nonce);
    if (fine && pick(2)) {
        int kind = (int)pick(SHIM_NET_SHORT + 1), n = 1 + (int)pick(4 * (uint32_t)nodes + 10);
        uint64_t after = kind ? 0 : (1 + pick(40)) * MU_MS;

        x = (int)pick((uint32_t)nodes);
        at += snprintf(label + at, size - (size_t)at, ", node %d, call %d: %s", x, n,
                       kind ? kinds[kind] : "the ranks are killed");
        if (kind)
            arm(x, kind, n);
        fine = ranks(RESTORE, 0, nonce, 0, after);
        disarm();
        if (fine && book->wrong)
            fine = bad("under the fault something else came back as step %d", (int)book->restored);
        fine = fine && attempt(++nonce);
    }
    (void)at;
    fine = fine && ranks(RESTORE, 0, nonce, 0, 0);
    if (fine && book->wrong)
        fine = bad("something else came back as step %d", (int)book->restored);
    else if (fine && ndamaged <= k && book->restored < (int64_t)acked)
        fine = bad("step %d is protected, %d came back: %s", (int)acked, (int)book->restored, book->text);
    else if (fine && book->restored > (int64_t)step)
        fine = bad("step %d was never saved", (int)book->restored);
    /* life goes on */
    if (fine && book->restored > 0 && pick(2)) {
        uint64_t as = (uint64_t)book->restored;

        fine = ranks(ADOPT, as, nonce, 60 * MU_SEC, 0);
        if (fine && !book->protected)
            fine = bad("step %d is not protected again: %s", (int)as, book->text);
        fine = fine && restored_without(k, &nonce);
        if (fine && (book->wrong || book->restored != (int64_t)as))
            fine = bad("protected again, %d came back%s: %s", (int)book->restored, book->wrong ? ", wrong" : "",
                       book->text);
        step++; /* it counts as the generation behind it */
    }
    if (fine) {
        fine = ranks(SAVE, ++step, nonce, 60 * MU_SEC, 0);
        if (fine && !book->protected)
            fine = bad("afterwards step %d is not protected: %s", (int)step, book->text);
        fine = fine && restored_without(k, &nonce);
        if (fine && (book->wrong || book->restored != (int64_t)step))
            fine = bad("afterwards %d came back%s: %s", (int)book->restored, book->wrong ? ", wrong" : "", book->text);
    }
    book->wrong = 0;
    for (int i = 0; i < nodes; i++)
        node_down(i);
    return fine;
}

#include "tests/fault/protected_named.h"

int mu_planted; /* of protected-mutants */

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    int failed = 0;

    bool named = argc > 1 && (argv[1][0] < '0' || argv[1][0] > '9');

    mu_planted = argc > 3 - named ? atoi(argv[3 - named]) : 0;
    signal(SIGPIPE, SIG_IGN);
    *(void **)&shim = dlsym(RTLD_DEFAULT, "shim_net_arm");
    book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!shim || book == MAP_FAILED) {
        fprintf(stderr, "protected: needs LD_PRELOAD=io_shim.so\n");
        return 2;
    }
    if (named)
        return one_by_name(argv[1]);
    for (uint64_t i = first; i < first + count; i++) {
        char label[700];

        seed = i * 0x9e3779b97f4a7c15ull + 777;
        why[0] = 0;
        if (one_case(label, sizeof label))
            continue;
        failed++;
        printf("seed %lu: %s: %s\n", (unsigned long)i, label, why);
        fflush(stdout);
    }
    printf("%lu cases, %d failed\n", (unsigned long)count, failed);
    return !failed ? 0 : unwell ? 3 : 1;
}
