#include "topo/audit.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

/* --- fabrics as lists of cables --------------------------------------------------------------------------------- */

enum { NODES = 4000, CABLES = 8000 };
static struct {
    char name[64], text[64];
    int ca, ports;
} node[NODES];
static struct {
    int a, aport, b, bport, gone;
} cable[CABLES];
static int nnodes, ncables;

static int add_node(const char *name, const char *text, int ca)
{
    snprintf(node[nnodes].name, sizeof node[nnodes].name, "%s", name);
    snprintf(node[nnodes].text, sizeof node[nnodes].text, "%s", text);
    node[nnodes].ca = ca;
    node[nnodes].ports = 0;
    return nnodes++;
}

static void add_cable(int a, int b)
{
    cable[ncables].a = a, cable[ncables].aport = ++node[a].ports;
    cable[ncables].b = b, cable[ncables].bport = ++node[b].ports;
    cable[ncables++].gone = 0;
}

/* pods x units of `rails` leaves with `hosts` hosts each, `spines` spines a pod, `cores` cores a spine of a pod. */
static void build(int pods, int units, int rails, int hosts, int spines, int cores)
{
    char name[64], text[64];
    int core[64][16], spine[64], leaf[16];

    nnodes = ncables = 0;
    for (int s = 0; s < spines; s++)
        for (int c = 0; c < cores; c++) {
            snprintf(name, sizeof name, "core%d.%d", s, c);
            core[s][c] = add_node(name, name, 0);
        }
    for (int p = 0; p < pods; p++) {
        for (int s = 0; s < spines; s++) {
            snprintf(name, sizeof name, "spine%d.%d", p, s);
            spine[s] = add_node(name, name, 0);
            for (int c = 0; c < cores; c++)
                add_cable(spine[s], core[s][c]);
        }
        for (int u = 0; u < units; u++) {
            for (int r = 0; r < rails; r++) {
                snprintf(name, sizeof name, "leaf%d.%d.%d", p, u, r);
                leaf[r] = add_node(name, name, 0);
                for (int s = 0; s < spines; s++)
                    add_cable(leaf[r], spine[s]);
            }
            for (int h = 0; h < hosts; h++)
                for (int r = 0; r < rails; r++) {
                    snprintf(name, sizeof name, "h%d.%d.%d-%d", p, u, h, r);
                    snprintf(text, sizeof text, "h%d.%d.%d mlx5_%d", p, u, h, r);
                    add_cable(add_node(name, text, 1), leaf[r]);
                }
        }
    }
}

static int audit(struct mu_fabric **f, struct mu_audit *a, struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};

    for (int i = 0; i < nnodes; i++) {
        int alive = 0;
        for (int k = 0; k < ncables; k++)
            alive += !cable[k].gone && (cable[k].a == i || cable[k].b == i);
        if (!alive) /* as in a discovery: what nothing leads to is not there */
            continue;
        mu_buf_appendf(&b, "%s 1024 \"%s\" # \"%s\"\n", node[i].ca ? "Ca" : "Switch", node[i].name, node[i].text);
        for (int k = 0; k < ncables; k++) {
            if (cable[k].gone)
                continue;
            if (cable[k].a == i)
                mu_buf_appendf(&b, "[%d] \"%s\"[%d]\n", cable[k].aport, node[cable[k].b].name, cable[k].bport);
            if (cable[k].b == i)
                mu_buf_appendf(&b, "[%d] \"%s\"[%d]\n", cable[k].bport, node[cable[k].a].name, cable[k].aport);
        }
    }
    int rc = mu_fabric_parse(mu_buf_str(&b), b.len, "planted", f, err);
    return rc ? rc : mu_audit_run(*f, a, err);
}

/* --- faults ----------------------------------------------------------------------------------------------------- */

static uint64_t seed;
static int rnd(int n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int)((seed >> 33) % (uint64_t)n);
}

static char touched[NODES];
static int want[4], host_of_want[4][NODES];

static void expect(enum mu_finding_kind kind, int at)
{
    want[kind]++;
    host_of_want[kind][at]++;
}

