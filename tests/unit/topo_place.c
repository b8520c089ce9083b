#include "topo/place.h"

#include <limits.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

/* --- random trees against brute force --------------------------------------------------------------------------- */

enum { SWITCHES = 8, HOSTS = 10 };
struct tree {
    int nsw, nh, parent[SWITCHES], of[HOSTS], size[HOSTS];
};

static uint64_t seed;
static unsigned rnd(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % n;
}

static void make_tree(struct tree *t)
{
    t->nsw = 1 + (int)rnd(SWITCHES);
    t->nh = 1 + (int)rnd(HOSTS);
    for (int i = 0; i < t->nsw; i++) /* now and then one more root */
        t->parent[i] = i == 0 || rnd(12) == 0 ? -1 : (int)rnd((unsigned)i);
    for (int h = 0; h < t->nh; h++) {
        t->of[h] = rnd(3) ? t->nsw - 1 - (int)rnd((unsigned)(t->nsw + 1) / 2) : (int)rnd((unsigned)t->nsw);
        t->size[h] = rnd(4) > 0;
    }
}

static void write_tree(const struct tree *t, struct mu_buf *b)
{
    for (int i = 0; i < t->nsw; i++) {
        const char *sep = " Nodes=";
        mu_buf_appendf(b, "SwitchName=s%d", i);
        for (int h = 0; h < t->nh; h++)
            if (t->of[h] == i) {
                mu_buf_appendf(b, "%sn%d", sep, h);
                sep = ",";
            }
        sep = " Switches=";
        for (int c = 0; c < t->nsw; c++)
            if (t->parent[c] == i) {
                mu_buf_appendf(b, "%ss%d", sep, c);
                sep = ",";
            }
        mu_buf_putc(b, '\n');
    }
}

/* Cables above a switch that holds some, but not all of the set: a ring passes each twice. -1: not connected. */
static int cost_of(const struct tree *t, unsigned set)
{
    int cost = 0, root = -1;

    for (int h = 0; h < t->nh; h++)
        if (set >> h & 1) {
            int r = t->of[h];
            while (t->parent[r] >= 0)
                r = t->parent[r];
            if (root >= 0 && r != root)
                return -1;
            root = r;
        }
    for (int s = 0; s < t->nsw; s++) {
        unsigned in = 0;
        for (int h = 0; h < t->nh; h++)
            for (int up = t->of[h]; up >= 0; up = t->parent[up])
                if (up == s)
                    in |= 1u << h;
        if ((in & set) && (in & set) != set)
            cost += 2;
    }
    return cost;
}

static int best_of(const struct tree *t, int want)
{
    int best = -1;
    unsigned free = 0;

    for (int h = 0; h < t->nh; h++)
        free |= t->size[h] ? 1u << h : 0;
    for (unsigned set = 1; set < 1u << t->nh; set++) {
        if ((set & ~free) || __builtin_popcount(set) != want)
            continue;
        int c = cost_of(t, set);
        if (c >= 0 && (best < 0 || c < best))
            best = c;
    }
    return best;
}

static int host_number(const struct mu_fabric *f, int h)
{
    return atoi(mu_fabric_host(f, h)->name + 1);
}

