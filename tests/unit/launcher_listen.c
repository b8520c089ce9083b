/* The controller's side of the wire between hosts, and the agent's: listening, dialling, beats, probes. */
#include "launcher/listen.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "launcher/probe.h"
#include "launcher/server.h"
#include "runtime/agent/uplink.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "tests/unit/tap.h"

static struct event_base *base;
static struct mu_store *store;
static struct mu_server *server;
static struct mu_listen *listener;
static struct mu_paths paths;
static char top[] = "/tmp/muster-test-listen-XXXXXX";

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
    for (uint64_t end_ = mu_now() + 20 * MU_SEC; !(cond) && mu_now() < end_;)                                          \
    spin(2)

static void on_accept(void *arg, struct mu_tls_conn *conn)
{
    (void)arg;
    mu_server_accept_tls(server, conn);
}

static void start(void)
{
    struct mu_server_config cfg = {.ctl = {.incarnation = 1, .client_grace_ns = MU_SEC, .agent_wait_ns = MU_SEC}};
    char file[PATH_MAX];
    struct mu_err err;

    snprintf(file, sizeof file, "%s/jobs.db", top);
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

/* --- listening --------------------------------------------------------------------------------------------------- */

static int taken_port(uint16_t *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&in, len) || listen(fd, 1) || getsockname(fd, (struct sockaddr *)&in, &len))
        exit(99);
    *port = ntohs(in.sin_port);
    return fd;
}

static void listening(void)
{
    char path[PATH_MAX], where[40];
    struct mu_join j = {0};
    struct mu_err err = {0};
    uint16_t port;

    TAP_OK(mu_listen_new(base, &paths, "nonsense", on_accept, NULL, &listener, &err) == MUSTER_EARG &&
               strstr(err.text, "--listen"),
           "%s", err.text);
    TAP_OK(mu_listen_new(base, &paths, "host.example:1", on_accept, NULL, &listener, &err) == MUSTER_EARG, "%s",
           err.text);
    TAP_OK(mu_listen_new(base, &paths, NULL, on_accept, NULL, &listener, &err) == 0 && !mu_listen_wanted(listener),
           "without a reason nothing listens");
    mu_key_path(&paths, path, NULL);
    TAP_OK(access(path, F_OK), "and there is no key");
    TAP_OK(mu_listen_open(listener, &err) == 0 && !access(path, F_OK), "once asked to it listens, and has made a key");
    TAP_OK(mu_join_parse(&j, mu_listen_join(listener), &err) == 0 && j.n && j.port, "agents are told: %s",
           mu_listen_join(listener));
    port = j.port;
    mu_listen_free(listener);

    mu_listen_new(base, &paths, NULL, on_accept, NULL, &listener, &err);
    TAP_OK(mu_listen_wanted(listener), "one that did not end in good order is followed by one that listens at once");
    TAP_OK(mu_listen_open(listener, &err) == 0 && !mu_join_parse(&j, mu_listen_join(listener), NULL) && j.port == port,
           "at the same port");
    mu_listen_forget(listener);
    TAP_OK(!mu_listen_wanted(listener), "a good end forgets it");
    mu_listen_free(listener);

    int fd = taken_port(&port);
    mu_path_join(path, sizeof path, paths.state, "port", NULL);
    snprintf(where, sizeof where, "%u\n", port);
    mu_path_write_atomic(path, where, strlen(where), 0600, NULL);
    mu_listen_new(base, &paths, NULL, on_accept, NULL, &listener, &err);
    TAP_OK(mu_listen_open(listener, &err) == 0 && !mu_join_parse(&j, mu_listen_join(listener), NULL) && j.port != port,
           "a port that is taken meanwhile is left alone");
    mu_listen_forget(listener);
    mu_listen_free(listener);
    snprintf(where, sizeof where, ":%u", port);
    mu_listen_new(base, &paths, where, on_accept, NULL, &listener, &err);
    TAP_OK(mu_listen_open(listener, &err) < 0, "but one that was asked for must be free: %s", err.text);
    mu_listen_free(listener);
    close(fd);
    mu_listen_new(base, &paths, where, on_accept, NULL, &listener, &err);
    TAP_OK(mu_listen_wanted(listener) && !mu_listen_open(listener, &err), "--listen listens from the start");
    mu_listen_free(listener);
    snprintf(where, sizeof where, "127.0.0.1:%u", port);
    mu_listen_new(base, &paths, where, on_accept, NULL, &listener, &err);
    mu_listen_open(listener, &err);
    snprintf(path, sizeof path, "127.0.0.1:%u", port);
    TAP_OK(!strcmp(mu_listen_join(listener), path), "at the address given, and no other");
}

