/* Scripts with #MUSTER lines: the command line that comes out, and what is said of bad ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/run.h"
#include "launcher/script.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/muster-script-XXXXXX";

static void put(const char *text, size_t len)
{
    FILE *f = fopen("job.sh", "w");

    if (f) {
        fwrite(text, 1, len, f);
        fclose(f);
    }
}

/* The words that come out, with | between; "-": it is no script; or what is wrong. */
static const char *expanded(const char *a, const char *b, const char *c)
{
    static char out[2048];
    char *argv[] = {(char[]){"submit"}, (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)c, NULL};
    int argc = 2 + (b != NULL) + (c != NULL);
    struct mu_script s;
    struct mu_err err = {0};
    size_t n, len = 0;
    const struct mu_opt *table = mu_submit_options(&n);
    int rc = mu_script_expand(table, n, argc, argv, &s, &err);

    if (rc <= 0) {
        snprintf(out, sizeof out, "%s", rc ? err.text : "-");
        return out;
    }
    for (int i = 1; i < s.argc && len < sizeof out; i++)
        len += (size_t)snprintf(out + len, sizeof out - len, "%s%s", i > 1 ? "|" : "", s.argv[i]);
    mu_script_free(&s);
    return out;
}

int main(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"#!/bin/bash\n#MUSTER -n 4 --timeout 2h\n#MUSTER --name 'a b' # as it is called\n# more\n\n#MUSTER\necho "
         "$RANK\n"
         "#MUSTER -n 5\n",
         "--name|job.sh|-n|4|--timeout|2h|--name|a b|/bin/bash|-c|#!/bin/bash\n#MUSTER -n 4 --timeout 2h\n#MUSTER "
         "--name 'a b' # as it is called\n# more\n\n#MUSTER\necho $RANK\n#MUSTER -n 5\n|job.sh"},
        {"#! /usr/bin/env python3\n#MUSTER -n 2\nx", "--name|job.sh|-n|2|/usr/bin/env|python3|-c|#! /usr/bin/env "
                                                     "python3\n#MUSTER -n 2\nx"},
        {"#!/bin/sh -e\n#MUSTER --mca btl self\n", "--name|job.sh|--mca|btl|self|/bin/sh|-e|-c|#!/bin/sh -e\n#MUSTER "
                                                   "--mca btl self\n|job.sh"},
        {"#!/opt/lua\n#MUSTER -n 2\r\nx", "--name|job.sh|-n|2|job.sh"},
        {"#!/bin/sh\necho\n#MUSTER -n 2\n", "-"},
        {"#!/bin/sh\n#MUSTERX -n 2\n##MUSTER -n 3\necho\n", "-"},
        {"#MUSTER -n 2\n", "-"},
        {"", "-"},
        {"#!", "-"},
        {"#!/bin/sh\n\n#MUSTER --nosuch\n", "job.sh:3: #MUSTER: unknown option --nosuch"},
        {"#!/bin/sh\n#MUSTER -n x\n", "job.sh:2: #MUSTER: -n takes a number"},
        {"#!/bin/sh\n#MUSTER -n 2 prog\n", "job.sh:2: #MUSTER: 'prog' is no option"},
        {"#!/bin/sh\n#MUSTER -n 2 --\n", "job.sh:2: #MUSTER: '--' is no option"},
        {"#!/bin/sh\n#MUSTER --name 'a\n", "job.sh:2: #MUSTER: a quote is not closed"},
        {"#!/bin/sh\n#MUSTER --help\n", "job.sh:2: #MUSTER: an option such as -n 8 is wanted here"},
        {"#!\n#MUSTER -n 1\n", "job.sh:1: #! names no interpreter"},
    };
    char longer[6000], *big = malloc(130000);

    if (!mkdtemp(dir) || chdir(dir) || !big)
        return 1;
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        put(rows[i].text, strlen(rows[i].text));
        const char *got = expanded("job.sh", NULL, NULL);
        bool whole = rows[i].want[0] == '-';
        TAP_OK(whole ? !strcmp(got, rows[i].want) : !strncmp(got, rows[i].want, strlen(rows[i].want)), "%zu: %.60s", i,
               got);
    }
    put("#!/bin/sh\n#MUSTER -n 2\n", 23);
    TAP_OK(!strcmp(expanded("--name", "mine", "job.sh"),
                   "--name|job.sh|-n|2|--name|mine|/bin/sh|-c|#!/bin/sh\n#MUSTER -n "
                   "2\n|job.sh"),
           "the command line comes later, and wins");
    TAP_OK(strstr(expanded("job.sh", "-n", "9"), "|job.sh|-n|9"), "arguments of the script stay behind it");
    TAP_OK(!strcmp(expanded("sh", "-c", "job.sh"), "-") && !strcmp(expanded("--nosuch", "job.sh", NULL), "-"),
           "programs and bad command lines are left alone");
    memset(longer, 'x', sizeof longer);
    memcpy(longer, "#!/bin/sh\n#MUSTER ", 18);
    put(longer, sizeof longer);
    TAP_OK(!strncmp(expanded("job.sh", NULL, NULL), "job.sh:2: the line is longer than 4095 bytes", 44), "a long line");
    memset(big, 'x', 130000);
    memcpy(big, "#!/bin/sh\n#MUSTER -n 1\n", 23);
    put(big, 130000);
    TAP_OK(!strcmp(expanded("job.sh", NULL, NULL), "job.sh: a script has at most 120000 bytes"), "a long script");
    put("#!/bin/sh\n#MUSTER -n 1\nx\0y", 26);
    TAP_OK(!strcmp(expanded("job.sh", NULL, NULL), "job.sh: it is not text"), "one with a NUL");
    unlink("job.sh");
    if (chdir("/") || rmdir(dir))
        return 1;
    free(big);
    return tap_done();
}
