#include "launcher/slurm.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

struct list {
    char **v;
    size_t n, cap;
};

static int bad(const char *list, struct mu_err *err)
{
    char shown[120];

    return mu_err_set(err, MUSTER_EARG, "not a list of Slurm's nodes such as node[1-3,7]: %s",
                      mu_str_show(shown, sizeof shown, list));
}

static int add(struct list *l, const char *name, struct mu_err *err)
{
    if (l->n == MU_HOSTS_MAX)
        return mu_err_set(err, MUSTER_EARG, "more than %d hosts", MU_HOSTS_MAX);
    if (l->n + 1 >= l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        char **v = realloc(l->v, cap * sizeof *v);
        if (!v)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n] = strdup(name);
    if (!l->v[l->n])
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    l->v[++l->n] = NULL;
    return 0;
}

/* "01" or "01-03", up to `end`. width: with leading zeros up to so many digits. */
static int range(const char *p, const char *end, uint64_t *lo, uint64_t *hi, int *width)
{
    const char *dash = memchr(p, '-', (size_t)(end - p));
    size_t nlo = (size_t)((dash ? dash : end) - p), nhi = dash ? (size_t)(end - dash - 1) : 0;
    char a[12] = "", b[12] = "";

    if (!nlo || nlo >= sizeof a || nhi >= sizeof b || (dash && !nhi))
        return MUSTER_EARG;
    memcpy(a, p, nlo);
    if (dash)
        memcpy(b, dash + 1, nhi);
    /* leading zeros are no part of the number */
    const char *za = a + strspn(a, "0"), *zb = b + strspn(b, "0");
    *lo = *hi = 0;
    if ((*za && mu_str_u64(za, 0, UINT32_MAX, lo)) || (dash && *zb && mu_str_u64(zb, 0, UINT32_MAX, hi)))
        return MUSTER_EARG;
    if (!dash)
        *hi = *lo;
    *width = (int)nlo;
    return *lo <= *hi ? 0 : MUSTER_EARG;
}

/* One name with its brackets, of which the first is opened here. done: what precedes it, expanded. */
static int expand(struct list *l, const char *done, const char *item, const char *end, const char *whole,
                  struct mu_err *err)
{
    const char *open = memchr(item, '[', (size_t)(end - item));
    const char *close = open ? memchr(open, ']', (size_t)(end - open)) : NULL;
    mu_auto_buf struct mu_buf name = {0};
    uint64_t lo, hi;
    int width, rc = 0;

    mu_buf_puts(&name, done);
    mu_buf_append(&name, item, (size_t)((open ? open : end) - item));
    if (name.len >= sizeof((struct mu_host *)0)->name || memchr(item, ']', (size_t)((open ? open : end) - item)))
        return bad(whole, err);
    if (!open)
        return name.len ? add(l, mu_buf_str(&name), err) : bad(whole, err);
    if (!close)
        return bad(whole, err);
    for (const char *p = open + 1; !rc;) {
        const char *comma = memchr(p, ',', (size_t)(close - p)), *stop = comma ? comma : close;
        if (range(p, stop, &lo, &hi, &width))
            return bad(whole, err);
        for (uint64_t i = lo; i <= hi && !rc; i++) {
            mu_auto_buf struct mu_buf one = {0};
            mu_buf_appendf(&one, "%s%0*llu", mu_buf_str(&name), width, (unsigned long long)i);
            rc = one.failed ? mu_err_set(err, MUSTER_ENOMEM, "out of memory")
                            : expand(l, mu_buf_str(&one), close + 1, end, whole, err);
        }
        if (!comma)
            break;
        p = comma + 1;
    }
    return rc;
}

int mu_slurm_expand(const char *list, char ***out, struct mu_err *err)
{
    struct list l = {0};
    int rc = *list ? 0 : bad(list, err);

    for (const char *p = list; !rc;) {
        const char *end = p;
        for (int depth = 0; *end && (*end != ',' || depth); end++)
            depth += *end == '[' ? 1 : *end == ']' ? -1 : 0;
        rc = expand(&l, "", p, end, list, err);
        if (!*end)
            break;
        p = end + 1;
    }
    if (rc)
        mu_strv_free(l.v);
    else
        *out = l.v;
    return rc;
}