/* --- joining ----------------------------------------------------------------------------------------------------- */

static void joining(void)
{
    static const struct {
        const char *text, *hosts;
        unsigned port;
    } rows[] = {
        {"h:1", "h", 1},
        {"muster://h:65535", "h", 65535},
        {"10.0.0.1,10.0.0.2:4711", "10.0.0.1 10.0.0.2", 4711},
        {"[::1],[fe80::1%eth0],h:2", "::1 fe80::1%eth0 h", 2},
        {"h,[::1]:3", "h ::1", 3},
        {"h", NULL, 0},
        {"h:0", NULL, 0},
        {"h:66000", NULL, 0},
        {":1", NULL, 0},
        {",h:1", NULL, 0},
        {"h,,i:1", NULL, 0},
        {"h:1,", NULL, 0},
        {"[::1:1", NULL, 0},
        {"", NULL, 0},
        {"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q:1", NULL, 0},
    };
    struct mu_join j, k;
    struct mu_err err;

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char hosts[1024] = "";
        memset(&j, 0, sizeof j);
        err = (struct mu_err){0};
        int rc = mu_join_parse(&j, rows[i].text, &err);
        for (unsigned h = 0; !rc && h < j.n; h++)
            snprintf(hosts + strlen(hosts), sizeof hosts - strlen(hosts), "%s%s", h ? " " : "", j.hosts[h]);
        TAP_OK(rows[i].hosts ? !rc && !strcmp(hosts, rows[i].hosts) && j.port == rows[i].port
                             : rc == MUSTER_EARG && err.text[0],
               "'%s' is %s", rows[i].text, rc ? err.text : hosts);
    }
    mu_join_parse(&j, "a,b:1", NULL);
    mu_join_prefer(&j, "c");
    TAP_OK(j.n == 3 && !strcmp(j.hosts[0], "c") && !strcmp(j.hosts[2], "b"), "a preferred host comes first");
    mu_join_prefer(&j, "b");
    TAP_OK(j.n == 3 && !strcmp(j.hosts[0], "b") && !strcmp(j.hosts[1], "c") && !strcmp(j.hosts[2], "a"),
           "and is not there twice");

    snprintf(j.node, sizeof j.node, "n1");
    j.slots = 3;
    j.owner = 12345678901ull;
    j.stay = true;
    memset(j.key.bytes, 7, sizeof j.key.bytes);
    TAP_OK(!mu_join_save(&paths, &j, &err) && !mu_join_load(&paths, &k, &err) && k.n == 3 && !strcmp(k.hosts[0], "b") &&
               k.port == 1 && !strcmp(k.node, "n1") && k.slots == 3 && k.owner == j.owner && k.stay &&
               !memcmp(&k.key, &j.key, sizeof j.key),
           "how an agent joined is kept");
    mu_join_forget(&paths);
    TAP_OK(mu_join_load(&paths, &k, &err) < 0, "and forgotten: %s", err.text);
    char path[PATH_MAX];
    mu_path_join(path, sizeof path, paths.state, "join", NULL);
    mu_path_write_atomic(path, "muster-join 1\nhost a\nport x\n", 28, 0600, NULL);
    TAP_OK(mu_join_load(&paths, &k, &err) == MUSTER_ECORRUPT, "%s", err.text);
    mu_path_write_atomic(path, "muster-join 2\n", 14, 0600, NULL);
    TAP_OK(mu_join_load(&paths, &k, &err) == MUSTER_ECORRUPT, "%s", err.text);
    mu_join_forget(&paths);
}

