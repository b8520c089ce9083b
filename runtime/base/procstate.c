#include "runtime/base/procstate.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"

int mu_proc_state(pid_t pid, struct mu_proc_state *out)
{
    char path[40], text[1024];
    uint64_t user, kernel;
    int group;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return MUSTER_EARG;
    text[n] = 0;
    /* the name in it may hold anything: fields start behind the last ')' */
    const char *p = strrchr(text, ')');
    char letter;
    if (!p || sscanf(p + 1, " %c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &letter, &group, &user,
                     &kernel) != 4)
        return MUSTER_EARG;
    *out = (struct mu_proc_state){.letter = letter, .group = group, .cpu = user + kernel};
    return 0;
}

/* Whether the file of a cgroup says the word, on a line of its own. */
static bool says(const char *root, const char *tree, const char *group, const char *file, const char *word)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s%s%s/%s", root, tree, *tree ? "/" : "", group, file);
    size_t len = strlen(word);

    if (n < 0 || (size_t)n >= sizeof path || mu_path_read(path, 4096, &b, NULL))
        return false;
    for (const char *line = mu_buf_str(&b); *line;) {
        size_t k = strcspn(line, "\n");
        if (k == len && !strncmp(line, word, len))
            return true;
        line += k + (line[k] == '\n');
    }
    return false;
}

bool mu_proc_frozen_at(const char *cgroups, const char *root)
{
    char group[PATH_MAX];

    for (const char *line = cgroups; *line;) {
        size_t len = strcspn(line, "\n");
        const char *list = memchr(line, ':', len),
                   *path = list ? memchr(list + 1, ':', len - (size_t)(list + 1 - line)) : NULL;

        if (path && (size_t)(line + len - path - 1) < sizeof group) {
            snprintf(group, sizeof group, "%.*s", (int)(line + len - path - 1), path + 1);
            if (path == list + 1 && (says(root, "", group, "cgroup.events", "frozen 1") ||
                                     says(root, "unified", group, "cgroup.events", "frozen 1")))
                return true;
            if (path - list - 1 == 7 && !strncmp(list + 1, "freezer", 7) &&
                says(root, "freezer", group, "freezer.state", "FROZEN"))
                return true;
        }
        line += len + (line[len] == '\n');
    }
    return false;
}

bool mu_proc_frozen(pid_t pid)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[40];

    snprintf(path, sizeof path, "/proc/%ld/cgroup", (long)pid);
    return !mu_path_read(path, 64 << 10, &b, NULL) && mu_proc_frozen_at(mu_buf_str(&b), "/sys/fs/cgroup");
}

char mu_proc_letter(pid_t pid)
{
    struct mu_proc_state st;

    if (mu_proc_state(pid, &st))
        return 0;
    return (st.letter == 'S' || st.letter == 'D') && mu_proc_frozen(pid) ? 'F' : st.letter;
}

char mu_proc_stopped(pid_t pid)
{
    char letter = mu_proc_letter(pid);

    return letter == 'T' || letter == 't' || letter == 'F' ? letter : 0;
}

const char *mu_proc_state_text(char letter)
{
    switch (letter) {
    case 'T':
        return "it is stopped (state T)";
    case 't':
        return "a debugger has stopped it (state t)";
    case 'F':
        return "its cgroup is frozen";
    case 'R':
        return "it runs (state R)";
    case 'S':
        return "it sleeps (state S)";
    case 'D':
        return "it waits for a disk or a device (state D)";
    default:
        return "its state is not known";
    }
}
