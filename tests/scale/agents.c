/* agents [--agents N] [--fanout F] [--rounds R] [--rest SECONDS] [--fence BYTES] [--strict 1] --muster BINARY: a pool
 * of N nodes on this machine, against the real controller. The agents are real in all that is spoken: their cores,
 * their connections, TLS over loopback and the tree; all are in this process, and in place of their keepers is a stub
 * that answers at once. So what N machines do at once is done here one after the other, by one thread: an agent whose
 * beat has to wait for the others has, for the controller, fallen silent. TAP on stdout, with the figures as comments;
 * --strict: the bounds that hold on a machine of one's own. MUSTER_HOME and MUSTER_RUN_ROOT say where the pool is. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/agent/way.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "tests/scale/figures.h"
#include "tests/scale/stub.h"
#include "tests/unit/tap.h"

#define WAIT (60 * MU_SEC)
#define VICTIMS 8   /* agents with loops of their own, that can be frozen */
#define AT_ONCE 64u /* so many join at a time, as engines start them */
/* What fences bring to all nodes together: each has a copy of what all of them gave. This thread encrypts, decrypts and
 * reads all of it, and meanwhile no beat may wait for a second. */
#define COPIES (128u << 20)

struct fake {
    unsigned i;
    char name[16];
    struct event_base *base;
    bool frozen, placed; /* placed: the controller has answered, and leaves it where it is */
    struct mu_join join;
    struct mu_way *way;
    struct mu_alarm *alarm;
    struct stub stub;
};

static struct event_base *base;
static struct fake *fakes;
static unsigned nfakes = 50, fanout = 4, rounds = 3, rest = 2, fence_bytes = 1024;
static bool strict;
static uint16_t port;
static struct mu_key key;
static struct mu_paths paths;
static const char *muster;
static pid_t controller;
static uint64_t incarnations;

static void die(const char *what, const struct mu_err *err)
{
    printf("Bail out! %s: %s\n", what, err ? err->text : "");
    exit(99); /* and then the guard */
}

/* --- a guard ------------------------------------------------------------------------------------------------------ */

