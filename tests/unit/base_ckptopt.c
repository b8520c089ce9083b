#include "runtime/base/ckptopt.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#include <string.h>

int main(void)
{
    static const struct {
        const char *options, *env, *dir_env;
        int rc;
        const char *dir;
        uint64_t ns, steps;
        uint32_t keep;
        const char *text;
    } rows[] = {
        {NULL, NULL, NULL, 0, "./ckpt", 60 * MU_SEC, 0, 3, NULL},
        {"", "", "", 0, "./ckpt", 60 * MU_SEC, 0, 3, NULL},
        {NULL, NULL, "/env", 0, "/env", 60 * MU_SEC, 0, 3, NULL},
        {NULL, "dir=/two", "/env", 0, "/two", 60 * MU_SEC, 0, 3, NULL},
        {"dir=/one", "dir=/two", "/env", 0, "/one", 60 * MU_SEC, 0, 3, NULL},
        {"keep=5", "keep=9,interval=10steps", NULL, 0, "./ckpt", 0, 10, 5, NULL},
        {"interval=30", NULL, NULL, 0, "./ckpt", 30 * MU_SEC, 0, 3, NULL},
        {"interval=30s", NULL, NULL, 0, "./ckpt", 30 * MU_SEC, 0, 3, NULL},
        {"interval=2m", NULL, NULL, 0, "./ckpt", 120 * MU_SEC, 0, 3, NULL},
        {"interval=1h", NULL, NULL, 0, "./ckpt", 3600 * MU_SEC, 0, 3, NULL},
        {"interval=500ms", NULL, NULL, 0, "./ckpt", MU_SEC / 2, 0, 3, NULL},
        {"interval=1step", NULL, NULL, 0, "./ckpt", 0, 1, 3, NULL},
        {"interval=100steps,keep=2,dir=a=b", NULL, NULL, 0, "a=b", 0, 100, 2, NULL},
        {"interval=0", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "interval=0 is not valid"},
        {"interval=-5", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "interval"},
        {"interval=5 s", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "interval"},
        {"interval=5weeks", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "100steps"},
        {"interval=99999999999999999999", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "interval"},
        {"interval=4000000000000h", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "interval"},
        {"interval", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "interval takes"},
        {"keep=1", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "at least 2"},
        {"keep=3x", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "keep"},
        {"dir=", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "dir"},
        {"kepp=3", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "unknown key \"kepp\""},
        {"store=file:///b", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "store takes s3://BUCKET/PREFIX"},
        {"endpoint=http://h:99999", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "1 to 65535"},
        {"endpoint=http://h:", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "1 to 65535"},
        {"endpoint=http://[::1]:0", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "1 to 65535"},
        {"endpoint=ftp://h", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "https://HOST"},
        {"credentials=key", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "absolute path"},
        {"rate=100", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "at least 4k"},
        {"key=k", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "absolute path"},
        {"full=0", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "1 to 1000"},
        {"rate=5x", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "200M"},
        {"every=-1", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "each Nth"},
        {NULL, "protekt=mirror", NULL, MUSTER_EARG, NULL, 0, 0, 0, "MUSTER_CKPT"},
        {"protect=raid5", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "rs:K"},
        {"protect=rs:0", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "rs:K"},
        {"protect=rs:9", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "1 to 8"},
        {"protect=rs:99999999999", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "1 to 8"},
        {"protect=rs:2x", NULL, NULL, MUSTER_EARG, NULL, 0, 0, 0, "rs:K"},
    };
    static char longdir[MU_CKPT_DIR_MAX + 10];
    struct mu_ckpt_options o;
    struct mu_err err;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *name = rows[i].options ? rows[i].options : "(none)";

        memset(&o, 0, sizeof o);
        err.text[0] = 0;
        int rc = mu_ckpt_options_parse(rows[i].options, rows[i].env, rows[i].dir_env, &o, &err);
        if (rows[i].rc)
            TAP_OK(rc == rows[i].rc && strstr(err.text, rows[i].text) && !o.dir[0], "%s: %s", name, err.text);
        else
            TAP_OK(!rc && !strcmp(o.dir, rows[i].dir) && o.interval_ns == rows[i].ns &&
                       o.interval_steps == rows[i].steps && o.keep == rows[i].keep,
                   "%s", name);
    }
    TAP_OK(!mu_ckpt_options_parse("protect=rs:2", "protect=mirror", NULL, &o, &err) && o.parities == 2 && !o.mirror &&
               !mu_ckpt_options_parse("protect=mirror", NULL, NULL, &o, &err) && !o.parities && o.mirror &&
               !mu_ckpt_options_parse("protect=none", "protect=mirror", NULL, &o, &err) && !o.parities && !o.mirror,
           "protect");
    TAP_OK(!mu_ckpt_options_parse(NULL, NULL, NULL, &o, &err) && !o.open &&
               !mu_ckpt_options_parse(NULL, "wire=authenticated", NULL, &o, &err) && o.open &&
               !mu_ckpt_options_parse("wire=encrypted", "wire=authenticated", NULL, &o, &err) && !o.open &&
               mu_ckpt_options_parse("wire=", NULL, NULL, &o, &err) == MUSTER_EARG,
           "what goes to peers is encrypted unless somebody says otherwise");
    TAP_OK(!mu_ckpt_options_parse("store=s3://b/p,rate=2M,every=10,endpoint=http://h:9,credentials=/k", NULL, NULL, &o,
                                  &err) &&
               !strcmp(o.store, "s3://b/p") && o.rate == 2 << 20 && o.every == 10 &&
               !strcmp(o.endpoint, "http://h:9") && !strcmp(o.credentials, "/k"),
           "an object store");
    TAP_OK(!mu_ckpt_options_parse("interval=auto,mtbf=1000h", "interval=3steps", NULL, &o, &err) && o.interval_auto &&
               !o.interval_steps && o.mtbf_ns == 3600000 * MU_SEC &&
               !mu_ckpt_options_parse("interval=5m", "interval=auto", NULL, &o, &err) && !o.interval_auto &&
               mu_ckpt_options_parse("mtbf=3steps", NULL, NULL, &o, &err) == MUSTER_EARG,
           "interval=auto");
    memset(longdir, 'x', sizeof longdir - 1);
    TAP_OK(mu_ckpt_options_parse(NULL, NULL, longdir, &o, &err) == MUSTER_EARG, "a directory that is too long");
    return tap_done();
}
