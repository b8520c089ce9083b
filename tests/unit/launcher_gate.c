/* The controller's gate: a line of the audit log is there before the change that it is about, and the outcome after it.
 */
#include <event2/event.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "launcher/audit.h"
#include "launcher/server.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "tests/unit/tap.h"

static struct event_base *base;
static struct mu_store *store;
static struct mu_server *server;
static struct mu_paths paths;
static char top[] = "/tmp/muster-test-gate-XXXXXX", file[PATH_MAX], trail[PATH_MAX];
static struct mu_link *client;
static unsigned answers, errors;
static char said[500];

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *m, const void *frame, size_t len)
{
    (void)arg, (void)link, (void)frame, (void)len;
    answers++;
    if (m->type != MU_MSG_error)
        return;
    errors++;
    snprintf(said, sizeof said, "%s", m->error.text ? m->error.text : "");
}
static void on_down(void *arg, struct mu_link *link)
{
    (void)arg;
    mu_link_free(link);
    client = NULL;
}
static void nothing(void *arg)
{
    (void)arg;
}

static void spin_until(const unsigned *count, unsigned least, uint64_t ms)
{
    uint64_t until = mu_now() + ms * MU_MS;

    while ((!count || *count < least) && mu_now() < until) {
        struct timeval slice = {.tv_usec = 2000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    }
}

static void start(void)
{
    struct mu_server_config cfg = {.ctl = {.incarnation = 1, .agent_wait_ns = 700 * MU_MS, .version = "test"},
                                   .on_exit = nothing,
                                   .paths = &paths};
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION, .role = (char[]){"client"}};
    struct mu_err err;
    int fds[2];

    if (mu_store_open(file, &store, &err) || mu_server_new(base, store, &cfg, &server, &err) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
        printf("Bail out! %s\n", err.text);
        exit(99);
    }
    client = mu_link_new(base, fds[0], on_msg, on_down, NULL);
    mu_server_accept(server, fds[1], 4711);
    answers = errors = 0;
    mu_link_send_msg(client, MU_MSG_hello, &hello);
    spin_until(&answers, 1, 5000);
}

static json_t *entries;
static void on_line(void *arg, const struct mu_audit_head *at, const char *json, size_t len, bool whole)
{
    (void)arg, (void)at;
    json_t *o = json_loadb(json, len, 0, NULL);
    if (whole)
        json_array_append_new(entries, o);
    else
        json_decref(o);
}

/* Lines of that kind, with that result; the newest is *out. */
static unsigned lines(const char *key, const char *value, const char *result, const json_t **out)
{
    struct mu_audit_walk w = {.line = on_line};
    struct mu_err err;
    unsigned n = 0;
    const json_t *o;
    size_t i;

    json_decref(entries);
    entries = json_array();
    if (mu_audit_read(trail, &w, &err) || w.bad)
        return 1000;
    json_array_foreach(entries, i, o)
    {
        const char *v = json_string_value(json_object_get(o, key)),
                   *r = json_string_value(json_object_get(o, "result"));
        if (!v || (value && strcmp(v, value)) || !r || strcmp(r, result))
            continue;
        *out = o;
        n++;
    }
    return n;
}

static void submit(void)
{
    char prog[] = "train\n.sh", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL};
    uint32_t one = 1, zero = 0;
    struct mu_m_spec spec = {.ranks = 1,
                             .app_ranks = {.v = &one, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .app_envc = {.v = &zero, .n = 1},
                             .argv = argv,
                             .app_wdir = wdirs};
    struct mu_m_submit m = {.token = (char[]){"t"}};

    mu_msg_pack(&m.spec, MU_MSG_spec, &spec);
    mu_link_send_msg(client, MU_MSG_submit, &m);
    free(m.spec.data);
}

static void test_order(void)
{
    const json_t *o = NULL;

    start();
    submit(); /* without an agent it is neither taken nor refused for a while */
    spin_until(NULL, 0, 200);
    TAP_OK(lines("what", "submit", "asked", &o) == 1 && !errors,
           "a submission has its line before anything comes of it");
    TAP_OK(o && json_integer_value(json_object_get(o, "pid")) == 4711 &&
               !strcmp(json_string_value(json_object_get(o, "role")), "owner") &&
               !strncmp(json_string_value(json_object_get(o, "detail")), "1 ranks of train", 16) &&
               !strchr(json_string_value(json_object_get(o, "detail")), '\n'),
           "who, and what, made safe to show");
    spin_until(&errors, 1, 5000);
    TAP_OK(errors == 1 && lines("result", "refused", "refused", &o) == 1 &&
               json_integer_value(json_object_get(o, "of")) > 0 &&
               !strcmp(json_string_value(json_object_get(o, "text")), said),
           "then its outcome: %s", said);
    mu_link_send_msg(client, MU_MSG_signal, &(struct mu_m_signal){.job = 9, .signo = 10});
    spin_until(NULL, 0, 50);
    TAP_OK(lines("what", "run", "done", &o) == 1, "what has no answer has one line");
    mu_link_send_msg(client, MU_MSG_query, &(struct mu_m_query){.what = (char[]){"jobs"}});
    spin_until(NULL, 0, 50);
    TAP_OK(lines("what", "jobs", "asked", &o) == 0, "who only looks has none");
    mu_link_send_msg(client, MU_MSG_query, &(struct mu_m_query){.what = (char[]){"events"}, .job = 99});
    spin_until(&errors, 2, 1000);
    TAP_OK(errors == 2 && strstr(said, "99"), "the pool's account is told what there is not: %s", said);
}

static void test_end(void)
{
    struct mu_audit_head anchor = {0};
    struct mu_err err = {0};
    const json_t *o = NULL;

    mu_server_close(server);
    if (client)
        mu_link_free(MU_STEAL(client, NULL));
    spin_until(NULL, 0, 20);
    int rc = mu_store_anchor(store, &anchor.n, anchor.hash, sizeof anchor.hash, &err);
    struct mu_audit_walk w = {.anchor = &anchor};
    TAP_OK(!rc && !mu_audit_read(trail, &w, &err) && !w.bad && w.last == anchor.n && anchor.n > 4,
           "at the end the store remembers the last line, %llu", (unsigned long long)anchor.n);
    TAP_OK(lines("what", "controller", "done", &o) == 2, "starts and ends are in it");
    mu_server_free(server);
    mu_store_close(store);
}

/* What a controller leaves that is killed: nothing more is written. */
static void test_killed(void)
{
    const json_t *o = NULL;

    start();
    submit();
    spin_until(NULL, 0, 100);
    TAP_OK(lines("what", "submit", "asked", &o) == 2 && lines("result", "refused", "refused", &o) == 1,
           "killed now, the log has a line without an outcome, and the store no job");
    mu_server_close(server);
    if (client)
        mu_link_free(MU_STEAL(client, NULL));
    spin_until(NULL, 0, 20);
    mu_server_free(server);
    mu_store_close(store);
}

int main(void)
{
    base = mu_loop_new();
    if (!base || !mkdtemp(top))
        return 99;
    snprintf(paths.home, sizeof paths.home, "%s", top);
    snprintf(paths.state, sizeof paths.state, "%s/host", top);
    mkdir(paths.state, 0700);
    snprintf(file, sizeof file, "%s/host/jobs.db", top);
    snprintf(trail, sizeof trail, "%s/host/audit", top);
    test_order();
    test_end();
    test_killed();
    json_decref(entries);
    event_base_free(base);
    mu_path_remove_tree(top, NULL);
    return tap_done();
}
