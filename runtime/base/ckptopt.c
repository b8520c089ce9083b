#include "runtime/base/ckptopt.h"

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define INTERVAL_MAX (100ull * 365 * 86400 * MU_SEC)
#define STEPS_MAX (1ull << 62)

/* Digits only, at least one, at most max; *end is what follows. */
static int number(const char *s, uint64_t max, uint64_t *out, const char **end)
{
    uint64_t v = 0;

    if (!isdigit((unsigned char)*s))
        return -1;
    for (; isdigit((unsigned char)*s); s++) {
        unsigned digit = (unsigned)(*s - '0');

        if (digit > max || v > (max - digit) / 10)
            return -1;
        v = v * 10 + digit;
    }
    *out = v;
    *end = s;
    return 0;
}

static int set_dir(struct mu_ckpt_options *o, const char *v)
{
    size_t n = strlen(v);

    if (!n || n >= sizeof o->dir)
        return -1;
    memcpy(o->dir, v, n + 1);
    return 0;
}

static int set_interval(struct mu_ckpt_options *o, const char *v)
{
    static const struct {
        const char *unit;
        uint64_t ns; /* 0: steps */
    } units[] = {
        {"", MU_SEC},         {"s", MU_SEC},        {"ms", MU_MS}, {"m", 60 * MU_SEC},
        {"min", 60 * MU_SEC}, {"h", 3600 * MU_SEC}, {"step", 0},   {"steps", 0},
    };
    const char *unit;
    uint64_t n;

    if (!strcmp(v, "auto")) {
        o->interval_auto = true;
        o->interval_steps = 0;
        return 0;
    }
    if (number(v, STEPS_MAX, &n, &unit) || !n)
        return -1;
    for (size_t i = 0; i < MU_COUNT(units); i++) {
        if (strcmp(unit, units[i].unit))
            continue;
        if (units[i].ns && n > INTERVAL_MAX / units[i].ns)
            return -1;
        o->interval_auto = false;
        o->interval_ns = n * units[i].ns;
        o->interval_steps = units[i].ns ? 0 : n;
        return 0;
    }
    return -1;
}

static int set_mtbf(struct mu_ckpt_options *o, const char *v)
{
    struct mu_ckpt_options t = {.keep = 0};

    if (!isdigit((unsigned char)*v) || set_interval(&t, v) || t.interval_steps)
        return -1;
    o->mtbf_ns = t.interval_ns;
    return 0;
}

static int set_keep(struct mu_ckpt_options *o, const char *v)
{
    const char *end;
    uint64_t n;

    if (number(v, 1000000, &n, &end) || *end || n < 2)
        return -1;
    o->keep = (uint32_t)n;
    return 0;
}

static int set_every(struct mu_ckpt_options *o, const char *v)
{
    const char *end;
    uint64_t n;

    if (number(v, 1000000000, &n, &end) || *end)
        return -1;
    o->every = (uint32_t)n;
    return 0;
}

static int set_full(struct mu_ckpt_options *o, const char *v)
{
    const char *end;
    uint64_t n;

    if (number(v, 1000, &n, &end) || *end || !n)
        return -1;
    o->full = (uint32_t)n;
    return 0;
}

static int text(char *to, size_t size, const char *v)
{
    size_t n = strlen(v);

    if (n >= size)
        return -1;
    memcpy(to, v, n + 1);
    return 0;
}

static int set_store(struct mu_ckpt_options *o, const char *v)
{
    static const char head[] = "s3://";

    if (*v && (strncmp(v, head, strlen(head)) || !isalnum((unsigned char)v[strlen(head)])))
        return -1;
    return text(o->store, sizeof o->store, v);
}

static int set_endpoint(struct mu_ckpt_options *o, const char *v)
{
    const char *host = strstr(v, "://"), *port, *end;
    uint64_t n;

    if (strncmp(v, "http://", 7) && strncmp(v, "https://", 8))
        return -1;
    port = strchr(host[3] == '[' ? strchrnul(host, ']') : host + 3, ':');
    if (port && (number(port + 1, 65535, &n, &end) || !n || (*end && *end != '/')))
        return -1;
    return text(o->endpoint, sizeof o->endpoint, v);
}

static int set_credentials(struct mu_ckpt_options *o, const char *v)
{
    return *v == '/' ? text(o->credentials, sizeof o->credentials, v) : -1;
}

static int set_key(struct mu_ckpt_options *o, const char *v)
{
    return *v == '/' ? text(o->key, sizeof o->key, v) : -1;
}

