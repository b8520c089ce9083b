/* NCCL's own description of a node, as NCCL_TOPO_DUMP_FILE writes it and clouds ship it: <system>, in it a <cpu> for
 * each NUMA node, in these the tree of <pci> devices. It knows no caches and no hardware threads: each CPU counts as a
 * core. The parser takes what such files consist of, elements and attributes; text between elements, comments and
 * declarations are passed over. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "topo/impl.h"

enum { NEWEST = 1, /* version that NCCL writes */ DEEPEST = 64, ATTRIBUTES = 32, DEVICES = 2048 };

struct slice {
    const char *s;
    size_t n;
};
struct element {
    struct slice name;
    struct {
        struct slice name, value;
    } attr[ATTRIBUTES];
    int nattr;
    bool closes, empty; /* </name>, <name/> */
};

struct reader {
    struct mu_topo *t;
    const char *text, *p;
    struct mu_err *err;
    struct {
        struct slice name;
        int bridge; /* that devices in it hang on */
        int dev;    /* it is a <pci> that may be a device: index + 1 in devs */
    } open[DEEPEST];
    int depth, cpu;           /* cpu: index of the node that we are in, -1 none */
    struct mu_topo_dev *devs; /* all <pci>, until it is known what they are */
    struct kind {
        bool gpu, nic;
    } * kinds;
    int ndevs;
    bool ended; /* </system> has come */
};

static int bad(struct reader *r, const char *fmt, ...) MU_PRINTF(2, 3);
static int bad(struct reader *r, const char *fmt, ...)
{
    char text[200];
    int line = 1;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (const char *q = r->text; q < r->p; q++)
        line += *q == '\n';
    return mu_err_set(r->err, MUSTER_EARG, "line %d: %s", line, text);
}

static bool is(struct slice s, const char *word)
{
    return s.n == strlen(word) && !memcmp(s.s, word, s.n);
}

static bool same(struct slice a, struct slice b)
{
    return a.n == b.n && !memcmp(a.s, b.s, a.n);
}

/* Cut to the buffer; "" when there is none. */
static const char *attr(const struct element *e, const char *name, char *buf, size_t len)
{
    buf[0] = 0;
    for (int i = 0; i < e->nattr; i++)
        if (is(e->attr[i].name, name))
            snprintf(buf, len, "%.*s", (int)(e->attr[i].value.n < len ? e->attr[i].value.n : len - 1),
                     e->attr[i].value.s);
    return buf;
}

/* --- elements ---------------------------------------------------------------------------------------------------- */

static size_t name_len(const char *p)
{
    size_t n = 0;

    while (isalnum((unsigned char)p[n]) || p[n] == '_' || p[n] == '-' || p[n] == ':' || p[n] == '.')
        n++;
    return n;
}

static void blanks(struct reader *r)
{
    r->p += strspn(r->p, " \t\r\n");
}

const char *mu_xml_skip(const char *p)
{
    const char *end = !strncmp(p, "<!--", 4) ? "-->" : !strncmp(p, "<?", 2) ? "?>" : NULL;
    char quote = 0;
    int depth = 0;

    if (end)
        return (p = strstr(p, end)) ? p + strlen(end) : NULL;
    for (; *p; p++) {
        if (quote) {
            quote = *p == quote ? 0 : quote;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
        } else {
            depth += (*p == '[') - (*p == ']');
            if (*p == '>' && depth <= 0)
                return p + 1;
        }
    }
    return NULL;
}

/* Past what is no element: text, comments, declarations. 1: at a '<' of one; 0: at the end. */
static int seek(struct reader *r)
{
    for (;;) {
        r->p += strcspn(r->p, "<");
        if (!*r->p)
            return 0;
        if (r->p[1] != '?' && r->p[1] != '!')
            return 1;
        const char *q = mu_xml_skip(r->p);
        if (!q)
            return bad(r, "a comment or declaration does not end: it is truncated");
        r->p = q;
    }
}

