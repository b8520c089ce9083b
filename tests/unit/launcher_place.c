/* Nodes by the switches between them: what the pool gives a job when a fabric is known, what the controller says of it,
 * and which node takes a lost one's place. */
#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "launcher/core/ctl.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static struct mu_fabric *fabric;
static struct mu_place *place;

static void build(const char *conf)
{
    struct mu_err err = {0};

    mu_place_free(place);
    mu_fabric_free(fabric);
    place = NULL;
    fabric = NULL;
    if (mu_fabric_parse(conf, strlen(conf), "conf", &fabric, &err) || mu_place_new(fabric, &place, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
}

/* --- the pool ----------------------------------------------------------------------------------------------------- */

static struct mu_pool pool;
static char by_node[] = "node";

static void node(const char *name, uint32_t slots, uint32_t used)
{
    int i = mu_pool_add(&pool, name);

    pool.v[i].slots = slots;
    pool.v[i].used = used;
    pool.v[i].state = MU_NODE_UP;
    pool.v[i].ready = true;
}

/* "a0:2 a1:1 +n2 (why)" or why not. */
static const char *fit(struct mu_m_spec spec, char why[400])
{
    static char out[600];
    struct mu_share *v = NULL;
    unsigned n = 0, spares = 0;
    size_t len = 0;

    if (mu_pool_fit(&pool, 7, &spec, &v, &n, &spares, why, 400) != MU_FIT_YES)
        return why;
    for (unsigned i = 0; i < n + spares; i++)
        len += (size_t)(i < n ? snprintf(out + len, sizeof out - len, "%s%s:%u", i ? " " : "", pool.v[v[i].node].name,
                                         v[i].ranks)
                              : snprintf(out + len, sizeof out - len, " +%s", pool.v[v[i].node].name));
    free(v);
    return out;
}

static void test_rows(void)
{
    static char hosts[] = "b0:2,a0:2";
    static const struct {
        const char *what;
        struct mu_m_spec spec;
        const char *want, *why;
    } rows[] = {
        {"the leaf that has just enough", {.ranks = 4, .nodes = 2}, "b0:2 b1:2", "2 nodes on one leaf switch"},
        {"a job of one node is put where it fits best", {.ranks = 1}, "c0:1", ""},
        {"three nodes on one leaf, not on the first ones",
         {.ranks = 6, .nodes = 3},
         "a0:2 a1:2 a2:2",
         "3 nodes on one"},
        {"four need two leaves of a pod",
         {.ranks = 8, .nodes = 4},
         "a0:2 a1:2 a2:2 b0:2",
         "4 nodes on 2 leaf switches, a ring over them passes 4 cables between switches, the fewest possible"},
        {"as few as it takes, by slots", {.ranks = 7}, "a0:2 a1:2 a2:2 b0:1", "4 nodes on 2 leaf"},
        {"a rank a node", {.ranks = 3, .ppn = 1}, "a0:1 a1:1 a2:1", "3 nodes on one leaf"},
        {"evenly over few", {.ranks = 2, .map = by_node}, "b0:1 b1:1", "2 nodes on one leaf"},
        {"evenly over all",
         {.ranks = 12, .map = by_node},
         "a0:2 a1:2 a2:2 b0:1 b1:1 c0:1 c1:1 c2:1 x:1",
         "leaf by leaf"},
        {"its spare is near", {.ranks = 4, .nodes = 2, .spares = 1}, "b0:2 b1:2 +a0", "2 nodes on one leaf"},
        {"the hosts that were named, as they were", {.ranks = 4, .hosts = hosts}, "b0:2 a0:2", ""},
        {"more than the fabric knows",
         {.ranks = 9, .ppn = 1},
         "a0:1 a1:1 a2:1 b0:1 b1:1 c0:1 c1:1 c2:1 x:1",
         "leaf by leaf, as not enough of the free nodes are in the fabric (x is not)"},
        {"groups of two on one leaf each",
         {.ranks = 8, .nodes = 4, .group = 2},
         "a0:2 a1:2 b0:2 b1:2",
         "; 0 of 2 groups are on more than one leaf"},
    };

    build("SwitchName=la Nodes=a[0-2]\nSwitchName=lb Nodes=b[0-1]\nSwitchName=lc Nodes=c[0-2]\n"
          "SwitchName=p0 Switches=la,lb\nSwitchName=p1 Switches=lc\nSwitchName=top Switches=p0,p1\n");
    node("x", 2, 0);
    node("a0", 2, 0);
    node("c0", 2, 1);
    node("c1", 2, 0);
    node("b0", 2, 0);
    node("a1.some.domain", 2, 0);
    mu_pool_set_place(&pool, place);
    node("a2", 2, 0); /* it comes later */
    node("b1", 2, 0);
    node("c2", 2, 0);
    strcpy(pool.v[mu_pool_find(&pool, "a1.some.domain")].name, "a1");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[400];
        const char *got = fit(rows[i].spec, why);
        TAP_OK(!strcmp(got, rows[i].want) && strstr(why, rows[i].why) && (*rows[i].why || !*why), "%s", rows[i].what);
        if (strcmp(got, rows[i].want) || !strstr(why, rows[i].why))
            printf("# %s (%s)\n", got, why);
    }
    char why[400];
    node("a1.other.domain", 2, 0);
    TAP_OK(!pool.v[mu_pool_find(&pool, "a1.other.domain")].host_plus1, "a second node of a host is not in the fabric");
    mu_pool_set_place(&pool, NULL);
    TAP_OK(!strcmp(fit((struct mu_m_spec){.ranks = 4, .nodes = 2}, why), "x:2 a0:2") && !*why,
           "without a fabric it is the pool's order");
    mu_pool_free(&pool);
}

/* --- against brute force ------------------------------------------------------------------------------------------ */

enum { MOST = 6 };

/* The cheapest order of `want` of the free hosts. */
static long brute(const int *hosts, int n, int want, int *chosen, int k, unsigned used, long best)
{
    if (k == want) {
        long c = mu_place_cost(place, chosen, want);
        return c >= 0 && c < best ? c : best;
    }
    for (int i = 0; i < n; i++) {
        if (used >> i & 1)
            continue;
        chosen[k] = hosts[i];
        best = brute(hosts, n, want, chosen, k + 1, used | 1u << i, best);
    }
    return best;
}

static uint32_t random_state = 12345;
static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static void test_random(void)
{
    enum { TRIALS = 400 };
    int wrong = 0, placed = 0;

    for (int t = 0; t < TRIALS; t++) {
        char conf[1000] = "";
        int leaves = 2 + (int)below(3), nodes = 0;
        size_t len = 0;
        for (int l = 0; l < leaves; l++) {
            int n = 1 + (int)below(3);
            len += (size_t)snprintf(conf + len, sizeof conf - len, "SwitchName=l%d Nodes=n[%d-%d]\n", l, nodes,
                                    nodes + n - 1);
            nodes += n;
        }
        int cut = 1 + (int)below((uint32_t)leaves);
        len += (size_t)snprintf(conf + len, sizeof conf - len, "SwitchName=p0 Switches=l[0-%d]\n", cut - 1);
        if (cut < leaves)
            len +=
                (size_t)snprintf(conf + len, sizeof conf - len, "SwitchName=p1 Switches=l[%d-%d]\n", cut, leaves - 1);
        snprintf(conf + len, sizeof conf - len, "SwitchName=top Switches=p[0%s]\n", cut < leaves ? "-1" : "");
        build(conf);
        mu_pool_set_place(&pool, place);
        int hosts[MOST], nfree = 0;
        for (int i = 0; i < nodes; i++) {
            char name[16];
            bool free = nfree < MOST && below(4);
            snprintf(name, sizeof name, "n%d", i);
            node(name, 1, !free);
            if (free)
                hosts[nfree++] = mu_fabric_find_host(fabric, name);
        }
        int want = nfree ? 1 + (int)below((uint32_t)nfree) : 0, chosen[MOST];
        struct mu_m_spec spec = {.ranks = (uint32_t)want, .nodes = (uint32_t)want};
        struct mu_share *v = NULL;
        unsigned n = 0, spares;
        char why[400];
        if (want && mu_pool_fit(&pool, 7, &spec, &v, &n, &spares, why, sizeof why) == MU_FIT_YES) {
            int got[MOST];
            for (unsigned i = 0; i < n; i++)
                got[i] = (int)pool.v[v[i].node].host_plus1 - 1;
            placed++;
            wrong += n != (unsigned)want ||
                     mu_place_cost(place, got, (int)n) != brute(hosts, nfree, want, chosen, 0, 0, LONG_MAX);
        } else {
            wrong += want > 0;
        }
        free(v);
        mu_pool_set_place(&pool, NULL);
        mu_pool_free(&pool);
    }
    TAP_OK(!wrong && placed > TRIALS / 2, "%d random jobs on small trees cost the least there is (%d do not)", placed,
           wrong);
}

/* --- the controller ----------------------------------------------------------------------------------------------- */

static uint64_t job;
static char events[4000], started[400];
static mu_conn agents[8];

static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    size_t n = strlen(events);

    if (a->kind == MU_ACT_EVENT)
        snprintf(events + n, sizeof events - n, "%s %s: %s\n", a->event, a->node, a->detail);
    if (a->kind != MU_ACT_SEND || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    if (m.type == MU_MSG_submitted)
        job = m.submitted.job;
    if (m.type == MU_MSG_start) {
        started[0] = 0;
        for (char **v = m.start.nodes; *v; v++)
            snprintf(started + strlen(started), sizeof started - strlen(started), "%s ", *v);
    }
}

static void joins(unsigned i, const char *name)
{
    static char boot[] = "b";

    agents[i] = introduce(
        (struct mu_m_agent){.node = (char *)(uintptr_t)name, .slots = 1, .pus = 1, .gpus = 3, .boot = boot, .pid = 1});
    ready(agents[i]);
}

static void begin(uint64_t fabric_ns)
{
    static const char *const names[] = {"n0", "b0", "a0", "b1", "a1", "b2", "a2"};
    struct mu_ctl_config cfg = {.restarts = 3, .node = "n0", .fabric_ns = fabric_ns};

    mu_ctl_free(ctl);
    ctl = mu_ctl_new(&cfg);
    events[0] = started[0] = 0;
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        joins(i, names[i]);
}

static void submit(uint32_t ranks, uint32_t spares)
{
    hand_in(up("client"), NULL, (struct mu_m_spec){.ranks = ranks, .spares = spares});
}

/* Its host does not answer any more: given up after a lease. */
static void lose(unsigned agent)
{
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = agents[agent], .status = MU_DOWN_SILENT});
    now += 2 * MU_LEASE_NS;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