/* By the lower end; a host is touched as a whole, through its first adapter's number. */
static int touch(int n)
{
    char host[64];
    int first = n;

    if (node[n].ca) {
        snprintf(host, sizeof host, "%s", node[n].text);
        host[strcspn(host, " ")] = 0;
        for (first = 0; strncmp(node[first].text, host, strlen(host)) || node[first].text[strlen(host)] != ' '; first++)
            ;
    }
    if (touched[first])
        return -1;
    touched[first] = 1;
    return first;
}

static void clear(void)
{
    memset(touched, 0, sizeof touched);
    memset(want, 0, sizeof want);
    memset(host_of_want, 0, sizeof host_of_want);
}

static void plant(int dead, int swaps, int rails)
{
    for (int tries = 0; dead && tries < 10000; tries++) {
        int k = rnd(ncables), at;
        if (cable[k].gone || (node[cable[k].a].ca && rails < 2) || (at = touch(cable[k].a)) < 0)
            continue;
        cable[k].gone = 1;
        expect(node[cable[k].a].ca ? MU_MISSING_RAIL : MU_DEAD_LINK, at);
        dead--;
    }
    for (int tries = 0; swaps && tries < 10000; tries++) {
        int k = rnd(ncables), m = rnd(ncables), at, other;
        if (cable[k].gone || cable[m].gone || cable[k].b == cable[m].b || cable[k].a == cable[m].a ||
            node[cable[k].a].ca != node[cable[m].a].ca || (node[cable[k].a].ca && rails < 2) ||
            strncmp(node[cable[k].a].name, node[cable[m].a].name, 4)) /* of one level */
            continue;
        if ((at = touch(cable[k].a)) < 0 || (other = touch(cable[m].a)) < 0)
            continue;
        int b = cable[k].b, bport = cable[k].bport;
        cable[k].b = cable[m].b, cable[k].bport = cable[m].bport;
        cable[m].b = b, cable[m].bport = bport;
        expect(MU_MISCABLED, at);
        expect(MU_MISCABLED, other);
        swaps--;
    }
}

/* Whether the audit says what is wanted; if not, prints both. */
static int holds(const char *what)
{
    struct mu_fabric *f = NULL;
    struct mu_audit a = {0};
    struct mu_err err = {0};
    int rc = audit(&f, &a, &err), total = want[0] + want[1] + want[2], bad = rc != 0 || (int)a.n != total;

    for (size_t i = 0; i < a.n; i++) {
        int at = 0;
        size_t len = a.v[i].host ? strlen(a.v[i].host) : 0;
        while (at < nnodes &&
               (!len || strncmp(node[at].text, a.v[i].host, len) || (node[at].text[len] && node[at].text[len] != ' ')))
            at++;
        if (at == nnodes || !host_of_want[a.v[i].kind][at]--)
            bad = 1;
    }
    if (bad) {
        printf("# %s: %d wanted, %zu found; %s\n", what, total, a.n, err.text);
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < nnodes; i++)
                if (host_of_want[k][i])
                    printf("# not as wanted: %d %s at %s\n", host_of_want[k][i],
                           mu_finding_name((enum mu_finding_kind)k), node[i].text);
        for (size_t i = 0; i < a.n && i < 200; i++)
            printf("# %s %s:%d %s\n", mu_finding_name(a.v[i].kind), a.v[i].host ? a.v[i].host : "-", a.v[i].port,
                   a.v[i].detail);
    }
    mu_audit_free(&a);
    mu_fabric_free(f);
    return !bad;
}

static void check(const char *what, int dead, int swaps)
{
    TAP_OK(holds(what), "%s, %d dead and %d swapped: all are found, and nothing else", what, dead, swaps);
}

