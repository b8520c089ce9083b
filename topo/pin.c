#include "topo/pin.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

enum { RANKS_MAX = 65536 };
enum { GPUS_MAX = 64 }; /* as many as a mask has bits; a node's further ones are not given to anybody */

static const char *const policies[] = {[MU_PIN_NONE] = "none",
                                       [MU_PIN_CORE] = "core",
                                       [MU_PIN_NUMA] = "numa",
                                       [MU_PIN_GPU] = "gpu",
                                       [MU_PIN_FILE] = "rankfile"};
static const char *const maps[] = {[MU_MAP_DEFAULT] = "",
                                   [MU_MAP_SLOT] = "slot",
                                   [MU_MAP_NODE] = "node",
                                   [MU_MAP_NUMA] = "numa",
                                   [MU_MAP_GPU] = "gpu"};

int mu_pin_policy_parse(const char *name, enum mu_pin_policy *out, struct mu_err *err)
{
    for (size_t i = 0; i < MU_PIN_FILE; i++)
        if (!strcmp(name, policies[i])) {
            *out = (enum mu_pin_policy)i;
            return 0;
        }
    return mu_err_set(err, MUSTER_EARG, "no binding is called '%.40s': core, numa, gpu or none", name);
}

const char *mu_pin_policy_name(enum mu_pin_policy p)
{
    return (size_t)p < MU_COUNT(policies) ? policies[p] : "?";
}

int mu_pin_map_parse(const char *name, enum mu_pin_map *out, struct mu_err *err)
{
    for (size_t i = 1; i < MU_COUNT(maps); i++)
        if (!strcmp(name, maps[i])) {
            *out = (enum mu_pin_map)i;
            return 0;
        }
    return mu_err_set(err, MUSTER_EARG, "no order is called '%.40s': slot, node, numa or gpu", name);
}

const char *mu_pin_map_name(enum mu_pin_map m)
{
    return (size_t)m < MU_COUNT(maps) ? maps[m] : "?";
}

/* --- what there is to be given --------------------------------------------------------------------------------- */

/* Cores that are near to one another: of one NUMA node, or the share of a GPU. */
struct domain {
    int first, ncores; /* in plan.cores: free cores */
    int nranks, given; /* of this job */
};

struct plan {
    const struct mu_topo *t;
    const struct mu_pin_request *r;
    int *cores, ncores; /* indexes of the free cores; domains are pieces of it */
    int nfree;
    struct domain *d; /* those that have cores */
    int nd;
    int *gpu_of;    /* of domains that are shares of GPUs */
    int *domain_of; /* by rank */
    int *nic_of;    /* by GPU */
};

static void plan_free(struct plan *p)
{
    free(p->cores);
    free(p->d);
    free(p->gpu_of);
    free(p->domain_of);
    free(p->nic_of);
}

/* The PUs of the core that a rank would get: empty when the core is taken or not allowed. */
static void core_cpus(const struct plan *p, int core, struct mu_cpuset *out)
{
    const struct mu_topo_core *c = mu_topo_core(p->t, core);
    bool any = false;

    memset(out, 0, sizeof *out);
    for (int i = 0; p->r->occupied && i < c->npus; i++)
        if (mu_cpuset_isset(p->r->occupied, c->pus[i]))
            return;
    for (int i = 0; i < c->npus; i++)
        if (mu_cpuset_isset(mu_topo_allowed(p->t), c->pus[i]) && (p->r->smt || !any)) {
            mu_cpuset_set(out, c->pus[i]);
            any = true;
        }
}

static bool allowed(const struct plan *p, int core)
{
    const struct mu_topo_core *c = mu_topo_core(p->t, core);

    for (int i = 0; i < c->npus; i++)
        if (mu_cpuset_isset(mu_topo_allowed(p->t), c->pus[i]))
            return true;
    return false;
}

static bool is_free(const struct plan *p, int core)
{
    struct mu_cpuset s;

    core_cpus(p, core, &s);
    return !mu_cpuset_empty(&s);
}

