#include "runtime/ckpt/daemon/s3conf.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define FILE_MAX (64u << 10)
#define PATIENCE (60 * MU_SEC)
#define SCHEME "s3://"

bool mu_s3_is_url(const char *text)
{
    return !strncmp(text, SCHEME, strlen(SCHEME));
}

static int bad_url(const char *url, const char *why, struct mu_err *err)
{
    return mu_err_set(err, MUSTER_EARG, "%.200s: %s; it is s3://BUCKET/PREFIX", url, why);
}

static int parse_url(const char *url, struct mu_s3_conf *c, struct mu_err *err)
{
    const char *bucket = url + strlen(SCHEME), *slash = strchrnul(bucket, '/'), *p = slash + (*slash != 0);
    size_t n = (size_t)(slash - bucket), len = strlen(p);

    if (!n || n >= sizeof c->bucket || bucket[0] == '.' ||
        strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") < n)
        return bad_url(url, "that is no name of a bucket", err);
    while (len && p[len - 1] == '/')
        len--;
    if (len >= sizeof c->prefix)
        return bad_url(url, "the prefix is too long", err);
    memcpy(c->bucket, bucket, n);
    memcpy(c->prefix, p, len);
    for (const char *part = c->prefix; *part;) {
        const char *end = strchrnul(part, '/');
        size_t k = (size_t)(end - part);

        if (!k || (k == 1 && *part == '.') || (k == 2 && !strncmp(part, "..", 2)))
            return bad_url(url, "the prefix has an empty part, '.' or '..'", err);
        part = end + (*end != 0);
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
            return bad_url(url, "the prefix has a control character", err);
    return 0;
}

/* The text of a file, 0-terminated; *text NULL: there is none. secret: nobody else may read it. */
static int slurp(const char *path, bool secret, char **text, struct mu_err *err)
{
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    mu_auto_free char *buf = malloc(FILE_MAX + 1);
    struct stat st;
    ssize_t n = 0, r;

    *text = NULL;
    if (!buf)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to read %.200s", path);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0 || fstat(fd, &st))
        return mu_err_errno(err, MUSTER_EARG, "%.200s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        return mu_err_set(err, MUSTER_EARG, "%.200s is not a file of credentials", path);
    if (secret && (st.st_mode & 077))
        return mu_err_set(err, MUSTER_EARG, "%.200s holds credentials, and others may read it; chmod 600 %.200s", path,
                          path);
    if (secret && st.st_uid != geteuid() && st.st_uid != 0)
        return mu_err_set(err, MUSTER_EARG, "%.200s holds credentials, and belongs to another user", path);
    while (n < FILE_MAX && (r = read(fd, buf + n, FILE_MAX - (size_t)n)) > 0)
        n += r;
    buf[n] = 0;
    *text = MU_STEAL(buf, NULL);
    return 0;
}

static void forget(char **text)
{
    if (*text)
        OPENSSL_cleanse(*text, strlen(*text));
    free(*text);
}
#define auto_secret __attribute__((cleanup(forget)))

/* key = value in [section]; false when it is not there. A value that does not fit is one that is not there. */
static bool look_up(const char *text, const char *section, const char *key, char *out, size_t room)
{
    bool in = false;
    size_t n = strlen(key);

    for (const char *line = text; line && *line;) {
        const char *end = strchrnul(line, '\n'), *next = *end ? end + 1 : end;

        while (line < end && (*line == ' ' || *line == '\t'))
            line++;
        while (end > line && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
            end--;
        if (*line == '[') {
            in = (size_t)(end - line) == strlen(section) + 2 && end[-1] == ']' &&
                 !strncmp(line + 1, section, strlen(section));
        } else if (in && (size_t)(end - line) > n && !strncmp(line, key, n)) {
            const char *v = line + n;

            while (v < end && (*v == ' ' || *v == '\t'))
                v++;
            if (v < end && *v == '=') {
                for (v++; v < end && (*v == ' ' || *v == '\t');)
                    v++;
                if (v < end && (size_t)(end - v) < room) {
                    memcpy(out, v, (size_t)(end - v));
                    out[end - v] = 0;
                    return true;
                }
            }
        }
        line = next;
    }
    return false;
}

static const char *env(const char *name)
{
    const char *v = getenv(name);

    return v && *v ? v : NULL;
}

/* Fits or is refused: half a secret would only be said to be wrong by the store. */
static int take(char *dst, size_t room, const char *v, const char *what, struct mu_err *err)
{
    if (strlen(v) >= room || strpbrk(v, "\r\n"))
        return mu_err_set(err, MUSTER_EARG, "%s is not valid: too long, or it has a line break", what);
    memcpy(dst, v, strlen(v) + 1);
    return 0;
}

static void home_file(const char *name, char *path, size_t room)
{
    const char *home = env("HOME");

    snprintf(path, room, "%s/.aws/%s", home ? home : "", name);
}

static int from_file(const char *path, bool must, const char *profile, struct mu_s3_conf *c, bool *found,
                     struct mu_err *err)
{
    auto_secret char *text = NULL;
    int rc = slurp(path, true, &text, err);

    if (!rc && !text && must)
        return mu_err_set(err, MUSTER_EARG, "credentials file %.200s: No such file or directory", path);
    if (rc || !text)
        return rc;
    *found = look_up(text, profile, "aws_access_key_id", c->id, sizeof c->id) &&
             look_up(text, profile, "aws_secret_access_key", c->secret, sizeof c->secret);
    look_up(text, profile, "aws_session_token", c->token, sizeof c->token);
    snprintf(c->source, sizeof c->source, "%.200s [%.80s]", path, profile);
    return 0;
}

static int load_key(const struct mu_s3_given *g, const char *profile, struct mu_s3_conf *c, struct mu_err *err)
{
    const char *id = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY"),
               *token = env("AWS_SESSION_TOKEN"),
               *file = g->credentials ? g->credentials : env("AWS_SHARED_CREDENTIALS_FILE");
    char path[4096];
    bool found = false;
    int rc;

    if (!g->credentials && id && secret) {
        snprintf(c->source, sizeof c->source, "AWS_ACCESS_KEY_ID");
        if ((rc = take(c->id, sizeof c->id, id, "AWS_ACCESS_KEY_ID", err)) ||
            (rc = take(c->secret, sizeof c->secret, secret, "AWS_SECRET_ACCESS_KEY", err)))
            return rc;
        return token ? take(c->token, sizeof c->token, token, "AWS_SESSION_TOKEN", err) : 0;
    }
    if (file)
        snprintf(path, sizeof path, "%s", file);
    else
        home_file("credentials", path, sizeof path);
    if ((rc = from_file(path, g->credentials, profile, c, &found, err)))
        return rc;
    if (!found)
        return mu_err_set(err, MUSTER_EARG,
                          "no credentials for s3://%s: there is no aws_access_key_id and aws_secret_access_key below "
                          "[%.80s] in %.200s, and no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                          c->bucket, profile, path);
    return 0;
}

static int set_endpoint(const char *given, struct mu_s3_conf *c, struct mu_err *err)
{
    const char *host = strstr(given, "://"), *port;
    uint64_t number;
    size_t n;
    bool tls = !strncmp(given, "https://", 8);

    if (!host || (!tls && strncmp(given, "http://", 7)))
        return mu_err_set(err, MUSTER_EARG, "endpoint %.200s: it is https://HOST or http://HOST, maybe with :PORT",
                          given);
    host += 3;
    n = strcspn(host, "/");
    if (!n || n >= sizeof c->host || host[n + (host[n] == '/')] || strpbrk(host, "@?# \t\r\n"))
        return mu_err_set(err, MUSTER_EARG, "endpoint %.200s: there may be a host and a port, and nothing else", given);
    snprintf(c->host, sizeof c->host, "%.*s", (int)n, host);
    port = strchr(c->host[0] == '[' ? strchrnul(c->host, ']') : c->host, ':');
    if (port && (mu_str_u64(port + 1, 1, 65535, &number) || port == c->host))
        return mu_err_set(err, MUSTER_EARG, "endpoint %.200s: '%.40s' is no port; it is 1 to 65535, behind a host",
                          given, port + 1);
    snprintf(c->endpoint, sizeof c->endpoint, "%s://%s", tls ? "https" : "http", c->host);
    /* libcurl leaves the usual port out of the header, which is signed */
    for (size_t k = strlen(tls ? ":443" : ":80"), len = strlen(c->host); len > k;) {
        if (!strcmp(c->host + len - k, tls ? ":443" : ":80"))
            c->host[len - k] = 0;
        break;
    }
    return 0;
}

int mu_s3_conf_load(const char *url, const struct mu_s3_given *g, struct mu_s3_conf *out, struct mu_err *err)
{
    struct mu_s3_conf c = {.patience = g->patience ? g->patience : PATIENCE};
    const char *profile = env("AWS_PROFILE") ? env("AWS_PROFILE") : "default", *v;
    char section[100], path[4096], text[300];
    auto_secret char *config = NULL;
    int rc = parse_url(url, &c, err);

    if (rc)
        return rc;
    if ((v = env("AWS_CONFIG_FILE")))
        snprintf(path, sizeof path, "%s", v);
    else
        home_file("config", path, sizeof path);
    if ((rc = slurp(path, false, &config, err)))
        return rc;
    snprintf(section, sizeof section, "%s%.80s", strcmp(profile, "default") ? "profile " : "", profile);

    if ((v = env("AWS_REGION")) || (v = env("AWS_DEFAULT_REGION")))
        rc = take(c.region, sizeof c.region, v, "AWS_REGION", err);
    else if (!config || !look_up(config, section, "region", c.region, sizeof c.region))
        snprintf(c.region, sizeof c.region, "us-east-1");
    if (!rc && (v = env("AWS_CA_BUNDLE")))
        rc = take(c.ca, sizeof c.ca, v, "AWS_CA_BUNDLE", err);
    if (rc)
        return rc;
    if (g->endpoint || (v = env("AWS_ENDPOINT_URL_S3")) || (v = env("AWS_ENDPOINT_URL")))
        snprintf(text, sizeof text, "%s", g->endpoint ? g->endpoint : v);
    else if (!config || !look_up(config, section, "endpoint_url", text, sizeof text))
        snprintf(text, sizeof text, "https://s3.%s.amazonaws.com", c.region);
    if ((rc = set_endpoint(text, &c, err)) || (rc = load_key(g, profile, &c, err)) ||
        (rc = g->key ? mu_seal_load(g->key, &c.seal, err) : 0)) {
        mu_s3_conf_wipe(&c);
        return rc;
    }
    *out = c;
    OPENSSL_cleanse(&c, sizeof c);
    return 0;
}

void mu_s3_conf_wipe(struct mu_s3_conf *c)
{
    OPENSSL_cleanse(c, sizeof *c);
}