static void planted(void)
{
    static const struct {
        const char *what;
        int pods, units, rails, hosts, spines, cores;
    } fabrics[] = {
        {"two levels", 1, 24, 1, 8, 8, 0},
        {"8 rails", 1, 4, 8, 6, 8, 0},
        {"2 rails", 1, 12, 2, 10, 4, 0},
        {"three levels", 6, 8, 1, 4, 4, 4},
    };
    static const struct {
        int dead, swaps;
    } faults[] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {2, 2}, {3, 2}};

    for (size_t i = 0; i < MU_COUNT(fabrics); i++)
        for (size_t k = 0; k < MU_COUNT(faults); k++)
            for (int round = 0; round < (k ? 4 : 1); round++) {
                seed = 88172645463325252ull + 1000 * i + 100 * k + (unsigned)round;
                build(fabrics[i].pods, fabrics[i].units, fabrics[i].rails, fabrics[i].hosts, fabrics[i].spines,
                      fabrics[i].cores);
                clear();
                plant(faults[k].dead, faults[k].swaps, fabrics[i].rails);
                check(fabrics[i].what, faults[k].dead, faults[k].swaps);
            }
    for (unsigned round = 0; round < 3; round++) {
        seed = 1181783497276652981ull + round;
        build(8, 16, 1, 8, 8, 4);
        clear();
        plant(60, 20, 1);
        check("1024 hosts on three levels", 60, 20);
        build(1, 16, 8, 16, 16, 0);
        clear();
        plant(60, 20, 8);
        check("256 hosts with 8 rails", 60, 20);
    }
}

/* A host that is down is not in the file at all. */
static void take_down(int unit_of_pod, int pod, int h)
{
    char host[32];
    int len = snprintf(host, sizeof host, "h%d.%d.%d ", pod, unit_of_pod, h);

    for (int k = 0; k < ncables; k++)
        if (!strncmp(node[cable[k].a].text, host, (size_t)len))
            cable[k].gone = 1;
}

/* Half or more of the uplinks of a leaf, never all. */
static void half_dead(int pod, int unit, int rail, int spines)
{
    char leaf[32];
    int left = spines / 2 + rnd(spines - spines / 2 - 1) + (spines < 6), at = -1;

    snprintf(leaf, sizeof leaf, "leaf%d.%d.%d", pod, unit, rail);
    for (int s = rnd(spines), k = 0; left > 0 && k < ncables * spines; k++) {
        int c = k % ncables;
        if (cable[c].gone || strcmp(node[cable[c].a].name, leaf))
            continue;
        if (s-- > 0)
            continue;
        if (at < 0 && (at = touch(cable[c].a)) < 0)
            return;
        s = rnd(spines);
        cable[c].gone = 1;
        expect(MU_DEAD_LINK, at);
        left--;
    }
}

static void hosts_down(long rounds)
{
    long bad = 0;
    char what[120];

    for (long round = 0; round < rounds && bad < 5; round++) {
        seed = 88172645463325252ull + 7919u * (uint64_t)round;
        for (int i = 0; i < 8; i++)
            rnd(2);
        int pods = rnd(4) ? 1 : 5 + rnd(2), rails = pods > 1 || rnd(2) ? 1 : 2 + rnd(7), units = 7 + rnd(10),
            hosts = 5 + rnd(8), spines = 4 + rnd(9), cores = pods > 1 ? 4 : 0;
        int down[16] = {0}, many = rnd(3), half = rnd(3), u = rnd(units), p = rnd(pods);
        build(pods, units, rails, hosts, spines, cores);
        clear();
        for (int k = 0; many && k < (many == 1 ? 3 : units); k++) {
            int x = rnd(units), most = hosts < 8 || rails > 1 ? 1 : 2;
            if ((x != u || !half) && down[x]++ < most)
                take_down(x, rnd(pods), down[x]);
        }
        for (int k = half ? rnd(hosts < 8 ? 2 : 3) : 0; k > 0; k--)
            take_down(u, p, k);
        if (half)
            half_dead(p, u, rnd(rails), spines);
        int dead = half ? 0 : rnd(3), swaps = rnd(2);
        plant(dead, swaps, rails);
        snprintf(what, sizeof what, "round %ld: %d pods, %d units, %d rails, %d hosts, %d spines; half %d", round, pods,
                 units, rails, hosts, spines, half);
        bad += !holds(what);
    }
    TAP_OK(!bad, "%ld random fabrics with hosts down, dead links, swapped cables and half dead leaves", rounds);
}

/* --- by hand ---------------------------------------------------------------------------------------------------- */

static int find_cable(const char *low, const char *up)
{
    for (int k = 0; k < ncables; k++)
        if (!strcmp(node[cable[k].a].name, low) && !strcmp(node[cable[k].b].name, up))
            return k;
    return -1;
}

