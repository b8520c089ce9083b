#include "topo/draw.h"

#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/impl.h"

struct canvas {
    const struct mu_topo *t;
    const struct mu_pin *pin; /* NULL: no ranks */
    FILE *f;
};

/* What is drawn; the objects between are passed through. */
static const struct {
    hwloc_obj_type_t type;
    const char *name;
} levels[] = {
    {HWLOC_OBJ_PACKAGE, "package"}, {HWLOC_OBJ_DIE, "die"},   {HWLOC_OBJ_NUMANODE, "NUMA node"},
    {HWLOC_OBJ_L3CACHE, "L3"},      {HWLOC_OBJ_CORE, "core"}, {HWLOC_OBJ_PU, "PU"},
};

static void put_bytes(FILE *f, uint64_t bytes)
{
    char text[32];

    fprintf(f, "%s", mu_str_fmt_size(text, sizeof text, bytes));
}

static void put_pu(const struct canvas *c, int pu)
{
    fprintf(c->f, " %d%s", pu, mu_cpuset_isset(&c->t->allowed, pu) ? "*" : "");
}

static void put_index(FILE *f, const char *name, hwloc_obj_t o)
{
    if (o->os_index == HWLOC_UNKNOWN_INDEX)
        fprintf(f, "%s %u", name, o->logical_index);
    else
        fprintf(f, "%s %u", name, o->os_index);
}

char *mu_topo_ranks_on(const struct mu_pin *pin, const struct mu_cpuset *cpus, int gpu, int nic)
{
    struct mu_cpuset s = {{0}}; /* of ranks */
    int first = cpus ? mu_cpuset_next(cpus, -1) : -1, last = cpus ? mu_cpuset_last(cpus) : -1;

    for (int i = 0; pin && pin->policy != MU_PIN_NONE && i < pin->nranks; i++) {
        const struct mu_pin_span *span = &pin->spans[i < pin->nrows ? i : 0];
        if (cpus && (span->last < first || span->first > last)) /* most of a big node: whole sets take minutes */
            continue;
        const struct mu_pin_rank *r = mu_pin_rank(pin, i);
        if ((cpus && mu_cpuset_intersects(cpus, &r->cpus)) || (gpu >= 0 && r->gpu == gpu) ||
            (nic >= 0 && r->nic == nic))
            mu_cpuset_set(&s, i);
    }
    return mu_cpuset_empty(&s) ? NULL : mu_cpuset_str(&s);
}

static void put_ranks(const struct canvas *c, const struct mu_cpuset *cpus, int gpu, int nic)
{
    mu_auto_free char *ranks = mu_topo_ranks_on(c->pin, cpus, gpu, nic);

    if (ranks)
        fprintf(c->f, "  <- rank %s", ranks);
}

static void put_pus(const struct canvas *c, const char *before, const int *pus, int n)
{
    struct mu_cpuset s = {{0}};

    fprintf(c->f, "%sPU", before);
    for (int i = 0; i < n; i++) {
        put_pu(c, pus[i]);
        mu_cpuset_set(&s, pus[i]);
    }
    put_ranks(c, &s, -1, -1);
    fprintf(c->f, "\n");
}

/* --- devices -------------------------------------------------------------------------------------------------------
 */

/* GPUs and adapters are numbered through: GPUs first. */
static const struct mu_topo_dev *dev_at(const struct mu_topo *t, int i)
{
    return i < t->ngpus ? &t->gpus[i] : &t->nics[i - t->ngpus];
}

static void put_dev(const struct canvas *c, int i, int indent)
{
    const struct mu_topo_dev *d = dev_at(c->t, i);
    bool gpu = i < c->t->ngpus;
    char name[64], model[120], uuid[100];

    fprintf(c->f, "%*s%s", indent, "", gpu ? "GPU" : d->fabric ? "adapter" : "network");
    if (*d->pci)
        fprintf(c->f, " %s", d->pci);
    if (*d->name)
        fprintf(c->f, " %s", mu_str_show(name, sizeof name, d->name));
    if (*d->model)
        fprintf(c->f, ", %s", mu_str_show(model, sizeof model, d->model));
    if (*d->uuid)
        fprintf(c->f, ", %s", mu_str_show(uuid, sizeof uuid, d->uuid));
    if (d->hidden || d->down)
        fprintf(c->f, d->hidden ? " (may not be used here)" : " (no link)");
    put_ranks(c, NULL, gpu ? i : -1, gpu ? -1 : i - c->t->ngpus);
    fprintf(c->f, "\n");
}

static bool below(const struct mu_topo *t, int bridge, int top)
{
    for (; bridge >= 0; bridge = t->bridges[bridge].parent)
        if (bridge == top)
            return true;
    return top < 0;
}

/* The bridge that is one step below top on the way to bridge, or -1. */
static int step_to(const struct mu_topo *t, int bridge, int top)
{
    while (bridge >= 0 && t->bridges[bridge].parent != top)
        bridge = t->bridges[bridge].parent;
    return bridge;
}