/* "" or what is wrong. */
static const char *try_tree(const struct tree *t, int want, int group)
{
    mu_auto_buf struct mu_buf text = {0};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_place_result r = {0};
    struct mu_err err = {0};
    static char why[200];
    int size[HOSTS], want_cost = best_of(t, want), rc, partial = 0;
    unsigned set = 0;

    write_tree(t, &text);
    if (mu_fabric_parse(mu_buf_str(&text), text.len, "tree", &f, &err) || mu_place_new(f, &p, &err)) {
        snprintf(why, sizeof why, "%.150s", err.text);
        goto out;
    }
    for (int h = 0; h < mu_fabric_nhosts(f); h++)
        size[h] = t->size[host_number(f, h)];
    rc = mu_place_choose(p, &(struct mu_place_request){want, size, group}, &r, &err);
    snprintf(why, sizeof why, "rc %d, cost %ld, bound %ld, brute force %d", rc, r.cost, r.bound, want_cost);
    if (rc ? want_cost >= 0 || rc != MUSTER_ENODE : r.cost != want_cost || r.bound != want_cost || r.n != want)
        goto out;
    for (int i = 0; !rc && i < r.n; i++) {
        int h = host_number(f, r.hosts[i]);
        if (!t->size[h] || set >> h & 1) {
            snprintf(why, sizeof why, "n%d is occupied or there twice", h);
            goto out;
        }
        set |= 1u << h;
    }
    for (int s = 0; !rc && s < t->nsw; s++) { /* leaves that are used in part */
        int used = 0, free = 0, leaf = 1;
        for (int c = 0; c < t->nsw; c++)
            leaf &= t->parent[c] != s;
        for (int h = 0; h < t->nh; h++) {
            used += t->of[h] == s && (set >> h & 1);
            free += t->of[h] == s && t->size[h] && !(set >> h & 1);
        }
        partial += leaf && used && free;
    }
    why[0] = 0;
    if (partial > 1)
        snprintf(why, sizeof why, "%d leaves are used in part", partial);
out:
    mu_place_result_free(&r);
    mu_place_free(p);
    mu_fabric_free(f);
    return why;
}

static void random_trees(int n)
{
    struct tree t;
    const char *why = "";
    mu_auto_buf struct mu_buf text = {0};
    int i;

    seed = 88172645463325252ull;
    for (i = 0; i < n && !*why; i++) {
        make_tree(&t);
        int want = 1 + (int)rnd((unsigned)t.nh);
        why = try_tree(&t, want, 1 + (int)rnd(4));
        if (*why) {
            write_tree(&t, &text);
            printf("# tree %d, %d nodes: %s\n%s", i, want, why, mu_buf_str(&text));
        }
    }
    TAP_OK(!*why, "%d random trees: cost and bound are brute force's, at most one leaf is used in part", n);
}

/* --- by hand ---------------------------------------------------------------------------------------------------- */

static const char *const pods = "SwitchName=a Nodes=a[0-3]\nSwitchName=b Nodes=b[0-3]\nSwitchName=c Nodes=c[0-3]\n"
                                "SwitchName=d Nodes=d[0-3]\nSwitchName=x Switches=a,b\nSwitchName=y Switches=c,d\n"
                                "SwitchName=top Switches=x,y\n";

static const struct {
    const char *occupied;
    int want, group;
    const char *nodes;
    int cost, split, left;
} hand[] = {
    {"", 4, 0, "a0 a1 a2 a3", 0, 0, 0},
    {"c0 c1", 2, 0, "c2 c3", 0, 0, 0}, /* the leaf that it fills */
    {"a0 d0 d1", 3, 0, "a1 a2 a3", 0, 0, 0},
    {"a0 d0 d1", 5, 0, "c0 c1 c2 c3 d2", 4, 0, 1}, /* the pod with the least room; its emptiest leaf in part */
    {"", 8, 4, "a0 a1 a2 a3 b0 b1 b2 b3", 4, 0, 0},
    {"a0 b0 b1 b2", 12, 4, "a1 a2 a3 b3 c0 c1 c2 c3 d0 d1 d2 d3", 12, 1, 0},
    {"a0 c0 c1 d3", 6, 2, "a1 a2 b0 b1 b2 b3", 4, 0, 1},
    {"a0 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3 d0 d1 d2", 1, 0, "d3", 0, 0, 0},
};