static void swap(int k, int m)
{
    int b = cable[k].b, bport = cable[k].bport;

    cable[k].b = cable[m].b, cable[k].bport = cable[m].bport;
    cable[m].b = b, cable[m].bport = bport;
}

static void reads(const char *what, const char *wanted)
{
    struct mu_fabric *f = NULL;
    struct mu_audit a = {0};
    struct mu_err err = {0};
    mu_auto_buf struct mu_buf got = {0};
    int rc = audit(&f, &a, &err);

    for (size_t i = 0; i < a.n; i++)
        mu_buf_appendf(&got, "%s%s %s:%d %s", i ? "; " : "", mu_finding_name(a.v[i].kind),
                       a.v[i].host ? a.v[i].host : "-", a.v[i].port, a.v[i].detail);
    TAP_OK(!rc && !strcmp(mu_buf_str(&got), wanted), "%s", what);
    if (strcmp(mu_buf_str(&got), wanted))
        printf("# got:  %s%s\n# want: %s\n", mu_buf_str(&got), err.text, wanted);
    mu_audit_free(&a);
    mu_fabric_free(f);
}

static void lacks(int leaf, int from, int to)
{
    char low[32], up[32];

    for (int s = from; s < to; s++) {
        snprintf(low, sizeof low, "leaf0.%d.0", leaf);
        snprintf(up, sizeof up, "spine0.%d", s);
        cable[find_cable(low, up)].gone = 1;
        expect(MU_DEAD_LINK, cable[find_cable(low, up)].a);
    }
}

/* Half dead, or another kind of switch. */
static void kinds(void)
{
    build(1, 16, 1, 8, 8, 0), clear();
    lacks(3, 0, 5);
    for (int u = 3; u < 6; u++)
        take_down(u, 0, u);
    TAP_OK(holds("5 of 8"), "a leaf lacks 5 of 8 uplinks, it and two more a host");
    build(1, 64, 1, 8, 16, 0), clear();
    lacks(3, 0, 15);
    take_down(3, 0, 0);
    TAP_OK(holds("15 of 16"), "one of 64 leaves lacks 15 of 16 uplinks and a host");
    build(1, 16, 1, 8, 8, 0), clear();
    lacks(3, 0, 4);
    for (int u = 5; u < 14; u++)
        take_down(u, 0, u % 8);
    TAP_OK(holds("the full load"), "a leaf lacks half of the uplinks, and most others a host");
    for (int u = 5; u < 14; u++)
        take_down(u, 0, (u + 1) % 8);
    clear();
    for (int k = 0; k < 4; k++)
        expect(MU_DEAD_LINK, cable[find_cable("leaf0.3.0", "spine0.0")].a);
    TAP_OK(holds("two hosts"), "and most others two hosts");
    build(1, 3, 1, 4, 8, 0), clear();
    lacks(1, 0, 4);
    TAP_OK(holds("three"), "one of three leaves lacks half of its uplinks");
    build(1, 16, 1, 8, 8, 0), clear();
    for (int u = 4; u < 7; u++) {
        lacks(u, 4, 8);
        take_down(u, 0, 6), take_down(u, 0, 7);
    }
    clear();
    TAP_OK(holds("three alike"), "three leaves with 6 of 8 hosts and the same 4 of 8 uplinks are of another kind");
    build(1, 16, 1, 8, 8, 0), clear();
    lacks(4, 4, 8);
    for (int h = 1; h < 8; h++)
        take_down(4, 0, h);
    clear();
    TAP_OK(holds("a host"), "so is one with one host and half of the uplinks");
}

