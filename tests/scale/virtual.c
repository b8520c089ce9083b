/* virtual [--agents N] [--fanout F] [--rounds R] [--fence BYTES] [--strict]: a pool of N nodes in virtual time. The
 * cores, the tables of the tree and the beats are the real ones; the network is a queue. Each process does one thing
 * after the other: what a core computes takes as long as it has taken here, a message costs both ends what it has cost
 * over a real link (costs.c), and goes out at 1 Gbit/s with 0.1 ms on the way. TAP on stdout, with the figures as
 * comments; --strict: the bounds that hold on a machine of one's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/scale/figures.h"
#include "tests/scale/virtual.h"
#include "tests/unit/tap.h"

#define WAIT (120 * MU_SEC)
#define COPIES (2ull << 30) /* what fences bring to all nodes together: each has a copy of what all of them gave */

static unsigned rounds = 3, fence_bytes = 1024;

/* In steps of a millisecond, as somebody would see it who asks again and again. */
#define RUN_UNTIL(cond)                                                                                                \
    for (uint64_t end_ = v.now + WAIT; !(cond) && v.now < end_;)                                                       \
    v_run_until(v.now + MU_MS)

/* What can be seen at the controller now, it has come to then. */
static uint64_t ctl_time(void)
{
    return v.ctl_proc.busy > v.now ? v.ctl_proc.busy : v.now;
}

static unsigned count(bool (*is)(const struct v_agent *))
{
    unsigned n = 0;

    for (unsigned i = 0; i < v.nagents; i++)
        n += is(&v.agents[i]);
    return n;
}

static bool is_placed(const struct v_agent *a)
{
    return a->placed && !a->frozen;
}

static bool is_started(const struct v_agent *a)
{
    return a->stub.keeper.job == v.client.job && a->stub.keeper.started;
}

static bool is_fenced(const struct v_agent *a)
{
    return a->stub.keeper.fenced != 0;
}

static const struct mu_node *node_of(const struct v_agent *a)
{
    const struct mu_pool *pool = mu_ctl_pool(v.ctl);

    return &pool->v[mu_pool_find(pool, a->stub.name)];
}

static unsigned ready(void)
{
    const struct mu_pool *pool = mu_ctl_pool(v.ctl);
    unsigned n = 0;

    for (unsigned i = 0; i < pool->n; i++)
        n += pool->v[i].state == MU_NODE_UP && pool->v[i].ready;
    return n;
}

static unsigned depth_of(const struct v_agent *a)
{
    unsigned d = 1;

    for (; a->parent != V_CTL && d < 20; d++)
        a = &v.agents[a->parent];
    return d;
}

static void joining(void)
{
    unsigned depth[20] = {0};
    uint64_t t0 = v.now;

    for (unsigned i = 0; i < v.nagents; i++) { /* as engines start them */
        v.agents[i].i = i;
        v_start(&v.agents[i], v.now);
        RUN_UNTIL(i + 1 - count(is_placed) < 64);
    }
    RUN_UNTIL(ready() == v.nagents && count(is_placed) == v.nagents);
    TAP_OK(ready() == v.nagents, "%u agents join", v.nagents);
    printf("# %-58s %15.1f ms (controller's processor %.0f ms)\n", "all have joined after", ms(ctl_time() - t0),
           v.ctl_proc.cpu / 1e6);
    for (unsigned i = 0; i < v.nagents; i++)
        depth[depth_of(&v.agents[i]) % 20]++;
    printf("# by depth:");
    for (unsigned d = 1; d < 20 && depth[d]; d++)
        printf(" %u", depth[d]);
    printf("\n");
    TAP_OK(depth[1] == (v.nagents < v.fanout ? v.nagents : v.fanout),
           "those nearest to the controller are as many as may be");
}

