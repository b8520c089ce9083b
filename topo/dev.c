#include "topo/dev.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "topo/impl.h"

enum { NVIDIA = 0x10de, AMD = 0x1002, INTEL = 0x8086, CRAY = 0x17db };
enum { DISPLAY = 0x03, DISPLAY_VGA = 0x0300, DISPLAY_3D = 0x0302, ACCELERATOR = 0x1200 };
enum { NETWORK = 0x02, INFINIBAND = 0x0207, FABRIC = 0x0208, SERIAL_IB = 0x0c06 };

/* --- what a device is -------------------------------------------------------------------------------------------- */

/* Graphics for a server's console by makers who also make accelerators: ATI's ES1000, RN50 and Rage XL. */
static bool is_console(uint32_t vendor, uint32_t device)
{
    static const uint32_t ati[] = {0x515e, 0x5969, 0x4752};

    for (size_t i = 0; i < MU_COUNT(ati); i++)
        if (vendor == AMD && device == ati[i])
            return true;
    return false;
}

/* By its class, where nothing else is known of it. VGA is what consoles and the screens of laptops are, too. */
bool mu_topo_dev_is_gpu(const struct mu_topo_dev *d, bool on_host_bridge)
{
    if (d->pci_class == DISPLAY_3D)
        return true;
    if (d->pci_class >> 8 != DISPLAY && d->pci_class != ACCELERATOR)
        return false;
    if (d->vendor == NVIDIA || (d->vendor == AMD && !is_console(d->vendor, d->pci_id)))
        return true;
    return d->vendor == INTEL && (d->pci_class != DISPLAY_VGA || !on_host_bridge);
}

bool mu_topo_dev_is_network(const struct mu_topo_dev *d)
{
    return d->pci_class >> 8 == NETWORK || d->pci_class == SERIAL_IB;
}

bool mu_topo_dev_is_fabric(const struct mu_topo_dev *d)
{
    return d->pci_class == INFINIBAND || d->pci_class == FABRIC || d->pci_class == SERIAL_IB ||
           (d->vendor == CRAY && mu_topo_dev_is_network(d)); /* Slingshot says Ethernet */
}

/* --- the list ---------------------------------------------------------------------------------------------------- */

int mu_topo_add_bridge(struct mu_topo *t, const char *name, int parent)
{
    struct mu_topo_bridge *v = realloc(t->bridges, ((size_t)t->nbridges + 1) * sizeof *v);

    if (!v)
        return MUSTER_ENOMEM;
    t->bridges = v;
    v[t->nbridges].parent = parent;
    snprintf(v[t->nbridges].name, sizeof v->name, "%s", name);
    return t->nbridges++;
}

int mu_topo_add_dev(struct mu_topo *t, bool gpu, const struct mu_topo_dev *d)
{
    struct mu_topo_dev **list = gpu ? &t->gpus : &t->nics;
    int *n = gpu ? &t->ngpus : &t->nnics;
    struct mu_topo_dev *v = realloc(*list, ((size_t)*n + 1) * sizeof *v);

    if (!v)
        return MUSTER_ENOMEM;
    *list = v;
    v[(*n)++] = *d;
    return 0;
}

static unsigned long domain_of(const char *pci)
{
    return strtoul(pci, NULL, 16);
}

static int by_address(const void *a, const void *b)
{
    const struct mu_topo_dev *x = a, *y = b;
    unsigned long dx = domain_of(x->pci), dy = domain_of(y->pci);

    if (!*x->pci != !*y->pci)
        return !*x->pci - !*y->pci;
    if (dx != dy)
        return (dx > dy) - (dx < dy);
    int rc = strcmp(x->pci, y->pci);
    if (!rc)
        rc = (strlen(x->name) > strlen(y->name)) - (strlen(x->name) < strlen(y->name)); /* cuda2 before cuda10 */
    return rc ? rc : strcmp(x->name, y->name);
}

/* What is below one PCI bridge is one card, or one of its functions: of the same maker's functions there, those with
 * another number than the first one are virtual (and so is a port that says it). */
static bool is_virtual(const struct mu_topo *t, const struct mu_topo_dev *d)
{
    if (d->bridge < 0 || t->bridges[d->bridge].parent < 0 || !*d->pci)
        return false;
    for (int i = 0; i < t->nnics; i++) {
        const struct mu_topo_dev *o = &t->nics[i];
        if (o != d && o->bridge == d->bridge && o->vendor == d->vendor && by_address(o, d) < 0 &&
            (o->pci_id != d->pci_id || strstr(d->model, "Virtual Function")))
            return true;
    }
    return false;
}

static int package_of(const struct mu_topo *t, const struct mu_topo_dev *d)
{
    int package = -1;

    for (int i = 0; i < t->ncores; i++) {
        const struct mu_topo_core *c = &t->cores[i];
        if (!mu_cpuset_isset(&d->cpus, c->pus[0]) || c->package == package)
            continue;
        if (package >= 0)
            return -1;
        package = c->package;
    }
    return package;
}