static void by_hand(void)
{
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_err err = {0};

    if (mu_fabric_parse(pods, strlen(pods), "pods", &f, &err) || mu_place_new(f, &p, &err)) {
        TAP_OK(0, "pods are read: %s", err.text);
        return;
    }
    for (size_t i = 0; i < MU_COUNT(hand); i++) {
        struct mu_place_result r = {0};
        mu_auto_buf struct mu_buf got = {0};
        int size[16];
        for (int h = 0; h < 16; h++)
            size[h] = !strstr(hand[i].occupied, mu_fabric_host(f, h)->name);
        int rc = mu_place_choose(p, &(struct mu_place_request){hand[i].want, size, hand[i].group}, &r, &err);
        for (int k = 0; k < r.n; k++)
            mu_buf_appendf(&got, "%s%s", k ? " " : "", mu_fabric_host(f, r.hosts[k])->name);
        TAP_OK(!rc && !strcmp(mu_buf_str(&got), hand[i].nodes) && r.cost == hand[i].cost && r.bound == r.cost &&
                   r.groups_split == hand[i].split && r.left == hand[i].left,
               "%d nodes without '%s': %s", hand[i].want, hand[i].occupied, hand[i].nodes);
        if (rc || strcmp(mu_buf_str(&got), hand[i].nodes) || r.cost != hand[i].cost || r.left != hand[i].left)
            printf("# %s: %s, cost %ld, bound %ld, split %d, left %d\n", rc ? err.text : "", mu_buf_str(&got), r.cost,
                   r.bound, r.groups_split, r.left);
        mu_place_result_free(&r);
    }
    struct mu_place_result r = {0};
    int rc = mu_place_choose(p, &(struct mu_place_request){17, NULL, 0}, &r, &err);
    TAP_OK(rc == MUSTER_ENODE && !strcmp(err.text, "16 nodes are free; 17 are wanted"), "too many: %s", err.text);
    int sizes[16] = {8, 4, 4, 2, 8, 8, 0, 0, 8, 8, 8, 8, 1, 1, 1, 1};
    rc = mu_place_choose(p, &(struct mu_place_request){18, sizes, 0}, &r, &err);
    int mixed[16] = {2, 1, 0, 0, 2};
    struct mu_place_result m = {0};
    int other = mu_place_choose(p, &(struct mu_place_request){4, mixed, 0}, &m, &err);
    TAP_OK(!other && m.cost == 4 && m.n == 2, "of nodes of several sizes none is taken that can be spared: %d", m.n);
    mu_place_result_free(&m);
    TAP_OK(!rc && r.cost == 0 && r.n == 4 && mu_place_distance(p, r.hosts[0], r.hosts[3]) == 0 && r.left == 0,
           "slots of nodes of several sizes: the leaf that they fill");
    mu_place_result_free(&r);
    mu_place_free(p);
    mu_fabric_free(f);
}

/* A host on a switch above leaves is taken only when they have too little. */
static void inner(void)
{
    static const char text[] = "SwitchName=top Nodes=m0 Switches=l[0-2]\nSwitchName=l0 Nodes=a[0-3]\n"
                               "SwitchName=l1 Nodes=b[0-3]\nSwitchName=l2 Nodes=c[0-2]\n";
    static const struct {
        int want, cost, split, m0; /* m0: its rank, or -1 */
    } row[] = {{8, 4, 0, -1}, {9, 4, 0, 8}, {7, 4, 0, -1}, {4, 0, 0, -1}, {11, 6, 0, -1}, {12, 6, 1, 11}};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_err err = {0};

    if (mu_fabric_parse(text, strlen(text), "inner", &f, &err) || mu_place_new(f, &p, &err))
        exit(1);
    for (size_t i = 0; i < MU_COUNT(row); i++) {
        struct mu_place_result r = {0};
        int m0 = -1, rc = mu_place_choose(p, &(struct mu_place_request){row[i].want, NULL, 4}, &r, &err);
        for (int k = 0; k < r.n; k++)
            if (!strcmp(mu_fabric_host(f, r.hosts[k])->name, "m0"))
                m0 = k;
        TAP_OK(!rc && r.n == row[i].want && r.cost == row[i].cost && r.bound == r.cost &&
                   r.groups_split == row[i].split && m0 == row[i].m0,
               "%d nodes: cost %ld, %d groups split, rank of the host above %d", row[i].want, r.cost, r.groups_split,
               m0);
        mu_place_result_free(&r);
    }
    mu_place_free(p);
    mu_fabric_free(f);
}

/* --- fat trees and what is no tree ------------------------------------------------------------------------------ */