/* Kills what is below this process, until nothing is: whoever loses its parent becomes ours. */
static void clear(void)
{
    uint64_t limit = mu_now() + 10 * MU_SEC;
    char path[64];

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    while (mu_now() < limit) {
        mu_auto_buf struct mu_buf list = {0};
        mu_path_read(path, 1 << 16, &list, NULL);
        for (char *p = (char *)(uintptr_t)mu_buf_str(&list), *end; *p; p = *end ? end + 1 : end) {
            pid_t pid = (pid_t)strtol(p, &end, 10);
            if (end == p)
                break;
            kill(pid, SIGKILL);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (waitpid(-1, NULL, WNOHANG) < 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

/* However this program ends, its pool ends with it. Returns in a process of which two look after it: the first one is
 * for others to wait for and to kill; the second one sees that go, or this, and clears up. */
static void begin_guard(void)
{
    int ends[2] = {-1, -1}, status = 0;
    pid_t guard = -1, test = -1;

    if (pipe2(ends, O_CLOEXEC) || (guard = fork()) < 0)
        die("no guard", NULL);
    if (guard) {
        close(ends[0]);
        while (waitpid(guard, &status, 0) < 0 && errno == EINTR)
            ;
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
    }
    close(ends[1]);
    setsid();
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) || (test = fork()) < 0)
        die("no guard", NULL);
    if (!test) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return;
    }
    struct pollfd p = {.fd = ends[0]};
    pid_t over = 0;
    while (!over && poll(&p, 1, 20) <= 0) /* its other end is closed with the first one */
        while ((over = waitpid(-1, &status, WNOHANG)) > 0 && over != test)
            ;
    clear();
    _exit(over == test && WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

/* --- an agent ----------------------------------------------------------------------------------------------------- */

static void on_send(void *arg, const void *frame, size_t len)
{
    mu_way_send(((struct fake *)arg)->way, frame, len);
}

static void step(void *arg, struct mu_ev *ev)
{
    struct fake *f = arg;

    if (ev->kind == MU_EV_UP && ev->conn == MU_AGENT_CTL)
        f->placed = false;
    stub_step(&f->stub, ev, mu_now());
    mu_alarm_set(f->alarm, mu_agent_next(f->stub.core));
}

static void on_alarm(void *arg)
{
    step(arg, &(struct mu_ev){.kind = MU_EV_TIME});
}

static bool on_msg(void *arg, const struct mu_msg *m)
{
    struct fake *f = arg;

    if (m->type == MU_MSG_parent)
        f->placed = !m->parent.node || !*m->parent.node;
    return true;
}

static void on_direct(void *arg)
{
    (void)arg;
}

static void on_failed(void *arg, uint64_t since, const struct mu_err *err)
{
    (void)arg, (void)since, (void)err;
}

static void start(struct fake *f)
{
    struct mu_way_config way = {
        .join = &f->join, .event = step, .direct = on_direct, .msg = on_msg, .failed = on_failed, .arg = f};
    struct mu_err err = {0};

    f->stub.send = on_send;
    f->stub.arg = f;
    f->join = (struct mu_join){.n = 1, .port = port, .slots = 1, .key = key};
    snprintf(f->join.hosts[0], sizeof f->join.hosts[0], "127.0.0.1");
    f->alarm = mu_alarm_new(f->base, on_alarm, f);
    if (!stub_begin(&f->stub, f->name, ++incarnations) || !f->alarm)
        die("an agent cannot be made", &err);
    way.core = f->stub.core;
    if (mu_way_new(f->base, &way, &f->way, &err))
        die("an agent cannot be made", &err);
    step(f, &(struct mu_ev){.kind = MU_EV_LOADED});
}

/* Its process dies: its connections are closed. */
static void end(struct fake *f)
{
    mu_way_free(MU_STEAL(f->way, NULL));
    mu_alarm_free(MU_STEAL(f->alarm, NULL));
    stub_end(&f->stub);
    f->frozen = f->placed = false;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void spin(uint64_t until)
{
    do {
        struct timeval slice = {.tv_usec = 2000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, 0);
        for (unsigned i = 0; fakes && i < nfakes; i++)
            if (fakes[i].base && fakes[i].base != base && !fakes[i].frozen)
                event_base_loop(fakes[i].base, EVLOOP_NONBLOCK);
    } while (mu_now() < until);
}
#define SPIN_UNTIL(cond, limit)                                                                                        \
    for (uint64_t end_ = mu_now() + (limit); !(cond) && mu_now() < end_;)                                              \
    spin(0)

static void start_controller(void)
{
    char where[40], fan[16], log[PATH_MAX + 32];

    /* for those that follow it, too */
    snprintf(where, sizeof where, "127.0.0.1:%u", port);
    snprintf(fan, sizeof fan, "%u", fanout);
    setenv("MUSTER_LISTEN", where, 1);
    setenv("MUSTER_FANOUT", fan, 1);
    setenv("MUSTER_IDLE", "0", 1);
    setenv("MUSTER_SSH", "false", 1); /* our hosts are none: one that is lost comes back by itself */
    snprintf(log, sizeof log, "%s/controller.out", paths.home);
    controller = fork();
    if (controller)
        return;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0)
        dup2(fd, 1), dup2(fd, 2);
    execl(muster, "muster", "controller", "--foreground", (char *)NULL);
    _exit(127);
}

static uint16_t free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) || getsockname(fd, (struct sockaddr *)&in, &len))
        die("no free port", NULL);
    close(fd);
    return ntohs(in.sin_port);
}

/* Of a process, in seconds of processor and system calls that read or wrote. */
struct usage {
    double cpu;
    uint64_t reads, writes;
};

static struct usage usage(pid_t pid)
{
    struct usage u = {0};
    char path[64];
    unsigned long user = 0, sys = 0;
    mu_auto_buf struct mu_buf stat = {0}, io = {0};

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    mu_path_read(path, 4096, &stat, NULL);
    const char *p = strrchr(mu_buf_str(&stat), ')');
    if (p && sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) == 2)
        u.cpu = (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "/proc/%d/io", (int)pid);
    mu_path_read(path, 4096, &io, NULL);
    if ((p = strstr(mu_buf_str(&io), "syscr: ")))
        u.reads = strtoull(p + 7, NULL, 10);
    if ((p = strstr(mu_buf_str(&io), "syscw: ")))
        u.writes = strtoull(p + 7, NULL, 10);
    return u;
}