static void gone(unsigned agent)
{
    static uint64_t seq;

    hear(agents[agent], MU_MSG_report,
         &(struct mu_m_report){.job = job,
                               .attempt = newest_job()->attempt,
                               .phase = MU_PHASE_GONE,
                               .nranks = 1,
                               .nfailed = 1,
                               .drained = 1,
                               .seq = ++seq});
    now += 100 * MU_MS;
    step((struct mu_ev){.kind = MU_EV_TIME});
}

static void test_controller(void)
{
    build("SwitchName=la Nodes=a[0-2]\nSwitchName=lb Nodes=b[0-2]\nSwitchName=top Switches=la,lb\n");
    begin(10 * MU_SEC);
    submit(1, 0);
    TAP_OK(!strcmp(started, "n0 "), "a job of one node does not wait for the fabric");
    submit(2, 0);
    TAP_OK(!strcmp(newest_job()->reason, "waiting for the fabric to be read"), "one of several does: %s",
           newest_job()->reason);
    step((struct mu_ev){.kind = MU_EV_FABRIC, .place = place});
    TAP_OK(!strcmp(started, "a0 a1 "), "and is placed by it: %s", started);
    TAP_OK(newest_job()->placed && !strcmp(newest_job()->placed, "2 nodes on one leaf switch"), "its row says why");
    TAP_OK(strstr(events, "placed : 2 nodes on one leaf switch"), "and an event");
    TAP_OK(mu_ctl_pool(ctl)->v[1].gpus == 3, "a node's GPUs are what its agent has said");

    begin(10 * MU_SEC);
    submit(2, 0);
    TAP_OK(mu_ctl_next(ctl) <= now + 10 * MU_SEC, "nobody waits for it for ever");
    now += 11 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    TAP_OK(!strcmp(started, "n0 b0 ") && !newest_job()->placed, "then the pool's order holds: %s", started);

    begin(10 * MU_SEC);
    submit(2, 0);
    step((struct mu_ev){.kind = MU_EV_FABRIC});
    TAP_OK(!strcmp(started, "n0 b0 "), "nor when it cannot be had: %s", started);

    begin(0);
    step((struct mu_ev){.kind = MU_EV_FABRIC, .place = place});
    submit(2, 0);
    TAP_OK(!strcmp(started, "a0 a1 "), "two nodes of a leaf");
    lose(4);
    gone(2);
    TAP_OK(!strcmp(started, "a0 a2 "), "the free node that is nearest takes a lost one's place: %s", started);
    TAP_OK(newest_job()->placed && !strcmp(newest_job()->placed, "2 nodes on one leaf switch"), "and that is said");

    begin(0);
    submit(3, 2);
    TAP_OK(!strcmp(started, "n0 b0 a0 ") && !strcmp(newest_job()->spare_nodes[0], "b1"),
           "spares from before the fabric");
    step((struct mu_ev){.kind = MU_EV_FABRIC, .place = place});
    lose(1);
    gone(0);
    gone(2);
    TAP_OK(!strcmp(started, "n0 a1 a0 "), "the nearest spare takes a lost one's place: %s", started);

    begin(0);
    submit(3, 0);
    TAP_OK(!strcmp(started, "n0 b0 a0 "), "a job that was there before the fabric");
    step((struct mu_ev){.kind = MU_EV_FABRIC, .place = place});
    submit(2, 1);
    TAP_OK(!strcmp(started, "a1 a2 ") && !strcmp(newest_job()->spare_nodes[0], "b1"),
           "the next one, with a spare: %s, %s", started, newest_job()->spare_nodes[0]);
    step((struct mu_ev){.kind = MU_EV_FABRIC});
    TAP_OK(!mu_ctl_pool(ctl)->place && !mu_ctl_pool(ctl)->v[3].host_plus1, "a fabric that is gone is forgotten");
}

int main(void)
{
    test_rows();
    test_random();
    test_controller();
    mu_ctl_free(ctl);
    mu_acts_free(&acts);
    mu_place_free(place);
    mu_fabric_free(fabric);
    return tap_done();
}