static int read_element(struct reader *r, struct element *e)
{
    *e = (struct element){.closes = r->p[1] == '/'};
    r->p += 1 + e->closes;
    e->name = (struct slice){r->p, name_len(r->p)};
    if (!e->name.n)
        return bad(r, "an element has no name");
    r->p += e->name.n;
    for (;;) {
        blanks(r);
        if (*r->p == '>') {
            r->p++;
            return 0;
        }
        if (r->p[0] == '/' && r->p[1] == '>') {
            e->empty = true;
            r->p += 2;
            return 0;
        }
        if (!*r->p)
            return bad(r, "<%.*s> does not end: it is truncated", (int)(e->name.n < 40 ? e->name.n : 40), e->name.s);
        struct slice name = {r->p, name_len(r->p)};
        r->p += name.n;
        blanks(r);
        if (!name.n || *r->p != '=')
            return bad(r, "<%.*s> has something in it that is no attribute", (int)(e->name.n < 40 ? e->name.n : 40),
                       e->name.s);
        r->p++;
        blanks(r);
        char quote = *r->p;
        const char *end = quote == '"' || quote == '\'' ? strchr(r->p + 1, quote) : NULL;
        if (!end)
            return bad(r, "the value of %.*s does not end", (int)(name.n < 40 ? name.n : 40), name.s);
        if (e->nattr == ATTRIBUTES)
            return bad(r, "more than %d attributes", ATTRIBUTES);
        e->attr[e->nattr].name = name;
        e->attr[e->nattr++].value = (struct slice){r->p + 1, (size_t)(end - r->p - 1)};
        r->p = end + 1;
    }
}

/* --- what they mean ---------------------------------------------------------------------------------------------- */

static int no_memory(struct reader *r)
{
    return mu_err_set(r->err, MUSTER_ENOMEM, "out of memory");
}

/* "ffff,ffffffff": words of 32 bits, the highest first. */
static int parse_mask(struct reader *r, const char *text, struct mu_cpuset *out)
{
    int word = 0;

    for (const char *p = text; *p; p++)
        word += *p == ',';
    if (!*text || word >= MU_CPUSET_MAX / 32)
        return bad(r, "the affinity of a CPU is missing or too long");
    for (const char *p = text;; p++, word--) {
        size_t n = strspn(p, "0123456789abcdefABCDEF");
        if (!n || n > 8 || (p[n] && p[n] != ','))
            return bad(r, "the affinity '%.40s' is no list of hexadecimal words", text);
        unsigned long bits = strtoul(p, NULL, 16);
        for (int b = 0; b < 32; b++)
            if (bits >> b & 1)
                mu_cpuset_set(out, word * 32 + b);
        p += n;
        if (!*p)
            return 0;
    }
}

static int on_system(struct reader *r, const struct element *e)
{
    char text[24];
    uint64_t version = NEWEST;

    if (*attr(e, "version", text, sizeof text) && (mu_str_u64(text, 0, UINT32_MAX, &version) || version > NEWEST))
        return bad(r, "version '%s' of NCCL's topologies is not known, only %d", text, NEWEST);
    return 0;
}

static int on_cpu(struct reader *r, const struct element *e)
{
    char text[MU_CPUSET_MAX / 32 * 9 + 2], id[24];
    struct mu_topo *t = r->t;
    struct mu_cpuset cpus = {{0}};
    int64_t numa = 0;
    int rc;

    if (r->cpu >= 0)
        return bad(r, "a <cpu> in a <cpu>");
    if (*attr(e, "numaid", id, sizeof id) && mu_str_i64(id, -1, MU_CPUSET_MAX - 1, &numa))
        return bad(r, "numaid '%s' is no NUMA node", id);
    if (numa < 0) /* NCCL's word for a machine that has only one */
        numa = 0;
    if ((rc = parse_mask(r, attr(e, "affinity", text, sizeof text), &cpus)))
        return rc;
    for (r->cpu = 0; r->cpu < t->nnodes && t->nodes[r->cpu].os != (int)numa; r->cpu++)
        ;
    if (r->cpu < t->nnodes)
        return bad(r, "NUMA node %d is there twice", (int)numa);
    struct mu_topo_node *v = realloc(t->nodes, ((size_t)t->nnodes + 1) * sizeof *v);
    if (!v)
        return no_memory(r);
    t->nodes = v;
    v[t->nnodes++] = (struct mu_topo_node){.os = (int)numa, .cpus = cpus};
    return 0;
}