static double own_cpu(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* --- a client ----------------------------------------------------------------------------------------------------- */

static struct mu_link *client;
static struct mu_msg reply;
static uint64_t job;
static uint32_t state;
static unsigned errors, ended;

static void on_client_msg(void *arg, struct mu_link *l, const struct mu_msg *m, const void *frame, size_t len)
{
    (void)arg, (void)l;
    if (m->type == MU_MSG_reply) {
        mu_msg_free(&reply);
        mu_msg_decode(frame, len, &reply, NULL);
    } else if (m->type == MU_MSG_submitted && m->submitted.job) {
        job = m->submitted.job;
    } else if (m->type == MU_MSG_state) {
        state = m->state.state;
    } else if (m->type == MU_MSG_ended) {
        ended++;
    } else if (m->type == MU_MSG_error) {
        printf("# the controller says: %s\n", m->error.text);
        errors++;
    }
}

static void on_client_down(void *arg, struct mu_link *l)
{
    (void)arg;
    mu_link_free(l);
    client = NULL;
}

static void connect_client(void)
{
    int fd = -1;

    for (uint64_t end_ = mu_now() + WAIT; mu_connect_unix(paths.run, "ctl.sock", &fd, NULL) && mu_now() < end_;)
        spin(mu_now() + 5 * MU_MS);
    client = fd < 0 ? NULL : mu_link_new(base, fd, on_client_msg, on_client_down, NULL);
    if (!client)
        die("the controller does not come up", NULL);
    mu_link_send_msg(client, MU_MSG_hello,
                     &(struct mu_m_hello){.proto = MU_WIRE_VERSION, .role = (char *)(uintptr_t) "client"});
}

static char last_down[80]; /* by the newest answer; "": none */

/* How many nodes are up, of ours; with a name: whether that one is. */
static unsigned nodes_up(const char *name)
{
    unsigned n = 0;
    size_t i;
    json_t *row;

    if (!client)
        connect_client();
    mu_msg_free(&reply);
    mu_link_send_msg(client, MU_MSG_query, &(struct mu_m_query){.what = (char *)(uintptr_t) "nodes"});
    SPIN_UNTIL(reply.type == MU_MSG_reply || !client, WAIT);
    json_t *all = reply.type == MU_MSG_reply ? json_loads(reply.reply.json, 0, NULL) : NULL;
    last_down[0] = 0;
    json_array_foreach(json_object_get(all, "nodes"), i, row)
    {
        const char *is = json_string_value(json_object_get(row, "name"));
        const char *at = json_string_value(json_object_get(row, "state"));
        bool heard = at && (!strcmp(at, "up") || !strcmp(at, "quarantined"));
        if (is && at && !heard)
            snprintf(last_down, sizeof last_down, "%s is %s", is, at);
        n += is && heard && (name ? !strcmp(is, name) : is[0] == 's' && strspn(is + 1, "0123456789"));
    }
    json_decref(all);
    return n;
}

static unsigned placed(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nfakes; i++)
        n += fakes[i].placed && !fakes[i].frozen;
    return n;
}

static bool all_up(uint64_t limit)
{
    uint64_t until = mu_now() + limit;

    while (mu_now() < until) {
        SPIN_UNTIL(placed() == nfakes, limit);
        if (nodes_up(NULL) == nfakes)
            return true;
        spin(mu_now() + 20 * MU_MS);
    }
    unsigned up = nodes_up(NULL);
    printf("# %u are placed, %u are up%s%s; not placed:", placed(), up, *last_down ? ", " : "", last_down);
    for (unsigned i = 0, n = 0; i < nfakes && n < 10; i++)
        if (!fakes[i].placed && ++n)
            printf(" %s", fakes[i].name);
    printf("\n");
    return false;
}

static unsigned depth_of(const struct fake *f)
{
    unsigned d = 1;

    for (const char *via; *(via = mu_way_via(f->way)) && d < 20; d++)
        f = &fakes[atoi(via + 1)];
    return d;
}

/* --- what is measured --------------------------------------------------------------------------------------------- */

static void joining(void)
{
    unsigned depth[20] = {0};
    struct usage before = usage(controller);
    uint64_t t0 = mu_now();

    for (unsigned i = 0; i < nfakes; i++) {
        if (i == nfakes - VICTIMS) /* they come last, so that they become leaves */
            SPIN_UNTIL(placed() == i, WAIT);
        start(&fakes[i]);
        SPIN_UNTIL(i + 1 - placed() < AT_ONCE, WAIT);
    }
    bool up = all_up(WAIT);
    double took = ms(mu_now() - t0), cpu = (usage(controller).cpu - before.cpu) * 1e3;
    unsigned most = 0;
    for (unsigned i = 0; i < nfakes && up; i++) {
        depth[depth_of(&fakes[i]) % 20]++;
        most = mu_way_children(fakes[i].way) > most ? mu_way_children(fakes[i].way) : most;
    }
    TAP_OK(up, "%u agents join", nfakes);
    printf("# %-58s %8.1f ms (controller's processor %.0f ms)\n", "all have joined after", took, cpu);
    printf("# by depth:");
    for (unsigned d = 1; d < 20 && depth[d]; d++)
        printf(" %u", depth[d]);
    printf("; children at most: %u\n", most);
    TAP_OK(up && depth[1] <= fanout && most <= fanout, "nobody has more than %u below him", fanout);
}