void mu_topo_finish_devs(struct mu_topo *t)
{
    int kept = 0;

    if (t->ngpus)
        qsort(t->gpus, (size_t)t->ngpus, sizeof *t->gpus, by_address);
    if (t->nnics)
        qsort(t->nics, (size_t)t->nnics, sizeof *t->nics, by_address);
    mu_auto_free bool *gone = t->nnics ? calloc((size_t)t->nnics, sizeof *gone) : NULL;
    for (int i = 0; gone && i < t->nnics; i++)
        gone[i] = is_virtual(t, &t->nics[i]);
    for (int i = 0; gone && i < t->nnics; i++)
        if (!gone[i])
            t->nics[kept++] = t->nics[i];
    t->nnics = gone ? kept : t->nnics;
    for (int i = 0; i < t->ngpus; i++)
        t->gpus[i].package = package_of(t, &t->gpus[i]);
    for (int i = 0; i < t->nnics; i++)
        t->nics[i].package = package_of(t, &t->nics[i]);
}

/* --- of this machine --------------------------------------------------------------------------------------------- */

static bool exists(const char *root, const char *path)
{
    char full[PATH_MAX];

    snprintf(full, sizeof full, "%s%s", root, path);
    return !access(full, F_OK);
}

/* What follows key in the text of the file, up to the end of its line. */
static bool value_in(const char *root, const char *path, const char *key, char *out, size_t n)
{
    mu_auto_buf struct mu_buf b = {0};
    char full[PATH_MAX];

    snprintf(full, sizeof full, "%s%s", root, path);
    if (mu_path_read(full, 64 << 10, &b, NULL))
        return false;
    const char *at = strstr(mu_buf_str(&b), key);
    if (!at)
        return false;
    at += strlen(key);
    at += strspn(at, " \t");
    size_t len = strcspn(at, " \t\r\n");
    if (!len || len >= n)
        return false;
    memcpy(out, at, len);
    out[len] = 0;
    return true;
}

/* The drivers say what hwloc would need their libraries for. NVIDIA's shows a container only what it may use. */
void mu_topo_live_devs(struct mu_topo *t, const char *root)
{
    for (int i = 0; i < t->ngpus; i++) {
        struct mu_topo_dev *d = &t->gpus[i];
        char path[128], minor[16], node[32];

        if (d->vendor == NVIDIA) {
            snprintf(path, sizeof path, "/proc/driver/nvidia/gpus/%s/information", d->pci);
            d->hidden = !exists(root, path);
            if (value_in(root, path, "Device Minor:", minor, sizeof minor)) {
                snprintf(node, sizeof node, "/dev/nvidia%s", minor);
                d->hidden = !exists(root, node);
            }
            /* "GPU-????????-..." until the first program has opened it. */
            if (!*d->uuid && value_in(root, path, "GPU UUID:", d->uuid, sizeof d->uuid) && strchr(d->uuid, '?'))
                d->uuid[0] = 0;
        } else if (d->vendor == AMD) {
            d->hidden = !exists(root, "/dev/kfd");
            snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/unique_id", d->pci);
            if (!*d->uuid)
                value_in(root, path, "", d->uuid, sizeof d->uuid);
        }
    }
}

/* --- what is asked ----------------------------------------------------------------------------------------------- */

int mu_topo_ngpus(const struct mu_topo *t)
{
    return t->ngpus;
}

const struct mu_topo_dev *mu_topo_gpu(const struct mu_topo *t, int i)
{
    return &t->gpus[i];
}

int mu_topo_nnics(const struct mu_topo *t)
{
    return t->nnics;
}

const struct mu_topo_dev *mu_topo_nic(const struct mu_topo *t, int i)
{
    return &t->nics[i];
}

static int depth(const struct mu_topo *t, int bridge)
{
    int n = 0;

    for (; bridge >= 0; bridge = t->bridges[bridge].parent)
        n++;
    return n;
}

int mu_topo_common_bridges(const struct mu_topo *t, const struct mu_topo_dev *a, const struct mu_topo_dev *b)
{
    int x = a->bridge, y = b->bridge, dx = depth(t, x), dy = depth(t, y);

    for (; dx > dy; dx--)
        x = t->bridges[x].parent;
    for (; dy > dx; dy--)
        y = t->bridges[y].parent;
    for (; x != y; dx--) {
        x = t->bridges[x].parent;
        y = t->bridges[y].parent;
    }
    return dx;
}

int mu_topo_nearness(const struct mu_topo *t, const struct mu_topo_dev *gpu, const struct mu_topo_dev *nic)
{
    return 4 * mu_topo_common_bridges(t, gpu, nic) + 2 * mu_cpuset_intersects(&gpu->nodes, &nic->nodes) +
           (gpu->package >= 0 && gpu->package == nic->package);
}

const char *mu_topo_bridge_name(const struct mu_topo *t, int bridge)
{
    return bridge >= 0 && bridge < t->nbridges ? t->bridges[bridge].name : "";
}

int mu_topo_bridge_parent(const struct mu_topo *t, int bridge)
{
    return bridge >= 0 && bridge < t->nbridges ? t->bridges[bridge].parent : -1;
}

int mu_topo_pci_parse(const char *text, char out[24])
{
    unsigned domain, bus, dev, func;
    int len = -1;

    if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text) ||
        sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &dev, &func, &len) != 4 || text[len] || dev > 31)
        return MUSTER_EARG;
    snprintf(out, 24, "%04x:%02x:%02x.%x", domain, bus, dev, func);
    return 0;
}