static void one_domain(struct plan *p)
{
    for (int i = 0; i < mu_topo_ncores(p->t); i++)
        if (is_free(p, i))
            p->cores[p->ncores++] = i;
    p->d[0] = (struct domain){0, p->ncores, 0, 0};
    p->nd = p->ncores > 0;
}

static void numa_domains(struct plan *p)
{
    for (int i = 0; i < mu_topo_ncores(p->t); i++) {
        const struct mu_cpuset *nodes = mu_topo_core(p->t, i)->nodes;
        bool seen = false;
        for (int k = 0; k < p->ncores && !seen; k++)
            seen = mu_topo_core(p->t, p->cores[k])->nodes == nodes;
        if (seen)
            continue;
        int first = p->ncores;
        for (int k = i; k < mu_topo_ncores(p->t); k++)
            if (mu_topo_core(p->t, k)->nodes == nodes && is_free(p, k))
                p->cores[p->ncores++] = k;
        if (p->ncores > first)
            p->d[p->nd++] = (struct domain){first, p->ncores - first, 0, 0};
    }
}

/* --- GPUs and their cores ---------------------------------------------------------------------------------------- */

static bool listed(char *const *list, const struct mu_topo_dev *d)
{
    for (; list && *list; list++)
        if ((*d->pci && !strcmp(*list, d->pci)) || (*d->uuid && !strcmp(*list, d->uuid)))
            return true;
    return false;
}

static int ngpus(const struct plan *p)
{
    int n = mu_topo_ngpus(p->t);

    return n < GPUS_MAX ? n : GPUS_MAX;
}

/* GPUs that a core is local to. */
static uint64_t local_gpus(const struct plan *p, int core, bool only_free)
{
    const struct mu_topo_core *c = mu_topo_core(p->t, core);
    uint64_t mask = 0;

    for (int g = 0; g < ngpus(p); g++) {
        const struct mu_topo_dev *d = mu_topo_gpu(p->t, g);
        if (!d->hidden && mu_cpuset_isset(&d->cpus, c->pus[0]) && !(only_free && listed(p->r->busy, d)))
            mask |= UINT64_C(1) << g;
    }
    return mask;
}

static int bits(uint64_t v)
{
    return __builtin_popcountll(v);
}

/* Gives each core to one of the GPUs that it is local to, neighbours to the same one: cores that few GPUs want first,
 * each to the GPU that has the fewest by then. */
static void share_cores(const struct plan *p, const uint64_t *local, int *gpu_of_core)
{
    int ncores = mu_topo_ncores(p->t), have[GPUS_MAX] = {0};

    for (int i = 0; i < ncores; i++)
        gpu_of_core[i] = -1;
    for (int want = 1; want <= ngpus(p); want++) {
        for (int i = 0; i < ncores; i++) {
            uint64_t set = local[i];
            int share[GPUS_MAX] = {0}, n = 0, g = 0;
            if (bits(set) != want || gpu_of_core[i] >= 0)
                continue;
            for (int k = i; k < ncores; k++)
                n += local[k] == set;
            for (; n > 0; n--) {
                int least = -1;
                for (int k = 0; k < ngpus(p); k++)
                    if (set >> k & 1 && (least < 0 || have[k] < have[least]))
                        least = k;
                have[least]++;
                share[least]++;
            }
            for (int k = i; k < ncores; k++)
                if (local[k] == set) {
                    while (!share[g])
                        g++;
                    share[g]--;
                    gpu_of_core[k] = g;
                }
        }
    }
}

/* A domain for each GPU that is to be had. With stable, GPUs and cores of other jobs count when cores are shared out,
 * so that jobs that come one after the other get what they would get together. */