static double resting(void)
{
    v_run_until(v.now + MU_SEC);
    double cpu = v.ctl_proc.cpu;
    v_run_until(v.now + 2 * MU_SEC);
    double share = (v.ctl_proc.cpu - cpu) / 2e9 * 100;
    printf("# %-58s %15.2f %% of a core\n", "the controller at rest uses", share);
    TAP_OK(ready() == v.nagents, "all are there");
    return share;
}

static struct v_agent *leaf(unsigned n)
{
    for (unsigned i = v.nagents; i-- > 0;)
        if (!mu_tree_children(v.agents[i].tree) && !n--)
            return &v.agents[i];
    return NULL;
}

static double leaves(void)
{
    double killed[16], silent[16];

    for (unsigned i = 0; i < 2 * rounds; i++) {
        struct v_agent *a = leaf(i * 7 % (v.nagents / 2));
        v_run_until(v.now + (i * 37 % 100) * MU_MS); /* anywhere between two beats */
        uint64_t t0 = v.now;
        const struct mu_node *n = node_of(a);
        if (i % 2) {
            a->frozen = true;
            RUN_UNTIL(n->state != MU_NODE_UP);
            silent[i / 2] = ms(ctl_time() - t0);
            v_end(a, true);
        } else {
            v_end(a, false);
            RUN_UNTIL(n->state != MU_NODE_UP);
            killed[i / 2] = ms(ctl_time() - t0);
        }
        v_start(a, v.now);
        RUN_UNTIL(ready() == v.nagents && count(is_placed) == v.nagents);
    }
    double x = figures("a leaf whose process dies is known to be away after", killed, rounds);
    double y = figures("a leaf that falls silent is known to be away after", silent, rounds);
    TAP_OK(ready() == v.nagents, "leaves that are lost are known, and come back");
    return x > y ? x : y;
}

static void submit(void)
{
    uint32_t n = v.nagents, one_app = 1, zero = 0;
    char prog[] = "true", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL}, *none[] = {NULL};
    char token[40];
    struct mu_m_spec spec = {.ranks = n,
                             .app_ranks = {.v = &n, .n = 1},
                             .app_argc = {.v = &one_app, .n = 1},
                             .argv = argv,
                             .app_envc = {.v = &zero, .n = 1},
                             .app_env = none,
                             .app_wdir = wdirs};
    struct mu_m_submit m = {.token = token};

    snprintf(token, sizeof token, "virtual-%llu", (unsigned long long)v.now);
    if (mu_msg_pack(&m.spec, MU_MSG_spec, &spec))
        abort();
    v.client.job = v.client.running_at = v.client.ended_at = 0;
    v_say(MU_MSG_submit, &m);
    free(m.spec.data);
}

/* When the last one had its start, or its fence. */
static uint64_t newest(bool fence)
{
    uint64_t t = 0;

    for (unsigned i = 0; i < v.nagents; i++) {
        uint64_t at = fence ? v.agents[i].stub.keeper.fenced : v.agents[i].stub.keeper.started;
        t = at > t ? at : t;
    }
    return t;
}

static double jobs(void)
{
    double start_ms[16], run_ms[16], fence_ms[16], end_ms[16];
    bool good = true;
    char what[80];
    uint64_t most = COPIES / v.nagents / v.nagents;
    uint32_t bytes = fence_bytes < most ? fence_bytes : (uint32_t)most;

    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned k = 0; k < v.nagents; k++)
            v.agents[k].stub.keeper.started = 0;
        uint64_t t0 = v.now;
        submit();
        v_say(MU_MSG_attach, &(struct mu_m_attach){.job = v.client.job});
        RUN_UNTIL(count(is_started) == v.nagents);
        start_ms[i] = ms(newest(false) - t0);
        RUN_UNTIL(v.client.running_at);
        run_ms[i] = ms(v.client.running_at - t0);
        good = good && count(is_started) == v.nagents && v.client.running_at;
        v_run_until(ctl_time());
        t0 = v.now;
        for (unsigned k = 0; k < v.nagents; k++) {
            v_begin(k, v.now);
            stub_fence(&v.agents[k].stub, bytes, v.agents[k].proc.busy);
        }
        RUN_UNTIL(count(is_fenced) == v.nagents);
        fence_ms[i] = ms(newest(true) - t0);
        good = good && count(is_fenced) == v.nagents;
        v_run_until(ctl_time());
        t0 = v.now;
        v_say(MU_MSG_cancel, &(struct mu_m_cancel){.job = v.client.job});
        RUN_UNTIL(v.client.ended_at);
        end_ms[i] = ms(v.client.ended_at - t0);
        good = good && v.client.ended_at;
        v_run_until(ctl_time() + 200 * MU_MS);
    }
    double worst = figures("a job on all nodes: the last one has its start after", start_ms, rounds);
    figures("the controller has heard that all run after", run_ms, rounds);
    snprintf(what, sizeof what, "a fence of all, %u bytes from and %u KiB to each, after", bytes,
             bytes * v.nagents / 1024);
    figures(what, fence_ms, rounds);
    figures("cancelled, all have ended after", end_ms, rounds);
    TAP_OK(good, "jobs over all nodes start, have their fence, and end");
    return worst;
}

