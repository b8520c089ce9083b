/* Devices as hwloc shows them. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "topo/impl.h"

static const char *info(hwloc_obj_t o, const char *name)
{
    const char *v = hwloc_obj_get_info_by_name(o, name);

    return v ? v : "";
}

/* Who speaks of a GPU, the best name first. */
static const struct backend {
    const char *name, *prefix, *uuid;
} backends[] = {
    {"CUDA", "cuda", NULL},      {"NVML", "nvml", "NVIDIAUUID"},
    {"RSMI", "rsmi", "AMDUUID"}, {"LevelZero", "ze", "LevelZeroUUID"},
    {"OpenCL", "opencl", NULL},  {"DRM", "renderD", NULL},
};

/* Index of a GPU's backend, or -1. */
static int backend_of(hwloc_obj_t o)
{
    const char *says = *info(o, "Backend") ? info(o, "Backend") : o->subtype ? o->subtype : "";

    if (o->attr->osdev.type != HWLOC_OBJ_OSDEV_GPU && o->attr->osdev.type != HWLOC_OBJ_OSDEV_COPROC)
        return -1;
    for (size_t i = 0; i < MU_COUNT(backends); i++) {
        const struct backend *b = &backends[i];
        if (strcmp(says, b->name) && (*says || !o->name || strncmp(o->name, b->prefix, strlen(b->prefix))))
            continue;
        return !strcmp(b->name, "OpenCL") && strcmp(info(o, "OpenCLDeviceType"), "GPU") ? -1 : (int)i;
    }
    return o->name && !strncmp(o->name, "renderD", 7) ? (int)MU_COUNT(backends) - 1 : -1;
}

static void put(char *dst, size_t n, const char *src)
{
    if (src && *src)
        snprintf(dst, n, "%.*s", (int)n - 1, src);
}

/* What the operating system's names below a PCI device say of it. */
struct names {
    int backend; /* best one, -1 none */
    bool network, fabric, up, state;
};

static void gpu_names(hwloc_obj_t o, struct mu_topo_dev *d, struct names *n)
{
    int b = backend_of(o);

    if (b < 0)
        return;
    if (n->backend < 0 || b < n->backend) {
        n->backend = b;
        put(d->name, sizeof d->name, o->name);
        put(d->model, sizeof d->model, info(o, "GPUModel"));
    }
    if (backends[b].uuid && !*d->uuid)
        put(d->uuid, sizeof d->uuid, info(o, backends[b].uuid));
}

static void nic_names(hwloc_obj_t o, struct mu_topo_dev *d, struct names *n)
{
    bool fabric = o->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;

    if (!fabric && o->attr->osdev.type != HWLOC_OBJ_OSDEV_NETWORK)
        return;
    if ((fabric && !n->fabric) || (!n->network && !n->fabric))
        put(d->name, sizeof d->name, o->name);
    n->fabric |= fabric;
    n->network = true;
    for (int port = 1; fabric && port <= 8; port++) {
        char key[24];
        snprintf(key, sizeof key, "Port%dState", port);
        const char *state = info(o, key);
        if (!*state)
            break;
        n->state = true;
        if (*state == '4' && !n->up) { /* IBV_PORT_ACTIVE */
            n->up = true;
            d->port = port;
        }
    }
}

static void os_names(hwloc_obj_t o, struct mu_topo_dev *d, struct names *n)
{
    for (hwloc_obj_t c = o->io_first_child; c; c = c->next_sibling)
        if (c->type == HWLOC_OBJ_OS_DEVICE) {
            gpu_names(c, d, n);
            nic_names(c, d, n);
            os_names(c, d, n);
        }
}

static int local_to(hwloc_obj_t o, hwloc_topology_t hw, struct mu_topo_dev *d, struct mu_err *err)
{
    hwloc_obj_t a = hwloc_get_non_io_ancestor_obj(hw, o);
    int rc;

    if (!a || !a->cpuset)
        a = hwloc_get_root_obj(hw);
    d->at = a->gp_index;
    if ((rc = mu_topo_from_bitmap(a->cpuset, &d->cpus, err)))
        return rc;
    return mu_topo_from_bitmap(a->nodeset, &d->nodes, err);
}