static void resting(void)
{
    struct usage a, b;
    double own;

    spin(mu_now() + MU_SEC);
    a = usage(controller);
    own = own_cpu();
    uint64_t t0 = mu_now();
    spin(t0 + rest * MU_SEC);
    b = usage(controller);
    double t = (double)(mu_now() - t0) / 1e9, share = (b.cpu - a.cpu) / t * 100;
    printf("# %-58s %8.2f %% of a core (all agents together %.0f %%)\n", "the controller at rest uses", share,
           (own_cpu() - own) / t * 100);
    printf("# %-58s %8.0f reads and %.0f writes a second\n", "and does", (double)(b.reads - a.reads) / t,
           (double)(b.writes - a.writes) / t);
    TAP_OK(share < (strict ? 10 : 100) && placed() == nfakes, "the controller is at rest");
}

/* Until the controller says so, asked again and again. */
static double until_lost(struct fake *f, bool silently)
{
    uint64_t t0 = mu_now(), limit = t0 + 10 * MU_SEC;

    if (silently)
        f->frozen = true;
    else
        end(f);
    while (nodes_up(f->name) && mu_now() < limit)
        spin(mu_now() + 5 * MU_MS);
    double took = ms(mu_now() - t0);
    if (silently)
        end(f);
    start(f);
    return took;
}

static void leaves(void)
{
    double killed[VICTIMS], silent[VICTIMS];
    unsigned n = 0;
    bool back = true;

    for (unsigned i = nfakes - VICTIMS; i < nfakes && n < rounds; i++) {
        if (mu_way_children(fakes[i].way))
            continue;
        killed[n] = until_lost(&fakes[i], false);
        back = all_up(WAIT) && back;
        if (mu_way_children(fakes[i].way))
            continue;
        silent[n++] = until_lost(&fakes[i], true);
        back = all_up(WAIT) && back;
    }
    double a = figures("a leaf whose process dies is known to be away after", killed, n);
    double b = figures("a leaf that falls silent is known to be away after", silent, n);
    double most = strict ? 1500 : 10000;
    TAP_OK(n && a < most && b < most, "leaves that are lost are known");
    TAP_OK(back, "they come back");
}

static void submit(void)
{
    mu_auto_buf struct mu_buf hosts = {0};
    uint32_t n = nfakes, one = 1, zero = 0;
    char prog[] = "true", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL}, *none[] = {NULL};
    char token[40];

    for (unsigned i = 0; i < nfakes; i++)
        mu_buf_appendf(&hosts, "%s%s:1", i ? "," : "", fakes[i].name);
    struct mu_m_spec spec = {.ranks = n,
                             .app_ranks = {.v = &n, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .argv = argv,
                             .app_envc = {.v = &zero, .n = 1},
                             .app_env = none,
                             .app_wdir = wdirs,
                             .hosts = hosts.data};
    snprintf(token, sizeof token, "scale-%llu", (unsigned long long)mu_now());
    struct mu_m_submit m = {.token = token};
    if (mu_msg_pack(&m.spec, MU_MSG_spec, &spec))
        die("the job cannot be described", NULL);
    job = 0;
    state = 0;
    ended = 0;
    mu_link_send_msg(client, MU_MSG_submit, &m);
    free(m.spec.data);
}

static unsigned started(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nfakes; i++)
        n += fakes[i].stub.keeper.job == job && fakes[i].stub.keeper.started;
    return n;
}

static unsigned fenced(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nfakes; i++)
        n += fakes[i].stub.keeper.fenced != 0;
    return n;
}

static double fence(uint32_t bytes)
{
    uint64_t t0 = mu_now();

    for (unsigned i = 0; i < nfakes; i++)
        stub_fence(&fakes[i].stub, bytes, mu_now());
    SPIN_UNTIL(fenced() == nfakes, WAIT);
    return ms(mu_now() - t0);
}