/* --- an agent's connection --------------------------------------------------------------------------------------- */

struct agent {
    struct mu_uplink *up;
    struct mu_join join;
    struct mu_tls *tls;
    unsigned ups, downs, msgs[64], failures;
    int how;
    uint64_t echo, down_at;
    struct mu_err why;
};

static void on_up(void *arg)
{
    struct mu_m_hello hello = {.proto = MU_WIRE_VERSION, .role = (char[]){"agent"}, .node = (char[]){"nb"}};
    struct mu_m_agent me = {.node = (char[]){"nb"}, .slots = 2};
    struct agent *a = arg;
    struct mu_buf b = {0};

    a->ups++;
    mu_msg_encode(&b, MU_MSG_hello, &hello);
    mu_msg_encode(&b, MU_MSG_agent, &me);
    mu_msg_encode(&b, MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    mu_uplink_send(a->up, b.data, b.len);
    mu_buf_free(&b);
}
static void on_down(void *arg, int how)
{
    struct agent *a = arg;

    a->downs++;
    a->how = how;
    a->down_at = mu_now();
}
static void on_msg(void *arg, const struct mu_msg *m)
{
    ((struct agent *)arg)->msgs[m->type]++;
}
static void on_echo(void *arg, uint64_t at)
{
    ((struct agent *)arg)->echo = at;
}
static void on_failed(void *arg, uint64_t since, const struct mu_err *err)
{
    struct agent *a = arg;

    (void)since;
    a->failures++;
    a->why = *err;
}

static void dial(struct agent *a, const char *where, const struct mu_key *key)
{
    struct mu_uplink_config cfg = {
        .up = on_up, .down = on_down, .msg = on_msg, .echo = on_echo, .failed = on_failed, .arg = a};
    struct mu_err err;

    memset(a, 0, sizeof *a);
    if (mu_join_parse(&a->join, where, &err) || mu_tls_new(base, key, NULL, &a->tls, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(99);
    }
    cfg.join = &a->join;
    cfg.tls = a->tls;
    a->up = mu_uplink_new(base, &cfg);
}
static void undial(struct agent *a)
{
    mu_uplink_free(a->up);
    mu_tls_free(a->tls);
}

static void connections(void)
{
    struct agent a;
    char where[80];
    const char *at = mu_listen_join(listener);

    start();
    snprintf(where, sizeof where, "127.0.0.9,%s", at);
    dial(&a, where, mu_listen_key(listener));
    SPIN_UNTIL(a.msgs[MU_MSG_welcome]);
    TAP_OK(a.ups == 1 && a.msgs[MU_MSG_welcome] == 1, "an agent joins, although its first address leads nowhere");
    TAP_OK(!strcmp(mu_uplink_local_host(a.up), "127.0.0.1"), "it knows its own address");
    spin(1500);
    TAP_OK(!a.downs && !a.msgs[MU_MSG_beat], "beats keep the connection up and are not delivered");
    TAP_OK(a.echo && mu_now() - a.echo < 500 * MU_MS, "the agent knows when it was last heard: %d ms ago",
           (int)((mu_now() - a.echo) / MU_MS));

    /* the controller restarts */
    mu_server_close(server);
    SPIN_UNTIL(a.downs);
    TAP_OK(a.downs == 1 && a.how == MU_DOWN_CLOSED, "the controller's end is seen");
    mu_server_free(server);
    mu_store_close(store);
    start();
    SPIN_UNTIL(a.msgs[MU_MSG_welcome] == 2);
    TAP_OK(a.msgs[MU_MSG_welcome] == 2, "the next controller is found");
    mu_uplink_hang_up(a.up);
    SPIN_UNTIL(a.msgs[MU_MSG_welcome] == 3);
    TAP_OK(a.msgs[MU_MSG_welcome] == 3 && a.downs == 1, "an agent that hangs up dials again, and is not told so");
    undial(&a);
    spin(20);

    /* wrong key, nobody there */
    struct mu_key wrong = {.bytes = {1}};
    dial(&a, at, &wrong);
    SPIN_UNTIL(a.failures);
    TAP_OK(!a.ups && a.why.code == MUSTER_EARG, "without the key: %s", a.why.text);
    undial(&a);
    dial(&a, "127.0.0.9,127.0.0.8:1", mu_listen_key(listener));
    SPIN_UNTIL(a.failures > 3);
    TAP_OK(a.failures > 3 && a.why.code == MUSTER_EPEER, "nobody there, again and again: %s", a.why.text);
    undial(&a);
    stop();
}

/* --- silence ----------------------------------------------------------------------------------------------------- */

static struct mu_link *mute;
static unsigned mute_downs, mute_beats;
static uint64_t mute_down_at;

static void on_mute_msg(void *arg, struct mu_link *l, const struct mu_msg *m, const void *frame, size_t len)
{
    (void)arg, (void)l, (void)frame, (void)len;
    mute_beats += m->type == MU_MSG_beat;
}
static void on_mute_down(void *arg, struct mu_link *l)
{
    (void)arg;
    mute_downs++;
    mute_down_at = mu_now();
    mu_link_free(l);
    mute = NULL;
}
static void on_mute(void *arg, struct mu_tls_conn *c, const struct mu_err *err)
{
    (void)arg, (void)err;
    if (c)
        mute = mu_link_new_tls(c, on_mute_msg, on_mute_down, NULL);
}
static void on_swallow(void *arg, struct mu_tls_conn *c)
{
    (void)arg;
    mute = mu_link_new_tls(c, on_mute_msg, on_mute_down, NULL);
}

static void silence(void)
{
    struct mu_tls *tls;
    struct mu_tls_dial *d;
    struct mu_tls_listener *l;
    struct agent a;
    struct mu_err err;
    struct mu_join j;
    char where[40];

    start();
    mu_join_parse(&j, mu_listen_join(listener), NULL);
    mu_tls_new(base, mu_listen_key(listener), NULL, &tls, &err);
    mu_connect_tcp(tls, "127.0.0.1", j.port, on_mute, NULL, &d, &err);
    SPIN_UNTIL(mute);
    mu_link_send_msg(mute, MU_MSG_hello,
                     &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = (char[]){"agent"}, .node = (char[]){"nm"}});
    mu_link_send_msg(mute, MU_MSG_agent, &(struct mu_m_agent){.node = (char[]){"nm"}, .slots = 1});
    mu_link_send_msg(mute, MU_MSG_agent_ready, &(struct mu_m_agent_ready){0});
    uint64_t t0 = mu_now();
    SPIN_UNTIL(mute_downs);
    TAP_OK(mute_downs == 1 && mute_down_at - t0 >= MU_SILENT_NS - 100 * MU_MS && mute_down_at - t0 < 5 * MU_SEC,
           "the controller closes an agent's silent connection (after %d ms)", (int)((mute_down_at - t0) / MU_MS));
    TAP_OK(mute_beats >= 5, "having sent beats itself (%u)", mute_beats);

    /* commands from other hosts need not beat */
    mu_connect_tcp(tls, "127.0.0.1", j.port, on_mute, NULL, &d, &err);
    SPIN_UNTIL(mute);
    mu_link_send_msg(mute, MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = (char[]){"client"}});
    spin(2000);
    TAP_OK(mute && mute_downs == 1, "a command may be silent");
    mu_link_free(MU_STEAL(mute, NULL));
    stop();

    mute_beats = 0;
    mu_listen_tcp(tls, (const char *[]){"127.0.0.1"}, 1, 0, on_swallow, NULL, &l, &err);
    snprintf(where, sizeof where, "127.0.0.1:%u", mu_tls_listener_port(l));
    dial(&a, where, mu_listen_key(listener));
    SPIN_UNTIL(a.ups);
    t0 = mu_now();
    SPIN_UNTIL(a.downs);
    TAP_OK(a.downs == 1 && a.how == MU_DOWN_SILENT && a.down_at - t0 >= MU_SILENT_NS - 100 * MU_MS &&
               a.down_at - t0 < 5 * MU_SEC,
           "the agent leaves a controller that is silent (after %d ms)", (int)((a.down_at - t0) / MU_MS));
    TAP_OK(!a.echo && mute_beats >= 5, "which has echoed none of its beats (%u)", mute_beats);
    SPIN_UNTIL(a.ups == 2);
    TAP_OK(a.ups == 2, "and dials again");
    undial(&a);
    mu_link_free(MU_STEAL(mute, NULL));
    mu_tls_listener_free(l);
    mu_tls_free(tls);
}