int main(int argc, char **argv)
{
    planted();
    hosts_down(argc > 1 ? atol(argv[1]) : 200);

    build(1, 4, 4, 4, 4, 0);
    cable[find_cable("h0.1.2-3", "leaf0.1.3")].gone = 1;
    reads("a host without a rail", "missing-rail h0.1.2:0 no cable to leaf0.1.3; 3 hosts of its unit have one");
    build(1, 4, 4, 4, 4, 0);
    swap(find_cable("h0.1.2-3", "leaf0.1.3"), find_cable("h0.1.2-1", "leaf0.1.1"));
    reads("two cables of one host",
          "miscabled h0.1.2:1 mlx5_1 is on leaf0.1.3; in other hosts of its unit it is on leaf0.1.1; "
          "miscabled h0.1.2:1 mlx5_3 is on leaf0.1.1; in other hosts of its unit it is on leaf0.1.3");
    build(1, 4, 4, 4, 4, 0);
    for (int h = 0; h < 4; h++) {
        char name[32];
        snprintf(name, sizeof name, "h0.2.%d-3", h);
        cable[find_cable(name, "leaf0.2.3")].gone = 1;
    }
    reads("a unit without a rail", "missing-rail -:0 the unit of h0.2.0 and 3 more has 3 rails; 3 units have 4");
    build(1, 4, 4, 4, 4, 0);
    for (int r = 1; r < 4; r++) {
        char name[32], leaf[32];
        snprintf(name, sizeof name, "h0.1.2-%d", r);
        snprintf(leaf, sizeof leaf, "leaf0.1.%d", r);
        cable[find_cable(name, leaf)].gone = 1;
    }
    reads("a host with one rail among those with four is of another kind", "");
    build(1, 8, 1, 4, 4, 0);
    cable[find_cable("leaf0.3.0", "spine0.2")].gone = 1;
    reads("a dead uplink and its port",
          "dead-link leaf0.3.0:3 lacks a cable to spine0.2; 7 of 8 switches like it have 1");
    build(1, 8, 1, 4, 4, 0);
    for (int s = 0; s < 3; s++) {
        char spine[32];
        snprintf(spine, sizeof spine, "spine0.%d", s);
        cable[find_cable("leaf0.3.0", spine)].gone = 1;
    }
    reads("a leaf that has as many hosts as its like, but a quarter of the uplinks",
          "dead-link leaf0.3.0:1 lacks a cable to spine0.0; 7 of 8 switches like it have 1; "
          "dead-link leaf0.3.0:2 lacks a cable to spine0.1; 7 of 8 switches like it have 1; "
          "dead-link leaf0.3.0:3 lacks a cable to spine0.2; 7 of 8 switches like it have 1");
    take_down(3, 0, 0);
    reads("and with a host down", "dead-link leaf0.3.0:1 lacks a cable to spine0.0; 7 of 8 switches like it have 1; "
                                  "dead-link leaf0.3.0:2 lacks a cable to spine0.1; 7 of 8 switches like it have 1; "
                                  "dead-link leaf0.3.0:3 lacks a cable to spine0.2; 7 of 8 switches like it have 1");
    take_down(3, 0, 1);
    take_down(3, 0, 2);
    reads("one with a quarter of the hosts, too, is of another kind", "");
    build(1, 8, 1, 4, 4, 0);
    for (int s = 0; s < 9; s++) {
        char leaf[32], spine[32];
        snprintf(leaf, sizeof leaf, "leaf0.%d.0", s / 3);
        snprintf(spine, sizeof spine, "spine0.%d", s % 3);
        cable[find_cable(leaf, spine)].gone = 1;
    }
    reads("three such leaves of eight are meant to be so", "");

    kinds();

    struct mu_fabric *f = NULL;
    struct mu_audit a = {0};
    struct mu_err err = {0};
    const char *text =
        "Switch 4 \"a\"\n[1] \"h\"[1]\n[2] \"g\"[1]\nCa 1 \"h\"\n[1] \"a\"[1]\nCa 2 \"g\"\n[2]\n[1] \"a\"[2]\n"
        "Switch 4 \"b\"\n[1] \"a\"[3]\n";
    int rc = mu_fabric_parse(text, strlen(text), "f", &f, &err);
    if (!rc)
        rc = mu_audit_run(f, &a, &err);
    TAP_OK(!rc && a.n == 1 && a.v[0].kind == MU_ONE_SIDED && a.units.n == 1, "a cable that one end does not know of");
    mu_audit_free(&a);
    mu_fabric_free(f);
    f = NULL;
    rc = mu_fabric_parse("SwitchName=a Nodes=n\n", 21, "t", &f, &err);
    TAP_OK(!rc && mu_audit_run(f, &a, &err) == MUSTER_EARG && strstr(err.text, "no cables"), "topology.conf: %s",
           err.text);
    mu_fabric_free(f);
    return tap_done();
}
