/* What a made-up sysfs says of adapters and GPUs. */
#include <string.h>
#include <unistd.h>

#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"
#include "topo/sysfs.h"

static char root[] = "/tmp/muster-test-sysfs-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[400], dir[400];

    snprintf(full, sizeof full, "%s%s", root, path);
    snprintf(dir, sizeof dir, "%s", full);
    *strrchr(dir, '/') = 0;
    if (mu_path_mkdirs(dir, 0700, NULL) || mu_path_write_atomic(full, text, strlen(text), 0600, NULL))
        exit(99);
}

static void pci(const char *address, const char *class, const char *vendor, const char *device)
{
    const char *const names[] = {"class", "vendor", "device"}, *const texts[] = {class, vendor, device};
    char path[200];

    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", address, names[i]);
        put(path, texts[i]);
    }
}

static const char *guids(void)
{
    static char out[200];
    char **v = NULL;

    out[0] = 0;
    if (mu_sysfs_ib_guids(root, &v))
        return "error";
    for (char **p = v; p && *p; p++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s ", *p);
    mu_strv_free(v);
    return out;
}

int main(void)
{
    if (!mkdtemp(root))
        return 99;
    TAP_OK(!*guids(), "no sysfs, no adapters");
    TAP_OK(!mu_sysfs_may_have_gpus(root), "and no GPUs");
    put("/sys/class/infiniband/mlx5_1/node_guid", "E41D:2d03:0050:f34e\n");
    put("/sys/class/infiniband/mlx5_0/node_guid", "0002:c903:0005:f34e\n");
    put("/sys/class/infiniband/mlx5_2/node_guid", "0002:c903:0005:f34e\n");
    put("/sys/class/infiniband/mlx5_3/node_guid", "0000:0000:0000:0000\n");
    put("/sys/class/infiniband/mlx5_4/node_guid", "no guid\n");
    put("/sys/class/infiniband/mlx5_5/node_guid", "0002:c903:0005:f34e:0001\n");
    put("/sys/class/infiniband/mlx5_6/node_guid", "");
    put("/sys/class/infiniband/mlx5_7/other", "0002:c903:0005:f34f\n");
    TAP_OK(!strcmp(guids(), "0002c9030005f34e e41d2d030050f34e "), "GUIDs of adapters, each once: %s", guids());

    pci("0000:00:00.0", "0x060000\n", "0x8086\n", "0x1237\n");
    pci("0000:03:00.0", "0x030000\n", "0x1a03\n", "0x2000\n");
    pci("0000:04:00.0", "0x030000\n", "0x1002\n", "0x515e\n");
    pci("0000:05:00.0", "nonsense\n", "\n", "");
    TAP_OK(!mu_sysfs_may_have_gpus(root), "consoles of servers are no GPUs");
    pci("0000:41:00.0", "0x030200\n", "0x10de\n", "0x2330\n");
    TAP_OK(mu_sysfs_may_have_gpus(root), "a GPU is one");
    mu_path_remove_tree(root, NULL);
    return tap_done();
}
