#include "launcher/cabling.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define LOOK_NS (2 * MU_SEC)          /* files are looked at so often */
#define SETTLE_NS (200 * MU_MS)       /* agents that come at once are one change */
#define AGAIN_NS (600 * MU_SEC)       /* the running fabric is discovered again */
#define AGAIN_FAILED_NS (60 * MU_SEC) /* what could not be read is read again, changed or not */
#define DISCOVER_MS 30000

struct stamp { /* what a file was when it was looked at */
    struct timespec at, changed;
    off_t size;
    ino_t ino;
    int error;
};

/* One reading, or a look whether the files have changed. The thread and the loop both hold it; who lets go last frees
 * it. All that asks a file system is the thread's: it may not answer. */
struct reading {
    atomic_int holders;
    int fd; /* the thread closes it when it is done */
    char **files, *device, *guids;
    struct mu_fabric_hint *hints; /* with their names */
    size_t nhints;
    bool look, discover;
    struct stamp *stamps; /* of files, and of guids behind them */
    struct mu_buf text;   /* of the running fabric: as it was, or as it is now */
    struct mu_fabric *fabric;
    struct mu_place *place;
    int rc;
    struct mu_err err;
};

struct adapters { /* that an agent has told of */
    char *node, **guids;
};

struct mu_cabling {
    struct event_base *base;
    struct mu_cabling_config cfg;
    char **files, *device, *source;
    bool live, dirty, told;
    struct adapters *nodes; /* by name */
    size_t nnodes, capnodes;
    struct mu_alarm *alarm;
    uint64_t discover_at, settle_at, look_at, again_at, late_at; /* again: after a failure; late: what is under way */
    struct stamp *stamps;
    struct reading *under_way;
    struct event *done;
    int done_fd;
    struct mu_buf text;
    struct mu_fabric *fabric;
    struct mu_place *place;
    char clash[300], trouble[sizeof((struct mu_err *)0)->text + 100];
};

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void let_go(struct reading *r)
{
    if (atomic_fetch_sub(&r->holders, 1) != 1)
        return;
    for (size_t i = 0; i < r->nhints; i++)
        free((char *)(uintptr_t)r->hints[i].host);
    free(r->hints);
    mu_strv_free(r->files);
    free(r->device);
    free(r->guids);
    free(r->stamps);
    mu_buf_free(&r->text);
    mu_place_free(r->place);
    mu_fabric_free(r->fabric);
    free(r);
}

static int read_fabric(struct reading *r)
{
    const struct mu_fabric_known known = {.guids = r->guids, .hints = r->hints, .nhints = r->nhints};
    struct mu_err *err = &r->err;
    int rc = 0;

    if (r->files) {
        rc = mu_fabric_load_known(r->files, &known, &r->fabric, err);
    } else {
        mu_auto_buf struct mu_buf fresh = {0};
        if (r->discover && !(rc = mu_fabric_discover_text(r->device, DISCOVER_MS, &fresh, err))) {
            mu_buf_free(&r->text);
            r->text = MU_STEAL(fresh, (struct mu_buf){0});
        }
        if (!rc)
            rc = mu_fabric_parse_known(mu_buf_str(&r->text), r->text.len, "the live fabric", &known, &r->fabric, err);
    }
    return rc ? rc : mu_place_new(r->fabric, &r->place, err);
}

static void stamp(const char *path, struct stamp *s)
{
    struct stat st;

    *s = (struct stamp){.error = stat(path, &st) ? errno : 0};
    if (!s->error)
        *s = (struct stamp){st.st_mtim, st.st_ctim, st.st_size, st.st_ino, 0};
}

static void *run(void *arg)
{
    struct reading *r = arg;
    size_t n = mu_strv_len(r->files);

    for (size_t i = 0; i < n; i++)
        stamp(r->files[i], &r->stamps[i]);
    if (r->guids)
        stamp(r->guids, &r->stamps[n]);
    if (!r->look)
        r->rc = read_fabric(r);
    int fd = r->fd;
    let_go(r);
    close(fd); /* the loop sees the end of the pipe */
    return NULL;
}

static int start_thread(struct reading *r)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the loop */
    int rc = pthread_attr_init(&attr);
    if (!rc) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        rc = pthread_create(&thread, &attr, run, r);
        pthread_attr_destroy(&attr);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc ? MUSTER_ENOMEM : 0;
}

/* --- what agents say ---------------------------------------------------------------------------------------------- */

static size_t place_of(const struct mu_cabling *c, const char *node)
{
    size_t lo = 0, hi = c->nnodes;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(c->nodes[mid].node, node) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool same(char *const *a, char *const *b)
{
    size_t n = mu_strv_len(a);

    if (n != mu_strv_len(b))
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(a[i], b[i]))
            return false;
    return true;
}

