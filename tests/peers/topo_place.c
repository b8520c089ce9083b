/* make bench-topo-place: choosing and ordering nodes on a fat tree of 10,240 (16 pods of 32 leaves of 20), at random
 * occupancy, against taking them as the file has them, at random, and by a best-fit greedy as batch systems have it:
 * the smallest switch that holds the job, there the leaf that fits best. Fails when a cost is not the bound. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "topo/audit.h"
#include "topo/place.h"

enum { PODS = 16, LEAVES = 32, HOSTS = 20, SPINES = 8, CORES = 8, ALL = PODS * LEAVES * HOSTS };

static uint64_t seed;
static int rnd(int n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* Host i is n<i>, on leaf i / HOSTS. */
static void write_fabric(struct mu_buf *b)
{
    for (int l = 0; l < PODS * LEAVES; l++) {
        mu_buf_appendf(b, "Switch 40 \"leaf%d\"\n", l);
        for (int h = 0; h < HOSTS; h++)
            mu_buf_appendf(b, "[%d] \"n%d\"[1]\n", h + 1, l * HOSTS + h);
        for (int s = 0; s < SPINES; s++)
            mu_buf_appendf(b, "[%d] \"spine%d.%d\"[%d]\n", HOSTS + s + 1, l / LEAVES, s, l % LEAVES + 1);
    }
    for (int p = 0; p < PODS; p++)
        for (int s = 0; s < SPINES; s++) {
            mu_buf_appendf(b, "Switch 40 \"spine%d.%d\"\n", p, s);
            for (int l = 0; l < LEAVES; l++)
                mu_buf_appendf(b, "[%d] \"leaf%d\"[%d]\n", l + 1, p * LEAVES + l, HOSTS + s + 1);
            for (int c = 0; c < CORES; c++)
                mu_buf_appendf(b, "[%d] \"core%d.%d\"[%d]\n", LEAVES + c + 1, s, c, p + 1);
        }
    for (int s = 0; s < SPINES; s++)
        for (int c = 0; c < CORES; c++) {
            mu_buf_appendf(b, "Switch 40 \"core%d.%d\"\n", s, c);
            for (int p = 0; p < PODS; p++)
                mu_buf_appendf(b, "[%d] \"spine%d.%d\"[%d]\n", p + 1, p, s, LEAVES + c + 1);
        }
    for (int h = 0; h < ALL; h++)
        mu_buf_appendf(b, "Ca 1 \"n%d\"\n[1] \"leaf%d\"[%d]\n", h, h / HOSTS, h % HOSTS + 1);
}

/* --- what else could be done ------------------------------------------------------------------------------------ */

struct cluster {
    int index[ALL]; /* of host n<i> in the fabric */
    int size[ALL];  /* by the fabric's index */
    int leaf_free[PODS * LEAVES], pod_free[PODS], free;
};

static int file_order(const struct cluster *c, int want, int *out)
{
    int n = 0;

    for (int i = 0; i < ALL && n < want; i++)
        if (c->size[c->index[i]])
            out[n++] = c->index[i];
    return n;
}

static int random_order(const struct cluster *c, int want, int *out)
{
    static int all[ALL];
    int n = file_order(c, c->free, all);

    for (int i = 0; i < want; i++) {
        int k = i + rnd(n - i), t = all[i];
        all[i] = all[k], all[k] = t;
        out[i] = all[i];
    }
    return want;
}

static int best_fit(const struct cluster *c, int want, int *out)
{
    int left[PODS * LEAVES], pod = -1, n = 0;

    memcpy(left, c->leaf_free, sizeof left);
    for (int p = 0; p < PODS; p++)
        if (c->pod_free[p] >= want && (pod < 0 || c->pod_free[p] < c->pod_free[pod]))
            pod = p;
    while (n < want) {
        int best = -1, from = pod < 0 ? 0 : pod * LEAVES, to = pod < 0 ? PODS * LEAVES : from + LEAVES;
        for (int l = from; l < to; l++) {
            bool fits = left[l] >= want - n, best_fits = best >= 0 && left[best] >= want - n;
            if (left[l] &&
                (best < 0 || (fits ? !best_fits || left[l] < left[best] : !best_fits && left[l] > left[best])))
                best = l;
        }
        left[best] = 0;
        for (int h = best * HOSTS; h < (best + 1) * HOSTS && n < want; h++)
            if (c->size[c->index[h]])
                out[n++] = c->index[h];
    }
    return n;
}

/* Fewest leaves and fewest pods, each for itself: no choice needs less. */
static int by_free(const void *a, const void *b)
{
    return *(const int *)b - *(const int *)a;
}
static long simple_bound(const struct cluster *c, int want)
{
    int leaf[PODS * LEAVES], pod[PODS], leaves = 0, pods = 0;

    memcpy(leaf, c->leaf_free, sizeof leaf);
    memcpy(pod, c->pod_free, sizeof pod);
    qsort(leaf, MU_COUNT(leaf), sizeof *leaf, by_free);
    qsort(pod, MU_COUNT(pod), sizeof *pod, by_free);
    for (int sum = 0; sum < want; leaves++)
        sum += leaf[leaves];
    for (int sum = 0; sum < want; pods++)
        sum += pod[pods];
    return 2L * (leaves > 1 ? leaves : 0) + 2L * (pods > 1 ? pods : 0);
}

