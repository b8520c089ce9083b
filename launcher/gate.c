#include "launcher/gate.h"

#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/access_load.h"
#include "launcher/audit.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define LOOK_NS (1 * MU_SEC) /* the file is looked at, and the audit log is brought to the disk, so often */
#define DENIED_NS (10 * MU_SEC)
enum { GUESTS_MAX = 256, GUESTS_EACH = 64, GUESTS_NONE = 4, GROUPS_MAX = 65536, DENIED_MAX = 20, TAIL_LINES = 5000 };

struct mu_gate {
    struct event_base *base;
    struct mu_gate_config cfg;
    struct mu_access access;
    struct mu_access_stamp stamp;
    struct mu_listener *listener;
    char socket[MU_ACCESS_SOCKET]; /* it listens at */
    dev_t socket_dev;
    ino_t socket_ino;
    struct mu_alarm *alarm;
    struct mu_audit *audit;
    char account[MU_ACCESS_NAME];
    uint32_t uids[GUESTS_MAX]; /* whose connections are open */
    unsigned guests;
    bool socket_told;              /* that it does not listen */
    uint64_t lost;                 /* changes that have no line: the disk was full */
    uint64_t denied_since, denied; /* refusals since then; not all of them are logged */
    bool looked, anchor_told;      /* looked: the log is there, and the file has been read */
    struct mu_err unopened;        /* why there is no audit log */
};

/* --- who --------------------------------------------------------------------------------------------------------- */

void mu_who_init(struct mu_who *w, struct mu_gate *g, const char *from)
{
    *w = (struct mu_who){.gate = g};
    mu_str_show(w->from, sizeof w->from, from);
    if (g)
        mu_str_copy(w->name, sizeof w->name, g->account);
}

void mu_who_free(struct mu_who *w)
{
    struct mu_gate *g = w->gate;

    for (unsigned i = 0; g && w->guest && i < g->guests; i++) {
        if (g->uids[i] != w->uid)
            continue;
        g->uids[i] = g->uids[--g->guests];
        break;
    }
    free(w->gids);
    *w = (struct mu_who){0};
}

static enum mu_role role_of(const struct mu_who *w)
{
    return w->guest ? mu_access_role(&w->gate->access, w->uid, w->gids, w->ngids) : MU_ROLE_ADMIN;
}

static bool take_groups(int fd, struct mu_who *w, gid_t gid)
{
    socklen_t len = 0;

    w->gids = calloc(1, sizeof *w->gids);
    if (!w->gids)
        return false;
    w->gids[0] = gid;
    w->ngids = 1;
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) || errno != ERANGE || !len ||
        len > GROUPS_MAX * sizeof(gid_t))
        return true; /* it has no other groups, or this kernel does not tell */
    uint32_t *v = realloc(w->gids, len + sizeof *v);
    if (!v)
        return false;
    w->gids = v;
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, v + 1, &len))
        w->ngids = 1 + (uint32_t)(len / sizeof(gid_t));
    return true;
}

static unsigned guests_of(const struct mu_gate *g, uint32_t uid)
{
    unsigned n = 0;

    for (unsigned i = 0; i < g->guests; i++)
        n += g->uids[i] == uid;
    return n;
}

/* Said again by a thousand requests it would fill the logs. */
static bool may_log_denied(struct mu_gate *g)
{
    uint64_t now = mu_now();

    if (now - g->denied_since >= DENIED_NS) {
        if (g->denied > DENIED_MAX)
            mu_log(MU_LOG_WARN, "access", "%llu more requests were refused",
                   (unsigned long long)(g->denied - DENIED_MAX));
        g->denied_since = now;
        g->denied = 0;
    }
    return g->denied++ < DENIED_MAX;
}

