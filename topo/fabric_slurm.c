/* Slurm's topology.conf: "SwitchName=s0 Nodes=n[0-15]", "SwitchName=top Switches=s[0-3]". */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/fabric_impl.h"

enum { MAX_WORDS = 1 << 20, MAX_WORD = MU_FABRIC_MAX_NAME, MAX_DEPTH = 16 };

/* --- host lists ------------------------------------------------------------------------------------------------- */

struct words {
    char **v;
    size_t n, cap;
};

static int too_many(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_EARG, "more than %d names", MAX_WORDS);
}

static int push(struct words *w, const char *s, struct mu_err *err)
{
    if (w->n == MAX_WORDS)
        return too_many(err);
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 16;
        char **v = realloc(w->v, cap * sizeof *v);
        if (!v)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        w->v = v;
        w->cap = cap;
    }
    if (!(w->v[w->n] = strdup(s)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    w->n++;
    return 0;
}

static int expand(struct words *w, const char *done, const char *p, const char *end, int depth, struct mu_err *err);

static int no_list(const char *s, size_t len, struct mu_err *err)
{
    char text[64], shown[100];

    snprintf(text, sizeof text, "%.*s", (int)(len < 50 ? len : 50), s);
    return mu_err_set(err, MUSTER_EARG, "'%s' is not a list of names such as n[1-3,7],m",
                      mu_str_show(shown, sizeof shown, text));
}

/* One "7" or "001-016" between brackets, then the rest of the word. */
static int range(struct words *w, const char *done, const char *a, const char *z, const char *rest, const char *end,
                 int depth, struct mu_err *err)
{
    const char *dash = memchr(a, '-', (size_t)(z - a)), *from_end = dash ? dash : z;
    int width = (int)(from_end - a);
    long from = 0, to = 0;

    if (width < 1 || width > 9 || (dash && (z - dash - 1 < 1 || z - dash - 1 > 9)))
        return no_list(a, (size_t)(z - a), err);
    for (const char *p = a; p < z; p++) {
        if (p == dash)
            continue;
        if (!isdigit((unsigned char)*p))
            return no_list(a, (size_t)(z - a), err);
        if (p < from_end)
            from = 10 * from + (*p - '0');
        else
            to = 10 * to + (*p - '0');
    }
    if (!dash)
        to = from;
    if (to < from)
        return no_list(a, (size_t)(z - a), err);
    if (to - from >= MAX_WORDS)
        return too_many(err);
    for (long i = from; i <= to; i++) {
        char name[MAX_WORD + 32];
        int rc;
        snprintf(name, sizeof name, "%s%0*ld", done, width, i);
        if (strlen(name) > MAX_WORD)
            return mu_err_set(err, MUSTER_EARG, "a name of more than %d bytes", MAX_WORD);
        if ((rc = expand(w, name, rest, end, depth + 1, err)))
            return rc;
    }
    return 0;
}

/* Appends `done` with every expansion of p..end, which is one word. */
static int expand(struct words *w, const char *done, const char *p, const char *end, int depth, struct mu_err *err)
{
    const char *open = memchr(p, '[', (size_t)(end - p)), *close;
    size_t plain = (size_t)((open ? open : end) - p), len = strlen(done);
    char name[MAX_WORD + 1];

    if (memchr(p, ']', plain) || depth > MAX_DEPTH)
        return no_list(p, (size_t)(end - p), err);
    if (len + plain > MAX_WORD)
        return mu_err_set(err, MUSTER_EARG, "a name of more than %d bytes", MAX_WORD);
    memcpy(name, done, len);
    memcpy(name + len, p, plain);
    name[len + plain] = 0;
    if (!open)
        return *name ? push(w, name, err) : no_list(p, plain, err);
    if (!(close = memchr(open, ']', (size_t)(end - open))))
        return no_list(p, (size_t)(end - p), err);
    for (const char *a = open + 1; a <= close;) {
        const char *z = memchr(a, ',', (size_t)(close - a));
        int rc = range(w, name, a, z ? z : close, close + 1, end, depth, err);
        if (rc)
            return rc;
        a = (z ? z : close) + 1;
    }
    return 0;
}

int mu_fabric_expand(const char *list, size_t len, char ***out, size_t *n, struct mu_err *err)
{
    struct words w = {*out, *n, *n};
    const char *end = list + len;
    int rc = 0;

    for (const char *p = list; !rc && p <= end;) {
        const char *q = p;
        int depth = 0;
        for (; q < end && (*q != ',' || depth); q++)
            depth += (*q == '[') - (*q == ']');
        rc = expand(&w, "", p, q, 0, err);
        p = q + 1;
    }
    *out = w.v;
    *n = w.n;
    return rc;
}

/* --- the file --------------------------------------------------------------------------------------------------- */

static void free_words(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i]);
    free(w->v);
}