static void settle(struct mu_cabling *c)
{
    uint64_t at = mu_now() + SETTLE_NS;

    c->dirty = true;
    if (!c->settle_at || at < c->settle_at)
        c->settle_at = at;
    mu_alarm_set(c->alarm, c->settle_at);
}

void mu_cabling_agent(struct mu_cabling *c, const struct mu_m_agent *m)
{
    if (!c || !m->node)
        return;
    size_t at = place_of(c, m->node), n = mu_strv_len(m->guids);
    bool known = at < c->nnodes && !strcmp(c->nodes[at].node, m->node);

    if (known ? same(c->nodes[at].guids, m->guids) : !n)
        return;
    char **guids = mu_strv_dup(m->guids), *node = known ? NULL : strdup(m->node);
    if (!known && c->nnodes == c->capnodes) {
        size_t cap = c->capnodes ? 2 * c->capnodes : 64;
        struct adapters *v = realloc(c->nodes, cap * sizeof *v);
        if (v) {
            c->nodes = v;
            c->capnodes = cap;
        }
    }
    if ((n && !guids) || (!known && (!node || c->nnodes == c->capnodes))) {
        mu_strv_free(guids);
        free(node);
        return; /* it says so again */
    }
    if (!known) {
        memmove(c->nodes + at + 1, c->nodes + at, (c->nnodes++ - at) * sizeof *c->nodes);
        c->nodes[at] = (struct adapters){.node = node};
    }
    mu_strv_free(c->nodes[at].guids);
    c->nodes[at].guids = guids;
    settle(c);
}

struct claim {
    uint64_t guid;
    const char *node;
    int knows;
};

static int by_claim(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;

    if (x->guid != y->guid)
        return x->guid < y->guid ? -1 : 1;
    if (x->knows != y->knows)
        return x->knows > y->knows ? -1 : 1;
    return strcmp(x->node, y->node);
}

/* All that nodes of the pool have said. An adapter that was moved is in the node whose agent is there; one that two are
 * said to have is in neither. */
static int gather(struct mu_cabling *c, struct reading *r)
{
    size_t all = 0, n = 0;

    for (size_t i = 0; i < c->nnodes; i++)
        all += mu_strv_len(c->nodes[i].guids);
    mu_auto_free struct claim *v = calloc(all + 1, sizeof *v);
    r->hints = calloc(all + 1, sizeof *r->hints);
    if (!v || !r->hints)
        return MUSTER_ENOMEM;
    for (size_t i = 0; i < c->nnodes; i++) {
        int knows = c->cfg.knows(c->cfg.arg, c->nodes[i].node);
        for (char **g = knows ? c->nodes[i].guids : NULL; g && *g; g++)
            v[n++] = (struct claim){strtoull(*g, NULL, 16), c->nodes[i].node, knows};
    }
    qsort(v, n, sizeof *v, by_claim);
    c->clash[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && v[i].guid == v[i - 1].guid) {
            v[i].knows = v[i].knows == v[i - 1].knows ? v[i].knows : 0; /* the first ones count */
            if (v[i].knows && !c->clash[0]) {
                char one[80], two[80];
                snprintf(c->clash, sizeof c->clash,
                         "adapter 0x%016llx is said to be in %s and in %s; what the fabric calls it counts",
                         (unsigned long long)v[i].guid, mu_str_show(one, sizeof one, v[i - 1].node),
                         mu_str_show(two, sizeof two, v[i].node));
            }
        }
        if (!v[i].knows)
            continue;
        char *node = strdup(v[i].node);
        if (!node)
            return MUSTER_ENOMEM;
        r->hints[r->nhints++] = (struct mu_fabric_hint){v[i].guid, node};
    }
    return 0;
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

/* Takes note of how the files were. True: they had been otherwise. */
static bool files_changed(struct mu_cabling *c, const struct stamp *v)
{
    size_t n = mu_strv_len(c->files) + (c->cfg.guids != NULL);
    bool changed = false;

    for (size_t i = 0; i < n; i++) {
        const struct stamp *was = &c->stamps[i], *now = &v[i];
        changed = changed || now->at.tv_sec != was->at.tv_sec || now->at.tv_nsec != was->at.tv_nsec ||
                  now->changed.tv_sec != was->changed.tv_sec || now->changed.tv_nsec != was->changed.tv_nsec ||
                  now->size != was->size || now->ino != was->ino || now->error != was->error;
        c->stamps[i] = *now;
    }
    return changed;
}