static void on_guest(void *arg, int fd, int pid)
{
    struct mu_gate *g = arg;
    struct ucred peer = {0};
    struct mu_who w = {0};
    socklen_t len = sizeof peer;

    bool known = !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && len == sizeof peer;
    mu_who_init(&w, g, "access socket");
    w.pid = pid;
    w.uid = peer.uid;
    if (known && peer.uid == geteuid()) {
        w.uid = 0;
        g->cfg.accept(g->cfg.arg, fd, &w);
        return;
    }
    if (known && g->guests < GUESTS_MAX && take_groups(fd, &w, peer.gid)) {
        w.guest = true; /* who has no role is told so, and has no use for more */
        if (guests_of(g, w.uid) < (role_of(&w) == MU_ROLE_NONE ? GUESTS_NONE : GUESTS_EACH)) {
            g->uids[g->guests++] = w.uid;
            mu_access_user(w.uid, w.name, sizeof w.name);
            g->cfg.accept(g->cfg.arg, fd, &w);
            return;
        }
        w.guest = false;
    }
    if (may_log_denied(g))
        mu_log(MU_LOG_WARN, "access", "a connection of uid %ld is refused: %s", (long)peer.uid,
               known ? "there are too many" : "the kernel does not tell whose it is");
    mu_who_free(&w);
    close(fd);
}

/* --- the audit log ----------------------------------------------------------------------------------------------- */

static uint64_t add(struct mu_gate *g, json_t *entry)
{
    double t = (double)mu_wall() / (double)MU_SEC;
    struct mu_err err = {0};
    uint64_t n = 0;

    if (!entry || !g->audit) {
        json_decref(entry);
        return 0;
    }
    if (g->lost) {
        json_t *gap = json_pack("{s:s, s:s, s:I, s:s}", "who", g->account, "what", "lost", "lines", (json_int_t)g->lost,
                                "detail", "changes that could not be written");
        if (gap && !mu_audit_add(g->audit, t, gap, NULL, &err)) {
            mu_log(MU_LOG_INFO, "audit", "the audit log can be written again; it lacks %llu lines",
                   (unsigned long long)g->lost);
            g->lost = 0;
        }
    }
    if (mu_audit_add(g->audit, t, entry, &n, &err)) {
        if (!g->lost++)
            mu_log(MU_LOG_ERROR, "audit", "%s: changes go on without lines in it", err.text);
        return 0;
    }
    return n;
}

/* Text of somebody else, made safe; NULL where there is none, and then the key is left out. */
static void set_text(json_t *o, const char *key, const char *text)
{
    char shown[500];

    if (text && *text)
        json_object_set_new(o, key, json_string(mu_str_show(shown, sizeof shown, text)));
}

static json_t *entry_of(const struct mu_who *w, const char *what, uint64_t job, const char *detail, const char *result)
{
    json_t *o = json_object();

    if (!o)
        return NULL;
    set_text(o, "who", w->name);
    if (w->guest)
        json_object_set_new(o, "uid", json_integer(w->uid));
    json_object_set_new(o, "role", json_string(w->guest ? mu_role_name(role_of(w)) : "owner"));
    set_text(o, "from", w->from);
    if (w->pid)
        json_object_set_new(o, "pid", json_integer(w->pid));
    set_text(o, "what", what);
    if (job)
        json_object_set_new(o, "job", json_integer((json_int_t)job));
    set_text(o, "detail", detail);
    set_text(o, "result", result);
    return o;
}

void mu_gate_note(struct mu_gate *g, const char *what, const char *detail)
{
    struct mu_who self;

    if (!g)
        return;
    mu_who_init(&self, g, "controller");
    add(g, entry_of(&self, what, 0, detail, "done"));
}

/* First the log, then what remembers its end: the store never has in mind what is not there. */
static void keep(struct mu_gate *g)
{
    struct mu_err err = {0};

    if (!g->audit || !mu_audit_unsynced(g->audit))
        return;
    const struct mu_audit_head *at = mu_audit_at(g->audit);
    int rc = mu_audit_sync(g->audit, &err);
    if (!rc && g->cfg.store)
        rc = mu_store_put_anchor(g->cfg.store, at->n, at->hash, &err);
    if (rc && !g->anchor_told)
        mu_log(MU_LOG_ERROR, "audit", "%s; the end of the audit log is not remembered for now", err.text);
    g->anchor_told = rc != 0;
}

