#include "launcher/commands.h"

#include <string.h>

#include "runtime/base/str.h"

int mu_cmd_fail(const char *name, const struct mu_err *err)
{
    static const int mend[] = {MUSTER_EARG, MUSTER_ENOSPC, MUSTER_ECORRUPT, MUSTER_EVERSION, MUSTER_EPERM};

    fflush(stdout);
    fprintf(stderr, "muster %s: %s\n", name, err->text[0] ? err->text : muster_strerror(err->code));
    for (size_t i = 0; i < sizeof mend / sizeof mend[0]; i++)
        if (err->code == mend[i])
            return MU_EXIT_USAGE;
    return MU_EXIT_FAILED;
}

int mu_cmd_options(const char *usage, const struct mu_opt *table, size_t n, int argc, char **argv, int min, int max,
                   void *opts, int *first, int *code)
{
    struct mu_err err = {0};
    int rc = mu_opt_parse(table, n, argc, argv, MU_OPT_PERMUTE, opts, first, &err);

    if (rc > 0) {
        mu_opt_help(stdout, usage, table, n);
        *code = 0;
        return -1;
    }
    if (!rc && argc - *first < min)
        rc = mu_err_set(&err, MUSTER_EARG, "an argument is missing; usage: %s%s", usage,
                        strstr(usage, " JOB") ? "; `muster jobs --all` lists the numbers" : "");
    if (!rc && argc - *first > max) {
        char shown[80];
        rc = mu_err_set(&err, MUSTER_EARG, "unexpected argument '%s'; usage: %s",
                        mu_str_show(shown, sizeof shown, argv[*first + max]), usage);
    }
    if (!rc)
        return 0;
    *code = mu_cmd_fail(argv[0], &err);
    return -1;
}

int mu_cmd_job(const char *text, uint64_t *job, struct mu_err *err)
{
    char shown[80];

    if (mu_str_u64(text, 1, UINT64_MAX, job))
        return mu_err_set(err, MUSTER_EARG, "'%s' is not the number of a job; `muster jobs --all` lists them",
                          mu_str_show(shown, sizeof shown, text));
    return 0;
}