/* What a <pci> is shows when it is closed: a bridge is one with devices in it, whatever its class. */
static int on_pci(struct reader *r, const struct element *e, int *dev)
{
    char id[32], text[24];
    struct mu_topo_dev d = {.package = -1, .port = 1, .bridge = r->depth ? r->open[r->depth - 1].bridge : -1};

    if (r->cpu < 0)
        return bad(r, "a <pci> outside of a <cpu>");
    if (mu_topo_pci_parse(attr(e, "busid", id, sizeof id), d.pci))
        return bad(r, "busid '%s' is no PCI address", id);
    if (r->ndevs == DEVICES)
        return bad(r, "more than %d PCI devices", DEVICES);
    d.pci_class = (uint16_t)(strtoul(attr(e, "class", text, sizeof text), NULL, 16) >> 8);
    d.vendor = (uint32_t)strtoul(attr(e, "vendor", text, sizeof text), NULL, 16) & 0xffff;
    d.pci_id = (uint32_t)strtoul(attr(e, "device", text, sizeof text), NULL, 16) & 0xffff;
    d.at = (uint64_t)r->cpu;
    if (!(r->ndevs & (r->ndevs + 1))) {
        size_t cap = 2 * ((size_t)r->ndevs + 1);
        struct mu_topo_dev *v = realloc(r->devs, cap * sizeof *v);
        if (v)
            r->devs = v;
        struct kind *k = realloc(r->kinds, cap * sizeof *k);
        if (k)
            r->kinds = k;
        if (!v || !k)
            return no_memory(r);
    }
    r->devs[r->ndevs] = d;
    r->kinds[r->ndevs] = (struct kind){.nic = mu_topo_dev_is_network(&d), .gpu = mu_topo_dev_is_gpu(&d, d.bridge < 0)};
    *dev = ++r->ndevs;
    return 0;
}

/* <gpu dev="0" .../>, <nic><net name="mlx5_0" port="1" .../></nic> */
static void on_other(struct reader *r, const struct element *e)
{
    char text[40];
    uint64_t n;
    int dev = 0;

    for (int i = r->depth; i > 0 && !dev; i--)
        dev = r->open[i - 1].dev;
    if (!dev)
        return;
    struct mu_topo_dev *d = &r->devs[dev - 1];
    struct kind *k = &r->kinds[dev - 1];
    if (is(e->name, "gpu")) {
        k->gpu = true;
    } else if (is(e->name, "nic")) {
        k->nic = true;
    } else if (is(e->name, "net")) {
        k->nic = true;
        if (!*d->name && !mu_str_u64(attr(e, "port", text, sizeof text), 1, 255, &n))
            d->port = (int)n;
        if (!*d->name)
            attr(e, "name", d->name, sizeof d->name);
    }
}

static int push(struct reader *r, const struct element *e, int dev)
{
    int bridge = r->depth ? r->open[r->depth - 1].bridge : -1;

    if (r->depth == DEEPEST)
        return bad(r, "elements in elements, more than %d deep", DEEPEST);
    if (dev && (bridge = mu_topo_add_bridge(r->t, r->devs[dev - 1].pci, bridge)) < 0)
        return no_memory(r);
    r->open[r->depth].name = e->name;
    r->open[r->depth].bridge = bridge;
    r->open[r->depth++].dev = dev;
    return 0;
}

static int pop(struct reader *r, const struct element *e)
{
    if (!r->depth || !same(r->open[r->depth - 1].name, e->name))
        return bad(r, "</%.*s> closes what is not open", (int)(e->name.n < 40 ? e->name.n : 40), e->name.s);
    r->depth--;
    if (is(e->name, "cpu"))
        r->cpu = -1;
    r->ended |= !r->depth;
    return 0;
}