static int gpu_domains(struct plan *p, bool stable)
{
    int ncores = mu_topo_ncores(p->t);
    mu_auto_free uint64_t *local = calloc((size_t)ncores, sizeof *local);
    mu_auto_free int *gpu_of_core = calloc((size_t)ncores, sizeof *gpu_of_core);

    if (!local || !gpu_of_core)
        return MUSTER_ENOMEM;
    p->ncores = p->nd = 0;
    for (int i = 0; i < ncores; i++)
        if (stable ? allowed(p, i) : is_free(p, i))
            local[i] = local_gpus(p, i, !stable);
    share_cores(p, local, gpu_of_core);
    for (int g = 0; g < ngpus(p); g++) {
        int first = p->ncores;
        if (listed(p->r->busy, mu_topo_gpu(p->t, g)))
            continue;
        for (int i = 0; i < ncores; i++)
            if (gpu_of_core[i] == g && is_free(p, i))
                p->cores[p->ncores++] = i;
        if (p->ncores == first)
            continue;
        p->gpu_of[p->nd] = g;
        p->d[p->nd++] = (struct domain){first, p->ncores - first, 0, 0};
    }
    return 0;
}

/* In turn over the NUMA nodes instead of along the PCI addresses. */
static void gpus_in_turn(struct plan *p)
{
    struct domain d[GPUS_MAX];
    int gpu[GPUS_MAX], n = 0;
    bool used[GPUS_MAX] = {false};

    while (n < p->nd) {
        const struct mu_cpuset *seen[GPUS_MAX];
        int nseen = 0;
        for (int i = 0; i < p->nd; i++) {
            const struct mu_cpuset *nodes = mu_topo_core(p->t, p->cores[p->d[i].first])->nodes;
            bool was = used[i];
            for (int k = 0; k < nseen; k++)
                was |= seen[k] == nodes;
            if (was)
                continue;
            seen[nseen++] = nodes;
            used[i] = true;
            d[n] = p->d[i];
            gpu[n++] = p->gpu_of[i];
        }
    }
    memcpy(p->d, d, (size_t)n * sizeof *d);
    memcpy(p->gpu_of, gpu, (size_t)n * sizeof *gpu);
}

/* --- ranks to domains ----------------------------------------------------------------------------------------------
 */

/* In turn where there is a core left, or one domain after the other; false when there is none. */
static bool spread(struct plan *p, bool fill)
{
    int at = 0;

    for (int i = 0; i < p->r->nranks; i++) {
        int tried = 0;
        while (tried < p->nd && p->d[at].nranks == p->d[at].ncores) {
            at = (at + 1) % p->nd;
            tried++;
        }
        if (tried == p->nd)
            return false;
        p->domain_of[i] = at;
        p->d[at].nranks++;
        if (!fill)
            at = (at + 1) % p->nd;
    }
    return true;
}

/* GPUs are given evenly: all the same number of ranks, or one more. */
static bool spread_gpus(struct plan *p, bool fill)
{
    int used = p->r->nranks < p->nd ? p->r->nranks : p->nd;

    if (!p->nd)
        return false;
    for (int i = 0; i < p->r->nranks; i++) {
        int at = fill ? (int)((int64_t)i * used / p->r->nranks) : i % p->nd;
        p->domain_of[i] = at;
        if (++p->d[at].nranks > p->d[at].ncores)
            return false;
    }
    return true;
}

static void local_nodes(const struct plan *p, struct mu_pin_rank *rank)
{
    memset(&rank->nodes, 0, sizeof rank->nodes);
    for (int i = 0; i < mu_topo_ncores(p->t); i++) {
        const struct mu_topo_core *c = mu_topo_core(p->t, i);
        for (int k = 0; k < c->npus; k++)
            if (mu_cpuset_isset(&rank->cpus, c->pus[k])) {
                mu_cpuset_or(&rank->nodes, c->nodes);
                break;
            }
    }
    mu_cpuset_and(&rank->nodes, mu_topo_allowed_nodes(p->t));
    if (mu_cpuset_empty(&rank->nodes))
        rank->nodes = *mu_topo_allowed_nodes(p->t);
}

/* Ranks of a domain get its cores in their order: one each, or all, split as evenly as can be. */
static void cut(struct plan *p, bool one_each, struct mu_pin_rank *ranks)
{
    for (int i = 0; i < p->r->nranks; i++) {
        struct domain *d = &p->d[p->domain_of[i]];
        int k = d->given++, lo = k, hi = k + 1;
        struct mu_cpuset s;
        if (!one_each) {
            lo = (int)((int64_t)k * d->ncores / d->nranks);
            hi = (int)((int64_t)(k + 1) * d->ncores / d->nranks);
        }
        for (int c = lo; c < hi; c++) {
            core_cpus(p, p->cores[d->first + c], &s);
            mu_cpuset_or(&ranks[i].cpus, &s);
        }
        local_nodes(p, &ranks[i]);
    }
}

