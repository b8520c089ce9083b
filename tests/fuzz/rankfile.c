/* Rank files.
 * sources: launcher/rankfile.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "launcher/rankfile.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {
    "rank ", "0", "1", "2=", "=", "a", "+n0", " slot=", " slots = ",         "0-3",
    ",",     ":", ";", "*",  "p", "#", "\n",  " ",      "rank 0=a slot=0\n", "rank 1=b\n",
    "99"};
static void try(char *text, size_t n)
{
    struct mu_rankfile f = {0};
    struct mu_err err = {0};

    if (mu_rankfile_parse(text, n, "f", &f, &err)) {
        if (!err.text[0] || strchr(err.text, '\n') || f.v)
            abort(); /* one line */
        return;
    }
    for (uint32_t i = 0; i < f.n; i++)
        if (!f.v[i].line || !f.v[i].host[0] || !f.v[i].slots)
            abort();
    mu_rankfile_free(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
