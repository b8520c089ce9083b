/* The acceptance suite's criteria as a file.
 * sources: bench/judge/criteria.c bench/judge/builtin.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c -lm */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/criteria.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {"ref ",
                                     "check ",
                                     "require ",
                                     "pair.bw ",
                                     "coll.* ",
                                     "x ",
                                     "GB/s ",
                                     "us ",
                                     "1 ",
                                     "0.9*median ",
                                     "2*x ",
                                     ">= ",
                                     "<=",
                                     "== ",
                                     "size>=1M ",
                                     "size<8 ",
                                     "each ",
                                     "delta ",
                                     "spread<=2% ",
                                     "confirm=2/3 ",
                                     "optional ",
                                     "samples>=5 ",
                                     "ci<=1% ",
                                     "else ",
                                     "inconclusive",
                                     "\"",
                                     "#",
                                     "\n",
                                     "\n",
                                     "*",
                                     "check a >= 1\n",
                                     "ref x 3 GB/s\n"};

static void try(char *text, size_t n)
{
    struct mu_criteria c = {0};
    struct mu_err err = {0};
    unsigned line, column;

    if (mu_criteria_parse("f", text, n, &c, &err)) {
        if (strchr(err.text, '\n') || sscanf(err.text, "f:%u:%u: ", &line, &column) != 2 || !line || !column ||
            c.checks)
            abort(); /* one line with its place, and nothing has changed */
        return;
    }
    if (!c.nchecks)
        abort();
    for (unsigned i = 0; i < c.nchecks; i++) {
        const struct mu_check *k = &c.checks[i];
        if (k->size_min > k->size_max || k->need > k->of || k->nbounds > MU_BOUNDS_MAX ||
            (!k->nbounds && !(k->spread > 0)))
            abort();
        for (unsigned b = 0; b < k->nbounds; b++)
            if (k->bounds[b].ref >= c.nrefs)
                abort();
    }
    mu_criteria_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