/* --- the policies --------------------------------------------------------------------------------------------------
 */

static const struct mu_pin_rank nobody = {.gpu = -1, .nic = -1};

static int make_rows(struct mu_pin *pin, int n, struct mu_err *err)
{
    if (n > RANKS_MAX)
        return mu_err_set(err, MUSTER_EARG, "%d ranks on one node: it plans at most %d one by one", n, RANKS_MAX);
    free(pin->ranks);
    if (!(pin->ranks = calloc((size_t)n, sizeof *pin->ranks)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory for %d ranks", n);
    for (int i = 0; i < n; i++)
        pin->ranks[i] = nobody;
    pin->nrows = n;
    return 0;
}

static int unbound(const struct plan *p, struct mu_pin *pin, struct mu_err *err)
{
    int rc = make_rows(pin, 1, err);

    pin->policy = MU_PIN_NONE;
    if (!rc) {
        pin->ranks[0].cpus = *mu_topo_allowed(p->t);
        pin->ranks[0].nodes = *mu_topo_allowed_nodes(p->t);
    }
    return rc;
}

static const char *s_of(int n)
{
    return n == 1 ? "" : "s";
}

static int too_few(const struct plan *p, struct mu_pin *pin, struct mu_err *err)
{
    if (p->nd && p->gpu_of[0] >= 0)
        snprintf(pin->note, sizeof pin->note, "not bound: %d rank%s, %d free cores near %d GPU%s", p->r->nranks,
                 s_of(p->r->nranks), p->ncores, p->nd, s_of(p->nd));
    else
        snprintf(pin->note, sizeof pin->note, "not bound: %d rank%s, %d of %d cores free", p->r->nranks,
                 s_of(p->r->nranks), p->nfree, mu_topo_slots(p->t));
    return unbound(p, pin, err);
}

/* No GPU is to be had: why, and what is done instead. */
static void say_no_gpu(const struct plan *p, enum mu_pin_policy instead, char *note, size_t n)
{
    int all = mu_topo_ngpus(p->t), hidden = 0, busy = 0;
    const char *then = instead == MU_PIN_NONE   ? "not bound"
                       : instead == MU_PIN_NUMA ? "bound to NUMA nodes"
                                                : "bound to cores";

    for (int g = 0; g < ngpus(p); g++) {
        hidden += mu_topo_gpu(p->t, g)->hidden;
        busy += listed(p->r->busy, mu_topo_gpu(p->t, g));
    }
    if (!all)
        snprintf(note, n, "%s: the node has no GPU", then);
    else if (hidden == all)
        snprintf(note, n, "%s: the GPUs have no driver, or may not be used here", then);
    else if (hidden + busy >= all)
        snprintf(note, n, "%s: other jobs have the GPUs", then);
    else
        snprintf(note, n, "%s: no core near a GPU is free", then);
}

static int by_file(const struct plan *p, struct mu_pin *pin, struct mu_err *err)
{
    struct mu_cpuset seen = {{0}}, both;
    int rc = make_rows(pin, p->r->nranks, err);

    pin->policy = MU_PIN_FILE;
    for (int i = 0; i < p->r->nranks && !rc; i++) {
        struct mu_pin_rank *r = &pin->ranks[i];
        if (!*p->r->slots[i]) {
            r->cpus = *mu_topo_allowed(p->t);
            local_nodes(p, r);
            continue;
        }
        if ((rc = mu_pin_slots(p->t, p->r->slots[i], p->r->smt, &r->cpus, err)))
            break;
        local_nodes(p, r);
        both = seen;
        mu_cpuset_and(&both, &r->cpus);
        if (p->r->occupied) {
            struct mu_cpuset taken = *p->r->occupied;
            mu_cpuset_and(&taken, &r->cpus);
            if (!mu_cpuset_empty(&taken))
                snprintf(pin->note, sizeof pin->note, "another job holds CPU %d, too", mu_cpuset_next(&taken, -1));
        }
        if (!mu_cpuset_empty(&both) && !pin->note[0])
            snprintf(pin->note, sizeof pin->note, "the rank file gives CPU %d to more than one rank",
                     mu_cpuset_next(&both, -1));
        mu_cpuset_or(&seen, &r->cpus);
    }
    return rc;
}

static void give_gpus(const struct plan *p, struct mu_pin *pin)
{
    for (int i = 0; i < pin->nrows; i++) {
        pin->ranks[i].gpu = p->gpu_of[p->domain_of[i]];
        pin->ranks[i].nic = p->nic_of[pin->ranks[i].gpu];
    }
}

/* Ranks that have a GPU. 1: there is none to be had. */
static int with_gpus(struct plan *p, enum mu_pin_policy policy, struct mu_pin *pin, struct mu_err *err)
{
    int n = p->r->nranks, rc;
    bool fits = false;

    for (int stable = 1; stable >= 0 && !fits; stable--) {
        if ((rc = gpu_domains(p, stable)))
            return mu_err_set(err, rc, "out of memory");
        if (p->nd < n && stable)
            continue;
        if (p->r->map == MU_MAP_NUMA)
            gpus_in_turn(p);
        fits = spread_gpus(p, p->r->map == MU_MAP_SLOT || p->r->map == MU_MAP_NODE);
    }
    if (!p->nd)
        return 1;
    if (!fits && policy != MU_PIN_NONE)
        return too_few(p, pin, err);
    if (!fits) /* as many ranks as there may be share what there is */
        for (int i = 0; i < n; i++)
            p->domain_of[i] = i % p->nd;
    if ((rc = make_rows(pin, n, err)))
        return rc;
    pin->policy = policy;
    if (policy == MU_PIN_NONE)
        for (int i = 0; i < n; i++) {
            pin->ranks[i].cpus = *mu_topo_allowed(p->t);
            pin->ranks[i].nodes = *mu_topo_allowed_nodes(p->t);
        }
    else
        cut(p, policy == MU_PIN_CORE, pin->ranks);
    give_gpus(p, pin);
    return 0;
}

static int bind(struct plan *p, struct mu_pin *pin, struct mu_err *err)
{
    enum mu_pin_policy policy = p->r->policy;
    enum mu_pin_map map = p->r->map;
    int rc;

    if (p->r->slots)
        return by_file(p, pin, err);
    if (policy == MU_PIN_GPU || map == MU_MAP_GPU) {
        rc = with_gpus(p, policy, pin, err);
        if (rc != 1)
            return rc;
        policy = policy == MU_PIN_GPU ? MU_PIN_CORE : policy;
        say_no_gpu(p, policy, pin->note, sizeof pin->note);
        map = map == MU_MAP_GPU ? MU_MAP_DEFAULT : map;
        p->ncores = p->nd = 0;
    }
    if (policy == MU_PIN_NONE)
        return unbound(p, pin, err);
    for (int i = 0; i < mu_topo_ncores(p->t); i++)
        p->gpu_of[i] = -1;
    if (policy == MU_PIN_NUMA || map == MU_MAP_NUMA)
        numa_domains(p);
    else
        one_domain(p);
    p->nfree = p->ncores;
    bool in_turn = map == MU_MAP_NUMA || (map == MU_MAP_DEFAULT && policy == MU_PIN_NUMA);
    if (!p->nd || !spread(p, !in_turn))
        return too_few(p, pin, err);
    if ((rc = make_rows(pin, p->r->nranks, err)))
        return rc;
    pin->policy = policy;
    cut(p, policy == MU_PIN_CORE, pin->ranks);
    return 0;
}

static int find_spans(struct mu_pin *pin, struct mu_err *err)
{
    if (!(pin->spans = calloc((size_t)pin->nrows + 1, sizeof *pin->spans)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory for %d ranks", pin->nranks);
    for (int i = 0; i < pin->nrows; i++) {
        const struct mu_cpuset *s = &pin->ranks[i].cpus;
        pin->spans[i] = (struct mu_pin_span){mu_cpuset_next(s, -1), mu_cpuset_last(s)};
    }
    return 0;
}

int mu_pin_compute(const struct mu_topo *t, const struct mu_pin_request *r, struct mu_pin *out, struct mu_err *err)
{
    struct mu_pin pin = {.policy = r->policy, .nranks = r->nranks};
    struct plan p = {.t = t, .r = r};
    size_t ncores = (size_t)mu_topo_ncores(t), n = (size_t)mu_topo_ngpus(t);
    int rc = 0;

    if (r->nranks < 1)
        return mu_err_set(err, MUSTER_EARG, "%d ranks: at least 1 is needed", r->nranks);
    if (r->policy >= MU_PIN_FILE || (size_t)r->map >= MU_COUNT(maps))
        return mu_err_set(err, MUSTER_EARG, "no such binding");
    if (n < ncores) /* no more domains than that */
        n = ncores;
    p.cores = calloc(n, sizeof *p.cores);
    p.d = calloc(n, sizeof *p.d);
    p.gpu_of = calloc(n, sizeof *p.gpu_of);
    p.nic_of = calloc(n, sizeof *p.nic_of);
    p.domain_of = calloc((size_t)r->nranks, sizeof *p.domain_of);
    if (!p.cores || !p.d || !p.gpu_of || !p.nic_of || !p.domain_of || mu_pin_nics(t, p.nic_of))
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory for %d ranks", r->nranks);
    if (!rc)
        rc = bind(&p, &pin, err);
    plan_free(&p);
    rc = rc ? rc : find_spans(&pin, err);
    if (rc) {
        mu_pin_free(&pin);
        return rc;
    }
    *out = pin;
    return 0;
}

const struct mu_pin_rank *mu_pin_rank(const struct mu_pin *p, int rank)
{
    if (rank < 0 || rank >= p->nranks)
        return NULL;
    return &p->ranks[rank < p->nrows ? rank : 0];
}

void mu_pin_free(struct mu_pin *p)
{
    free(p->ranks);
    free(p->spans);
    *p = (struct mu_pin){0};
}

/* --- environment ---------------------------------------------------------------------------------------------------
 */

static int add_env(char ***v, const char *name, const char *value)
{
    mu_auto_free char *text = NULL;

    if (asprintf(&text, "%s=%s", name, value) < 0) {
        text = NULL;
        return MUSTER_ENOMEM;
    }
    return mu_strv_append(v, text);
}

/* AMD's runtime wants 16 digits; tools print them without leading zeros. */
static void amd_name(char out[64], const char *uuid)
{
    size_t len;

    uuid += strncmp(uuid, "GPU-", 4) ? 0 : 4;
    len = strlen(uuid);
    snprintf(out, 64, "GPU-%.*s%.40s", len < 16 ? (int)(16 - len) : 0, "0000000000000000", uuid);
}

int mu_pin_env(const struct mu_topo *t, const struct mu_pin_rank *r, char ***out)
{
    const struct mu_topo_dev *gpu = r->gpu >= 0 ? mu_topo_gpu(t, r->gpu) : NULL;
    const struct mu_topo_dev *nic = r->nic >= 0 ? mu_topo_nic(t, r->nic) : NULL;
    char **v = NULL, text[64];
    int rc = 0;

    if (gpu && !strncmp(gpu->uuid, "GPU-", 4) && gpu->vendor != 0x1002) {
        rc = add_env(&v, "CUDA_VISIBLE_DEVICES", gpu->uuid);
    } else if (gpu && gpu->vendor == 0x1002 && *gpu->uuid) {
        amd_name(text, gpu->uuid);
        rc = add_env(&v, "ROCR_VISIBLE_DEVICES", text);
    }
    if (!rc && nic && nic->rdma) {
        snprintf(text, sizeof text, "%s:%d", nic->name, nic->port);
        rc = add_env(&v, "UCX_NET_DEVICES", text);
    }
    if (rc) {
        mu_strv_free(v);
        return rc;
    }
    *out = v;
    return 0;
}
