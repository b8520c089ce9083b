#include "topo/sysfs.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "topo/impl.h"

enum { VALUE_MAX_BYTES = 4096, ADAPTERS_MAX = 256 };

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}
#define auto_dir __attribute__((cleanup(close_dir)))

/* The first word of dir/entry/name; "": there is none. */
static void value(const char *dir, const char *entry, const char *name, char *out, size_t n)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];

    out[0] = 0;
    if (snprintf(path, sizeof path, "%s/%s/%s", dir, entry, name) >= (int)sizeof path ||
        mu_path_read(path, VALUE_MAX_BYTES, &b, NULL))
        return;
    snprintf(out, n, "%.*s", (int)strcspn(mu_buf_str(&b), " \t\r\n"), mu_buf_str(&b));
}

bool mu_sysfs_may_have_gpus(const char *root)
{
    char dir[PATH_MAX], text[32];
    struct dirent *e;

    snprintf(dir, sizeof dir, "%s/sys/bus/pci/devices", root);
    auto_dir DIR *d = opendir(dir);
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        value(dir, e->d_name, "class", text, sizeof text); /* "0x030200": class, subclass, interface */
        struct mu_topo_dev dev = {.pci_class = (uint16_t)(strtoul(text, NULL, 16) >> 8)};
        value(dir, e->d_name, "vendor", text, sizeof text);
        dev.vendor = (uint32_t)strtoul(text, NULL, 16);
        value(dir, e->d_name, "device", text, sizeof text);
        dev.pci_id = (uint32_t)strtoul(text, NULL, 16);
        if (mu_topo_dev_is_gpu(&dev, false))
            return true;
    }
    return false;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "0002:c903:0005:f34e" as "0002c9030005f34e"; false: it is no GUID, or that of an adapter that has none yet. */
static bool guid(const char *text, char out[17])
{
    size_t n = 0;
    bool any = false;

    for (const char *p = text; *p; p++) {
        if (*p == ':')
            continue;
        if (!isxdigit((unsigned char)*p) || n == 16)
            return false;
        any = any || *p != '0';
        out[n++] = (char)tolower((unsigned char)*p);
    }
    out[n] = 0;
    return n == 16 && any;
}

int mu_sysfs_ib_guids(const char *root, char ***out)
{
    char dir[PATH_MAX], text[64], digits[17], **v = NULL;
    struct dirent *e;
    size_t n = 0, kept = 0;

    snprintf(dir, sizeof dir, "%s/sys/class/infiniband", root);
    auto_dir DIR *d = opendir(dir);
    while (d && n < ADAPTERS_MAX && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        value(dir, e->d_name, "node_guid", text, sizeof text);
        if (!guid(text, digits))
            continue;
        if (mu_strv_append(&v, digits)) {
            mu_strv_free(v);
            return MUSTER_ENOMEM;
        }
        n++;
    }
    if (n)
        qsort(v, n, sizeof *v, by_text);
    for (size_t i = 0; i < n; i++) {
        if (kept && !strcmp(v[kept - 1], v[i]))
            free(v[i]);
        else
            v[kept++] = v[i];
    }
    if (n)
        v[kept] = NULL;
    *out = v;
    return 0;
}
