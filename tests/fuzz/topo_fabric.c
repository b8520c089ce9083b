/* Fabrics: what ibnetdiscover prints and topology.conf, then placement and audit of whatever was taken.
 * sources: topo/fabric.c topo/fabric_finish.c topo/fabric_ibnd.c topo/fabric_slurm.c topo/units.c topo/place.c
 * sources: topo/place_new.c topo/place_graph.c topo/audit.c topo/export.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/pieces.h"
#include "topo/audit.h"
#include "topo/export.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Random bytes seldom are a fabric: each stands for a piece of one. */
static const char *const pieces[] = {
    "Switch 4 \"a\"\n",
    "Switch 4 \"b\"\n",
    "Ca 1 \"x\" # \"n1 mlx5_0\"\n",
    "Hca 2 \"y\"\n",
    "[1] \"a\"[1]\n",
    "[1] \"b\"[1]\n",
    "[1] \"x\"[1]\n",
    "[2] \"y\"[1]\n",
    "[2] \"a\"[2]\n",
    "[1]",
    "\"",
    "# \"",
    "SwitchName=",
    "a ",
    "b ",
    "Nodes=",
    "n[0-2]",
    "Switches=",
    "\n",
    ",",
    "[",
    "]",
    "9",
    " \\\n",
    "-",
    "c ",
    "switchguid=0x1\n",
    "SwitchName=a Nodes=n[0-3]\n",
    "m[1-2,7] ",
    "SwitchName=t Switches=a\n",
};
static void try(char *text, size_t n)
{
    struct mu_fabric *f = NULL;
    struct mu_place *p = NULL;
    struct mu_err err = {0};

    if (mu_fabric_parse(text, n, "f", &f, &err)) {
        if (!err.text[0] || strchr(err.text, '\n'))
            abort(); /* one line */
        return;
    }
    int hosts = mu_fabric_nhosts(f);
    if (hosts < 10000 && !mu_place_new(f, &p, NULL))
        for (int want = 1; want <= hosts && want < 5; want++) {
            struct mu_place_result r = {0};
            if (mu_place_choose(p, &(struct mu_place_request){want, NULL, 2}, &r, NULL))
                continue;
            if (r.n != want || r.cost < r.bound || (r.optimal && r.cost != r.bound))
                abort();
            mu_place_result_free(&r);
        }
    struct mu_buf out = {0};
    struct mu_audit a = {0};
    if (p && !mu_export_slurm(p, &out, NULL)) {
        struct mu_fabric *again = NULL;
        if (mu_fabric_parse(mu_buf_str(&out), out.len, "again", &again, NULL))
            abort(); /* what we write we read */
        mu_fabric_free(again);
    }
    mu_buf_free(&out);
    if (!mu_audit_run(f, &a, NULL))
        mu_audit_free(&a);
    mu_place_free(p);
    mu_fabric_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