static int parent_of(struct mu_fabric *f, int child, int parent, int line, struct mu_err *err)
{
    const struct mu_fabric_node *c = &f->nodes[child];
    int was = f->parent[child];

    if (was >= 0) {
        char a[80], b[80], d[80];
        return mu_err_set(err, MUSTER_EARG, "%s:%d: %s is below %s and below %s", f->origin, line,
                          mu_str_show(a, sizeof a, c->id), mu_str_show(b, sizeof b, f->nodes[was].id),
                          mu_str_show(d, sizeof d, f->nodes[parent].id));
    }
    f->parent[child] = parent;
    return 0;
}

static int grow_parents(struct mu_fabric *f, int *known, struct mu_err *err)
{
    if (f->nnodes <= *known)
        return 0;
    int cap = 2 * f->nnodes;
    int *p = realloc(f->parent, (size_t)cap * sizeof *p);
    if (!p)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    f->parent = p;
    while (*known < cap)
        p[(*known)++] = -1;
    return 0;
}

/* The children of sw: Nodes= are hosts, Switches= are switches. */
static int children(struct mu_fabric *f, int sw, const char *list, size_t len, bool hosts, int line, int *known,
                    struct mu_err *err)
{
    struct words w = {0};
    int rc = mu_fabric_expand(list, len, &w.v, &w.n, err);

    if (rc)
        mu_err_prefix(err, "%s:%d", f->origin, line);
    for (size_t i = 0; !rc && i < w.n; i++) {
        int c = mu_fabric_add(f, w.v[i], strlen(w.v[i]), 0, err);
        if (c < 0 || (rc = grow_parents(f, known, err)) || (rc = parent_of(f, c, sw, line, err))) {
            rc = c < 0 ? c : rc;
            break;
        }
        struct mu_fabric_node *n = &f->nodes[c];
        if (hosts) {
            if (f->line[c]) {
                char a[80];
                rc = mu_err_set(err, MUSTER_EARG, "%s:%d: %s is a switch and a node", f->origin, line,
                                mu_str_show(a, sizeof a, n->id));
                break;
            }
            n->kind = MU_FABRIC_ADAPTER;
            f->line[c] = line;
            f->file[c] = f->nfiles;
        }
        rc = mu_fabric_cable(f, c, hosts ? 1 : MU_FABRIC_MAX_NODES + 1, sw, 0, line, err);
    }
    free_words(&w);
    return rc;
}

static int read_line(struct mu_fabric *f, const char *text, int line, int *known, struct mu_err *err)
{
    const char *name = NULL, *nodes = NULL, *switches = NULL, *other = NULL;
    size_t nname = 0, nnodes = 0, nswitches = 0, nother = 0;
    const struct {
        const char *word, **value;
        size_t *len;
    } keys[] = {{"SwitchName", &name, &nname},
                {"Nodes", &nodes, &nnodes},
                {"Switches", &switches, &nswitches},
                {"LinkSpeed", &other, &nother}};

    for (const char *p = text + strspn(text, " \t\r"); *p && *p != '#'; p += strspn(p, " \t\r")) {
        size_t key = strcspn(p, "= \t\r"), len, k = 0;
        if (p[key] != '=')
            return mu_err_set(err, MUSTER_EARG, "%s:%d: expected KEY=VALUE", f->origin, line);
        const char *v = p + key + 1;
        bool quoted = *v == '"'; /* as anywhere in Slurm's files */
        v += quoted;
        len = strcspn(v, quoted ? "\"" : " \t\r#");
        if (quoted && !v[len])
            return mu_err_set(err, MUSTER_EARG, "%s:%d: a quote is not closed", f->origin, line);
        if (quoted ? !strchr(" \t\r#", v[len + 1]) : memchr(v, '"', len) != NULL)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: a quote stands around all of a value or not at all", f->origin,
                              line);
        if (key >= 5 && !strncasecmp(p, "Block", 5))
            return mu_err_set(err, MUSTER_EARG, "%s:%d: block topologies are not understood, only trees of switches",
                              f->origin, line);
        while (k < MU_COUNT(keys) && (strlen(keys[k].word) != key || strncasecmp(p, keys[k].word, key)))
            k++;
        if (k == MU_COUNT(keys))
            return mu_err_set(err, MUSTER_EARG, "%s:%d: expected SwitchName, Nodes, Switches or LinkSpeed, not '%.*s'",
                              f->origin, line, (int)(key < 40 ? key : 40), p);
        if (*keys[k].value)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: two times %s on a line", f->origin, line, keys[k].word);
        if (keys[k].value != &other && strcspn(v, " \t\r") < len)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: a blank in %s: names are separated by commas", f->origin, line,
                              keys[k].word);
        *keys[k].value = v;
        *keys[k].len = len;
        p = v + len + quoted;
    }
    if (!name && !nodes && !switches)
        return 0;
    if (!nname)
        return mu_err_set(err, MUSTER_EARG, "%s:%d: a line without SwitchName", f->origin, line);
    struct words w = {0};
    int rc = mu_fabric_expand(name, nname, &w.v, &w.n, err);
    if (rc)
        mu_err_prefix(err, "%s:%d", f->origin, line);
    /* Slurm lets one line define several switches only when they are leaves of nothing; nobody means that. */
    if (!rc && w.n != 1)
        rc = mu_err_set(err, MUSTER_EARG, "%s:%d: several switches on a line", f->origin, line);
    int sw = rc ? rc : mu_fabric_add(f, w.v[0], strlen(w.v[0]), line, err);
    free_words(&w);
    if (sw < 0)
        return sw;
    f->nodes[sw].kind = MU_FABRIC_SWITCH;
    if ((rc = grow_parents(f, known, err)))
        return rc;
    if (nodes && (rc = children(f, sw, nodes, nnodes, true, line, known, err)))
        return rc;
    return switches ? children(f, sw, switches, nswitches, false, line, known, err) : 0;
}

