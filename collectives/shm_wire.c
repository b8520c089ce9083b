/* Who is on this node. Host names lie, so the proof is to have each other's memory: everybody says over frames where
 * its socket is, descriptors go from socket to socket, and ranks that have all mapped each other are a group. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "collectives/hier.h"
#include "collectives/tune.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#define EXCHANGE (10 * MU_SEC)

struct card {
    uint64_t machine; /* 0: not known */
    uint64_t host;    /* the same, or 0: takes no part. Who has another one cannot be reached. */
    uint64_t nonce;
    char socket[16]; /* abstract name */
    uint32_t socket_len;
    uint32_t uid;
    uint64_t head; /* address of its segment */
    struct mu_domain domain;
};

struct result {
    uint64_t group;
    int32_t channel;
    uint32_t freed;
    uint32_t small_reduction, reads;
    uint32_t crowded; /* its CPUs are shared */
    uint32_t hier;
    uint32_t tunes;        /* it would measure, and could keep what it finds */
    struct mu_tuned tuned; /* zeroes: nothing is known */
};

struct letter {
    uint64_t to_nonce;
    uint32_t from, zero;
};

struct exchange {
    struct mu_engine *e;
    struct mu_shm *shm;
    int sock;
    const struct card *cards;
    bool *sent;
    int expected;
};

/* Ranks with another name count as on another host. */
static uint64_t host_key(const char *name)
{
    uint64_t h = mu_domain_host();

    for (; h && name && *name; name++)
        h = mu_domain_mix(h, (uint64_t)(unsigned char)*name);
    return h;
}

static int open_socket(struct card *card)
{
    mu_auto_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof a;
    int on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)(void *)&a, sizeof a.sun_family) < 0 ||
        getsockname(fd, (struct sockaddr *)(void *)&a, &len) < 0 ||
        len - offsetof(struct sockaddr_un, sun_path) > sizeof card->socket)
        return -1;
    card->socket_len = (uint32_t)(len - offsetof(struct sockaddr_un, sun_path));
    memcpy(card->socket, a.sun_path, card->socket_len);
    return MU_STEAL(fd, -1);
}

static bool near(const struct card *a, const struct card *b)
{
    return a->host && a->host == b->host && a->uid == b->uid;
}

/* 1: gone; 0: later; -1: never. */
static int send_letter(struct exchange *x, int to)
{
    const struct card *c = &x->cards[to];
    struct letter text = {.to_nonce = c->nonce, .from = (uint32_t)x->e->tp->rank};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct iovec iov = {&text, sizeof text};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr m = {.msg_name = &a,
                       .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + c->socket_len),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);

    memcpy(a.sun_path, c->socket, c->socket_len);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &x->shm->seg.fd, sizeof(int));
    if (sendmsg(x->sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        return 1;
    /* ETOOMANYREFS: too many descriptors are under way, until others have taken theirs. */
    return errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS || errno == EINTR ? 0 : -1;
}

static void take_letter(struct exchange *x, const struct letter *text, int fd, const struct ucred *who)
{
    int me = x->e->tp->rank;
    struct mu_shm_peer *p;
    struct mu_err err;

    if (text->to_nonce != x->cards[me].nonce || text->from >= (uint32_t)x->shm->size || (int)text->from == me ||
        who->uid != x->cards[me].uid || !near(&x->cards[text->from], &x->cards[me]) ||
        x->shm->peers[text->from].seg.base) {
        close(fd);
        return;
    }
    p = &x->shm->peers[text->from];
    if (mu_seg_map(fd, x->cards[text->from].nonce, &p->seg, &err) == 0)
        p->pid = who->pid;
    p->head = x->cards[text->from].head;
    p->domain = x->cards[text->from].domain;
    x->expected--;
}

/* False: nothing is there. */
static bool receive(struct exchange *x)
{
    struct letter text;
    struct iovec iov = {&text, sizeof text};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(x->sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct ucred who = {.uid = (uid_t)-1};
    int fd = -1;

    if (n < 0)
        return errno == EINTR;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS && h->cmsg_len == CMSG_LEN(sizeof fd))
            memcpy(&fd, CMSG_DATA(h), sizeof fd);
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_CREDENTIALS)
            memcpy(&who, CMSG_DATA(h), sizeof who);
    }
    if (fd >= 0 && n == (ssize_t)sizeof text)
        take_letter(x, &text, fd, &who);
    else if (fd >= 0)
        close(fd);
    return true;
}