/* As ibsim's netlists are written; every cable from both ends. */
static void clos(struct mu_buf *b, int leaves, int hosts, int spines, int rails)
{
    for (int l = 0; l < leaves; l++)
        for (int r = 0; r < rails; r++) {
            mu_buf_appendf(b, "Switch 64 \"leaf%d.%d\"\n", l, r);
            for (int h = 0; h < hosts; h++)
                mu_buf_appendf(b, "[%d] \"n%d.%d\"[1]\n", h + 1, l * hosts + h, r);
            for (int s = 0; s < spines; s++)
                mu_buf_appendf(b, "[%d] \"spine%d\"[%d]\n", hosts + s + 1, s, l * rails + r + 1);
        }
    for (int s = 0; s < spines; s++) {
        mu_buf_appendf(b, "Switch 64 \"spine%d\"\n", s);
        for (int i = 0; i < leaves * rails; i++)
            mu_buf_appendf(b, "[%d] \"leaf%d.%d\"[%d]\n", i + 1, i / rails, i % rails, hosts + s + 1);
    }
    for (int h = 0; h < leaves * hosts; h++)
        for (int r = 0; r < rails; r++)
            mu_buf_appendf(b, "Ca 1 \"n%d.%d\" # \"n%d mlx5_%d\"\n[1] \"leaf%d.%d\"[%d]\n", h, r, h, r, h / hosts, r,
                           h % hosts + 1);
}

static void fat_tree(void)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_place_result r = {0};
    struct mu_err err = {0};

    clos(&b, 4, 4, 3, 8);
    int rc = mu_fabric_parse(mu_buf_str(&b), b.len, "clos", &f, &err);
    if (!rc)
        rc = mu_place_new(f, &p, &err);
    TAP_OK(!rc && mu_fabric_nhosts(f) == 16 && mu_place_is_tree(p), "a fat tree of 8 rails places as a tree: %s",
           err.text);
    if (rc)
        return;
    int size[16] = {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1};
    rc = mu_place_choose(p, &(struct mu_place_request){11, size, 0}, &r, &err);
    TAP_OK(!rc && r.cost == 6 && r.bound == 6 && r.optimal && r.n == 11 && r.left == 0,
           "11 nodes fill three units: cost %ld", r.cost);
    mu_place_result_free(&r);
    mu_place_free(p);
    mu_fabric_free(f);
}

/* Hosts on spines make leaves of them, but no leaf that jobs go to. */
static void strays(void)
{
    for (int n = 1; n <= 2; n++) {
        mu_auto_buf struct mu_buf b = {0};
        struct mu_fabric *f = NULL;
        struct mu_place *p = NULL;
        struct mu_place_result r = {0};
        struct mu_err err = {0};
        int size[34] = {0};

        clos(&b, 8, 4, 3, 1);
        for (int i = 0; i < n; i++)
            mu_buf_appendf(&b, "Ca 1 \"ufm%d\"\n[1] \"spine%d\"[60]\n", i, i + 1);
        int rc = mu_fabric_parse(mu_buf_str(&b), b.len, "stray", &f, &err);
        rc = rc ? rc : mu_place_new(f, &p, &err);
        TAP_OK(!rc && mu_place_is_tree(p), "a fat tree with hosts on %d spines is a tree: %s", n, err.text);
        if (rc)
            return;
        int ufm = mu_fabric_find_host(f, "ufm0"), last = mu_fabric_find_host(f, "n31");
        TAP_OK(mu_place_distance(p, ufm, last) == 1 && mu_place_distance(p, 0, last) == 2,
               "it is one hop from any leaf");
        rc = mu_place_choose(p, &(struct mu_place_request){32 + n, NULL, 0}, &r, &err);
        TAP_OK(!rc && r.cost == 16 && r.bound == 16 && r.optimal && mu_place_cost(p, r.hosts, r.n) == 16,
               "all hosts: the ring passes the spine anyhow: cost %ld", r.cost);
        mu_place_result_free(&r);
        rc = mu_place_choose(p, &(struct mu_place_request){16, NULL, 0}, &r, &err);
        TAP_OK(!rc && r.cost == 8 && r.bound == 8 && r.optimal, "half of them: cost %ld, bound %ld", r.cost, r.bound);
        mu_place_result_free(&r);
        size[ufm] = size[last] = 1;
        rc = mu_place_choose(p, &(struct mu_place_request){2, size, 0}, &r, &err);
        TAP_OK(!rc && r.cost == 2 && mu_place_cost(p, r.hosts, r.n) == 2, "such a host and another: cost %ld", r.cost);
        mu_place_result_free(&r);
        mu_place_free(p);
        mu_fabric_free(f);
    }
}