static int set_rate(struct mu_ckpt_options *o, const char *v)
{
    static const char units[] = "kmg";
    const char *unit;
    uint64_t n;

    if (number(v, 1ull << 40, &n, &unit))
        return -1;
    if (*unit) {
        const char *at = strchr(units, tolower((unsigned char)*unit));

        if (!at || unit[1])
            return -1;
        n <<= 10 * (at - units + 1);
    }
    o->rate = n;
    return n && n < 4096 ? -1 : 0;
}

static int set_protect(struct mu_ckpt_options *o, const char *v)
{
    const char *end;
    uint64_t n = 0;

    if (!strncmp(v, "rs:", 3) && (number(v + 3, 8, &n, &end) || *end || !n))
        return -1;
    if (strncmp(v, "rs:", 3) && strcmp(v, "mirror") && strcmp(v, "none"))
        return -1;
    o->mirror = !strcmp(v, "mirror");
    o->parities = (uint32_t)n;
    return 0;
}

static int set_wire(struct mu_ckpt_options *o, const char *v)
{
    if (strcmp(v, "encrypted") && strcmp(v, "authenticated"))
        return -1;
    o->open = !strcmp(v, "authenticated");
    return 0;
}

/* To add a key: a row here, a setter above, a line in docs/formats.md. */
static const struct {
    const char *key;
    int (*set)(struct mu_ckpt_options *, const char *value);
    const char *takes;
} keys[] = {
    {"dir", set_dir, "a directory that all hosts share"},
    {"interval", set_interval, "a time such as 30, 30s, 2m, 1h, a number of steps such as 100steps, or auto; not 0"},
    {"mtbf", set_mtbf, "the mean time between failures of one node, such as 3600h"},
    {"keep", set_keep, "how many checkpoints to keep, at least 2"},
    {"protect", set_protect, "none, mirror, or rs:K for K hosts that may be lost, 1 to 8"},
    {"wire", set_wire, "encrypted, or authenticated: what goes to protecting hosts can be read on its way"},
    {"every", set_every, "a number N: each Nth checkpoint is kept for ever, 0 for none"},
    {"store", set_store, "s3://BUCKET/PREFIX"},
    {"endpoint", set_endpoint, "http://HOST or https://HOST, maybe with :PORT (1 to 65535), of the object store"},
    {"credentials", set_credentials, "the absolute path of a file like ~/.aws/credentials"},
    {"key", set_key, "the absolute path of a file with encryption keys"},
    {"full", set_full, "a number N, 1 to 1000: one of N checkpoints is sent to the store whole"},
    {"rate", set_rate, "bytes a second towards the object store such as 200M, at least 4k, or 0 for no limit"},
};

int mu_ckpt_options_overlay(struct mu_ckpt_options *o, const char *text, const char *where, struct mu_err *err)
{
    mu_auto_free char *copy = strdup(text);
    char *save = NULL;

    if (!copy)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for options");
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *value = strchr(item, '=');
        size_t i = 0;

        if (value)
            *value++ = 0;
        while (i < MU_COUNT(keys) && strcmp(keys[i].key, item))
            i++;
        if (i == MU_COUNT(keys))
            return mu_err_set(
                err, MUSTER_EARG,
                "%s: unknown key \"%.60s\"; the keys are dir, interval, mtbf, keep, every, protect, wire, "
                "store, endpoint, credentials, key, full and rate",
                where, item);
        if (!value || keys[i].set(o, value))
            return mu_err_set(err, MUSTER_EARG, "%s: %s=%.60s is not valid; %s takes %s", where, item,
                              value ? value : "", item, keys[i].takes);
    }
    return 0;
}

int mu_ckpt_options_parse(const char *options, const char *options_env, const char *dir_env,
                          struct mu_ckpt_options *out, struct mu_err *err)
{
    struct mu_ckpt_options o = {.dir = "./ckpt", .interval_ns = 60 * MU_SEC, .keep = 3};
    int rc;

    if (dir_env && *dir_env && set_dir(&o, dir_env))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_CKPT_DIR is longer than %d bytes", MU_CKPT_DIR_MAX - 1);
    if (options_env && (rc = mu_ckpt_options_overlay(&o, options_env, "checkpoint options (MUSTER_CKPT)", err)))
        return rc;
    if (options && (rc = mu_ckpt_options_overlay(&o, options, "checkpoint options", err)))
        return rc;
    *out = o;
    return 0;
}