static int check(struct mu_fabric *f, struct mu_err *err)
{
    char shown[80];

    for (int i = 0; i < f->nnodes; i++) {
        int up = i, steps = 0;
        if (!f->line[i])
            return mu_err_set(err, MUSTER_EARG, "%s: switch %s is spoken of, but has no line of its own", f->origin,
                              mu_str_show(shown, sizeof shown, f->nodes[i].id));
        while ((up = f->parent[up]) >= 0)
            if (++steps > 64)
                break;
        if (up < 0)
            continue;
        /* Too deep, or a cycle: a walk that is as long as there are nodes is one. */
        for (steps = 0; up >= 0 && steps <= f->nnodes; steps++)
            up = f->parent[up];
        return up >= 0 ? mu_err_set(err, MUSTER_EARG, "%s: a cycle: switch %s is below itself", f->origin,
                                    mu_str_show(shown, sizeof shown, f->nodes[up].id))
                       : mu_err_set(err, MUSTER_EARG, "%s: more than 64 levels of switches", f->origin);
    }
    return 0;
}

/* Cables get ports: a child is on the next free one of its switch, which it reaches through its own port 1 (a host) or
 * its last (a switch). */
static int number_ports(struct mu_fabric *f, struct mu_err *err)
{
    mu_auto_free int *used = calloc((size_t)f->nnodes + 1, sizeof *used);

    if (!used)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (size_t i = 0; i < f->nhalves; i++)
        f->halves[i].peer_port = ++used[f->halves[i].peer];
    return 0;
}

int mu_fabric_read_slurm(struct mu_fabric *f, const char *text, size_t len, struct mu_err *err)
{
    mu_auto_buf struct mu_buf logical = {0};
    const char *end = text + len;
    int line = 0, known = 0, rc;

    if (f->nfiles)
        return mu_err_set(err, MUSTER_EARG, "%s: only one topology.conf can be read", f->origin);
    for (const char *p = text; p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p)), *z = eol ? eol : end;
        line++;
        const char *last = z;
        if (last > p && last[-1] == '\r')
            last--;
        bool more = last > p && last[-1] == '\\';
        mu_buf_append(&logical, p, (size_t)(last - p) - more);
        p = z + 1;
        if (more && p < end) {
            mu_buf_putc(&logical, ' ');
            continue;
        }
        if (logical.failed)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        if (more)
            return mu_err_set(err, MUSTER_EARG, "%s: is truncated (line %d goes on)", f->origin, line);
        if ((rc = read_line(f, mu_buf_str(&logical), line, &known, err)))
            return rc;
        mu_buf_clear(&logical);
    }
    if ((rc = check(f, err)))
        return rc;
    for (int i = 0; i < f->nnodes; i++)
        if (!(f->nodes[i].name = strdup(f->nodes[i].id)))
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    return number_ports(f, err);
}
