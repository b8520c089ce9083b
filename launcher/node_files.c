#include "launcher/node_files.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launcher/core/ctl.h"
#include "runtime/base/clean.h"
#include "runtime/base/hosts.h"
#include "runtime/base/path.h"

int mu_labels_store(const char *state, const char *text, struct mu_err *err)
{
    char path[PATH_MAX];
    int rc = mu_path_join(path, sizeof path, state, "labels", err);

    if (rc)
        return rc;
    if (!*text) {
        unlink(path);
        return 0;
    }
    return mu_path_write_atomic(path, text, strlen(text), 0600, err);
}

int mu_labels_load(const char *state, void (*take)(void *arg, const struct mu_m_nodes_label *), void *arg,
                   struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], *save = NULL;
    unsigned number = 1;
    int rc = mu_path_join(path, sizeof path, state, "labels", err);

    if (rc || access(path, F_OK))
        return rc;
    if ((rc = mu_path_read_regular(path, 16 << 20, &b, err)))
        return rc;
    for (char *line = strtok_r((char *)(uintptr_t)mu_buf_str(&b), "\n", &save); line;
         line = strtok_r(NULL, "\n", &save), number++) {
        char *space = strchr(line, ' '), host[300];
        if (space)
            *space = 0;
        if (!space || !mu_hosts_is_node(line) || mu_labels_check(space + 1, NULL)) {
            rc = mu_err_set(err, MUSTER_ECORRUPT, "%s:%u: not a node and its labels; `muster nodes label` gives them",
                            path, number);
            continue;
        }
        snprintf(host, sizeof host, "%s:*", line);
        take(arg, &(struct mu_m_nodes_label){.hosts = host, .labels = space + 1});
    }
    return rc;
}

int mu_marks_store(const char *state, const void *frames, size_t len, struct mu_err *err)
{
    char path[PATH_MAX];
    int rc = mu_path_join(path, sizeof path, state, "marks", err);

    if (rc || len)
        return rc ? rc : mu_path_write_atomic(path, frames, len, 0600, err);
    unlink(path);
    return 0;
}

int mu_marks_load(const char *state, void (*take)(void *arg, const struct mu_msg *), void *arg, struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];
    int rc = mu_path_join(path, sizeof path, state, "marks", err);

    if (rc || access(path, F_OK))
        return rc;
    if ((rc = mu_path_read_regular(path, 16 << 20, &b, err)))
        return rc;
    for (size_t at = 0; at < b.len;) {
        MU_AUTO_MSG struct mu_msg msg = {0};
        int64_t len = mu_msg_frame(b.data + at, b.len - at);
        if (len <= 0 || mu_msg_decode(b.data + at, (size_t)len, &msg, NULL) || msg.type != MU_MSG_mark)
            return mu_err_set(err, MUSTER_ECORRUPT,
                              "%s: the marks of drained nodes are damaged; `muster nodes drain` anew", path);
        take(arg, &msg);
        at += (size_t)len;
    }
    return 0;
}

void mu_pool_told(const struct mu_ctl *core, void (*labels)(void *arg, const char *text),
                  void (*hosts)(void *arg, const char *text), void *arg)
{
    mu_auto_buf struct mu_buf text = {0};

    mu_ctl_pool_labels(core, &text);
    if (labels && !text.failed)
        labels(arg, mu_buf_str(&text));
    mu_buf_clear(&text);
    mu_ctl_pool_hosts(core, &text);
    if (hosts && !text.failed)
        hosts(arg, mu_buf_str(&text));
}