static void jobs(void)
{
    double start_ms[64], run_ms[64], fence_ms[64], end_ms[64];
    uint32_t most = COPIES / nfakes / nfakes, bytes = fence_bytes < most ? fence_bytes : most;
    unsigned n = 0;
    bool good = true;

    for (; n < rounds && good; n++) {
        for (unsigned i = 0; i < nfakes; i++)
            fakes[i].stub.keeper.started = 0;
        uint64_t t0 = mu_now();
        submit();
        SPIN_UNTIL(job && started() == nfakes, WAIT);
        start_ms[n] = ms(mu_now() - t0);
        mu_link_send_msg(client, MU_MSG_attach, &(struct mu_m_attach){.job = job});
        SPIN_UNTIL(state == MU_JOB_RUNNING, WAIT);
        run_ms[n] = ms(mu_now() - t0);
        good = good && started() == nfakes && state == MU_JOB_RUNNING;
        fence_ms[n] = fence(bytes);
        good = good && fenced() == nfakes;
        t0 = mu_now();
        mu_link_send_msg(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
        SPIN_UNTIL(ended, WAIT);
        end_ms[n] = ms(mu_now() - t0);
        good = good && ended;
        spin(mu_now() + 100 * MU_MS);
    }
    double a = figures("a job on all nodes: the last one has its start after", start_ms, n);
    figures("the controller has heard that all run after", run_ms, n);
    char what[80];
    snprintf(what, sizeof what, "a fence of all, %u bytes from and %u KiB to each, after", bytes,
             bytes * nfakes / 1024);
    figures(what, fence_ms, n);
    figures("cancelled, all have ended after", end_ms, n);
    TAP_OK(good && n == rounds && !errors, "jobs over all nodes start, have their fence, and end");
    TAP_OK(a < (strict ? 1000 : 60000), "starts do not take for ever");
}

static struct fake *inner(void)
{
    struct fake *best = NULL;

    for (unsigned i = 0; i < nfakes; i++)
        if (fakes[i].base == base && (!best || mu_way_children(fakes[i].way) > mu_way_children(best->way)))
            best = &fakes[i];
    return best;
}

static void inner_agents(void)
{
    double back[64];
    unsigned n = 0;
    bool good = true;

    for (; n < rounds && good; n++) {
        struct fake *f = inner();
        unsigned kids = mu_way_children(f->way);
        uint64_t t0 = mu_now();
        end(f);
        spin(t0 + 20 * MU_MS); /* it is noticed */
        SPIN_UNTIL(placed() == nfakes - 1, WAIT);
        while (nodes_up(NULL) != nfakes - 1 && mu_now() < t0 + WAIT)
            spin(mu_now() + 5 * MU_MS);
        back[n] = ms(mu_now() - t0);
        good = kids && nodes_up(NULL) == nfakes - 1;
        start(f);
        good = all_up(WAIT) && good;
    }
    figures("an inner agent dies: all below it are back after", back, n);
    TAP_OK(good, "what was below an inner agent that dies comes back");
}

static void submit_and_wait(void)
{
    submit();
    SPIN_UNTIL(job && started() == nfakes, WAIT);
    mu_link_send_msg(client, MU_MSG_attach, &(struct mu_m_attach){.job = job});
    SPIN_UNTIL(state == MU_JOB_RUNNING, WAIT);
}

static void cancel_and_wait(void)
{
    mu_link_send_msg(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job});
    SPIN_UNTIL(ended, WAIT);
}

/* All is there, and still is a moment later: what was away may not have been missed at first. */
static bool settled(void)
{
    for (uint64_t end_ = mu_now() + WAIT; mu_now() < end_;) {
        if (!all_up(WAIT))
            return false;
        spin(mu_now() + 1200 * MU_MS);
        if (placed() == nfakes && nodes_up(NULL) == nfakes)
            return true;
    }
    return false;
}

/* Everybody misses everybody at once, and dials at once, as leases run; and it ends by itself. */
static void storms(void)
{
    submit_and_wait();
    kill(controller, SIGSTOP);
    spin(mu_now() + 1200 * MU_MS);
    kill(controller, SIGCONT);
    uint64_t t0 = mu_now();
    bool good = settled();
    double stopped = ms(mu_now() - t0);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL); /* all of the agents */
    t0 = mu_now();
    good = good && settled();
    double away = ms(mu_now() - t0);
    figures("the controller has stopped for 1.2 s: all are settled after", &stopped, 1);
    figures("all agents have stopped for 1.5 s: all are settled after", &away, 1);
    cancel_and_wait();
    mu_auto_buf struct mu_buf hosts = {0}; /* lost under a job, some may be in quarantine */
    for (unsigned i = 0; i < nfakes; i++)
        mu_buf_appendf(&hosts, "%s%s", i ? "," : "", fakes[i].name);
    mu_link_send_msg(client, MU_MSG_nodes_resume, &(struct mu_m_nodes_resume){.hosts = hosts.data});
    TAP_OK(good && ended, "a storm of connections ends by itself");
}