/* --- probes ------------------------------------------------------------------------------------------------------ */

static unsigned yes, no;
static char last[40];

static void on_probed(void *arg, const char *node, bool answers)
{
    (void)arg;
    answers ? yes++ : no++;
    snprintf(last, sizeof last, "%s", node);
}

static void probes(void)
{
    struct mu_probes *p = mu_probes_new(base, on_probed, NULL);
    struct mu_join j;

    mu_join_parse(&j, mu_listen_join(listener), NULL);
    mu_probe(p, "na", "127.0.0.1", j.port);
    TAP_OK(!yes && !no, "a probe answers from the loop only");
    SPIN_UNTIL(yes + no);
    TAP_OK(yes == 1 && !strcmp(last, "na"), "a host at which somebody listens answers");
    mu_probe(p, "nb", "127.0.0.1", 1);
    SPIN_UNTIL(yes + no == 2);
    TAP_OK(yes == 2 && !strcmp(last, "nb"), "so does one that refuses");
    /* a full queue: what comes is dropped, as on a way that leads nowhere */
    int fds[8];
    uint16_t port;
    fds[0] = taken_port(&port);
    listen(fds[0], 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    for (size_t i = 1; i < MU_COUNT(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(fds[i], (struct sockaddr *)&in, sizeof in);
    }
    uint64_t t0 = mu_now();
    mu_probe(p, "nc", "127.0.0.1", port);
    mu_probe(p, "nd", "", 9);
    mu_probe(p, "ne", "no-address", 9);
    SPIN_UNTIL(yes + no == 5);
    TAP_OK(no == 3 && mu_now() - t0 < 2 * MU_SEC, "one that says nothing does not, nor does what is no address");
    for (size_t i = 0; i < MU_COUNT(fds); i++)
        close(fds[i]);
    mu_probe(p, "nf", "127.0.0.1", 1);
    mu_probes_free(p);
    spin(5);
    TAP_OK(yes + no == 5, "probes may be dropped");
}

int main(void)
{
    struct mu_err err;

    if (!mkdtemp(top))
        return 99;
    signal(SIGPIPE, SIG_IGN);
    setenv("MUSTER_HOME", top, 1);
    setenv("MUSTER_RUN_ROOT", top, 1);
    base = mu_loop_new();
    if (mu_paths_init(&paths, &err)) {
        printf("Bail out! %s\n", err.text);
        return 99;
    }
    listening();
    joining();
    connections();
    silence();
    probes();
    mu_listen_free(listener);
    event_base_free(base);
    mu_path_remove_tree(top, NULL);
    return tap_done();
}