static void inner(void)
{
    double back[16];
    bool good = true;

    for (unsigned i = 0; i < rounds; i++) {
        struct v_agent *a = NULL;
        for (unsigned k = 0; k < v.nagents; k++)
            if (v.agents[k].parent == V_CTL && (!a || mu_tree_below(v.agents[k].tree) > mu_tree_below(a->tree)))
                a = &v.agents[k];
        uint64_t t0 = v.now;
        v_end(a, false);
        v_run_until(v.now + 20 * MU_MS);
        RUN_UNTIL(ready() == v.nagents - 1 && count(is_placed) == v.nagents - 1);
        back[i] = ms(ctl_time() - t0);
        good = good && ready() == v.nagents - 1;
        v_start(a, v.now);
        RUN_UNTIL(ready() == v.nagents && count(is_placed) == v.nagents);
    }
    figures("an inner agent dies: all below it are back after", back, rounds);
    TAP_OK(good && ready() == v.nagents, "what was below an inner agent that dies comes back");
}

static void measure(void)
{
    struct mu_err err = {0};

    if (costs_measure(&v.costs, &err)) {
        printf("Bail out! the costs: %s\n", err.text);
        exit(99);
    }
    printf("# %-58s %15.1f us\n", "a message costs each end", v.costs.message / 1e3);
    printf("# %-58s %15.1f us\n", "a kilobyte", v.costs.kilobyte / 1e3);
    printf("# %-58s %15.1f us\n", "a handshake", v.costs.handshake / 1e3);
}

int main(int argc, char **argv)
{
    bool strict = false;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--strict")) {
            strict = true;
            continue;
        }
        unsigned n = i + 1 < argc ? (unsigned)strtoul(argv[i + 1], NULL, 10) : 0;
        if (!strcmp(argv[i], "--agents"))
            v.nagents = n;
        else if (!strcmp(argv[i], "--fanout"))
            v.fanout = n;
        else if (!strcmp(argv[i], "--rounds"))
            rounds = n > 16 ? 16 : n;
        else if (!strcmp(argv[i], "--fence"))
            fence_bytes = n;
        i++;
    }
    if (v.nagents < 2 || !rounds || fence_bytes > STUB_FENCE_MAX)
        return fprintf(stderr, "virtual: at least 2 agents, a round, and fences of at most %u bytes\n", STUB_FENCE_MAX),
               2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    measure();
    v_pool_begin();
    joining();
    double share = resting(), lost = leaves(), broadcast = jobs();
    inner();
    TAP_OK(share < (strict ? 10 : 100), "the controller at rest uses %.2f %% of a core", share);
    TAP_OK(lost <= (strict ? 1500 : 10000), "a lost leaf is known after %.0f ms", lost);
    TAP_OK(broadcast <= (strict ? 1000 : 20000), "a start has reached all after %.0f ms", broadcast);
    v_pool_free();
    v_net_free();
    return tap_done();
}
