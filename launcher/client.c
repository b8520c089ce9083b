#include "launcher/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "launcher/connect.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/pulse.h"

#define ANSWER_NS (30 * MU_SEC)
enum { CHUNK = 65536, TRIES = 5 };

char *mu_client_user(char *buf, size_t n)
{
    struct passwd pw, *found = NULL;
    char room[4096];

    if (getpwuid_r(geteuid(), &pw, room, sizeof room, &found) == 0 && found && found->pw_name[0])
        snprintf(buf, n, "%s", found->pw_name);
    else
        snprintf(buf, n, "%lu", (unsigned long)geteuid());
    return buf;
}

bool mu_client_is_open(const struct mu_client *c)
{
    return c->fd >= 0;
}

void mu_client_close(struct mu_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->at = 0;
    mu_buf_free(&c->in);
    mu_buf_free(&c->out);
}

static int lost(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_EPEER, "the connection to the controller is lost");
}

int mu_client_flush(struct mu_client *c, struct mu_err *err)
{
    if (c->out.failed)
        return mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
    while (c->out.len) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            mu_buf_consume(&c->out, (size_t)n);
        else if (n < 0 && errno == EINTR)
            continue;
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        else
            return lost(err);
    }
    return 0;
}

int mu_client_post(struct mu_client *c, enum mu_msg_type type, const void *body, struct mu_err *err)
{
    int rc;

    if (c->fd < 0)
        return lost(err);
    rc = mu_msg_encode(&c->out, type, body);
    if (rc)
        return mu_err_set(err, rc, "message %s: %s", mu_msg_name(type),
                          rc == MUSTER_EARG ? "longer than 64 MiB" : muster_strerror(rc));
    return mu_client_flush(c, err);
}

int mu_client_fill(struct mu_client *c, struct mu_err *err)
{
    /* The consumed part goes away once for many frames. */
    if (c->at) {
        mu_buf_consume(&c->in, c->at);
        c->at = 0;
    }
    for (;;) {
        if (c->fd < 0 || mu_buf_reserve(&c->in, CHUNK))
            return c->fd < 0 ? lost(err) : mu_err_set(err, MUSTER_ENOMEM, "%s", muster_strerror(MUSTER_ENOMEM));
        ssize_t n = recv(c->fd, c->in.data + c->in.len, CHUNK, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n <= 0) {
            c->lost = true;
            return lost(err);
        }
        c->in.len += (size_t)n;
        c->in.data[c->in.len] = 0;
        /* Bounded: what was read is dealt with before more is. */
        if (n < CHUNK || c->in.len > 4u * CHUNK)
            return 0;
    }
}

int mu_client_next(struct mu_client *c, struct mu_msg *m, struct mu_err *err)
{
    for (;;) {
        size_t have = c->in.len - c->at;
        int64_t len = have ? mu_msg_frame(c->in.data + c->at, have) : 0;

        if (len < 0)
            return mu_err_set(err, MUSTER_ECORRUPT, "the controller sends what is no message");
        if (!len)
            return 0;
        int rc = mu_msg_decode(c->in.data + c->at, (size_t)len, m, err);
        c->at += (size_t)len;
        if (!rc)
            return 1;
        if (rc != MUSTER_EVERSION) /* a newer controller may say more than we know */
            return rc;
    }
}

bool mu_client_unfreeze(const struct mu_client *c, struct mu_stopped *s)
{
    const char *remote = getenv("MUSTER_POOL");

    return !(remote && *remote) && mu_stopped_kill(s, c->paths.run, "ctl.lock", MU_PULSE_CONTROLLER) > 0;
}

int mu_client_await(struct mu_client *c, enum mu_msg_type want, struct mu_msg *reply, uint64_t until,
                    struct mu_err *err)
{
    struct mu_stopped stopped = {0};

    for (;;) {
        MU_AUTO_MSG struct mu_msg m = {0};
        int rc = mu_client_next(c, &m, err);

        if (rc < 0)
            return rc;
        if (rc && m.type == MU_MSG_error)
            return mu_err_set(err, m.error.code < 0 ? m.error.code : MUSTER_EJOB, "%s",
                              m.error.text ? m.error.text : muster_strerror(m.error.code));
        if (rc && m.type == want) {
            *reply = m;
            memset(&m, 0, sizeof m);
            return 0;
        }
        if (rc)
            continue;
        if (c->lost)
            return lost(err);
        uint64_t now = mu_now();
        if (now >= until)
            return mu_err_set(err, MUSTER_ETIMEOUT, "the controller does not answer; its log is %s/log/controller.log",
                              c->paths.state);
        mu_client_unfreeze(c, &stopped); /* then the connection breaks */
        struct pollfd p = {.fd = c->fd, .events = (short)(POLLIN | (c->out.len ? POLLOUT : 0))};
        uint64_t ms = (until - now) / MU_MS + 1;
        if (poll(&p, 1, ms > 1000 ? 1000 : (int)ms) < 0 && errno != EINTR)
            return mu_err_errno(err, MUSTER_EIO, "waiting for the controller");
        /* An answer may have come before the connection broke: it is looked at first. */
        if (mu_client_flush(c, NULL) == MUSTER_EPEER || mu_client_fill(c, NULL) < 0)
            c->lost = true;
    }
}

