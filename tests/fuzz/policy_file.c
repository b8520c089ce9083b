/* The queue's policy as a file.
 * sources: launcher/core/policy_file.c launcher/core/settings.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c -lm */
#include <stdlib.h>
#include <string.h>

#include "launcher/core/policy.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {"half-life",
                                     "share-weight",
                                     "priority-step",
                                     "assumed-limit",
                                     "replan",
                                     "depth",
                                     "spare-nodes",
                                     "preempt",
                                     "preempt-after",
                                     "preempt-checkpoint-age",
                                     "share ",
                                     "default",
                                     "ada",
                                     " = ",
                                     "=",
                                     "1",
                                     "0.5",
                                     "-1",
                                     "10m",
                                     "36h",
                                     "1e300",
                                     "nan",
                                     "off",
                                     "force",
                                     "#",
                                     "\n",
                                     "\n",
                                     " ",
                                     "\t",
                                     "depth = 7\n",
                                     "share a = 2\n"};

static void try(char *text, size_t n)
{
    struct mu_policy_settings set;
    struct mu_err err = {0};

    mu_policy_defaults(&set);
    struct mu_policy_settings was = set;
    if (mu_policy_parse("f", text, n, &set, &err)) {
        if (!err.text[0] || strchr(err.text, '\n') || strncmp(err.text, "f:", 2) || memcmp(&was, &set, sizeof set))
            abort(); /* one line with its place, and nothing has changed */
        return;
    }
    if (!set.depth || !set.assumed_limit_ns || !set.half_life_ns || set.preempt > MU_PREEMPT_FORCE)
        abort();
    for (unsigned i = 0; i < set.nshares; i++) {
        double share = mu_policy_share(&set, set.shares[i].user);
        if (!set.shares[i].user[0] || !(share >= 0 && share <= 1e6))
            abort();
    }
    mu_policy_settings_free(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