static int exchange(struct exchange *x, int (*stop)(void *arg, struct mu_err *), void *arg, struct mu_err *err)
{
    int me = x->e->tp->rank, left = 0;
    uint64_t end = mu_now() + EXCHANGE;

    for (int r = 0; r < x->shm->size; r++) {
        x->sent[r] = r == me || !near(&x->cards[r], &x->cards[me]);
        left += !x->sent[r];
    }
    x->expected = left;
    while ((left || x->expected > 0) && mu_now() < end) {
        struct pollfd p = {.fd = x->sock, .events = POLLIN};
        int rc = stop(arg, err);

        if (rc < 0)
            return rc;
        for (int i = 1; i < x->shm->size; i++) {
            int r = (me + i) % x->shm->size, done = x->sent[r] ? 0 : send_letter(x, r);

            x->sent[r] |= done != 0;
            left -= done != 0;
        }
        while (receive(x))
            ;
        if (left || x->expected > 0)
            poll(&p, 1, left ? 0 : 1);
    }
    return 0;
}

/* What this rank has mapped, as a number; n: how many, itself too. */
static uint64_t group_of(const struct mu_shm *shm, const struct card *cards, int me)
{
    uint64_t h = 1;
    int n = 0;

    for (int r = 0; r < shm->size; r++)
        if (r == me || shm->peers[r].seg.base) {
            h = mu_domain_mix(mu_domain_mix(h, cards[r].nonce), (uint64_t)r);
            n++;
        }
    h &= ~UINT64_C(0xffff);
    return n < 2 || n > 0xffff ? 0 : h | (uint64_t)n;
}

/* Yama, seccomp or name spaces of processes may forbid it. */
static bool can_read(const struct mu_shm *shm)
{
    for (int r = 0; r < shm->size; r++)
        if (shm->peers[r].seg.base && !mu_shm_is_peer(shm, r))
            return false;
    return true;
}

/* Beyond it slices are shared out, which takes one more turn; turns are long where CPUs are shared. */
static uint32_t small_reduction(const struct mu_engine *e)
{
    return e->crowded ? 16384 : 1024;
}

#define READ_FROM ((size_t)32 << 10)

/* Of those that this rank has mapped, and its own. False: there are none, or no memory. */
static bool kind_of(const struct mu_engine *e, bool reads, struct mu_tune_kind *out)
{
    mu_auto_free struct mu_domain *of = calloc((size_t)e->tp->size, sizeof *of);
    int n = 0;

    for (int r = 0; r < e->tp->size && of; r++)
        if (r == e->tp->rank || e->shm->peers[r].seg.base)
            of[n++] = e->shm->peers[r].domain;
    if (n < 2)
        return false;
    *out = (struct mu_tune_kind){n, mu_domain_caches(of, n), mu_domain_lanes(of, n), reads};
    return true;
}

/* What is known of this kind of machine before anybody asks. */
static void what_is_known(const struct mu_engine *e, const struct mu_shm_want *want, const struct card *cards,
                          struct result *mine)
{
    struct mu_tune_kind kind;
    char path[4096], key[512];
    int me = e->tp->rank;