static int open_audit(struct mu_gate *g, struct mu_err *err)
{
    struct mu_audit_head anchor, *known = NULL;
    char dir[PATH_MAX];
    int rc = mu_path_join(dir, sizeof dir, g->cfg.paths->state, "audit", err);

    mu_audit_zero(&anchor);
    if (!rc && g->cfg.store && !mu_store_anchor(g->cfg.store, &anchor.n, anchor.hash, sizeof anchor.hash, err) &&
        anchor.n)
        known = &anchor;
    return rc ? rc : mu_audit_open(dir, known, 0, &g->audit, err);
}

char *mu_gate_audit(const struct mu_who *w, bool lines, struct mu_err *err)
{
    struct mu_gate *g = w->gate;
    mu_auto_buf struct mu_buf text = {0};
    struct mu_audit_head anchor;
    char dir[PATH_MAX], *out = NULL;

    if (!g || !g->audit) {
        mu_err_set(err, MUSTER_EIO, "this controller has no audit log; its log says why");
        return NULL;
    }
    keep(g);
    mu_audit_zero(&anchor);
    if (g->cfg.store)
        mu_store_anchor(g->cfg.store, &anchor.n, anchor.hash, sizeof anchor.hash, NULL);
    if (mu_path_join(dir, sizeof dir, g->cfg.paths->state, "audit", err) ||
        (lines && mu_audit_tail(dir, TAIL_LINES, &text, err)))
        return NULL;
    json_t *o = json_pack("{s:s, s:s?, s:I, s:s, s:I, s:s, s:I}", "schema", "muster.audit-log/1", "lines",
                          lines ? mu_buf_str(&text) : NULL, "n", (json_int_t)mu_audit_at(g->audit)->n, "hash",
                          mu_audit_at(g->audit)->hash, "anchor_n", (json_int_t)anchor.n, "anchor_hash", anchor.hash,
                          "lost", (json_int_t)g->lost);
    if (o)
        out = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    if (!out)
        mu_err_set(err, o ? MUSTER_ENOMEM : MUSTER_ECORRUPT, "the audit log has bytes in it that are no text");
    return out;
}

/* --- the rules --------------------------------------------------------------------------------------------------- */

/* What is there is still ours. */
static bool socket_there(const struct mu_gate *g)
{
    struct stat st;

    return !lstat(g->socket, &st) && st.st_dev == g->socket_dev && st.st_ino == g->socket_ino;
}

static void close_socket(struct mu_gate *g)
{
    if (!g->listener)
        return;
    mu_listener_free(MU_STEAL(g->listener, NULL));
    if (socket_there(g))
        unlink(g->socket);
}

/* At each look: its directory may come late, and somebody may have removed it. */
static void open_socket(struct mu_gate *g)
{
    struct mu_err err = {0};
    struct stat st = {0};

    if (g->listener && !strcmp(g->socket, g->access.socket) && socket_there(g))
        return;
    close_socket(g);
    if (!*g->access.socket)
        return;
    mu_str_copy(g->socket, sizeof g->socket, g->access.socket);
    if (mu_listen_unix_all(g->base, g->socket, on_guest, g, &g->listener, &err)) {
        if (!g->socket_told)
            mu_log(MU_LOG_ERROR, "access", "%s; other accounts do not reach this pool", err.text);
        g->socket_told = true;
        return;
    }
    if (!lstat(g->socket, &st)) {
        g->socket_dev = st.st_dev;
        g->socket_ino = st.st_ino;
    }
    g->socket_told = false;
    mu_log(MU_LOG_INFO, "access", "listening for other accounts at %s", g->socket);
}