/* --- the measurement -------------------------------------------------------------------------------------------- */

static void occupy(struct cluster *c)
{
    int percent = 5 + rnd(70), whole = rnd(2); /* single nodes, or also whole leaves */

    memset(c->leaf_free, 0, sizeof c->leaf_free);
    memset(c->pod_free, 0, sizeof c->pod_free);
    c->free = 0;
    for (int l = 0; l < PODS * LEAVES; l++) {
        bool taken = whole && rnd(100) < percent / 2;
        for (int h = l * HOSTS; h < (l + 1) * HOSTS; h++) {
            int is_free = !taken && rnd(100) >= percent;
            c->size[c->index[h]] = is_free;
            c->leaf_free[l] += is_free;
            c->pod_free[l / LEAVES] += is_free;
            c->free += is_free;
        }
    }
}

static int by_time(const void *a, const void *b)
{
    return (*(const uint64_t *)a > *(const uint64_t *)b) - (*(const uint64_t *)a < *(const uint64_t *)b);
}

int main(int argc, char **argv)
{
    static const int sizes[] = {8, 32, 128, 512, 1024, 2048, 4096};
    enum { TRIALS = 100000 };
    static struct cluster c;
    static uint64_t times[TRIALS];
    static int hosts[ALL];
    int trials = argc > 1 ? atoi(argv[1]) : 200, bad = 0;
    mu_auto_buf struct mu_buf b = {0};
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_audit audit = {0};
    struct mu_err err = {0};

    if (trials < 1 || trials > TRIALS)
        return 2;
    seed = 88172645463325252ull + (argc > 2 ? strtoull(argv[2], NULL, 10) : 0);
    write_fabric(&b);
    uint64_t t0 = mu_now();
    if (mu_fabric_parse(mu_buf_str(&b), b.len, "fat tree", &f, &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    uint64_t t1 = mu_now();
    if (mu_place_new(f, &p, &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    uint64_t t2 = mu_now();
    if (mu_audit_run(f, &audit, &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    uint64_t t3 = mu_now();
    printf("%d nodes: read in %.0f ms, made a %s in %.0f ms, audited in %.0f ms (%zu findings)\n", mu_fabric_nhosts(f),
           (double)(t1 - t0) / 1e6, mu_place_is_tree(p) ? "tree" : "graph", (double)(t2 - t1) / 1e6,
           (double)(t3 - t2) / 1e6, audit.n);
    bad += !mu_place_is_tree(p) || audit.n != 0;
    for (int i = 0; i < ALL; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        c.index[i] = mu_fabric_find_host(f, name);
    }
    printf("%6s %7s %9s %9s %9s %9s %9s %9s %9s %9s\n", "NODES", "TRIALS", "COST", "BOUND", "BEST-FIT", "FILE",
           "RANDOM", "P50_MS", "P99_MS", "MAX_MS");
    for (size_t s = 0; s < MU_COUNT(sizes); s++) {
        double cost = 0, bound = 0, fit = 0, file = 0, random = 0;
        int done = 0;
        while (done < trials) {
            struct mu_place_result r = {0};
            occupy(&c);
            if (c.free < sizes[s])
                continue;
            uint64_t start = mu_now();
            int rc = mu_place_choose(p, &(struct mu_place_request){sizes[s], c.size, 8}, &r, &err);
            times[done++] = mu_now() - start;
            if (rc || r.n != sizes[s] || r.cost != r.bound || r.cost < simple_bound(&c, sizes[s])) {
                printf("# %s: cost %ld, bound %ld, at least %ld\n", err.text, r.cost, r.bound,
                       simple_bound(&c, sizes[s]));
                bad++;
            }
            cost += (double)r.cost;
            bound += (double)r.bound;
            fit += (double)mu_place_cost(p, hosts, best_fit(&c, sizes[s], hosts));
            file += (double)mu_place_cost(p, hosts, file_order(&c, sizes[s], hosts));
            random += (double)mu_place_cost(p, hosts, random_order(&c, sizes[s], hosts));
            mu_place_result_free(&r);
        }
        qsort(times, (size_t)done, sizeof *times, by_time);
        double p99 = (double)times[done * 99 / 100] / 1e6;
        printf("%6d %7d %9.1f %9.1f %9.1f %9.1f %9.1f %9.2f %9.2f %9.2f%s\n", sizes[s], done, cost / done, bound / done,
               fit / done, file / done, random / done, (double)times[done / 2] / 1e6, p99,
               (double)times[done - 1] / 1e6, p99 < 20 ? "" : "  over 20 ms");
        bad += p99 >= 20;
    }
    mu_audit_free(&audit);
    mu_place_free(p);
    mu_fabric_free(f);
    return bad != 0;
}
