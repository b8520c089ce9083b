#include "topo/pin.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"

static const char *const policies[] = {[MU_PIN_NONE] = "none", [MU_PIN_CORE] = "core"};

int mu_pin_policy_parse(const char *name, enum mu_pin_policy *out, struct mu_err *err)
{
    for (size_t i = 0; i < MU_COUNT(policies); i++)
        if (!strcmp(name, policies[i])) {
            *out = (enum mu_pin_policy)i;
            return 0;
        }
    return mu_err_set(err, MUSTER_EARG, "no binding is called '%.40s': core or none", name);
}

const char *mu_pin_policy_name(enum mu_pin_policy p)
{
    return (size_t)p < MU_COUNT(policies) ? policies[p] : "?";
}

/* The PUs of the core that a rank would get: empty when the core is taken or not allowed. */
static struct mu_cpuset core_cpus(const struct mu_topo *t, const struct mu_topo_core *c, const struct mu_pin_request *r)
{
    struct mu_cpuset s = {{0}};
    bool any = false;

    for (int i = 0; i < c->npus; i++) {
        if (r->occupied && mu_cpuset_isset(r->occupied, c->pus[i]))
            return (struct mu_cpuset){{0}};
        if (mu_cpuset_isset(mu_topo_allowed(t), c->pus[i]) && (r->smt || !any)) {
            mu_cpuset_set(&s, c->pus[i]);
            any = true;
        }
    }
    return s;
}

static int free_cores(const struct mu_topo *t, const struct mu_pin_request *r)
{
    int n = 0;

    for (int i = 0; i < mu_topo_ncores(t); i++) {
        struct mu_cpuset s = core_cpus(t, mu_topo_core(t, i), r);
        n += !mu_cpuset_empty(&s);
    }
    return n;
}

static void pin_cores(const struct mu_topo *t, const struct mu_pin_request *r, struct mu_pin_rank *ranks)
{
    int rank = 0;

    for (int i = 0; rank < r->nranks; i++) {
        const struct mu_topo_core *c = mu_topo_core(t, i);
        struct mu_pin_rank *p = &ranks[rank];
        p->cpus = core_cpus(t, c, r);
        if (mu_cpuset_empty(&p->cpus))
            continue;
        p->nodes = *c->nodes;
        mu_cpuset_and(&p->nodes, mu_topo_allowed_nodes(t));
        if (mu_cpuset_empty(&p->nodes))
            p->nodes = *mu_topo_allowed_nodes(t);
        rank++;
    }
}

int mu_pin_compute(const struct mu_topo *t, const struct mu_pin_request *r, struct mu_pin *out, struct mu_err *err)
{
    struct mu_pin pin = {.policy = r->policy, .nranks = r->nranks};

    if (r->nranks < 1)
        return mu_err_set(err, MUSTER_EARG, "%d ranks: at least 1 is needed", r->nranks);
    if ((size_t)r->policy >= MU_COUNT(policies))
        return mu_err_set(err, MUSTER_EARG, "no such binding");
    if (r->policy == MU_PIN_CORE) {
        int ncores = mu_topo_slots(t), nfree = free_cores(t, r);
        if (r->nranks > nfree) {
            pin.policy = MU_PIN_NONE;
            snprintf(pin.note, sizeof pin.note, "not bound: %d rank%s, %d of %d cores free", r->nranks,
                     r->nranks == 1 ? "" : "s", nfree, ncores);
        }
    }

    pin.ranks = calloc(pin.policy == MU_PIN_NONE ? 1 : (size_t)r->nranks, sizeof *pin.ranks);
    if (!pin.ranks)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory for %d ranks", r->nranks);
    if (pin.policy == MU_PIN_CORE)
        pin_cores(t, r, pin.ranks);
    else
        pin.ranks[0] = (struct mu_pin_rank){*mu_topo_allowed(t), *mu_topo_allowed_nodes(t)};
    *out = pin;
    return 0;
}

const struct mu_pin_rank *mu_pin_rank(const struct mu_pin *p, int rank)
{
    if (rank < 0 || rank >= p->nranks)
        return NULL;
    return &p->ranks[p->policy == MU_PIN_NONE ? 0 : rank];
}

void mu_pin_free(struct mu_pin *p)
{
    free(p->ranks);
    *p = (struct mu_pin){0};
}