int mu_slurm_counts(const char *text, int *out, size_t n, struct mu_err *err)
{
    size_t at = 0;
    char shown[80];

    for (const char *p = text; at < n;) {
        char *end;
        unsigned long count = strtoul(p, &end, 10), times = 1;
        bool ok = *p >= '0' && *p <= '9' && count >= 1 && count <= MU_HOSTS_SLOTS_MAX;
        if (ok && !strncmp(end, "(x", 2)) {
            const char *from = end + 2;
            times = strtoul(from, &end, 10);
            ok = *from >= '0' && *from <= '9' && times >= 1 && *end++ == ')';
        }
        if (!ok || (*end && *end != ','))
            break;
        for (; times && at < n; times--)
            out[at++] = (int)count;
        if (!*end)
            break;
        p = end + 1;
    }
    return at == n ? 0
                   : mu_err_set(err, MUSTER_EARG,
                                "not one number for each of the allocation's %zu nodes, such as 2(x%zu): %s", n, n,
                                mu_str_show(shown, sizeof shown, text));
}

bool mu_slurm_inside(void)
{
    const char *job = getenv("SLURM_JOB_ID"), *nodes = getenv("SLURM_JOB_NODELIST");

    return job && *job && nodes && *nodes && !getenv("MUSTER_JOB");
}

/* The first of these that is there counts. */
static int slots_of(int *slots, size_t n, struct mu_err *err)
{
    static const char *const names[] = {"SLURM_TASKS_PER_NODE", "SLURM_JOB_CPUS_PER_NODE"};
    const char *cpus = getenv("SLURM_CPUS_ON_NODE");
    uint64_t all = 0;

    for (size_t i = 0; i < MU_COUNT(names); i++) {
        const char *text = getenv(names[i]);
        if (!text || !*text)
            continue;
        int rc = mu_slurm_counts(text, slots, n, err);
        return rc ? mu_err_prefix(err, "%s", names[i]) : 0;
    }
    if (cpus && *cpus && mu_str_u64(cpus, 1, MU_HOSTS_SLOTS_MAX, &all))
        return mu_err_set(err, MUSTER_EARG, "SLURM_CPUS_ON_NODE: not a number: %.40s", cpus);
    for (size_t i = 0; i < n; i++)
        slots[i] = (int)all; /* 0: as many as the node has */
    return 0;
}

int mu_slurm_hosts(struct mu_hosts *out, struct mu_err *err)
{
    const char *list = getenv("SLURM_JOB_NODELIST");
    char **names = NULL;
    int rc = mu_slurm_expand(list ? list : "", &names, err);

    if (rc)
        return mu_err_prefix(err, "SLURM_JOB_NODELIST");
    size_t n = mu_strv_len(names);
    mu_auto_free int *slots = calloc(n, sizeof *slots);
    struct mu_hosts hosts = {.v = calloc(n, sizeof *hosts.v), .n = n, .cap = n};
    rc = slots && hosts.v ? slots_of(slots, n, err) : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i < n && !rc; i++) {
        snprintf(hosts.v[i].name, sizeof hosts.v[i].name, "%s", names[i]);
        hosts.v[i].slots = slots[i];
    }
    mu_strv_free(names);
    if (rc)
        mu_hosts_free(&hosts);
    else
        *out = hosts;
    return rc;
}

int mu_slurm_has_ended(int status, const char *said, char how[32])
{
    static const char *const ends[] = {"BOOT_FAIL", "CANCELLED", "COMPLETED",     "COMPLETING", "DEADLINE",
                                       "FAILED",    "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",  "TIMEOUT"};
    size_t len = strcspn(said, " \n");

    how[0] = 0;
    if (!WIFEXITED(status))
        return 0;
    if (WEXITSTATUS(status)) /* forgotten; or Slurm itself is away */
        return strstr(said, "Invalid job id") != NULL;
    for (size_t i = 0; i < MU_COUNT(ends); i++) {
        if (len == strlen(ends[i]) && !strncmp(said, ends[i], len)) {
            snprintf(how, 32, "%s", ends[i]);
            return 1;
        }
    }
    return !len;
}