static void reread(struct mu_gate *g, bool first)
{
    struct mu_err err = {0};
    const char *unknown;
    char text[120];

    if (mu_access_load(g->cfg.paths->home, &g->access, &g->stamp, &err)) {
        mu_log(MU_LOG_ERROR, "access", "%s; %s", err.text,
               first ? "until it is mended only the pool's own account is let in" : "the rules stay as they are");
        if (!first)
            mu_gate_note(g, "access", "the file is broken; the rules stay as they are");
        return;
    }
    for (unsigned i = 0; (unknown = mu_access_unknown(&g->access)) && !i; i++)
        mu_log(MU_LOG_WARN, "access", "nobody here is called '%s': the rule of that name holds for nobody", unknown);
    g->socket_told = false;
    if (!first) {
        snprintf(text, sizeof text, "read again: %u rule%s, others: %s", g->access.n, g->access.n == 1 ? "" : "s",
                 mu_role_name(g->access.others));
        mu_log(MU_LOG_INFO, "access", "%s", text);
        mu_gate_note(g, "access", text);
    }
}

/* The first time comes when the daemon has its log. */
static void on_alarm(void *arg)
{
    struct mu_gate *g = arg;
    bool first = !g->looked;

    g->looked = true;
    if (first && !g->audit)
        mu_log(MU_LOG_ERROR, "audit", "%s: changes go on without lines in it", g->unopened.text);
    if (first)
        mu_gate_note(g, "controller", "starts, version " MUSTER_VERSION);
    if (first || mu_access_changed(g->cfg.paths->home, &g->stamp))
        reread(g, first);
    open_socket(g);
    keep(g);
    mu_alarm_set(g->alarm, mu_now() + LOOK_NS);
}

/* --- passing ----------------------------------------------------------------------------------------------------- */

static void log_denied(struct mu_who *w, const struct mu_msg *m, const struct mu_access_row *row, const char *why)
{
    struct mu_gate *g = w->gate;

    if (!may_log_denied(g))
        return;
    mu_log(MU_LOG_WARN, "access", "refused, uid %u, pid %d: %s", w->uid, w->pid, why);
    add(g, entry_of(w,
                    row                       ? row->command
                    : m->type == MU_MSG_hello ? "connect"
                                              : mu_msg_name(m->type),
                    mu_access_job(m), why, "denied"));
}

/* Whose a job is, in buf; NULL: there is none. */
static const char *user_of(const struct mu_gate *g, uint64_t id, char *buf, size_t n)
{
    const struct mu_m_jobrow *row;
    struct mu_m_jobrow old;

    for (unsigned i = 0; id && (row = mu_ctl_job(g->cfg.core, i, NULL)); i++)
        if (row->id == id)
            return mu_str_copy(buf, n, row->user ? row->user : "") ? "" : buf;
    if (!id || !g->cfg.store || mu_store_job(g->cfg.store, id, &old, NULL))
        return NULL;
    if (mu_str_copy(buf, n, old.user ? old.user : ""))
        *buf = 0;
    mu_msg_free_body(MU_MSG_jobrow, &old);
    return buf;
}

static int check(struct mu_who *w, const struct mu_msg *m, const struct mu_access_row *row, struct mu_err *err)
{
    const struct mu_gate *g = w->gate;
    enum mu_role role = role_of(w);
    char whose[256];

    if (m->type == MU_MSG_hello) {
        if (m->hello.role && !strcmp(m->hello.role, "client"))
            return mu_access_may(&g->access, role, w->name, mu_access_row_at(0), 0, NULL, err);
        return mu_err_set(err, MUSTER_EPERM, "%s is not the pool's account: no daemon of another account joins it",
                          w->name);
    }
    return mu_access_may(&g->access, role, w->name, row, mu_access_job(m),
                         user_of(g, mu_access_job(m), whose, sizeof whose), err);
}

static bool say(char **field, const char *name)
{
    char *s = strdup(name);

    if (s) {
        free(*field);
        *field = s;
    }
    return s != NULL;
}

