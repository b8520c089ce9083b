/* Loading a fabric: files, names, and what parsers put in. fabric_finish.c makes the model of it. */
#include "topo/fabric.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "topo/fabric_impl.h"

#define FILE_MAX_BYTES (256u << 20)

static void clean_fabric(struct mu_fabric **f)
{
    mu_fabric_free(*f);
}
#define auto_fabric __attribute__((cleanup(clean_fabric)))
#define auto_guids __attribute__((cleanup(mu_guids_free)))

/* --- names ------------------------------------------------------------------------------------------------------ */

static size_t slot_of(const struct mu_names *t, const char *name, size_t len)
{
    size_t i = mu_str_hash(name, len) & (t->cap - 1);

    while (t->v[i].name && (strncmp(t->v[i].name, name, len) || t->v[i].name[len]))
        i = (i + 1) & (t->cap - 1);
    return i;
}

int mu_names_get(const struct mu_names *t, const char *name, size_t len)
{
    if (!t->cap)
        return -1;
    size_t i = slot_of(t, name, len);
    return t->v[i].name ? t->v[i].index : -1;
}

int mu_names_put(struct mu_names *t, const char *name, int index)
{
    if (2 * (t->n + 1) > t->cap) {
        struct mu_names bigger = {.cap = t->cap ? 2 * t->cap : 64};
        if (!(bigger.v = calloc(bigger.cap, sizeof *bigger.v)))
            return MUSTER_ENOMEM;
        for (size_t i = 0; i < t->cap; i++)
            if (t->v[i].name)
                bigger.v[slot_of(&bigger, t->v[i].name, strlen(t->v[i].name))] = t->v[i];
        bigger.n = t->n;
        free(t->v);
        *t = bigger;
    }
    size_t i = slot_of(t, name, strlen(name));
    t->n += !t->v[i].name;
    t->v[i].name = name;
    t->v[i].index = index;
    return 0;
}

void mu_names_free(struct mu_names *t)
{
    free(t->v);
    *t = (struct mu_names){0};
}

/* --- what parsers put in ---------------------------------------------------------------------------------------- */

