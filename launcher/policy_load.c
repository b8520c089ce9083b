#include "launcher/policy_load.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"

#define SIZE_MAX_OF_FILE (1u << 20)

/* 1: there is none. A pipe without a writer would stop the controller: only a file is read. */
static int read_file(const char *home, const char *name, char path[PATH_MAX], struct mu_buf *text, struct mu_err *err)
{
    int rc = mu_path_join(path, PATH_MAX, home, name, err);

    errno = 0;
    if (!rc && (rc = mu_path_read_regular(path, SIZE_MAX_OF_FILE, text, err)) && errno == ENOENT)
        return 1;
    return rc;
}

int mu_policy_load(const char *home, struct mu_policy_settings *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    char path[PATH_MAX];
    int rc = read_file(home, "policy", path, &text, err);

    if (rc > 0) {
        mu_policy_settings_free(out);
        mu_policy_defaults(out);
        return 0;
    }
    return rc ? rc : mu_policy_parse(path, mu_buf_str(&text), text.len, out, err);
}

int mu_checks_load(const char *home, struct mu_check_settings *out, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    char path[PATH_MAX];
    int rc = read_file(home, "checks", path, &text, err);

    if (rc > 0) {
        mu_check_settings_free(out);
        mu_check_defaults(out);
        return 0;
    }
    return rc ? rc : mu_check_parse(path, mu_buf_str(&text), text.len, out, err);
}