/* The controller is killed under a job: nothing of it may be lost. */
static void controllers(void)
{
    double back[64];
    unsigned n = 0;
    bool good = true;
    uint32_t attempt = 1;

    submit_and_wait();
    uint64_t lost = job;
    for (; n < rounds && good; n++) {
        uint64_t t0 = mu_now();
        kill(controller, SIGKILL);
        waitpid(controller, NULL, 0);
        SPIN_UNTIL(!client, WAIT);
        connect_client(); /* this machine's agent starts another one */
        mu_daemon_locked(paths.run, "ctl.lock", &controller);
        good = all_up(WAIT);
        back[n] = ms(mu_now() - t0);
        spin(mu_now() + MU_SEC);
        for (unsigned i = 0; i < nfakes; i++)
            good = good && fakes[i].stub.keeper.job == lost && fakes[i].stub.keeper.phase == MU_PHASE_RUNNING;
        attempt = fakes[0].stub.keeper.attempt;
    }
    figures("the controller is killed: it knows all nodes again after", back, n);
    TAP_OK(good && attempt == 1, "it is followed by one that knows all, and the job has not noticed");
    mu_link_send_msg(client, MU_MSG_attach, &(struct mu_m_attach){.job = lost});
    cancel_and_wait();
    TAP_OK(ended, "and ends when it is told to");
}

static void read_arguments(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        unsigned n = (unsigned)strtoul(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--agents"))
            nfakes = n;
        else if (!strcmp(argv[i], "--fanout"))
            fanout = n;
        else if (!strcmp(argv[i], "--rounds"))
            rounds = n < VICTIMS ? n : VICTIMS;
        else if (!strcmp(argv[i], "--rest"))
            rest = n;
        else if (!strcmp(argv[i], "--fence"))
            fence_bytes = n < STUB_FENCE_MAX ? n : STUB_FENCE_MAX;
        else if (!strcmp(argv[i], "--strict"))
            strict = n != 0;
        else if (!strcmp(argv[i], "--muster"))
            muster = argv[i + 1];
    }
    if (!muster || nfakes < VICTIMS + 2)
        die("usage: agents [--agents N] [--fanout F] [--rounds R] [--rest SECONDS] [--fence BYTES] [--strict 1] "
            "--muster BINARY",
            NULL);
}

static void set_up(void)
{
    struct rlimit files;
    struct mu_err err = {0};
    char file[PATH_MAX + 32];

    signal(SIGPIPE, SIG_IGN);
    mu_daemon_heap();
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (mu_paths_init(&paths, &err))
        die("paths", &err);
    snprintf(file, sizeof file, "%s/agents.log", paths.home);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || mu_log_setup(fd, NULL, NULL, &err))
        die("the log", &err);
    begin_guard();
    base = event_base_new(); /* a clock of milliseconds: a third of the system calls */
    port = free_port();
    start_controller();
    connect_client();
    if (mu_key_path(&paths, file, &err) || mu_key_load(file, &key, &err))
        die("the pool key", &err);
    fakes = calloc(nfakes, sizeof *fakes);
    for (unsigned i = 0; i < nfakes; i++) {
        fakes[i].i = i;
        snprintf(fakes[i].name, sizeof fakes[i].name, "s%u", i);
        fakes[i].base = i < nfakes - VICTIMS ? base : event_base_new();
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    read_arguments(argc, argv);
    set_up();
    joining();
    resting();
    leaves();
    jobs();
    inner_agents();
    storms();
    controllers();
    for (unsigned i = 0; i < nfakes; i++) {
        end(&fakes[i]);
        if (fakes[i].base != base)
            event_base_free(fakes[i].base);
    }
    free(fakes);
    mu_link_free(client);
    mu_msg_free(&reply);
    kill(controller, SIGTERM);
    for (uint64_t end_ = mu_now() + 10 * MU_SEC; mu_daemon_locked(paths.run, "ctl.lock", NULL) && mu_now() < end_;)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    waitpid(controller, NULL, WNOHANG);
    event_base_free(base);
    return tap_done();
}
