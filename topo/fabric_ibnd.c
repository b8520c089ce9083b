/* What ibnetdiscover prints: blocks of "key=value" lines, a head "Switch 40 "S-..." # "name"", and a line for each
 * cable. ibsim's netlists are the same with fewer words. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"
#include "topo/fabric_impl.h"

struct cursor {
    struct mu_fabric *f;
    const char *p, *eol;
    int line;
    struct mu_err *err;
};

static int bad(struct cursor *c, const char *what)
{
    return mu_err_set(c->err, MUSTER_EARG, "%s:%d: %s", c->f->origin, c->line, what);
}

static void blanks(struct cursor *c)
{
    while (c->p < c->eol && isspace((unsigned char)*c->p))
        c->p++;
}

static bool word(struct cursor *c, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(c->eol - c->p) <= n || strncasecmp(c->p, w, n) || !isspace((unsigned char)c->p[n]))
        return false;
    c->p += n;
    blanks(c);
    return true;
}

/* "text", without escapes, as ibnetdiscover writes it. */
static bool quoted(struct cursor *c, const char **s, size_t *n)
{
    const char *q;

    if (c->p == c->eol || *c->p != '"' || !(q = memchr(c->p + 1, '"', (size_t)(c->eol - c->p - 1))))
        return false;
    *s = c->p + 1;
    *n = (size_t)(q - *s);
    c->p = q + 1;
    return *n > 0;
}

static bool number(struct cursor *c, int *out)
{
    long v = 0;
    const char *start = c->p;

    for (; c->p < c->eol && isdigit((unsigned char)*c->p) && v < MU_FABRIC_MAX_PORTS; c->p++)
        v = 10 * v + (*c->p - '0');
    *out = (int)v;
    return c->p > start && v < MU_FABRIC_MAX_PORTS;
}

/* "[12]", and maybe "[ext 3]" or "(0x2c903...)" behind it. */
static bool port(struct cursor *c, int *out)
{
    if (c->p == c->eol || *c->p++ != '[' || !number(c, out) || c->p == c->eol || *c->p++ != ']')
        return false;
    while (c->p < c->eol && (*c->p == '[' || *c->p == '(')) {
        const char *close = memchr(c->p, *c->p == '[' ? ']' : ')', (size_t)(c->eol - c->p));
        if (!close)
            return false;
        c->p = close + 1;
    }
    return *out > 0;
}

/* What stands between quotes behind the #, which may hold quotes itself. */
static void description(struct cursor *c, struct mu_fabric_node *n, bool *failed)
{
    const char *hash = memchr(c->p, '#', (size_t)(c->eol - c->p)), *a, *z;

    if (!hash || !(a = memchr(hash, '"', (size_t)(c->eol - hash))))
        return;
    /* A switch's goes on with "base port 0 lid 1" or "enhanced port 0 ...": up to the last quote. */
    for (z = c->eol - 1; z > a && *z != '"'; z--)
        ;
    if (z == a)
        return;
    free(n->name);
    if (!(n->name = strndup(a + 1, (size_t)(z - a - 1))))
        *failed = true;
}

static const struct {
    const char *word;
    enum mu_fabric_kind kind;
} heads[] = {
    {"Switch", MU_FABRIC_SWITCH}, {"Ca", MU_FABRIC_ADAPTER},   {"Hca", MU_FABRIC_ADAPTER},
    {"Rt", MU_FABRIC_OTHER},      {"Router", MU_FABRIC_OTHER},
};
enum { HEADS = sizeof heads / sizeof *heads };

static uint64_t guid_of(const char *p, const char *eol)
{
    char text[32];
    size_t n = (size_t)(eol - p) < sizeof text - 1 ? (size_t)(eol - p) : sizeof text - 1;

    memcpy(text, p, n);
    text[n] = 0;
    return strtoull(text, NULL, 16);
}

static int no_such_port(struct cursor *c, int line, int port, const struct mu_fabric_node *n)
{
    char shown[80];

    return mu_err_set(c->err, MUSTER_EARG, "%s:%d: port %d of %s, which has %d port%s", c->f->origin, line, port,
                      mu_str_show(shown, sizeof shown, n->id), n->nports, n->nports == 1 ? "" : "s");
}

static int too_long(struct cursor *c)
{
    return mu_err_set(c->err, MUSTER_EARG, "%s:%d: a name of more than %d bytes", c->f->origin, c->line,
                      MU_FABRIC_MAX_NAME);
}

