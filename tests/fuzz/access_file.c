/* The file with the roles.
 * sources: launcher/core/access.c launcher/core/settings.c runtime/wire/msg.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c -lm */
#include <stdlib.h>
#include <string.h>

#include "launcher/core/access.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {"socket",
                                     "others",
                                     "users-see",
                                     "users-touch",
                                     "user ",
                                     "group ",
                                     "ada",
                                     "ml",
                                     " = ",
                                     "=",
                                     "none",
                                     "viewer",
                                     "user",
                                     "operator",
                                     "admin",
                                     "own",
                                     "all",
                                     "/srv/ctl",
                                     "/",
                                     "0",
                                     "1000",
                                     "4294967295",
                                     "#",
                                     "\n",
                                     "\n",
                                     " ",
                                     "\t",
                                     "others = user\n",
                                     "user a = admin\n"};

static void try(char *text, size_t n)
{
    struct mu_access a;
    struct mu_err err = {0};

    mu_access_defaults(&a);
    struct mu_access was = a;
    if (mu_access_parse("f", text, n, &a, &err)) {
        if (!err.text[0] || strchr(err.text, '\n') || strncmp(err.text, "f:", 2) || memcmp(&was, &a, sizeof a))
            abort(); /* one line with its place, and nothing has changed */
        return;
    }
    if (a.others >= MU_ROLE_COUNT || (*a.socket && *a.socket != '/'))
        abort();
    for (unsigned i = 0; i < a.n; i++)
        if (!a.rules[i].name[0] || a.rules[i].role >= MU_ROLE_COUNT || a.rules[i].known)
            abort();
    if (mu_access_role(&a, 1000, NULL, 0) != (enum mu_role)a.others) /* no name has a number yet */
        abort();
    mu_access_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