static void tell(struct mu_cabling *c)
{
    const struct mu_fabric_state s = {
        .source = c->source, .place = c->place, .trouble = c->trouble, .reading = !c->place && !*c->trouble};

    c->cfg.changed(c->cfg.arg, &s);
}

static void note(struct mu_cabling *c, const char *trouble)
{
    if (*trouble && strcmp(trouble, c->trouble))
        mu_log(MU_LOG_WARN, "fabric", "%s", trouble);
    snprintf(c->trouble, sizeof c->trouble, "%s", trouble);
}

static void failed(struct mu_cabling *c, const char *why)
{
    char text[sizeof c->trouble];

    snprintf(text, sizeof text, "%.*s%s", (int)sizeof c->trouble - 60, why,
             c->place ? "; it is used as it was read last" : "; jobs are placed without it");
    note(c, text);
    c->again_at = mu_now() + (c->cfg.again_ns ? c->cfg.again_ns : AGAIN_FAILED_NS);
    c->discover_at = c->again_at;
    tell(c);
}

static void take(struct mu_cabling *c, struct reading *r)
{
    struct mu_fabric *fabric = c->fabric;
    struct mu_place *place = c->place;
    bool first = !place;

    if (!r->files) {
        mu_buf_free(&c->text);
        c->text = MU_STEAL(r->text, (struct mu_buf){0});
    }
    files_changed(c, r->stamps);
    if (r->rc) {
        failed(c, r->err.text);
        return;
    }
    c->again_at = 0;
    c->fabric = MU_STEAL(r->fabric, NULL);
    c->place = MU_STEAL(r->place, NULL);
    if (first || *c->trouble)
        mu_log(MU_LOG_INFO, "fabric", "%s: %d hosts%s", c->source, mu_fabric_nhosts(c->fabric),
               mu_place_is_tree(c->place) ? ", a tree" : "");
    note(c, c->clash);
    tell(c);
    mu_place_free(place);
    mu_fabric_free(fabric);
}

static void look_again(struct mu_cabling *c);

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct mu_cabling *c = arg;
    struct reading *r = MU_STEAL(c->under_way, NULL);

    (void)fd, (void)what;
    (void)atomic_load(&r->holders); /* what the thread has written is there */
    event_free(MU_STEAL(c->done, NULL));
    close(c->done_fd);
    if (!r->look)
        take(c, r);
    else if (files_changed(c, r->stamps) || c->told)
        c->dirty = true;
    let_go(r);
    look_again(c);
}

static uint64_t late_ns(const struct mu_cabling *c)
{
    return c->cfg.late_ns ? c->cfg.late_ns : c->live ? MU_CABLING_LIVE_NS : MU_CABLING_FILE_NS;
}

enum how { LOOK, READ, DISCOVER };

static void begin(struct mu_cabling *c, enum how how)
{
    struct reading *r = calloc(1, sizeof *r);
    int fds[2] = {-1, -1};
    struct mu_err err = {0};

    c->look_at = mu_now() + LOOK_NS;
    if (how != LOOK) {
        c->dirty = false;
        c->settle_at = 0;
    }
    if (!r || pipe2(fds, O_CLOEXEC)) {
        free(r);
        mu_err_errno(&err, MUSTER_ENOMEM, "it cannot be read");
        failed(c, err.text);
        return;
    }
    *r = (struct reading){.fd = fds[1], .look = how == LOOK, .discover = how == DISCOVER || !c->text.len};
    atomic_init(&r->holders, 1);
    r->files = c->files ? mu_strv_dup(c->files) : NULL;
    r->device = c->device ? strdup(c->device) : NULL;
    r->guids = c->cfg.guids ? strdup(c->cfg.guids) : NULL;
    r->stamps = calloc(mu_strv_len(c->files) + 1, sizeof *r->stamps);
    bool ok = (!c->files || r->files) && (!c->device || r->device) && (!c->cfg.guids || r->guids) && r->stamps &&
              (r->look || !gather(c, r));
    c->done = ok ? event_new(c->base, fds[0], EV_READ, on_done, c) : NULL;
    ok = c->done && !event_add(c->done, NULL);
    if (c->live)
        r->text = MU_STEAL(c->text, (struct mu_buf){0});
    if (c->live && r->discover)
        c->discover_at = mu_now() + AGAIN_NS;
    atomic_store(&r->holders, 2);
    if (ok && !start_thread(r)) {
        c->under_way = r;
        c->done_fd = fds[0];
        c->told = false;
        c->late_at = mu_now() + late_ns(c);
        return;
    }
    if (c->done)
        event_free(MU_STEAL(c->done, NULL));
    atomic_store(&r->holders, 1);
    let_go(r);
    close(fds[0]);
    close(fds[1]);
    failed(c, "out of memory");
}