static int find_or_add(struct mu_fabric *f, const char *id, size_t len, struct mu_err *err)
{
    int i = mu_names_get(&f->ids, id, len);

    if (i >= 0)
        return i;
    if (f->nnodes == MU_FABRIC_MAX_NODES)
        return mu_err_set(err, MUSTER_EARG, "%s: more than %d nodes", f->origin, MU_FABRIC_MAX_NODES);
    if (f->nnodes == f->capnodes) {
        int cap = f->capnodes ? 2 * f->capnodes : 64;
        struct mu_fabric_node *nodes = realloc(f->nodes, (size_t)cap * sizeof *nodes);
        if (nodes)
            f->nodes = nodes;
        int *line = realloc(f->line, (size_t)cap * sizeof *line);
        if (line)
            f->line = line;
        int *file = realloc(f->file, (size_t)cap * sizeof *file);
        if (file)
            f->file = file;
        if (!nodes || !line || !file)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        f->capnodes = cap;
    }
    char *copy = strndup(id, len);
    if (!copy || mu_names_put(&f->ids, copy, f->nnodes)) {
        free(copy);
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    f->nodes[f->nnodes] = (struct mu_fabric_node){.id = copy, .kind = MU_FABRIC_OTHER, .host = -1};
    f->line[f->nnodes] = 0;
    f->file[f->nnodes] = -1;
    return f->nnodes++;
}

int mu_fabric_add(struct mu_fabric *f, const char *id, size_t len, int line, struct mu_err *err)
{
    int i = find_or_add(f, id, len, err);
    char shown[80];

    if (i < 0 || !line)
        return i;
    /* An adapter with two ports may be in the captures of two subnets; its ports are told apart later. */
    if (f->line[i] && (f->file[i] == f->nfiles || f->nodes[i].kind != MU_FABRIC_ADAPTER))
        return mu_err_set(err, MUSTER_EARG, "%s:%d: %s is there twice, first on line %d%s", f->origin, line,
                          mu_str_show(shown, sizeof shown, f->nodes[i].id), f->line[i],
                          f->file[i] == f->nfiles ? "" : " of another file");
    f->line[i] = line;
    f->file[i] = f->nfiles;
    return i;
}

int mu_fabric_cable(struct mu_fabric *f, int node, int port, int peer, int peer_port, int line, struct mu_err *err)
{
    if (f->nhalves == f->caphalves) {
        size_t cap = f->caphalves ? 2 * f->caphalves : 256;
        struct mu_half *v = realloc(f->halves, cap * sizeof *v);
        if (!v)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        f->halves = v;
        f->caphalves = cap;
    }
    f->halves[f->nhalves++] = (struct mu_half){node, port, peer, peer_port, line};
    return 0;
}

/* --- loading ---------------------------------------------------------------------------------------------------- */

/* topology.conf is made of KEY=VALUE; the first word of ibnetdiscover's text that is no comment never is one of its. */
static bool looks_slurm(const char *text, size_t len)
{
    static const char *const keys[] = {"SwitchName", "BlockName", "BlockSizes"};

    for (const char *p = text, *end = text + len; p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        eol = eol ? eol : end;
        while (p < eol && (*p == ' ' || *p == '\t' || *p == '\r'))
            p++;
        if (p < eol && *p != '#') {
            for (size_t k = 0; k < MU_COUNT(keys); k++) {
                size_t n = strlen(keys[k]);
                if ((size_t)(eol - p) > n && !strncasecmp(p, keys[k], n) && p[n] == '=')
                    return true;
            }
            return false;
        }
        p = eol + 1;
    }
    return false;
}

static int read_text(struct mu_fabric *f, const char *text, size_t len, struct mu_err *err)
{
    static const char bom[] = "\xef\xbb\xbf"; /* what some editors put before UTF-8 */
    size_t skip = len >= 3 && !memcmp(text, bom, 3) ? 3 : 0;
    text += skip, len -= skip;
    bool slurm = looks_slurm(text, len);

    if (memchr(text, '\0', len))
        return mu_err_set(err, MUSTER_EARG, "%s: is not text", f->origin);
    if (f->nfiles && slurm != f->tree)
        return mu_err_set(err, MUSTER_EARG, "%s: topology.conf and ibnetdiscover's text cannot be mixed", f->origin);
    f->tree = slurm;
    int rc = slurm ? mu_fabric_read_slurm(f, text, len, err) : mu_fabric_read_ibnd(f, text, len, err);
    f->nfiles++;
    return rc;
}

int mu_fabric_from_text(const char *text, size_t len, const char *source, const struct mu_guids *guids,
                        struct mu_fabric **out, struct mu_err *err)
{
    auto_fabric struct mu_fabric *f = calloc(1, sizeof *f);
    int rc;

    if (!f || !(f->source = strdup(source)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    f->origin = source;
    if ((rc = read_text(f, text, len, err)) || (rc = mu_fabric_finish(f, guids, err)))
        return rc;
    *out = MU_STEAL(f, NULL);
    return 0;
}

int mu_fabric_parse(const char *text, size_t len, const char *origin, struct mu_fabric **out, struct mu_err *err)
{
    return mu_fabric_from_text(text, len, origin, NULL, out, err);
}

int mu_fabric_parse_known(const char *text, size_t len, const char *origin, const struct mu_fabric_known *known,
                          struct mu_fabric **out, struct mu_err *err)
{
    auto_guids struct mu_guids guids = {0};
    int rc = mu_fabric_read_known(known, &guids, err);

    return rc ? rc : mu_fabric_from_text(text, len, origin, &guids, out, err);
}

int mu_fabric_load(char *const *paths, const char *guid_file, struct mu_fabric **out, struct mu_err *err)
{
    return mu_fabric_load_known(paths, &(struct mu_fabric_known){.guids = guid_file}, out, err);
}

int mu_fabric_load_known(char *const *paths, const struct mu_fabric_known *known, struct mu_fabric **out,
                         struct mu_err *err)
{
    auto_fabric struct mu_fabric *f = calloc(1, sizeof *f);
    auto_guids struct mu_guids guids = {0};
    int rc;

    if (!paths || !*paths)
        return mu_err_set(err, MUSTER_EARG, "no fabric file is given");
    if (!f || !(f->source = strdup(*paths)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if ((rc = mu_fabric_read_known(known, &guids, err)))
        return rc;
    for (; *paths; paths++) {
        mu_auto_buf struct mu_buf text = {0};
        if ((rc = mu_path_read_regular(*paths, FILE_MAX_BYTES, &text, err)))
            return mu_err_prefix(err, "fabric file"), rc;
        f->origin = *paths;
        if ((rc = read_text(f, mu_buf_str(&text), text.len, err)))
            return rc;
    }
    f->origin = f->source;
    if ((rc = mu_fabric_finish(f, &guids, err)))
        return rc;
    *out = MU_STEAL(f, NULL);
    return 0;
}

void mu_fabric_free(struct mu_fabric *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->nnodes; i++) {
        free(f->nodes[i].id);
        free(f->nodes[i].name);
    }
    for (int i = 0; i < f->nhosts; i++)
        free(f->hosts[i].name);
    mu_names_free(&f->ids);
    mu_names_free(&f->names);
    free(f->nodes);
    free(f->line);
    free(f->file);
    free(f->halves);
    free(f->parent);
    free(f->ports);
    free(f->hosts);
    free(f->nics);
    free(f->source);
    free(f);
}

/* --- which host an adapter is in -------------------------------------------------------------------------------- */

void mu_guids_free(struct mu_guids *g)
{
    for (size_t i = 0; i < g->n; i++)
        free(g->v[i].host);
    free(g->v);
    *g = (struct mu_guids){0};
}

static int by_guid(const void *a, const void *b)
{
    uint64_t x = ((const struct mu_guid_host *)a)->guid, y = ((const struct mu_guid_host *)b)->guid;

    return (x > y) - (x < y);
}

/* "0x0002c9030005f34e" or, as sysfs has it, "0002:c903:0005:f34e". */
static bool parse_guid(const char *s, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    int digits = 0;

    if (len > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        s += 2, len -= 2;
    for (size_t i = 0; i < len; i++) {
        const char *hex = "0123456789abcdef", *d;
        if (s[i] == ':')
            continue;
        if (!(d = memchr(hex, s[i] | 0x20, 16)) || ++digits > 16)
            return false;
        v = v << 4 | (uint64_t)(d - hex);
    }
    *out = v;
    return digits > 0;
}

static int parse_guids(const char *text, const char *path, struct mu_guids *g, struct mu_err *err)
{
    size_t cap = 0;
    int line = 0;

    for (const char *p = text; *p; line++) {
        size_t n = strcspn(p, "\n");
        size_t at = strspn(p, " \t\r");
        const char *eol = p + n, *a = p + (at < n ? at : n), *a_end = a + strcspn(a, " \t\r\n"),
                   *b = a_end + strspn(a_end, " \t"), *b_end = b + strcspn(b, " \t\r\n");
        p = *eol ? eol + 1 : eol;
        if (a == eol || *a == '#')
            continue;
        if (g->n == cap) {
            struct mu_guid_host *v = realloc(g->v, (cap = cap ? 2 * cap : 64) * sizeof *v);
            if (!v)
                return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
            g->v = v;
        }
        struct mu_guid_host *h = &g->v[g->n];
        if (b_end - b > MU_FABRIC_MAX_NAME)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: a name of more than %d bytes", path, line + 1,
                              MU_FABRIC_MAX_NAME);
        if (!parse_guid(a, (size_t)(a_end - a), &h->guid) || b == b_end || b_end + strspn(b_end, " \t\r") != eol)
            return mu_err_set(err, MUSTER_EARG, "%s:%d: expected a node GUID and a host name", path, line + 1);
        if (!(h->host = strndup(b, (size_t)(b_end - b))))
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        g->n++;
    }
    if (g->n)
        qsort(g->v, g->n, sizeof *g->v, by_guid);
    for (size_t i = 1; i < g->n; i++)
        if (g->v[i].guid == g->v[i - 1].guid && strcmp(g->v[i].host, g->v[i - 1].host)) {
            char one[80], two[80];
            return mu_err_set(err, MUSTER_EARG, "%s: GUID 0x%016llx is said to be in %s and in %s", path,
                              (unsigned long long)g->v[i].guid, mu_str_show(one, sizeof one, g->v[i - 1].host),
                              mu_str_show(two, sizeof two, g->v[i].host));
        }
    return 0;
}

static int read_guids(const char *path, struct mu_guids *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read_text(path, FILE_MAX_BYTES, &text, err);

    if (rc)
        return mu_err_prefix(err, "GUID file"), rc == MUSTER_ENOMEM ? rc : MUSTER_EARG;
    return parse_guids(mu_buf_str(&text), path, out, err);
}

static int by_guid_and_host(const void *a, const void *b)
{
    int rc = by_guid(a, b);

    return rc ? rc : strcmp(((const struct mu_guid_host *)a)->host, ((const struct mu_guid_host *)b)->host);
}

static bool in_guids(const struct mu_guids *g, size_t n, uint64_t guid)
{
    const struct mu_guid_host key = {.guid = guid};

    return n && bsearch(&key, g->v, n, sizeof *g->v, by_guid);
}

int mu_fabric_read_known(const struct mu_fabric_known *known, struct mu_guids *out, struct mu_err *err)
{
    int rc = known && known->guids ? read_guids(known->guids, out, err) : 0;

    if (rc || !known || !known->nhints)
        return rc;
    size_t file = out->n, kept;
    struct mu_guid_host *v = realloc(out->v, (file + known->nhints) * sizeof *v);
    if (!v)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    out->v = v;
    for (size_t i = 0; i < known->nhints; i++) {
        const struct mu_fabric_hint *h = &known->hints[i];
        if (in_guids(out, file, h->guid))
            continue;
        if (!(v[out->n].host = strdup(h->host)))
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        v[out->n++].guid = h->guid;
    }
    kept = file;
    if (out->n > file)
        qsort(v + file, out->n - file, sizeof *v, by_guid_and_host);
    for (size_t i = file, j; i < out->n; i = j) {
        bool agreed = true;
        for (j = i + 1; j < out->n && v[j].guid == v[i].guid; j++)
            agreed = agreed && !strcmp(v[j].host, v[i].host);
        for (size_t k = i + agreed; k < j; k++)
            free(v[k].host);
        if (agreed)
            v[kept++] = v[i];
    }
    out->n = kept;
    if (kept)
        qsort(v, kept, sizeof *v, by_guid);
    return 0;
}

/* --- what is there ---------------------------------------------------------------------------------------------- */

const char *mu_fabric_source(const struct mu_fabric *f)
{
    return f->source;
}

int mu_fabric_nnodes(const struct mu_fabric *f)
{
    return f->nnodes;
}

const struct mu_fabric_node *mu_fabric_node(const struct mu_fabric *f, int i)
{
    return &f->nodes[i];
}

const struct mu_fabric_port *mu_fabric_ports(const struct mu_fabric *f)
{
    return f->ports;
}

int mu_fabric_nhosts(const struct mu_fabric *f)
{
    return f->nhosts;
}

const struct mu_fabric_host *mu_fabric_host(const struct mu_fabric *f, int i)
{
    return &f->hosts[i];
}

const int *mu_fabric_nics(const struct mu_fabric *f)
{
    return f->nics;
}

int mu_fabric_find_host(const struct mu_fabric *f, const char *name)
{
    return mu_names_get(&f->names, name, strlen(name));
}

const struct mu_fabric_node *mu_fabric_leaf(const struct mu_fabric *f, int host)
{
    const struct mu_fabric_host *h = &f->hosts[host];

    for (int i = 0; i < h->nnics; i++) {
        const struct mu_fabric_node *nic = &f->nodes[f->nics[h->first + i]];
        for (int k = 0; k < nic->nout; k++)
            if (f->nodes[f->ports[nic->first + k].peer].kind == MU_FABRIC_SWITCH)
                return &f->nodes[f->ports[nic->first + k].peer];
    }
    return NULL;
}

int mu_fabric_nsubnets(const struct mu_fabric *f)
{
    return f->nsubnets;
}

int mu_fabric_listed(const struct mu_fabric *f)
{
    return f->listed;
}