/* Switches in a circle, each with some hosts: no tree. */
static void circle(struct mu_buf *b, int switches, int hosts)
{
    for (int s = 0; s < switches; s++) {
        mu_buf_appendf(b, "Switch 64 \"s%d\"\n[61] \"s%d\"[62]\n[62] \"s%d\"[61]\n", s, (s + 1) % switches,
                       (s + switches - 1) % switches);
        for (int h = 0; h < hosts; h++)
            mu_buf_appendf(b, "[%d] \"n%d\"[1]\n", h + 1, s * hosts + h);
    }
    for (int h = 0; h < switches * hosts; h++)
        mu_buf_appendf(b, "Hca 1 \"n%d\"\n[1] \"s%d\"[%d]\n", h, h / hosts, h % hosts + 1);
}

static void no_tree(int switches, int want, int cost)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_place_result r = {0};
    struct mu_err err = {0};

    circle(&b, switches, 2);
    int rc = mu_fabric_parse(mu_buf_str(&b), b.len, "circle", &f, &err);
    if (!rc)
        rc = mu_place_new(f, &p, &err);
    if (!rc)
        rc = mu_place_choose(p, &(struct mu_place_request){want, NULL, 0}, &r, &err);
    TAP_OK(!rc && !mu_place_is_tree(p) && r.cost == cost && r.bound <= cost && r.n == want &&
               (switches > 13 || (r.bound == cost && r.optimal)),
           "%d nodes on a circle of %d switches: cost %ld, bound %ld %s", want, switches, r.cost, r.bound, err.text);
    mu_place_result_free(&r);
    mu_place_free(p);
    mu_fabric_free(f);
}

/* --- random cables, some hosts on several switches -------------------------------------------------------------- */

enum { MOST = 10 };

/* The shortest ring over free hosts that hold `want` and can spare none, over all of them in every order; -1: none. */
static long shortest(const struct mu_place *p, const int *size, int want)
{
    static long path[1 << MOST][MOST];
    int n = mu_fabric_nhosts(mu_place_fabric(p));
    long best = -1;

    for (unsigned set = 1; set < 1u << n; set++) {
        int sum = 0, least = INT_MAX, first = __builtin_ctz(set);
        bool free = true;
        for (int k = 0; k < n; k++) {
            path[set][k] = -1;
            if (!(set >> k & 1))
                continue;
            free &= size[k] > 0;
            sum += size[k];
            least = size[k] < least ? size[k] : least;
            if (set == 1u << k)
                path[set][k] = 0;
            for (int j = 0; k != first && j < n; j++) {
                long before = set >> j & 1 && j != k ? path[set & ~(1u << k)][j] : -1;
                int d = mu_place_distance(p, j, k);
                if (before >= 0 && d >= 0 && (path[set][k] < 0 || before + d < path[set][k]))
                    path[set][k] = before + d;
            }
        }
        for (int k = 0; free && sum >= want && sum - least < want && k < n; k++) {
            int d = mu_place_distance(p, k, first);
            if (path[set][k] >= 0 && d >= 0 && (best < 0 || path[set][k] + d < best))
                best = path[set][k] + d;
        }
    }
    return best;
}