static int walk(struct reader *r)
{
    struct element e;
    int rc;

    while ((rc = seek(r)) == 1) {
        int dev = 0;
        if ((rc = read_element(r, &e)))
            return rc;
        if (e.closes) {
            if ((rc = pop(r, &e)))
                return rc;
            continue;
        }
        if (r->ended || (!r->depth && !is(e.name, "system")))
            return bad(r, "<%.*s> outside of <system>", (int)(e.name.n < 40 ? e.name.n : 40), e.name.s);
        if (!r->depth)
            rc = on_system(r, &e);
        else if (is(e.name, "cpu"))
            rc = on_cpu(r, &e);
        else if (is(e.name, "pci"))
            rc = on_pci(r, &e, &dev);
        else
            on_other(r, &e);
        if (!rc && !e.empty)
            rc = push(r, &e, dev);
        else if (is(e.name, "cpu"))
            r->cpu = -1;
        if (!rc && e.empty && !r->depth)
            r->ended = true;
        if (rc)
            return rc;
    }
    if (rc < 0)
        return rc;
    return r->ended ? 0 : bad(r, "no </system> at its end: it is truncated");
}

/* --- from that to a node ----------------------------------------------------------------------------------------- */

static int by_os(const void *a, const void *b)
{
    const struct mu_topo_node *x = a, *y = b;

    return (x->os > y->os) - (x->os < y->os);
}

static int make_cores(struct reader *r)
{
    struct mu_topo *t = r->t;
    struct mu_cpuset all = {{0}};

    for (int i = 0; i < t->nnodes; i++) {
        if (mu_cpuset_intersects(&all, &t->nodes[i].cpus))
            return bad(r, "a CPU is in two NUMA nodes");
        mu_cpuset_or(&all, &t->nodes[i].cpus);
    }
    int n = mu_cpuset_weight(&all);
    if (!n)
        return bad(r, "holds no CPUs");
    t->cores = calloc((size_t)n, sizeof *t->cores);
    t->pus = calloc((size_t)n, sizeof *t->pus);
    t->nsetv = calloc((size_t)t->nnodes, sizeof *t->nsetv);
    if (!t->cores || !t->pus || !t->nsetv)
        return no_memory(r);
    for (int i = 0; i < t->nnodes; i++) {
        mu_cpuset_set(&t->nsetv[t->nsets++], t->nodes[i].os);
        mu_cpuset_set(&t->allowed_nodes, t->nodes[i].os);
        for (int c = -1; (c = mu_cpuset_next(&t->nodes[i].cpus, c)) >= 0; t->npus++, t->ncores++) {
            t->pus[t->npus] = c;
            t->cores[t->ncores] = (struct mu_topo_core){.os = -1,
                                                        .package = -1,
                                                        .package_os = -1,
                                                        .l3 = -1,
                                                        .npus = 1,
                                                        .pus = &t->pus[t->npus],
                                                        .nodes = &t->nsetv[i]};
        }
    }
    t->allowed = all;
    return 0;
}

static int make_devs(struct reader *r, const int *os)
{
    struct mu_topo *t = r->t;

    for (int i = 0; i < r->ndevs; i++) {
        struct mu_topo_dev *d = &r->devs[i];
        if (!r->kinds[i].gpu && !r->kinds[i].nic)
            continue;
        for (int n = 0; n < t->nnodes; n++)
            if (t->nodes[n].os == os[d->at]) {
                d->cpus = t->nodes[n].cpus;
                d->nodes = t->nsetv[n];
            }
        d->at = (uint64_t)os[d->at];
        /* RoCE shows in the name only: mlx5_0 is an RDMA device, eth0 is none. */
        d->rdma = !r->kinds[i].gpu && strchr(d->name, '_');
        d->fabric = d->rdma || (!r->kinds[i].gpu && mu_topo_dev_is_fabric(d));
        if (mu_topo_add_dev(t, r->kinds[i].gpu, d))
            return no_memory(r);
    }
    mu_topo_finish_devs(t);
    return 0;
}

int mu_topo_parse_nccl(struct mu_topo *t, const char *text, struct mu_err *err)
{
    struct reader r = {.t = t, .text = text, .p = text, .err = err, .cpu = -1};
    mu_auto_free int *os = NULL;
    int rc = walk(&r);

    if (!rc && t->nnodes) {
        os = calloc((size_t)t->nnodes, sizeof *os);
        for (int i = 0; os && i < t->nnodes; i++)
            os[i] = t->nodes[i].os;
        qsort(t->nodes, (size_t)t->nnodes, sizeof *t->nodes, by_os);
    }
    if (!rc)
        rc = make_cores(&r);
    if (!rc)
        rc = os ? make_devs(&r, os) : no_memory(&r);
    free(r.devs);
    free(r.kinds);
    return rc;
}