static bool say_in_spec(struct mu_bytes *blob, const char *name)
{
    struct mu_m_spec spec = {0};
    struct mu_bytes again = {0};

    if (mu_msg_unpack(blob, MU_MSG_spec, &spec, NULL))
        return true; /* the core refuses it */
    bool ok = say(&spec.user, name) && !mu_msg_pack(&again, MU_MSG_spec, &spec);
    mu_msg_free_body(MU_MSG_spec, &spec);
    if (ok) {
        free(blob->data);
        *blob = again;
    }
    return ok;
}

/* Names that a message says are those that the kernel says. */
static bool name_truly(const struct mu_who *w, const struct mu_msg *m, struct mu_msg *own)
{
    char by[MU_ACCESS_NAME + 80];

    own->type = m->type;
    if (mu_msg_copy(m->type, &own->hello, &m->hello)) { /* a union: all of them begin there */
        own->type = 0;
        return false;
    }
    switch (m->type) {
    case MU_MSG_hello:
        return say(&own->hello.user, w->name);
    case MU_MSG_submit:
        return say_in_spec(&own->submit.spec, w->name);
    case MU_MSG_query:
        return !own->query.spec.len || say_in_spec(&own->query.spec, w->name);
    case MU_MSG_cancel:
        snprintf(by, sizeof by, "cancelled by %s", w->name);
        return say(&own->cancel.by, by);
    case MU_MSG_hold:
        return say(&own->hold.by, w->name);
    case MU_MSG_requeue:
        return say(&own->requeue.by, w->name);
    case MU_MSG_nodes_drain:
        return say(&own->nodes_drain.by, w->name);
    case MU_MSG_approve:  /* who answers for it, and who has typed it */
    case MU_MSG_withdraw: /* with the same fields */
        if (!m->approve.by || !strcmp(m->approve.by, w->name))
            return true;
        snprintf(by, sizeof by, "%.60s (%s)", m->approve.by, w->name);
        return say(&own->approve.by, by);
    default:
        return true;
    }
}

static void describe_spec(const struct mu_bytes *blob, char *buf, size_t n)
{
    struct mu_m_spec s = {0};

    if (mu_msg_unpack(blob, MU_MSG_spec, &s, NULL))
        return;
    snprintf(buf, n, "%u ranks of %.200s%s%.60s", s.ranks, s.argv && s.argv[0] ? s.argv[0] : "?",
             s.name && *s.name ? ", named " : "", s.name ? s.name : "");
    mu_msg_free_body(MU_MSG_spec, &s);
}

static const char *describe(const struct mu_msg *m, const struct mu_access_row *row, char *buf, size_t n)
{
    buf[0] = 0;
    switch (m->type) {
    case MU_MSG_submit:
        describe_spec(&m->submit.spec, buf, n);
        break;
    case MU_MSG_signal:
        snprintf(buf, n, "signal %u", m->signal.signo);
        break;
    case MU_MSG_cancel:
        snprintf(buf, n, "%s", m->cancel.force ? "force" : "");
        break;
    case MU_MSG_hold:
        return m->hold.on ? "hold" : "release";
    case MU_MSG_nodes_drain:
        snprintf(buf, n, "%.200s: %.200s", m->nodes_drain.hosts ? m->nodes_drain.hosts : "",
                 m->nodes_drain.reason ? m->nodes_drain.reason : "");
        break;
    case MU_MSG_nodes_resume:
        snprintf(buf, n, "%s", m->nodes_resume.hosts ? m->nodes_resume.hosts : "");
        break;
    case MU_MSG_nodes_check:
        snprintf(buf, n, "%s", m->nodes_check.hosts ? m->nodes_check.hosts : "all");
        break;
    case MU_MSG_nodes_label:
        snprintf(buf, n, "%.200s: %.200s", m->nodes_label.hosts ? m->nodes_label.hosts : "",
                 m->nodes_label.labels ? m->nodes_label.labels : "none");
        break;
    case MU_MSG_nodes_add:
        snprintf(buf, n, "%s", m->nodes_add.hosts ? m->nodes_add.hosts : "");
        break;
    case MU_MSG_nodes_remove:
        snprintf(buf, n, "%.300s%s", m->nodes_remove.hosts ? m->nodes_remove.hosts : "",
                 m->nodes_remove.force ? ", force" : "");
        break;
    case MU_MSG_approve:
    case MU_MSG_withdraw:
        snprintf(buf, n, "%.200s by %.60s: %.100s", m->approve.hosts && *m->approve.hosts ? m->approve.hosts : "all",
                 m->approve.by ? m->approve.by : "", m->approve.why ? m->approve.why : "");
        break;
    case MU_MSG_stop:
        snprintf(buf, n, "%s", m->stop.force ? "force" : "");
        break;
    default:
        break;
    }
    return row->command;
}