static int head(struct cursor *c, enum mu_fabric_kind kind, uint64_t guid, int *node)
{
    const char *id;
    size_t len;
    int nports;
    bool failed = false;

    if (!number(c, &nports))
        return bad(c, "expected the number of ports");
    blanks(c);
    if (!quoted(c, &id, &len))
        return bad(c, "expected a name in quotes");
    if (len > MU_FABRIC_MAX_NAME)
        return too_long(c);
    int i = mu_fabric_add(c->f, id, len, c->line, c->err);
    if (i < 0)
        return i;
    struct mu_fabric_node *n = &c->f->nodes[i];
    n->kind = kind;
    n->guid = guid;
    n->nports = nports;
    description(c, n, &failed);
    if (!failed && !n->name)
        failed = !(n->name = strdup(n->id));
    if (failed)
        return mu_err_set(c->err, MUSTER_ENOMEM, "out of memory");
    if (strlen(n->name) > MU_FABRIC_MAX_NAME)
        return too_long(c);
    *node = i;
    return 0;
}

static int cable(struct cursor *c, int node)
{
    const char *id;
    size_t len;
    int mine, theirs;

    if (node < 0)
        return bad(c, "a cable before the first Switch or Ca");
    if (!port(c, &mine))
        return bad(c, "expected a port such as [1]");
    if (c->f->nodes[node].nports && mine > c->f->nodes[node].nports)
        return no_such_port(c, c->line, mine, &c->f->nodes[node]);
    blanks(c);
    if (c->p == c->eol || *c->p == '#')
        return 0; /* nothing on it */
    if (!quoted(c, &id, &len))
        return bad(c, "expected the name of the other end in quotes");
    blanks(c);
    if (!port(c, &theirs))
        return bad(c, "expected the port of the other end");
    if (len > MU_FABRIC_MAX_NAME)
        return too_long(c);
    int peer = mu_fabric_add(c->f, id, len, 0, c->err);
    if (peer < 0)
        return peer;
    return mu_fabric_cable(c->f, node, mine, peer, theirs, c->line, c->err);
}

int mu_fabric_read_ibnd(struct mu_fabric *f, const char *text, size_t len, struct mu_err *err)
{
    const char *end = text + len;
    uint64_t guid = 0;
    size_t first = f->nhalves;
    int node = -1, line = 0, heads_seen = 0;

    if (!len)
        return mu_err_set(err, MUSTER_EARG, "%s: is empty", f->origin);
    for (const char *p = text; p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        struct cursor c = {f, p, eol ? eol : end, ++line, err};
        int rc = 0;
        p = c.eol + 1;
        blanks(&c);
        if (c.p == c.eol || *c.p == '#')
            continue;
        int h = 0;
        while (h < HEADS && !word(&c, heads[h].word))
            h++;
        const char *eq = memchr(c.p, '=', (size_t)(c.eol - c.p));
        if (h < HEADS) {
            rc = head(&c, heads[h].kind, guid, &node);
            heads_seen++;
            guid = 0;
        } else if (*c.p == '[') {
            rc = cable(&c, node);
        } else if (eq && islower((unsigned char)*c.p)) {
            if (!strncmp(c.p, "switchguid=", 11) || !strncmp(c.p, "caguid=", 7) || !strncmp(c.p, "rtguid=", 7))
                guid = guid_of(eq + 1, c.eol);
        } else if (!heads_seen && !(c.p[0] == 'D' && !strncmp(c.p, "DR ", 3))) {
            rc = mu_err_set(err, MUSTER_EARG, "%s: is neither what ibnetdiscover prints nor a topology.conf (line %d)",
                            f->origin, line);
        } else {
            rc = bad(&c, "is neither a cable nor the head of a Switch or Ca");
        }
        if (rc && eol)
            return rc;
        if (!eol)
            return mu_err_set(err, MUSTER_EARG, "%s: is truncated (line %d has no end)", f->origin, line);
    }
    if (!heads_seen)
        return mu_err_set(err, MUSTER_EARG,
                          "%s: no Switch, no Ca and no SwitchName in it: it is neither what ibnetdiscover prints nor a "
                          "topology.conf",
                          f->origin);
    for (size_t i = first; i < f->nhalves; i++) { /* now that all have had their heads */
        const struct mu_half *h = &f->halves[i];
        if (f->nodes[h->peer].nports && h->peer_port > f->nodes[h->peer].nports)
            return no_such_port(&(struct cursor){.f = f, .err = err}, h->line, h->peer_port, &f->nodes[h->peer]);
    }
    return 0;
}