int mu_client_call(struct mu_client *c, enum mu_msg_type type, const void *body, enum mu_msg_type want,
                   struct mu_msg *reply, uint64_t timeout_ns, struct mu_err *err)
{
    int rc = mu_client_post(c, type, body, err);

    return rc ? rc : mu_client_await(c, want, reply, mu_now() + timeout_ns, err);
}

static int greet(struct mu_client *c, struct mu_err *err)
{
    char user[64];
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION,
                               .role = (char[]){"client"},
                               .node = c->paths.host,
                               .pid = (uint32_t)getpid(),
                               .version = (char[]){MUSTER_VERSION},
                               .user = mu_client_user(user, sizeof user)};
    MU_AUTO_MSG struct mu_msg m = {0};

    return mu_client_call(c, MU_MSG_hello, &hello, MU_MSG_welcome, &m, ANSWER_NS, err);
}

/* Where state cannot be is the user's to mend. */
static int find_paths(struct mu_paths *paths, bool make, struct mu_err *err)
{
    const char *name = "MUSTER_RUN_ROOT";
    int rc = make ? mu_paths_init(paths, err) : mu_paths_find(paths, err);

    if (!rc || rc == MUSTER_ENOMEM)
        return rc;
    if (!strncmp(err->text, "state directory", 15))
        name = "MUSTER_HOME";
    size_t n = strlen(err->text);
    if (!strstr(err->text, name) && !strstr(err->text, "; "))
        snprintf(err->text + n, sizeof err->text - n, "; set %s to a directory that this account can make or write",
                 name);
    return err->code = MUSTER_EARG;
}

/* make: what is missing, directories and controller; without it MUSTER_EPEER when none answers. */
static int open_once(struct mu_client *c, bool make, struct mu_err *err)
{
    int rc;

    if ((rc = find_paths(&c->paths, make, err)) || (rc = mu_controller_connect(&c->paths, make, &c->fd, err)))
        return rc;
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    c->lost = false;
    if ((rc = greet(c, err)))
        mu_client_close(c);
    return rc;
}

static void clear(struct mu_client *c)
{
    memset(c, 0, sizeof *c);
    c->fd = -1;
}

int mu_client_open(struct mu_client *c, struct mu_err *err)
{
    clear(c);
    /* What is missing is made for a controller that begins. One that is there may have lost its state directory, and
     * who puts that back must not find another one in its place; a pool elsewhere needs none. */
    int rc = open_once(c, false, err);
    /* a controller that was just about to end when we came is followed by another one */
    for (int i = 0; i < TRIES && rc == MUSTER_EPEER; i++) {
        if (i)
            nanosleep(&(struct timespec){.tv_nsec = 20 * (long)MU_MS}, NULL);
        rc = open_once(c, true, err);
    }
    return rc;
}

/* One that is just starting or ending, or has left what the next controller begins with. */
static bool pool_exists(const struct mu_paths *paths)
{
    static const char *const files[] = {"jobs.db", "nodes", "backup"}, *const locks[] = {"ctl.lock", "agent.lock"};
    char path[PATH_MAX];
    bool found = false;

    if (access(paths->state, F_OK)) /* whatever still lives, it has lost it */
        return false;
    for (size_t i = 0; i < MU_COUNT(files) && !found; i++)
        found = mu_path_join(path, sizeof path, paths->state, files[i], NULL) || access(path, F_OK) == 0;
    for (size_t i = 0; i < MU_COUNT(locks) && !found; i++)
        found = mu_daemon_locked(paths->run, locks[i], NULL);
    return found;
}

int mu_client_look(struct mu_client *c, struct mu_err *err)
{
    const char *far = getenv("MUSTER_POOL");

    clear(c);
    int rc = open_once(c, false, err);
    if (rc != MUSTER_EPEER)
        return rc;
    return (far && *far) || pool_exists(&c->paths) ? mu_client_open(c, err) : MU_CLIENT_NO_POOL;
}

int mu_client_query_on(struct mu_client *c, const char *what, uint64_t job, bool all, char **json, struct mu_err *err)
{
    struct mu_m_query q = {.what = (char *)(uintptr_t)what, .job = job, .all = all};
    MU_AUTO_MSG struct mu_msg m = {0};
    int rc = mu_client_call(c, MU_MSG_query, &q, MU_MSG_reply, &m, ANSWER_NS, err);

    if (rc)
        return rc;
    if (!m.reply.json)
        return mu_err_set(err, MUSTER_ECORRUPT, "the controller's answer is empty");
    *json = MU_STEAL(m.reply.json, NULL);
    return 0;
}

int mu_client_query(const char *what, uint64_t job, bool all, char **json, struct mu_err *err)
{
    struct mu_client c;
    int rc = mu_client_look(&c, err);

    if (rc)
        return rc;
    rc = mu_client_query_on(&c, what, job, all, json, err);
    mu_client_close(&c);
    return rc;
}
