#include "runtime/keeper/bound.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "topo/bind.h"

enum { TELL_MOST = 4, FAMILY = 16 }; /* messages a rank; processes below it that are looked at */

struct one {
    struct mu_cpuset cpus;
    char *wanted, *nodes; /* as lists; NULL: not bound */
    uint64_t told[TELL_MOST];
    uint64_t next;
    uint64_t suspect, since; /* a text, and the age at which it was first so */
    unsigned ntold;
};

struct mu_bound {
    uint32_t n;
    struct one v[];
};

struct mu_bound *mu_bound_new(const struct mu_m_start *start, uint32_t n)
{
    struct mu_bound *b = calloc(1, sizeof *b + n * sizeof b->v[0]);

    if (!b)
        return NULL;
    b->n = n;
    for (uint32_t i = 0; i < n && i < mu_strv_len(start->cpusets); i++) {
        const char *nodes = i < mu_strv_len(start->nodesets) ? start->nodesets[i] : "";
        if (!*start->cpusets[i] || mu_cpuset_parse(start->cpusets[i], &b->v[i].cpus, NULL))
            continue;
        b->v[i].wanted = strdup(start->cpusets[i]);
        b->v[i].nodes = *nodes ? strdup(nodes) : NULL;
    }
    return b;
}

void mu_bound_free(struct mu_bound *b)
{
    for (uint32_t i = 0; b && i < b->n; i++) {
        free(b->v[i].wanted);
        free(b->v[i].nodes);
    }
    free(b);
}

bool mu_bound_due(struct mu_bound *b, uint32_t index, uint64_t age)
{
    struct one *o = &b->v[index];

    if (!o->wanted || age < o->next)
        return false;
    /* The longer it has run well, the rarer. */
    o->next = age < MU_SEC ? age + MU_SEC / 4 : age < 30 * MU_SEC ? age + MU_SEC : age + 5 * MU_SEC;
    return true;
}

/* --- where memory comes from ------------------------------------------------------------------------------------- */

void mu_bound_policy(const char *line, char *out, size_t n)
{
    const char *p = strchr(line, ' '); /* behind the address */
    size_t len;

    *out = 0;
    if (!p)
        return;
    p++;
    len = strcspn(p, " \n");
    const char *colon = memchr(p, ':', len);
    if (strncmp(p, "bind", 4) || !colon) /* the others are wishes */
        return;
    len -= (size_t)(colon + 1 - p);
    snprintf(out, n, "%.*s", (int)len, colon + 1);
}

/* The first line is enough: ours is the policy of the process, which counts where a mapping has none of its own. */
static bool read_policy(pid_t pid, char *out, size_t n)
{
    char path[64], text[512];

    snprintf(path, sizeof path, "/proc/%ld/numa_maps", (long)pid);
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (got <= 0)
        return false;
    text[got] = 0;
    mu_bound_policy(text, out, n);
    return true;
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

/* Children and theirs, as far as there is room. */
static int family(pid_t pid, pid_t *out, int n)
{
    int found = 0;

    for (int at = -1; at < found; at++) {
        char path[80];
        mu_auto_buf struct mu_buf b = {0};
        long parent = at < 0 ? (long)pid : (long)out[at];
        snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", parent, parent);
        if (mu_path_read(path, 64 << 10, &b, NULL))
            continue;
        for (char *p = b.data, *end; p && *p && found < n; p = end) {
            long child = strtol(p, &end, 10);
            if (end == p)
                break;
            out[found++] = (pid_t)child;
        }
    }
    return found;
}

static bool news(struct one *o, const char *text, uint64_t age, bool last)
{
    uint64_t hash = mu_str_hash(text, strlen(text));

    if (hash != o->suspect) {
        o->suspect = hash;
        o->since = age;
    }
    for (unsigned i = 0; i < o->ntold; i++)
        if (o->told[i] == hash)
            return false;
    if (o->ntold == TELL_MOST)
        return false;
    if (!last && age < o->since + MU_BOUND_AGAIN) {
        o->next = o->since + MU_BOUND_AGAIN;
        return false;
    }
    o->told[o->ntold++] = hash;
    return true;
}

static bool cpus_wrong(const struct one *o, pid_t pid, bool helper, struct mu_cpuset *found)
{
    if (mu_bind_verify(pid, &o->cpus, found, NULL) != MUSTER_ENODE)
        return false;
    return !helper || !mu_cpuset_inside(found, &o->cpus);
}

bool mu_bound_look(struct mu_bound *b, uint32_t index, pid_t pid, pid_t also, uint64_t age, bool last, char *text,
                   size_t n)
{
    struct one *o = index < b->n ? &b->v[index] : NULL;
    pid_t kin[FAMILY];
    struct mu_cpuset found;
    char nodes[200];

    if (!o || !o->wanted || pid <= 0)
        return false;
    /* The rank's own mask is to be what was wanted; what it has started may have a part of it. */
    pid_t wrong = cpus_wrong(o, pid, false, &found) ? pid : 0;
    if (!wrong && also > 0 && also != pid && cpus_wrong(o, also, false, &found))
        wrong = also;
    int nkin = wrong ? 0 : family(pid, kin, FAMILY);
    for (int i = 0; i < nkin && !wrong; i++)
        if (cpus_wrong(o, kin[i], true, &found))
            wrong = kin[i];
    if (wrong) {
        mu_auto_free char *list = mu_cpuset_str(&found);
        if (wrong == pid)
            snprintf(text, n, "is not where it was bound to: wanted CPUs %.150s, found %.150s", o->wanted,
                     list ? list : "?");
        else
            snprintf(text, n, "is not where it was bound to: wanted CPUs %.150s, found %.150s of its process %ld",
                     o->wanted, list ? list : "?", (long)wrong);
        return news(o, text, age, last);
    }
    if (o->nodes && read_policy(also > 0 ? also : pid, nodes, sizeof nodes) && strcmp(nodes, o->nodes)) {
        snprintf(text, n, "does not have its memory where it was bound to: wanted NUMA nodes %.150s, found %.150s",
                 o->nodes, *nodes ? nodes : "no binding");
        return news(o, text, age, last);
    }
    o->suspect = 0;
    return false;
}