    mine->small_reduction = small_reduction(e);
    mine->crowded = e->crowded;
    if (want->everybody) {
        mine->tuned = (struct mu_tuned){want->everybody, want->read, want->chain};
        return;
    }
    if (!want->tune || e->crowded || !near(&cards[me], &cards[me]) || !kind_of(e, mine->reads, &kind) ||
        !mu_tune_where(&kind, path, sizeof path, key, sizeof key))
        return;
    mine->tunes = mu_tune_load(path, key, &mine->tuned) || mu_tune_store(path, key, NULL);
}

static void use(struct mu_shm *shm, const struct mu_tuned *t)
{
    shm->small_reduction = t->everybody;
    shm->read_from = t->read == MU_TUNED_NEVER ? SIZE_MAX : t->read;
    shm->chain_from = t->chain;
}

/* The first of the group decides, so that all do the same. True: it knows nothing, and all may measure. */
static bool use_known(struct mu_shm *shm, const struct result *all, int me)
{
    bool tunes = true;
    int first = -1;

    for (int r = 0; r < shm->size; r++)
        if (all[r].group == all[me].group) {
            first = first < 0 ? r : first;
            tunes &= all[r].tunes != 0;
        }
    if (!mu_tuned_valid(&all[first].tuned))
        return tunes;
    use(shm, &all[first].tuned);
    return false;
}

static int tune(struct mu_engine *e, struct mu_err *err)
{
    struct muster_comm *comm = e->world->shm ? e->world : e->world->hier ? e->world->hier->side[MU_LOCAL] : NULL;
    char path[4096], key[512];
    struct mu_tune_kind kind;
    struct mu_tuned found;
    bool sure = false;
    int rc = comm && comm->shm ? mu_tune_measure(comm, &found, &sure, err) : 0;

    if (rc < 0 || !sure || !mu_tuned_valid(&found))
        return rc;
    use(e->shm, &found);
    if (comm->rank == 0 && kind_of(e, e->shm->reads, &kind) && mu_tune_where(&kind, path, sizeof path, key, sizeof key))
        mu_tune_store(path, key, &found);
    return 0;
}

/* Those who say the same are as many as each of them has mapped, or it is nobody's group. */
static void check_groups(struct mu_shm *shm, const struct result *all, int me)
{
    shm->reads = true;
    for (int r = 0; r < shm->size; r++) {
        int n = 0;

        for (int k = 0; k < shm->size && all[r].group; k++)
            n += all[k].group == all[r].group;
        shm->group[r] = n == (int)(all[r].group & 0xffff) ? all[r].group : 0;
        if (all[r].group != all[me].group)
            continue;
        shm->reads &= all[r].reads != 0;
        shm->crowded |= all[r].crowded != 0;
        if (all[r].small_reduction > shm->small_reduction)
            shm->small_reduction = all[r].small_reduction;
    }
    if (shm->crowded)
        shm->read_from = SIZE_MAX;
}

/* Those of a group have the lowest of its ranks as their place, those of a machine likewise. */
static int note_places(struct mu_engine *e, const struct card *cards, const struct result *all, struct mu_err *err)
{
    int size = e->tp->size;

    e->place = calloc((size_t)size, sizeof *e->place);
    e->machine = calloc((size_t)size, sizeof *e->machine);
    if (!e->place || !e->machine)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the places of ranks");
    for (int r = 0; r < size; r++) {
        int k = 0;

        while (k < r && (!e->shm->group[r] || e->shm->group[k] != e->shm->group[r]))
            k++;
        e->place[r] = k;
        for (k = 0; cards[k].machine != cards[r].machine; k++)
            ;
        e->machine[r] = cards[r].machine ? k : -1;
        e->hier &= all[r].hier != 0;
    }
    return 0;
}

/* Of the last cache. The kernel is asked first: glibc takes that of some processors to be ten times as
 * large. */
static size_t cache_size(void)
{
    mu_auto_file FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re");
    unsigned long long kib;
    char unit;
    long n;

    if (f && fscanf(f, "%llu%c", &kib, &unit) == 2 && unit == 'K' && kib > 0 && kib < 1ull << 32)
        return (size_t)kib << 10;
    n = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return n > 0 ? (size_t)n : (size_t)32 << 20;
}

