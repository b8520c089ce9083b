#include "runtime/agent/check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "runtime/agent/gpus.h"
#include "runtime/agent/inventory.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/opt.h"
#include "runtime/base/str.h"

#define SEEN "checks.seen"
enum { SEEN_MAX_BYTES = 1 << 20, FILE_MAX_BYTES = 64 << 10, ASK_MS = 10000 };

static const struct {
    const char *name;
    void (*look)(struct mu_check *, struct mu_check_found *);
} rows[] = {
    {"memory", mu_check_memory},         {"ecc", mu_check_ecc},     {"disk", mu_check_disk}, {"gpu", mu_check_gpu},
    {"infiniband", mu_check_infiniband}, {"stray", mu_check_stray},
};

bool mu_check_is_built_in(const char *name)
{
    bool is = !strcmp(name, "clock"); /* the controller's */

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        is = is || !strcmp(rows[i].name, name);
    return is;
}

bool mu_check_has(char *const *list, const char *name)
{
    while (list && *list && strcmp(*list, name) != 0)
        list++;
    return list && *list;
}

/* --- what was found ------------------------------------------------------------------------------------------------
 */

static void say(struct mu_check_found *f, uint32_t level, const char *fmt, va_list ap)
{
    f->level = level;
    vsnprintf(f->reason, sizeof f->reason, fmt, ap);
}

void mu_check_say(struct mu_check_found *f, uint32_t level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(f, level, fmt, ap);
    va_end(ap);
}

void mu_check_worse(struct mu_check_found *f, uint32_t level, const char *fmt, ...)
{
    va_list ap;

    if (level <= f->level)
        return;
    va_start(ap, fmt);
    say(f, level, fmt, ap);
    va_end(ap);
}

/* --- what earlier runs have seen -----------------------------------------------------------------------------------
 */

struct mu_check_seen {
    char **names; /* a line each: "NAME VALUE" */
};

static void seen_load(struct mu_check *c, struct mu_check_seen *s)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX], *save = NULL;

    if (mu_path_join(path, sizeof path, c->paths->run, SEEN, NULL) || mu_path_read(path, SEEN_MAX_BYTES, &b, NULL))
        return;
    mu_auto_free char *text = mu_buf_take(&b);
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        if (mu_strv_append(&s->names, line))
            return;
}

static void seen_save(struct mu_check *c, struct mu_check_seen *s)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];

    for (char **line = s->names; line && *line; line++)
        mu_buf_appendf(&b, "%s\n", *line);
    if (b.len && !b.failed && !mu_path_join(path, sizeof path, c->paths->run, SEEN, NULL))
        mu_path_write_atomic(path, b.data, b.len, 0600, NULL); /* without it the next run begins anew */
}

static char **seen_at(struct mu_check *c, const char *what)
{
    size_t n = strlen(what);

    for (char **line = c->seen ? c->seen->names : NULL; line && *line; line++)
        if (!strncmp(*line, what, n) && (*line)[n] == ' ')
            return line;
    return NULL;
}

uint64_t mu_check_was(struct mu_check *c, const char *what, uint64_t none)
{
    char **line = seen_at(c, what);
    uint64_t value;

    return line && !mu_str_u64(strrchr(*line, ' ') + 1, 0, UINT64_MAX, &value) ? value : none;
}