static void write_cables(struct mu_buf *b, int *want, int *hosts)
{
    int nsw = 2 + (int)rnd(7), ncables = nsw - 2 + (int)rnd(4), nh = 2 + (int)rnd(MOST - 1), used[8] = {0}, at[8][40];
    int on[MOST][3], rails[MOST];

    for (int i = 0; i < ncables; i++) {
        int x = (int)rnd((unsigned)nsw), y = (int)rnd((unsigned)nsw);
        if (x == y)
            continue;
        at[x][used[x]++] = y;
        at[y][used[y]++] = x;
    }
    for (int h = 0; h < nh; h++) {
        rails[h] = 1 + (int)rnd(3);
        for (int r = 0; r < rails[h]; r++)
            on[h][r] = (int)rnd((unsigned)nsw);
    }
    for (int x = 0; x < nsw; x++) {
        mu_buf_appendf(b, "Switch 80 \"s%d\"\n", x);
        for (int i = 0; i < used[x]; i++) {
            int y = at[x][i], back = 0, before = 0;
            for (int k = 0; k < i; k++)
                before += at[x][k] == y;
            for (int k = 0; k < used[y]; k++)
                if (at[y][k] == x && before-- == 0)
                    back = k;
            mu_buf_appendf(b, "[%d] \"s%d\"[%d]\n", i + 1, y, back + 1);
        }
        for (int h = 0; h < nh; h++)
            for (int r = 0; r < rails[h]; r++)
                if (on[h][r] == x)
                    mu_buf_appendf(b, "[%d] \"n%d.%d\"[1]\n", 41 + 3 * h + r, h, r);
    }
    for (int h = 0; h < nh; h++)
        for (int r = 0; r < rails[h]; r++)
            mu_buf_appendf(b, "Ca 1 \"n%d.%d\" # \"n%d mlx5_%d\"\n[1] \"s%d\"[%d]\n", h, r, h, r, on[h][r],
                           41 + 3 * h + r);
    *hosts = nh;
    *want = 1 + (int)rnd((unsigned)nh);
}

static void random_cables(int n)
{
    int i, proved = 0, rounds = 0;
    bool bad = false;

    seed = 88172645463325252ull;
    for (i = 0; i < n && !bad; i++) {
        mu_auto_buf struct mu_buf b = {0};
        struct mu_fabric *f = NULL;
        struct mu_place *p = NULL;
        struct mu_place_result r = {0};
        struct mu_err err = {0};
        int want, hosts, size[MOST], mixed = rnd(2), sum = 0, least = INT_MAX;
        write_cables(&b, &want, &hosts);
        for (int h = 0; h < hosts; h++)
            size[h] = mixed ? (int)rnd(4) : rnd(5) > 0;
        want += mixed ? (int)rnd(4) : 0;
        int rc = mu_fabric_parse(mu_buf_str(&b), b.len, "cables", &f, &err);
        if (rc || mu_place_new(f, &p, &err)) {
            bad = true;
            printf("# %s\n", err.text);
        } else {
            long best = shortest(p, size, want);
            rc = mu_place_choose(p, &(struct mu_place_request){want, size, 0}, &r, &err);
            for (int k = 0; k < r.n; k++) {
                int s = size[r.hosts[k]];
                sum += s;
                least = s < least ? s : least;
                for (int m = 0; m < k; m++)
                    bad |= r.hosts[m] == r.hosts[k];
            }
            bad |= rc ? rc != MUSTER_ENODE || best >= 0
                      : r.cost != best || r.bound > best || (r.optimal && r.bound != best) || sum < want ||
                            sum - least >= want;
            proved += !rc && r.optimal;
            rounds += !rc;
            if (bad)
                printf("# cables %d: %d wanted, rc %d %s, cost %ld, bound %ld%s, brute force %ld\n%s", i, want, rc,
                       rc ? err.text : "", r.cost, r.bound, r.optimal ? ", optimal" : "", best, mu_buf_str(&b));
        }
        mu_place_result_free(&r);
        mu_place_free(p);
        mu_fabric_free(f);
    }
    TAP_OK(!bad && proved == rounds && rounds > n / 2,
           "%d random cablings of up to %d hosts: cost and bound are brute force's", n, MOST);
}