static struct mu_shm *prepare(int size, bool on, struct card *card, int *sock)
{
    struct mu_shm *shm = calloc(1, sizeof *shm);
    struct mu_err err;

    if (shm) {
        shm->peers = calloc((size_t)size, sizeof *shm->peers);
        shm->group = calloc((size_t)size, sizeof *shm->group);
        shm->size = size;
        shm->llc = cache_size();
        shm->read_from = READ_FROM;
    }
    if (!shm || !shm->peers || !shm->group)
        return shm;
    if (on && mu_seg_own(&shm->seg, &err) == 0 && (*sock = open_socket(card)) >= 0) {
        shm->own = (struct mu_channel *)(void *)((char *)shm->seg.head + MU_SEG_HEAD);
        card->nonce = shm->seg.head->nonce;
        card->uid = (uint32_t)geteuid();
        card->head = (uint64_t)(uintptr_t)shm->seg.head;
        card->host = card->machine;
    }
    return shm;
}

int mu_shm_connect(struct mu_engine *e, const struct mu_shm_want *want, int (*stop)(void *arg, struct mu_err *),
                   void *arg, struct mu_err *err)
{
    int size = e->tp->size, me = e->tp->rank, rc;
    struct card card = {.domain = want->domain, .machine = host_key(want->name)};
    mu_auto_fd int sock = -1;
    mu_auto_free struct card *cards = calloc((size_t)size, sizeof *cards);
    mu_auto_free struct result *results = calloc((size_t)size, sizeof *results);
    mu_auto_free struct mu_shm_ref *refs = calloc((size_t)size, sizeof *refs);
    mu_auto_free bool *sent = calloc((size_t)size, sizeof *sent);
    struct exchange x = {.e = e};
    struct result mine = {.channel = -1};
    bool measure;

    if (size == 1)
        return 0;
    e->shm = prepare(size, want->on, &card, &sock);
    if (!cards || !results || !refs || !sent || !e->shm || !e->shm->peers || !e->shm->group)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to find the ranks of this node");
    e->shm->peers[me].domain = want->domain;
    rc = mu_coll_tell(e, &card, sizeof card, cards, err);
    if (rc < 0)
        return rc;
    x.shm = e->shm;
    x.sock = sock;
    x.cards = cards;
    x.sent = sent;
    rc = exchange(&x, stop, arg, err);
    if (rc < 0)
        return rc;
    mine.group = group_of(e->shm, cards, me);
    mine.reads = want->reads && can_read(e->shm);
    what_is_known(e, want, cards, &mine);
    mine.hier = e->hier;
    if (mine.group)
        mine.channel = mu_shm_lend(e->shm, &mine.freed);
    rc = mu_coll_tell(e, &mine, sizeof mine, results, err);
    if (rc < 0)
        return rc;
    check_groups(e->shm, results, me);
    measure = use_known(e->shm, results, me) && e->shm->group[me];
    rc = note_places(e, cards, results, err);
    if (rc < 0)
        return rc;
    for (int r = 0; r < size; r++)
        refs[r] = (struct mu_shm_ref){r, results[r].channel, results[r].freed};
    rc = mu_hier_attach(e->world, refs, mine.channel, err);
    if (rc == 0 && measure)
        rc = tune(e, err);
    if (rc == 0 && !e->shm->group[me])
        mu_shm_disconnect(e);
    return rc;
}

void mu_shm_disconnect(struct mu_engine *e)
{
    struct mu_shm *shm = e->shm;

    if (!shm)
        return;
    for (int r = 0; r < shm->size && shm->peers; r++)
        mu_seg_unmap(&shm->peers[r].seg);
    for (unsigned i = 0; i < MU_CHANNELS; i++)
        free(shm->lent[i].to);
    free(shm->peers);
    free(shm->group);
    free(shm);
    e->shm = NULL;
}