const struct mu_msg *mu_gate_pass(struct mu_who *w, const struct mu_msg *m, struct mu_msg *own, struct mu_err *err)
{
    const struct mu_access_row *row = mu_access_row(m);
    char detail[420];

    if (!w->gate)
        return m;
    if (w->guest) {
        if (check(w, m, row, err)) {
            log_denied(w, m, row, err->text);
            return NULL;
        }
        if (!name_truly(w, m, own)) {
            mu_err_set(err, MUSTER_ENOMEM, "the controller is out of memory");
            return NULL;
        }
        m = own;
    }
    if (row && row->change) {
        const char *what = describe(m, row, detail, sizeof detail);
        uint64_t n = add(w->gate, entry_of(w, what, mu_access_job(m), detail, row->answered ? "asked" : "done"));
        w->asked = row->answered ? n : w->asked;
    }
    return m;
}

void mu_gate_answered(struct mu_who *w, const void *frame, size_t len)
{
    const unsigned char *head = frame;
    MU_AUTO_MSG struct mu_msg m = {0};

    if (!w->asked || !w->gate || len < MU_FRAME_HEAD)
        return;
    unsigned type = head[4] | (unsigned)head[5] << 8;
    if ((type != MU_MSG_submitted && type != MU_MSG_error) || mu_msg_decode(frame, len, &m, NULL))
        return;
    bool bad = m.type == MU_MSG_error;
    json_t *o = json_pack("{s:I, s:s}", "of", (json_int_t)w->asked, "result", bad ? "refused" : "done");
    if (o && bad)
        set_text(o, "text", m.error.text);
    else if (o && m.submitted.job)
        json_object_set_new(o, "job", json_integer((json_int_t)m.submitted.job));
    w->asked = 0;
    add(w->gate, o);
}

bool mu_gate_hides(const struct mu_who *w, const char *user_of_job)
{
    return w && w->guest && mu_access_hides(&w->gate->access, role_of(w), w->name, user_of_job);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

int mu_gate_new(struct event_base *base, const struct mu_gate_config *cfg, struct mu_gate **out, struct mu_err *err)
{
    struct mu_gate *g = calloc(1, sizeof *g);

    if (!g)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    g->base = base;
    g->cfg = *cfg;
    mu_access_defaults(&g->access);
    mu_access_user(geteuid(), g->account, sizeof g->account);
    g->alarm = mu_alarm_new(base, on_alarm, g);
    if (!g->alarm) {
        mu_gate_free(g);
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    open_audit(g, &g->unopened);
    mu_alarm_set(g->alarm, mu_now());
    *out = g;
    return 0;
}

void mu_gate_free(struct mu_gate *g)
{
    if (!g)
        return;
    if (g->audit && g->looked) {
        mu_gate_note(g, "controller", "ends");
        keep(g);
    }
    close_socket(g);
    mu_audit_close(g->audit);
    mu_alarm_free(g->alarm);
    mu_access_free(&g->access);
    free(g);
}