uint64_t mu_check_grown(struct mu_check *c, const char *what, uint64_t value)
{
    uint64_t was = mu_check_was(c, what, value);
    char **line = seen_at(c, what), text[300];

    snprintf(text, sizeof text, "%.270s %llu", what, (unsigned long long)value);
    if (line) {
        char *copy = strdup(text);
        if (copy) {
            free(*line);
            *line = copy;
        }
    } else if (c->seen) {
        mu_strv_append(&c->seen->names, text);
    }
    return value > was ? value - was : 0;
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

static int read_text(const struct mu_check *c, char *out, size_t n, const char *fmt, va_list ap)
{
    mu_auto_buf struct mu_buf b = {0};
    char path[PATH_MAX];
    size_t len = (size_t)snprintf(path, sizeof path, "%s", c->root);

    if (vsnprintf(path + len, sizeof path - len, fmt, ap) >= (int)(sizeof path - len))
        return MUSTER_EARG;
    int rc = mu_path_read(path, FILE_MAX_BYTES, &b, NULL);
    if (!rc)
        snprintf(out, n, "%.*s", (int)strcspn(mu_buf_str(&b), "\n"), mu_buf_str(&b));
    return rc;
}

int mu_check_text(const struct mu_check *c, char *out, size_t n, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int rc = read_text(c, out, n, fmt, ap);
    va_end(ap);
    return rc;
}

int mu_check_number(const struct mu_check *c, uint64_t *out, const char *fmt, ...)
{
    char text[64];
    va_list ap;

    va_start(ap, fmt);
    int rc = read_text(c, text, sizeof text, fmt, ap);
    va_end(ap);
    text[rc ? 0 : strcspn(text, " \t")] = 0;
    return rc ? rc : mu_str_u64(text, 0, UINT64_MAX, out);
}

/* --- all of them ---------------------------------------------------------------------------------------------------
 */

int mu_check_run(struct mu_check *c, mu_check_fn fn, void *arg)
{
    struct mu_check_seen seen = {0};
    int rc = 0;

    c->seen = &seen;
    seen_load(c, &seen);
    for (size_t i = 0; i < MU_COUNT(rows) && !rc; i++) {
        struct mu_check_found found = {0};
        uint64_t since = mu_now();
        if (mu_check_has(c->asked->off, rows[i].name) || (rc = fn(arg, rows[i].name, NULL, 0)))
            continue;
        rows[i].look(c, &found);
        rc = fn(arg, rows[i].name, &found, (uint32_t)((mu_now() - since) / MU_MS));
    }
    if (!rc)
        rc = mu_check_scripts(c, fn, arg);
    seen_save(c, &seen);
    mu_strv_free(seen.names);
    c->seen = NULL;
    return rc;
}

/* --- the process ---------------------------------------------------------------------------------------------------
 */

static int send_all(int fd, const struct mu_buf *b)
{
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(fd, b->data + at, b->len - at);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, 1000);
        } else if (n < 0 && errno != EINTR) {
            return MUSTER_EPEER;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int answer(void *arg, const char *name, const struct mu_check_found *found, uint32_t took_ms)
{
    mu_auto_buf struct mu_buf b = {0};
    char *names[] = {(char *)(uintptr_t)name, NULL}, *reasons[] = {NULL, NULL};
    uint32_t level = found ? found->level : 0;
    struct mu_m_checked m = {.names = names};

    if (found) {
        reasons[0] = (char *)(uintptr_t)found->reason;
        m.levels = (struct mu_u32v){.v = &level, .n = 1};
        m.took_ms = (struct mu_u32v){.v = &took_ms, .n = 1};
        m.reasons = reasons;
    }
    int rc = mu_msg_encode(&b, MU_MSG_checked, &m);
    return rc ? rc : send_all(*(int *)arg, &b);
}

/* The question. */
static int hear(int fd, struct mu_msg *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf b = {0};
    uint64_t until = mu_now() + ASK_MS * MU_MS;
    char piece[4096];

    while (mu_msg_frame(b.data, b.len) == 0 && mu_now() < until) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) <= 0)
            continue;
        ssize_t n = read(fd, piece, sizeof piece);
        if (!n || (n < 0 && errno != EINTR && errno != EAGAIN))
            break;
        if (n > 0)
            mu_buf_append(&b, piece, (size_t)n);
    }
    int64_t len = mu_msg_frame(b.data, b.len);
    int rc = len > 0 ? mu_msg_decode(b.data, (size_t)len, out, err) : mu_err_set(err, MUSTER_EPEER, "nothing is asked");
    return rc || out->type == MU_MSG_check ? rc : mu_err_set(err, MUSTER_EARG, "another question is expected");
}

int mu_check_main(int argc, char **argv)
{
    struct options {
        int fd;
        bool inventory, gpus;
    } o = {.fd = -1};
    static const struct mu_opt table[] = {
        {"fd", 0, MU_OPT_INT, offsetof(struct options, fd), "N", "where it is asked", .max = 1 << 20},
        {"inventory", 0, MU_OPT_FLAG, offsetof(struct options, inventory), NULL, "tell what the node is made of",
         .aliases = NULL},
        {"gpus", 0, MU_OPT_FLAG, offsetof(struct options, gpus), NULL, "tell how its GPUs are, again and again",
         .aliases = NULL},
    };
    MU_AUTO_MSG struct mu_msg asked = {0};
    struct mu_paths paths;
    struct mu_err err = {0};
    int first, rc = mu_opt_parse(table, MU_COUNT(table), argc, argv, 0, &o, &first, &err);

    if (rc == 1) {
        mu_opt_help(stdout, "muster check --fd N", table, MU_COUNT(table));
        return 0;
    }
    if (!rc && o.fd < 0)
        rc = mu_err_set(&err, MUSTER_EARG, "the agent starts this; `muster nodes check` asks for it");
    if (!rc && o.inventory)
        return mu_inventory_main(o.fd);
    if (!rc && o.gpus)
        return mu_gpus_main(o.fd);
    if (rc || (rc = mu_paths_find(&paths, &err)) || (rc = hear(o.fd, &asked, &err))) {
        fprintf(stderr, "muster check: %s\n", err.text);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what scripts leave behind comes to us */
    struct mu_check c = {.root = "", .paths = &paths, .asked = &asked.check, .reader = o.fd};
    return mu_check_run(&c, answer, &o.fd) ? 1 : 0;
}