/* Fat trees of one or two rails, now and then without a cable, with hosts on spines of any rail. */
static void random_strays(int n)
{
    enum { SPINES = 2, LEAVES = 6 };
    int trees = 0, proved = 0;
    bool bad = false;

    seed = 88172645463325252ull;
    for (int i = 0; i < n && !bad; i++) {
        mu_auto_buf struct mu_buf leaf = {0}, spine = {0}, nic = {0};
        struct mu_fabric *f = NULL;
        struct mu_place *p = NULL;
        struct mu_place_result r = {0};
        struct mu_err err = {0};
        int rails = 1 + (int)rnd(2), strays = 1 + (int)rnd(3),
            hosts = LEAVES + (int)rnd((unsigned)(MOST - strays - LEAVES + 1)), size[MOST];
        int gone = rnd(4) ? -1 : (int)rnd(LEAVES), on[3];
        for (int s = 0; s < strays; s++)
            on[s] = (int)rnd((unsigned)(SPINES * rails));
        for (int x = 0; x < SPINES * rails; x++) {
            int rail = x / SPINES;
            mu_buf_appendf(&spine, "Switch 80 \"spine%d\"\n", x);
            for (int l = 0; l < LEAVES; l++)
                if (x || l != gone)
                    mu_buf_appendf(&spine, "[%d] \"leaf%d.%d\"[%d]\n", l + 1, l, rail, 41 + x % SPINES);
            for (int s = 0; s < strays; s++)
                if (on[s] == x) {
                    mu_buf_appendf(&spine, "[%d] \"m%d\"[1]\n", 61 + s, s);
                    mu_buf_appendf(&nic, "Ca 1 \"m%d\" # \"m%d mlx5_0\"\n[1] \"spine%d\"[%d]\n", s, s, x, 61 + s);
                }
        }
        for (int l = 0; l < LEAVES; l++)
            for (int rail = 0; rail < rails; rail++) {
                mu_buf_appendf(&leaf, "Switch 80 \"leaf%d.%d\"\n", l, rail);
                for (int x = 0; x < SPINES; x++)
                    if (rail || x || l != gone)
                        mu_buf_appendf(&leaf, "[%d] \"spine%d\"[%d]\n", 41 + x, rail * SPINES + x, l + 1);
                for (int h = l; h < hosts; h += LEAVES) {
                    mu_buf_appendf(&leaf, "[%d] \"n%d.%d\"[1]\n", h + 1, h, rail);
                    mu_buf_appendf(&nic, "Ca 1 \"n%d.%d\" # \"n%d mlx5_%d\"\n[1] \"leaf%d.%d\"[%d]\n", h, rail, h, rail,
                                   l, rail, h + 1);
                }
            }
        mu_buf_puts(&leaf, mu_buf_str(&spine));
        mu_buf_puts(&leaf, mu_buf_str(&nic));
        int all = hosts + strays, mixed = rnd(2), want = 1 + (int)rnd((unsigned)all);
        for (int h = 0; h < all; h++)
            size[h] = mixed ? (int)rnd(4) : rnd(5) > 0;
        int rc = mu_fabric_parse(mu_buf_str(&leaf), leaf.len, "strays", &f, &err);
        if (rc || mu_place_new(f, &p, &err)) {
            bad = true;
            printf("# %s\n", err.text);
        } else {
            long best = shortest(p, size, want);
            rc = mu_place_choose(p, &(struct mu_place_request){want, size, 0}, &r, &err);
            bad = rc ? rc != MUSTER_ENODE
                     : r.cost < best || r.bound > best || (r.optimal && r.cost != best) ||
                           r.cost != mu_place_cost(p, r.hosts, r.n);
            trees += mu_place_is_tree(p);
            proved += rc ? best < 0 : r.cost == best;
            if (bad)
                printf("# strays %d: %d wanted, rc %d %s, cost %ld, bound %ld%s, brute force %ld\n%s", i, want, rc,
                       rc ? err.text : "", r.cost, r.bound, r.optimal ? ", optimal" : "", best, mu_buf_str(&leaf));
        }
        mu_place_result_free(&r);
        mu_place_free(p);
        mu_fabric_free(f);
    }
    TAP_OK(!bad && trees > n / 2 && proved > n / 100 * 95,
           "%d fat trees with hosts on spines: no bound is wrong; %d are trees, %d placements the best", n, trees,
           proved);
}

