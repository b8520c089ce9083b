/* The controller's core behind real connections and a real store: an agent and clients played by this test. */
#include <event2/event.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

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
static char dir[] = "/tmp/muster-test-server-XXXXXX", file[PATH_MAX];
static unsigned exits, agents_lost;

struct peer {
    struct mu_link *link;
    struct mu_msg last[16]; /* newest of each kind that was asked for, by slot */
    unsigned count[64], down;
};

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct peer *p = arg;

    (void)link;
    p->count[msg->type]++;
    for (unsigned i = 0; i < MU_COUNT(p->last); i++) {
        if (p->last[i].type && p->last[i].type != msg->type)
            continue;
        mu_msg_free(&p->last[i]);
        mu_msg_decode(frame, len, &p->last[i], NULL);
        return;
    }
}

static void on_down(void *arg, struct mu_link *link)
{
    struct peer *p = arg;

    p->down++;
    mu_link_free(link);
    p->link = NULL;
}

static const struct mu_msg *newest(const struct peer *p, enum mu_msg_type type)
{
    static const struct mu_msg none;

    for (unsigned i = 0; i < MU_COUNT(p->last); i++)
        if (p->last[i].type == type)
            return &p->last[i];
    return &none;
}

static void spin(uint64_t ms)
{
    uint64_t until = mu_now() + ms * MU_MS;

    do {
        struct timeval slice = {.tv_usec = 2000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    } while (mu_now() < until);
}
#define SPIN_UNTIL(cond)                                                                                               \
    for (uint64_t end_ = mu_now() + 10 * MU_SEC; !(cond) && mu_now() < end_;)                                          \
    spin(2)

static void join(struct peer *p, const char *role)
{
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION, .role = (char *)(uintptr_t)role};
    int fds[2];

    memset(p, 0, sizeof *p);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        exit(99);
    p->link = mu_link_new(base, fds[0], on_msg, on_down, p);
    mu_server_accept(server, fds[1], 1234);
    if (role) {
        mu_link_send_msg(p->link, MU_MSG_hello, &hello);
        SPIN_UNTIL(p->count[MU_MSG_welcome]);
    }
}

static void part(struct peer *p)
{
    mu_link_free(MU_STEAL(p->link, NULL));
    for (unsigned i = 0; i < MU_COUNT(p->last); i++)
        mu_msg_free(&p->last[i]);
    spin(5);
}