/* Devices at `at` below the bridge top; a bridge is worth a line when it has several of them. The depth of the tree is
 * that of the file's bridges. */
static void put_devs(const struct canvas *c, uint64_t at, int top, int indent)
{
    const struct mu_topo *t = c->t;
    int n = t->ngpus + t->nnics;

    for (int i = 0; i < n; i++) {
        const struct mu_topo_dev *d = dev_at(t, i);
        if (d->at != at || !below(t, d->bridge, top))
            continue;
        int step = d->bridge == top ? -1 : step_to(t, d->bridge, top), first = -1, members = 0;
        for (int k = 0; step >= 0 && k < n; k++)
            if (dev_at(t, k)->at == at && below(t, dev_at(t, k)->bridge, step)) {
                first = first < 0 ? k : first;
                members++;
            }
        if (members < 2) {
            put_dev(c, i, indent);
        } else if (first == i) {
            bool deeper = true; /* all of them are below one and the same further bridge: that one gets the line */
            int next = d->bridge == step ? -1 : step_to(t, d->bridge, step);
            for (int k = 0; k < n; k++)
                if (dev_at(t, k)->at == at && below(t, dev_at(t, k)->bridge, step))
                    deeper &= next >= 0 && below(t, dev_at(t, k)->bridge, next);
            if (!deeper)
                fprintf(c->f, "%*sPCI %s\n", indent, "", t->bridges[step].name);
            put_devs(c, at, step, deeper ? indent : indent + 2);
        }
    }
}

/* --- the tree ------------------------------------------------------------------------------------------------------
 */

enum { PUS_MAX = 64 }; /* that the line of a core names */

static void pus_below(hwloc_obj_t o, int pus[PUS_MAX], int *n)
{
    for (hwloc_obj_t k = o->first_child; k; k = k->next_sibling)
        if (k->type != HWLOC_OBJ_PU)
            pus_below(k, pus, n);
        else if (*n < PUS_MAX)
            pus[(*n)++] = (int)k->os_index;
}

/* One line an object, its PUs on the line of their core. */
static void draw(const struct canvas *c, hwloc_obj_t o, int indent)
{
    const char *name = NULL;
    FILE *f = c->f;

    for (size_t i = 0; i < MU_COUNT(levels); i++)
        if (levels[i].type == o->type)
            name = levels[i].name;
    if (name) {
        fprintf(f, "%*s", indent, "");
        indent += 2;
        switch (o->type) {
        case HWLOC_OBJ_CORE: {
            int pus[PUS_MAX], n = 0;
            put_index(f, name, o);
            pus_below(o, pus, &n);
            put_pus(c, ": ", pus, n);
            put_devs(c, o->gp_index, -1, indent);
            return;
        }
        case HWLOC_OBJ_PU:
            put_pus(c, "", (int[]){(int)o->os_index}, 1);
            return;
        case HWLOC_OBJ_NUMANODE:
            put_index(f, name, o);
            fprintf(f, ": ");
            put_bytes(f, o->attr->numanode.local_memory);
            fprintf(f, "%s", mu_cpuset_isset(&c->t->allowed_nodes, (int)o->os_index) ? "" : " (not allowed)");
            break;
        case HWLOC_OBJ_L3CACHE:
            fprintf(f, "%s: ", name);
            put_bytes(f, o->attr->cache.size);
            break;
        default:
            put_index(f, name, o);
        }
        fprintf(f, "\n");
    }
    for (hwloc_obj_t m = o->memory_first_child; m; m = m->next_sibling)
        draw(c, m, indent);
    put_devs(c, o->gp_index, -1, indent);
    for (hwloc_obj_t k = o->first_child; k; k = k->next_sibling)
        draw(c, k, indent);
}

/* NCCL's files have NUMA nodes, CPUs and devices. */
static void draw_nccl(const struct canvas *c)
{
    for (int n = 0; n < c->t->nnodes; n++) {
        fprintf(c->f, "NUMA node %d\n", c->t->nodes[n].os);
        put_devs(c, (uint64_t)c->t->nodes[n].os, -1, 2);
        for (int i = 0; i < c->t->ncores; i++)
            if (mu_cpuset_isset(c->t->cores[i].nodes, c->t->nodes[n].os)) {
                fprintf(c->f, "  core %d", i);
                put_pus(c, ": ", c->t->cores[i].pus, c->t->cores[i].npus);
            }
    }
}

int mu_topo_draw(const struct mu_topo *t, const struct mu_pin *pin, FILE *f)
{
    struct canvas c = {t, pin, f};

    if (t->hw)
        draw(&c, hwloc_get_root_obj(t->hw), 0);
    else
        draw_nccl(&c);
    return ferror(f) ? MUSTER_EIO : 0;
}
