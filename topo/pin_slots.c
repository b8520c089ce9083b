/* What a rank file says behind slot=. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/str.h"
#include "topo/pin.h"

enum { NUMBER_MAX = 1 << 20 };

/* The PUs of a core that a rank would get: allowed ones, without smt the first. */
static void add_core(const struct mu_topo *t, const struct mu_topo_core *c, bool smt, struct mu_cpuset *out)
{
    for (int i = 0; i < c->npus; i++)
        if (mu_cpuset_isset(mu_topo_allowed(t), c->pus[i])) {
            mu_cpuset_set(out, c->pus[i]);
            if (!smt)
                return;
        }
}

/* "2", "2-5" or "*" at *p, which is moved on. */
static int parse_range(const char **p, int *lo, int *hi)
{
    char *end;

    if (**p == '*') {
        *lo = 0;
        *hi = NUMBER_MAX;
        ++*p;
        return 0;
    }
    if (**p < '0' || **p > '9')
        return MUSTER_EARG;
    unsigned long a = strtoul(*p, &end, 10), b = a;
    if (*end == '-' && end[1] >= '0' && end[1] <= '9')
        b = strtoul(end + 1, &end, 10);
    if (a > b || b > NUMBER_MAX)
        return MUSTER_EARG;
    *lo = (int)a;
    *hi = (int)b;
    *p = end;
    return 0;
}

/* Cores lo to hi of a package (-1: of the node); both by logical numbers or by the system's. Their number. */
static int take_cores(const struct mu_topo *t, int package, bool physical, int lo, int hi, bool smt,
                      struct mu_cpuset *out)
{
    int found = 0, at = 0;

    for (int i = 0; i < mu_topo_ncores(t); i++) {
        const struct mu_topo_core *c = mu_topo_core(t, i);
        if (package >= 0 && (physical ? c->package_os : c->package) != package)
            continue;
        int number = physical ? c->os : at;
        at++;
        if (number < lo || number > hi)
            continue;
        add_core(t, c, smt, out);
        found++;
    }
    return found;
}

static int take_pus(const struct mu_topo *t, int lo, int hi, struct mu_cpuset *out)
{
    int found = 0;

    for (int i = 0; i < mu_topo_ncores(t); i++)
        for (int k = 0; k < mu_topo_core(t, i)->npus; k++)
            if (mu_topo_core(t, i)->pus[k] >= lo && mu_topo_core(t, i)->pus[k] <= hi) {
                mu_cpuset_set(out, mu_topo_core(t, i)->pus[k]);
                found++;
            }
    return found;
}

static int missing(struct mu_err *err, const char *text, const char *what, int lo, int hi)
{
    char shown[80];

    if (hi >= NUMBER_MAX || lo == hi)
        return mu_err_set(err, MUSTER_EARG, "slot=%s: this node has no %s %d", mu_str_show(shown, sizeof shown, text),
                          what, lo);
    return mu_err_set(err, MUSTER_EARG, "slot=%s: this node does not have %ss %d-%d",
                      mu_str_show(shown, sizeof shown, text), what, lo, hi);
}

static int parse(const struct mu_topo *t, const char *text, bool smt, struct mu_cpuset *out, struct mu_err *err)
{
    const char *p = text;
    bool physical = false;
    int package = -1, lo, hi;

    for (;;) {
        if (*p == 'p' || *p == 'P') {
            physical = true;
            p++;
        }
        if (parse_range(&p, &lo, &hi))
            return MUSTER_EARG;
        if (*p == ':') {
            if (hi != lo || package >= 0)
                return MUSTER_EARG;
            package = lo;
            p++;
            continue;
        }
        int want = hi >= NUMBER_MAX ? 1 : hi - lo + 1;
        int got =
            physical && package < 0 ? take_pus(t, lo, hi, out) : take_cores(t, package, physical, lo, hi, smt, out);
        if (got < want) {
            char what[40] = "core";
            if (physical && package < 0)
                snprintf(what, sizeof what, "CPU");
            else if (package >= 0)
                snprintf(what, sizeof what, "package %d with core", package);
            return missing(err, text, what, lo, hi);
        }
        if (*p == ';') {
            package = -1;
            physical = false;
        } else if (*p != ',') {
            break;
        }
        p++;
    }
    return *p ? MUSTER_EARG : 0;
}

int mu_pin_slots(const struct mu_topo *t, const char *text, bool smt, struct mu_cpuset *out, struct mu_err *err)
{
    struct mu_err why = {0};
    struct mu_cpuset s = {{0}};
    char shown[80];

    if (parse(t, text, smt, &s, &why))
        return why.text[0] ? mu_err_set(err, MUSTER_EARG, "%s", why.text)
                           : mu_err_set(err, MUSTER_EARG,
                                        "slot=%s: expected cores such as 0-3,8, or cores of a package such as 1:0-3",
                                        mu_str_show(shown, sizeof shown, text));
    mu_cpuset_and(&s, mu_topo_allowed(t));
    if (mu_cpuset_empty(&s))
        return mu_err_set(err, MUSTER_EARG, "slot=%s: none of these CPUs may be used here",
                          mu_str_show(shown, sizeof shown, text));
    *out = s;
    return 0;
}
