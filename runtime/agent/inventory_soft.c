/* Versions of libraries, from their files alone: nothing is loaded and nothing is run, so a broken installation does no
 * harm. A library that tells its version in a text of its own is believed first, then Debian's list of packages, then
 * the number in the file's name. */
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/agent/inventory.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { SCANNED = 64 << 20, STATUS = 64 << 20 };

/* marker: what stands before the version in the library's constants; packages: Debian's, between blanks. */
static const struct {
    const char *name, *file, *marker, *packages;
} libs[] = {
    {"mpi", "libmpi.so.40", "Open MPI v", " libopenmpi40 libopenmpi3t64 libopenmpi3 "},
    {"pmix", "libpmix.so.2", "OpenPMIx ", " libpmix2t64 libpmix2 "},
    {"ucx", "libucp.so.0", NULL, " libucx0 "},
    {"nccl", "libnccl.so.2", "NCCL version ", " libnccl2 "},
    {"cuda", "libcudart.so.12", NULL, " libcudart12 "},
    {"hwloc", "libhwloc.so.15", NULL, " libhwloc15 "},
};

/* Where the loader would look: the environment, then its configuration, then where distributions have them. */
static char **directories(const char *root)
{
    static const char *const usual[] = {
        "/usr/local/lib", "/usr/lib/*-linux-gnu", "/lib64", "/usr/lib64", "/usr/local/cuda/lib64", "/lib", "/usr/lib"};
    const char *env = *root ? NULL : getenv("LD_LIBRARY_PATH");
    char **v = NULL, path[PATH_MAX];
    glob_t found;

    for (size_t n; env && *env; env += n + (env[n] == ':')) {
        n = strcspn(env, ":");
        snprintf(path, sizeof path, "%.*s", (int)(n < sizeof path ? n : 0), env);
        if (path[0] == '/')
            mu_strv_append(&v, path);
    }
    snprintf(path, sizeof path, "%s/etc/ld.so.conf.d/*.conf", root);
    if (!glob(path, 0, NULL, &found)) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            mu_auto_buf struct mu_buf b = {0};
            char *save = NULL;
            if (mu_path_read_regular(found.gl_pathv[i], 1 << 16, &b, NULL))
                continue;
            mu_auto_free char *text = mu_buf_take(&b);
            for (char *l = text ? strtok_r(text, " \t\n", &save) : NULL; l; l = strtok_r(NULL, " \t\n", &save))
                if (*l == '/' && snprintf(path, sizeof path, "%s%s", root, l) < (int)sizeof path)
                    mu_strv_append(&v, path);
        }
        globfree(&found);
    }
    for (size_t i = 0; i < MU_COUNT(usual); i++) {
        snprintf(path, sizeof path, "%s%s", root, usual[i]);
        if (glob(path, 0, NULL, &found))
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++)
            mu_strv_append(&v, found.gl_pathv[k]);
        globfree(&found);
    }
    return v;
}

/* The real file's path; false: there is none. */
static bool find(char *const *dirs, const char *file, char out[PATH_MAX])
{
    char path[PATH_MAX];

    for (; dirs && *dirs; dirs++)
        if (snprintf(path, sizeof path, "%s/%s", *dirs, file) < (int)sizeof path && realpath(path, out))
            return true;
    return false;
}

/* What follows the marker, if it begins as a version does. */
static bool told(const char *path, const char *marker, char *out, size_t n)
{
    struct stat st;
    size_t len = marker ? strlen(marker) : 0, size;
    bool found = false;

    mu_auto_fd int fd = len ? mu_path_open_regular(path, 0, &st, NULL) : -1;
    if (fd < 0 || st.st_size <= 0)
        return false;
    size = st.st_size < SCANNED ? (size_t)st.st_size : SCANNED;
    char *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return false;
    for (const char *at = data, *hit; !found && (hit = memmem(at, size - (size_t)(at - data), marker, len));
         at = hit + len) {
        const char *v = hit + len, *end = data + size;
        size_t k = 0;
        while (v + k < end && k + 1 < n && v[k] > ' ' && v[k] < 127 && !strchr(",()%", v[k]))
            k++;
        found = k > 2 && *v >= '0' && *v <= '9' && memchr(v, '.', k);
        if (found)
            snprintf(out, n, "%.*s", (int)k, v);
    }
    munmap(data, size);
    return found;
}

/* Of the first of the packages that is installed. */
static bool packaged(const char *status, const char *packages, char *out, size_t n)
{
    char name[100], word[110];

    for (const char *at = status, *next; at && *at; at = next) {
        next = strstr(at, "\n\n");
        next = next ? next + 2 : NULL;
        if (sscanf(at, "Package: %99s", name) != 1)
            continue;
        snprintf(word, sizeof word, " %s ", name);
        if (!strstr(packages, word))
            continue;
        mu_auto_free char *block = next ? strndup(at, (size_t)(next - at)) : strdup(at);
        const char *state = block ? strstr(block, "\nStatus: install ok installed") : NULL;
        const char *version = block ? strstr(block, "\nVersion: ") : NULL;
        if (!state || !version)
            continue;
        snprintf(out, n, "%.*s", (int)strcspn(version + 10, "\n"), version + 10);
        return true;
    }
    return false;
}

void mu_inventory_soft(const char *root, struct mu_inventory_pairs *p)
{
    mu_auto_buf struct mu_buf status = {0};
    char path[PATH_MAX], real[PATH_MAX], key[64], version[100];
    char **dirs = directories(root);

    snprintf(path, sizeof path, "%s/var/lib/dpkg/status", root);
    if (mu_path_read_regular(path, STATUS, &status, NULL))
        mu_buf_clear(&status);
    for (size_t i = 0; i < MU_COUNT(libs); i++) {
        if (!find(dirs, libs[i].file, real))
            continue;
        const char *file = strncmp(real, root, strlen(root)) ? real : real + strlen(root);
        bool distribution = !strncmp(file, "/usr/lib", 8) || !strncmp(file, "/lib", 4);
        const char *number = strstr(strrchr(file, '/'), ".so.");
        if (!told(real, libs[i].marker, version, sizeof version) &&
            !(distribution && packaged(mu_buf_str(&status), libs[i].packages, version, sizeof version)))
            snprintf(version, sizeof version, "%s", number ? number + 1 : "unknown");
        snprintf(key, sizeof key, "%s.version", libs[i].name);
        mu_inventory_put(p, key, version);
        snprintf(key, sizeof key, "%s.file", libs[i].name);
        mu_inventory_put(p, key, file);
    }
    mu_strv_free(dirs);
}