/* Two rails that only the hosts on both of them join. */
static void apart(int chain)
{
    mu_auto_buf struct mu_buf b = {0};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_place_result r = {0};
    struct mu_err err = {0};

    mu_buf_puts(&b, "Switch 8 \"A\"\n[1] \"SA\"[1]\n[3] \"h0.0\"[1]\n[4] \"h1.0\"[1]\n"
                    "Switch 8 \"B\"\n[1] \"SB\"[1]\n[3] \"h0.1\"[1]\n[4] \"h1.1\"[1]\n");
    mu_buf_puts(&b, "Switch 8 \"SA\"\n[1] \"A\"[1]\n[3] \"xa\"[1]\n");
    mu_buf_puts(&b, chain ? "[2] \"c1\"[1]\n" : "");
    mu_buf_puts(&b, "Switch 8 \"SB\"\n[1] \"B\"[1]\n[3] \"xb\"[1]\n");
    mu_buf_puts(&b, chain ? "[2] \"c3\"[2]\nSwitch 8 \"c1\"\n[1] \"SA\"[2]\n[2] \"c2\"[1]\n"
                            "Switch 8 \"c2\"\n[1] \"c1\"[2]\n[2] \"c3\"[1]\n"
                            "Switch 8 \"c3\"\n[1] \"c2\"[2]\n[2] \"SB\"[2]\n"
                          : "");
    for (int h = 0; h < 2; h++)
        mu_buf_appendf(
            &b, "Ca 1 \"h%d.0\" # \"h%d mlx5_0\"\n[1] \"A\"[%d]\nCa 1 \"h%d.1\" # \"h%d mlx5_1\"\n[1] \"B\"[%d]\n", h,
            h, h + 3, h, h, h + 3);
    mu_buf_puts(&b, "Ca 1 \"xa\" # \"xa mlx5_0\"\n[1] \"SA\"[3]\nCa 1 \"xb\" # \"xb mlx5_0\"\n[1] \"SB\"[3]\n");
    int rc = mu_fabric_parse(mu_buf_str(&b), b.len, "apart", &f, &err);
    rc = rc ? rc : mu_place_new(f, &p, &err);
    rc = rc ? rc : mu_place_choose(p, &(struct mu_place_request){4, NULL, 0}, &r, &err);
    TAP_OK(!rc && r.cost == 4 && r.bound == 4 && r.optimal, "a ring may pass hosts on two rails twice: cost %ld %s",
           r.cost, err.text);
    mu_place_result_free(&r);
    mu_place_free(p);
    mu_fabric_free(f);
}

/* On a circle of 40 with most free hosts on every tenth switch: whoever looks on finds neighbours. */
static void effort(void)
{
    enum { RING = 40, EACH = 3, WANT = 9 };
    mu_auto_buf struct mu_buf b = {0};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_place_result little = {0}, much = {0};
    struct mu_err err = {0};
    int size[RING * EACH];

    circle(&b, RING, EACH);
    if (mu_fabric_parse(mu_buf_str(&b), b.len, "circle", &f, &err) || mu_place_new(f, &p, &err))
        exit(1);
    for (int h = 0; h < RING * EACH; h++) {
        int n = atoi(mu_fabric_host(f, h)->name + 1);
        size[h] = n / EACH % 10 == 0 || n % EACH == 0;
    }
    struct mu_place_request q = {.want = WANT, .size = size, .effort = 1};
    int rc = mu_place_choose(p, &q, &little, &err);
    q.effort = 0;
    if (!rc)
        rc = mu_place_choose(p, &q, &much, &err);
    TAP_OK(!rc && little.n == WANT && much.n == WANT && much.cost < little.cost && !little.optimal,
           "with little effort %ld, with as much as it takes %ld", little.cost, much.cost);
    mu_place_result_free(&little);
    mu_place_result_free(&much);
    mu_place_free(p);
    mu_fabric_free(f);
}

int main(int argc, char **argv)
{
    by_hand();
    inner();
    fat_tree();
    strays();
    no_tree(6, 2, 0);
    no_tree(6, 4, 2);
    no_tree(6, 7, 6);
    no_tree(6, 12, 6);
    no_tree(13, 26, 13);
    no_tree(20, 8, 6);
    no_tree(20, 40, 20);
    effort();
    apart(1);
    apart(0);
    random_cables(argc > 1 ? atoi(argv[1]) / 4 : 4000);
    random_strays(argc > 1 ? atoi(argv[1]) / 8 : 1000);
    random_trees(argc > 1 ? atoi(argv[1]) : 20000);
    return tap_done();
}
