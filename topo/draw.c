#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/impl.h"

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

static void put_pu(const struct mu_topo *t, FILE *f, hwloc_obj_t pu)
{
    fprintf(f, " %u%s", pu->os_index, mu_cpuset_isset(&t->allowed, (int)pu->os_index) ? "*" : "");
}

static void put_index(FILE *f, const char *name, hwloc_obj_t o)
{
    if (o->os_index == HWLOC_UNKNOWN_INDEX)
        fprintf(f, "%s %u", name, o->logical_index);
    else
        fprintf(f, "%s %u", name, o->os_index);
}

/* One line an object, its PUs on the line of their core. */
static void draw(const struct mu_topo *t, FILE *f, hwloc_obj_t o, int indent)
{
    const char *name = NULL;

    for (size_t i = 0; i < MU_COUNT(levels); i++)
        if (levels[i].type == o->type)
            name = levels[i].name;
    if (name) {
        fprintf(f, "%*s", indent, "");
        indent += 2;
        switch (o->type) {
        case HWLOC_OBJ_CORE:
            put_index(f, name, o);
            fprintf(f, ": PU");
            for (hwloc_obj_t pu = NULL;
                 (pu = hwloc_get_next_obj_inside_cpuset_by_type(t->hw, o->cpuset, HWLOC_OBJ_PU, pu));)
                put_pu(t, f, pu);
            fprintf(f, "\n");
            return;
        case HWLOC_OBJ_PU:
            fprintf(f, "%s", name);
            put_pu(t, f, o);
            break;
        case HWLOC_OBJ_NUMANODE:
            put_index(f, name, o);
            fprintf(f, ": ");
            put_bytes(f, o->attr->numanode.local_memory);
            fprintf(f, "%s", mu_cpuset_isset(&t->allowed_nodes, (int)o->os_index) ? "" : " (not allowed)");
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
    for (hwloc_obj_t c = o->memory_first_child; c; c = c->next_sibling)
        draw(t, f, c, indent);
    for (hwloc_obj_t c = o->first_child; c; c = c->next_sibling)
        draw(t, f, c, indent);
}

int mu_topo_draw(const struct mu_topo *t, FILE *f)
{
    draw(t, f, hwloc_get_root_obj(t->hw), 0);
    return ferror(f) ? MUSTER_EIO : 0;
}