static void agent_up(struct peer *p)
{
    char node[] = "node-a";

    join(p, "agent");
    mu_link_send_msg(p->link, MU_MSG_agent, &(struct mu_m_agent){.node = node, .slots = 4, .memory = 1 << 30});
    mu_link_send_msg(p->link, MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
}

/* One rank of `true`. */
static bool pack_true(struct mu_bytes *out, char **env, char **after)
{
    char prog[] = "true", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL};
    uint32_t one = 1, zero = 0;
    struct mu_m_spec spec = {.ranks = 1,
                             .app_ranks = {.v = &one, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .app_envc = {.v = &zero, .n = 1},
                             .argv = argv,
                             .app_wdir = wdirs,
                             .env = env,
                             .after = after};

    return !mu_msg_pack(out, MU_MSG_spec, &spec);
}

static void submit(struct peer *p, const char *token, size_t env_bytes)
{
    char *big = calloc(1, env_bytes + 3), *env[] = {big, NULL};
    memset(big, 'x', env_bytes + 2);
    big[1] = '=';
    struct mu_m_submit m = {.token = (char *)(uintptr_t)token};

    pack_true(&m.spec, env, NULL);
    mu_link_send_msg(p->link, MU_MSG_submit, &m);
    free(m.spec.data);
    free(big);
}

static const char *query(struct peer *p, const char *what, uint64_t job, bool all)
{
    unsigned was = p->count[MU_MSG_reply] + p->count[MU_MSG_error];

    mu_link_send_msg(p->link, MU_MSG_query,
                     &(struct mu_m_query){.what = (char *)(uintptr_t)what, .job = job, .all = all});
    SPIN_UNTIL(p->count[MU_MSG_reply] + p->count[MU_MSG_error] > was);
    const char *text = newest(p, MU_MSG_reply)->reply.json;
    return text ? text : "";
}

static void on_exit_wanted(void *arg)
{
    (void)arg;
    exits++;
}
static void on_agent_lost(void *arg)
{
    (void)arg;
    agents_lost++;
}

static void start(uint64_t idle_ns)
{
    struct mu_server_config cfg = {.ctl = {.incarnation = 1,
                                           .idle_ns = idle_ns,
                                           .client_grace_ns = 60 * MU_SEC,
                                           .agent_wait_ns = 500 * MU_MS,
                                           .restarts = 3,
                                           .version = "test"},
                                   .on_exit = on_exit_wanted,
                                   .on_agent_lost = on_agent_lost};
    struct mu_err err;

    if (mu_store_open(file, &store, &err) || mu_server_new(base, store, &cfg, &server, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(99);
    }
}

static void stop(void)
{
    mu_server_close(server);
    spin(20);
    mu_server_free(server);
    mu_store_close(store);
}

static void jobs_and_queries(void)
{
    struct peer client, agent;

    start(0);
    join(&client, "client");
    uint64_t t0 = mu_now();
    TAP_OK(strstr(query(&client, "nodes", 0, false), "\"nodes\":[]") && mu_now() - t0 > 300 * MU_MS,
           "a query for nodes waits for the first agent, for a time");
    submit(&client, "early", 0);
    SPIN_UNTIL(client.count[MU_MSG_error]);
    TAP_OK(client.count[MU_MSG_error] == 1, "so does a submission: %s", newest(&client, MU_MSG_error)->error.text);
    agent_up(&agent);
    spin(10);
    TAP_OK(strstr(query(&client, "nodes", 0, false), "\"name\":\"node-a\",\"state\":\"up\""), "the agent's node is up");
    submit(&client, "t1", 10);
    SPIN_UNTIL(client.count[MU_MSG_submitted] && agent.count[MU_MSG_start]);
    TAP_OK(newest(&client, MU_MSG_submitted)->submitted.job == 1 && newest(&agent, MU_MSG_start)->start.attempt == 1,
           "job 1 is submitted and started");
    submit(&client, "t1", 10);
    SPIN_UNTIL(client.count[MU_MSG_submitted] == 2);
    TAP_OK(newest(&client, MU_MSG_submitted)->submitted.job == 1 && agent.count[MU_MSG_start] == 1,
           "the same token is the same job");
    TAP_OK(strstr(query(&client, "jobs", 0, false), "\"id\":1,"), "it is listed");
    TAP_OK(strstr(query(&client, "status", 1, false), "\"state\":\"starting\""), "with its state");
    TAP_OK(strstr(query(&client, "events", 1, false), "attempt-start"), "and its events");
    unsigned errors = client.count[MU_MSG_error];
    query(&client, "status", 99, false);
    TAP_OK(client.count[MU_MSG_error] == errors + 1, "%s", newest(&client, MU_MSG_error)->error.text);
    query(&client, "events", 99, false);
    TAP_OK(client.count[MU_MSG_error] == errors + 2, "%s", newest(&client, MU_MSG_error)->error.text);
    query(&client, "weather", 0, false);
    TAP_OK(client.count[MU_MSG_error] == errors + 3, "%s", newest(&client, MU_MSG_error)->error.text);

    /* kill -9 of the controller: everything but the file is gone */
    struct mu_server *dead = server;
    struct mu_store *dead_store = store;
    mu_server_close(dead);
    spin(10);
    TAP_OK(client.down == 1 && agent.down == 1, "the controller is gone");
    mu_server_free(dead);
    mu_store_close(dead_store);
    start(0);
    part(&client);
    part(&agent);
    join(&client, "client");
    TAP_OK(strstr(query(&client, "jobs", 0, false), "\"id\":1,"), "the next one knows the job");
    part(&client);
    stop();
}

static void full_disk(void)
{
    struct peer client, agent;

    start(0);
    agent_up(&agent);
    join(&client, "client");
    mu_store_limit_pages(store, 1);
    submit(&client, "t-full", 200000);
    spin(500);
    TAP_OK(!client.count[MU_MSG_submitted] && !client.count[MU_MSG_error], "full disk: no answer yet");
    uint64_t t0 = mu_now();
    SPIN_UNTIL(client.count[MU_MSG_error]);
    TAP_OK(client.count[MU_MSG_error] == 1 && !client.count[MU_MSG_submitted] && mu_now() - t0 < 7 * MU_SEC,
           "then an error: %s", newest(&client, MU_MSG_error)->error.text);
    TAP_OK(newest(&client, MU_MSG_error)->error.code == MUSTER_ENOSPC, "its code says what it is");
    TAP_OK(!strstr(query(&client, "jobs", 0, true), "\"id\":2"), "and there is no such job");
    mu_store_limit_pages(store, 0);
    spin(1500);
    submit(&client, "t-room", 10);
    SPIN_UNTIL(client.count[MU_MSG_submitted]);
    TAP_OK(client.count[MU_MSG_submitted] == 1 && strstr(query(&client, "jobs", 0, true), "\"id\":3") &&
               !strstr(query(&client, "jobs", 0, true), "\"id\":2"),
           "with room jobs are taken again, and it is none then either");
    part(&client);
    part(&agent);
    SPIN_UNTIL(agents_lost);
    TAP_OK(agents_lost, "the loss of an agent is told");
    stop();
}

static void bad_clients(void)
{
    struct peer mute, rude, old, honest;
    struct mu_m_hello hello = {.proto = 999};

    start(0);
    join(&honest, "client");
    join(&rude, NULL);
    mu_link_send_msg(rude.link, MU_MSG_query, &(struct mu_m_query){0});
    SPIN_UNTIL(rude.count[MU_MSG_error]);
    TAP_OK(rude.count[MU_MSG_error], "%s", newest(&rude, MU_MSG_error)->error.text);
    join(&old, NULL);
    mu_link_send_msg(old.link, MU_MSG_hello, &hello);
    SPIN_UNTIL(old.down);
    TAP_OK(old.down && old.count[MU_MSG_error], "another protocol: %s", newest(&old, MU_MSG_error)->error.text);
    for (unsigned i = 0; mu_msg_nth(i); i++) {
        struct mu_msg m = {.type = mu_msg_nth(i)};
        if (m.type != MU_MSG_hello && m.type != MU_MSG_stop)
            mu_link_send_msg(honest.link, m.type, &m.hello);
    }
    spin(50);
    TAP_OK(!honest.down && strstr(query(&honest, "jobs", 0, true), "muster.jobs/1"),
           "a client that sends every message, empty, is answered");
    part(&rude);
    part(&old);

    /* queries whose answers nobody reads */
    join(&mute, "client");
    mu_link_pause(mute.link, true);
    for (int i = 0; i < 30000 && mute.link; i++)
        mu_link_send_msg(mute.link, MU_MSG_query, &(struct mu_m_query){.what = (char *)(uintptr_t) "jobs", .all = 1});
    spin(20);
    TAP_OK(strstr(query(&honest, "jobs", 0, true), "muster.jobs/1"), "one that does not read delays nobody");
    for (int i = 0; i < 6 && mu_server_connections(server) != 1; i++) /* 16 MiB of answers */
        SPIN_UNTIL(mu_server_connections(server) == 1);
    mu_link_pause(mute.link, false);
    SPIN_UNTIL(mute.down);
    TAP_OK(mute.down && mute.count[MU_MSG_reply] > 1000 && mute.count[MU_MSG_reply] < 30000,
           "and is cut off at some point (%u answers)", mute.count[MU_MSG_reply]);
    part(&mute);
    part(&honest);
    stop();
}

/* Sends a lot ahead, and reads what comes of it. */
static void many_queries(void)
{
    enum { MANY = 3000 };
    char what[] = "jobs";
    struct peer many, other;

    start(60 * MU_SEC);
    join(&many, "client");
    join(&other, "client");
    for (int i = 0; i < MANY; i++)
        mu_link_send_msg(many.link, MU_MSG_query, &(struct mu_m_query){.what = what, .all = true});
    spin(2);
    mu_link_send_msg(other.link, MU_MSG_query, &(struct mu_m_query){.what = what});
    SPIN_UNTIL(other.count[MU_MSG_reply]);
    unsigned first = many.count[MU_MSG_reply];
    TAP_OK(other.count[MU_MSG_reply] == 1 && first < MANY, "who asks once does not wait for who asks %d times (%u)",
           MANY, first);
    SPIN_UNTIL(many.count[MU_MSG_reply] == MANY);
    TAP_OK(many.count[MU_MSG_reply] == MANY && !many.down, "who is answered, too");
    for (int i = 0; i < MANY; i++)
        mu_link_send_msg(many.link, MU_MSG_query, &(struct mu_m_query){.what = what, .all = true});
    spin(2);
    part(&many);
    part(&other);
    stop();
}

static void idling(void)
{
    struct peer client;

    start(300 * MU_MS);
    exits = 0;
    join(&client, "client");
    spin(600);
    TAP_OK(!exits, "with a client and a job it does not idle");
    mu_link_send_msg(client.link, MU_MSG_stop, &(struct mu_m_stop){0});
    SPIN_UNTIL(client.count[MU_MSG_error]);
    TAP_OK(!exits && client.count[MU_MSG_error], "told to stop: %s", newest(&client, MU_MSG_error)->error.text);
    part(&client);
    stop();
    snprintf(file, sizeof file, "%s/other.db", dir);
    start(200 * MU_MS);
    SPIN_UNTIL(exits);
    spin(300);
    TAP_OK(exits == 1, "with nothing to do it wants to end, and says so once");
    stop();
}

static bool put(uint64_t id, uint32_t state, char **after)
{
    struct mu_m_jobrow row = {.id = id, .state = state, .submitted_wall = 1};
    struct mu_err err;

    bool good = pack_true(&row.spec, NULL, after) && !mu_store_put_job(store, &row, &err);
    free(row.spec.data);
    return good;
}

/* What a job is to come after may have ended long before many others. */
static void long_ago(void)
{
    char one[] = "1", two[] = "2", three[] = "3", *after_both[] = {one, three, NULL}, *after_failed[] = {two, NULL};
    struct peer client;
    struct mu_err err;
    bool good;

    snprintf(file, sizeof file, "%s/long.db", dir);
    good = !mu_store_open(file, &store, &err) && !mu_store_begin(store, &err);
    good = good && put(1, MU_JOB_COMPLETED, NULL) && put(2, MU_JOB_FAILED, NULL) && put(3, MU_JOB_QUEUED, NULL) &&
           put(4, MU_JOB_QUEUED, after_both) && put(5, MU_JOB_QUEUED, after_failed);
    for (uint64_t id = 6; id <= MU_STORE_LIVE_MAX + 10 && good; id++)
        good = put(id, MU_JOB_COMPLETED, NULL);
    TAP_OK(good && !mu_store_commit(store, &err), "a store with jobs that wait, and many that have ended since");
    mu_store_close(store);
    start(60 * MU_SEC);
    join(&client, "client");
    const char *text = query(&client, "status", 4, false);
    TAP_OK(strstr(text, "\"state\":\"queued\"") && strstr(text, "waiting for job 3 to complete"),
           "one that comes after a job that completed long ago waits for the other one only");
    TAP_OK(strstr(query(&client, "status", 5, false), "\"state\":\"cancelled\""), "one whose job failed is cancelled");
    TAP_OK(mu_server_needs_job(server, 1) && !mu_server_needs_job(server, 2), "and what is needed is known");
    part(&client);
    stop();
}

int main(void)
{
    if (!mkdtemp(dir))
        return 99;
    signal(SIGPIPE, SIG_IGN);
    snprintf(file, sizeof file, "%s/jobs.db", dir);
    base = mu_loop_new();
    jobs_and_queries();
    full_disk();
    bad_clients();
    many_queries();
    idling();
    long_ago();
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