static int add_pci(struct mu_topo *t, hwloc_obj_t o, int bridge, struct mu_err *err)
{
    const struct hwloc_pcidev_attr_s *p = &o->attr->pcidev;
    struct mu_topo_dev d = {.bridge = bridge,
                            .vendor = p->vendor_id,
                            .pci_id = p->device_id,
                            .pci_class = p->class_id,
                            .package = -1,
                            .port = 1};
    struct names n = {.backend = -1};
    int rc = local_to(o, t->hw, &d, err);

    if (rc)
        return rc;
    snprintf(d.pci, sizeof d.pci, "%04x:%02x:%02x.%x", (unsigned)p->domain, p->bus, p->dev, p->func & 15);
    put(d.model, sizeof d.model, info(o, "PCIDevice"));
    os_names(o, &d, &n);
    bool root = bridge < 0 || t->bridges[bridge].parent < 0;
    bool gpu = n.backend >= 0 || mu_topo_dev_is_gpu(&d, root);
    bool nic = !gpu && (n.network || n.fabric || mu_topo_dev_is_fabric(&d));
    d.fabric = n.fabric || mu_topo_dev_is_fabric(&d);
    d.rdma = n.fabric;
    d.down = n.state && !n.up;
    if ((gpu || nic) && mu_topo_add_dev(t, gpu, &d))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    return 0;
}

static int add_below(struct mu_topo *t, hwloc_obj_t o, int bridge, struct mu_err *err)
{
    int rc = 0;

    for (hwloc_obj_t c = o->io_first_child; c && !rc; c = c->next_sibling) {
        int below = bridge;
        if (c->type == HWLOC_OBJ_PCI_DEVICE) {
            rc = add_pci(t, c, bridge, err);
        } else if (c->type == HWLOC_OBJ_BRIDGE) {
            char name[32];
            const struct hwloc_bridge_attr_s *b = &c->attr->bridge;
            if (b->upstream_type == HWLOC_OBJ_BRIDGE_PCI)
                snprintf(name, sizeof name, "%04x:%02x:%02x.%x", (unsigned)b->upstream.pci.domain, b->upstream.pci.bus,
                         b->upstream.pci.dev, b->upstream.pci.func & 15);
            else
                snprintf(name, sizeof name, "%04x:%02x", (unsigned)b->downstream.pci.domain,
                         b->downstream.pci.secondary_bus);
            if ((below = mu_topo_add_bridge(t, name, bridge)) < 0)
                return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
            rc = add_below(t, c, below, err);
        }
    }
    for (hwloc_obj_t c = o->first_child; c && !rc; c = c->next_sibling)
        rc = add_below(t, c, -1, err);
    return rc;
}

/* GPUs without a PCI address, as virtual machines may show them: those of one backend, so that none is there twice. */
static int add_loose(struct mu_topo *t, struct mu_err *err)
{
    for (int want = 0; want + 1 < (int)MU_COUNT(backends); want++) {
        bool any = false;
        for (hwloc_obj_t o = NULL; (o = hwloc_get_next_osdev(t->hw, o));) {
            struct mu_topo_dev d = {.bridge = -1, .package = -1};
            struct names n = {.backend = -1};
            hwloc_obj_t up = o->parent;
            while (up && up->type == HWLOC_OBJ_OS_DEVICE)
                up = up->parent;
            if (backend_of(o) != want || (up && up->type == HWLOC_OBJ_PCI_DEVICE))
                continue;
            int rc = local_to(o, t->hw, &d, err);
            if (rc)
                return rc;
            gpu_names(o, &d, &n);
            if (mu_topo_add_dev(t, true, &d))
                return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
            any = true;
        }
        if (any)
            break;
    }
    return 0;
}

int mu_topo_hwloc_devs(struct mu_topo *t, struct mu_err *err)
{
    int rc = add_below(t, hwloc_get_root_obj(t->hw), -1, err);

    if (!rc && !t->ngpus)
        rc = add_loose(t, err);
    mu_topo_finish_devs(t);
    return rc;
}