/* Nothing else is begun meanwhile: threads that wait for a file system that does not answer would only become more. */
static void wait_on(struct mu_cabling *c)
{
    char text[sizeof c->trouble], took[32];

    if (!c->told && mu_now() >= c->late_at) {
        c->told = true;
        snprintf(text, sizeof text, "reading %.400s takes more than %s", c->source,
                 mu_str_fmt_duration(took, sizeof took, late_ns(c)));
        failed(c, text);
    }
    if (!c->told)
        mu_alarm_set(c->alarm, c->late_at);
}

static void look_again(struct mu_cabling *c)
{
    uint64_t now = mu_now(), next;

    if (!c->under_way) {
        bool dirty = c->dirty && (!c->live || c->text.len); /* what is not there yet cannot be read anew */
        if (c->live && now >= c->discover_at)
            begin(c, DISCOVER);
        else if ((dirty && now >= c->settle_at) || (!c->live && c->again_at && now >= c->again_at))
            begin(c, READ);
        else if (!c->live && now >= c->look_at)
            begin(c, LOOK);
    }
    if (c->under_way) {
        wait_on(c);
        return;
    }
    next = c->live ? c->discover_at : c->look_at;
    if (!c->live && c->again_at && c->again_at < next)
        next = c->again_at;
    if (c->dirty && (!c->live || c->text.len) && c->settle_at < next)
        next = c->settle_at;
    mu_alarm_set(c->alarm, next);
}

static void on_alarm(void *arg)
{
    look_again(arg);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static bool is_live(const char *text)
{
    return !strcmp(text, "live") || !strncmp(text, "live:", 5);
}

int mu_cabling_where(const char *text, char **out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};
    mu_auto_free char *cwd = NULL;

    if (is_live(text)) {
        mu_buf_puts(&b, text);
    } else {
        for (const char *p = text;; p += strcspn(p, ":") + 1) {
            size_t n = strcspn(p, ":");
            if (!n)
                return mu_err_set(err, MUSTER_EARG,
                                  "MUSTER_FABRIC: an empty name; it takes files with ':' between them, or live");
            if (*p != '/' && !cwd && !(cwd = getcwd(NULL, 0)))
                return mu_err_errno(err, MUSTER_EARG, "MUSTER_FABRIC: the working directory");
            mu_buf_appendf(&b, "%s%s%s%.*s", b.len ? ":" : "", *p == '/' ? "" : cwd, *p == '/' ? "" : "/", (int)n, p);
            if (!p[n])
                break;
        }
    }
    *out = mu_buf_take(&b);
    return *out ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

static int split(struct mu_cabling *c, const char *where)
{
    if (is_live(where)) {
        c->live = true;
        return where[4] && !(c->device = strdup(where + 5)) ? MUSTER_ENOMEM : 0;
    }
    for (const char *p = where; *p; p += strspn(p, ":")) {
        size_t n = strcspn(p, ":");
        mu_auto_free char *one = strndup(p, n);
        if (!one || mu_strv_append(&c->files, one))
            return MUSTER_ENOMEM;
        p += n;
    }
    return 0;
}

int mu_cabling_new(struct event_base *base, const struct mu_cabling_config *cfg, struct mu_cabling **out,
                   struct mu_err *err)
{
    struct mu_cabling *c = calloc(1, sizeof *c);

    if (!c)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    c->base = base;
    c->cfg = *cfg;
    c->cfg.guids = cfg->guids ? strdup(cfg->guids) : NULL;
    c->source = strdup(is_live(cfg->where) ? "the live fabric" : cfg->where);
    c->alarm = mu_alarm_new(base, on_alarm, c);
    if (split(c, cfg->where) || (cfg->guids && !c->cfg.guids) || !c->source || !c->alarm ||
        !(c->stamps = calloc(mu_strv_len(c->files) + 2, sizeof *c->stamps))) {
        mu_cabling_free(c);
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    c->dirty = !c->live;
    tell(c);
    look_again(c);
    *out = c;
    return 0;
}

void mu_cabling_free(struct mu_cabling *c)
{
    if (!c)
        return;
    if (c->under_way) {
        event_free(c->done);
        close(c->done_fd);
        let_go(c->under_way);
    }
    for (size_t i = 0; i < c->nnodes; i++) {
        free(c->nodes[i].node);
        mu_strv_free(c->nodes[i].guids);
    }
    free(c->nodes);
    mu_alarm_free(c->alarm);
    mu_strv_free(c->files);
    free(c->device);
    free(c->source);
    free((char *)(uintptr_t)c->cfg.guids);
    free(c->stamps);
    mu_buf_free(&c->text);
    mu_place_free(c->place);
    mu_fabric_free(c->fabric);
    free(c);
}
