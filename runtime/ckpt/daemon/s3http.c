#include "runtime/ckpt/daemon/s3http.h"

#include "config.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/ckpt/daemon/sigv4.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

void mu_s3_reply_free(struct mu_s3_reply *y)
{
    mu_buf_free(&y->body);
    mu_s3_answer_free(&y->answer);
}

#ifdef HAVE_CURL
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>

#define ANSWER_MAX (64u << 20) /* a page of a listing is below 2 MiB */
#define PAUSE_FIRST (200 * MU_MS)
#define PAUSE_MOST (10 * MU_SEC)
#define LEAST_RATE 1024ull /* bytes a second */

/* By dlopen: commands and daemons that have nothing to do with object stores start without it and all that it needs,
 * and the binary runs on hosts that do not have it. */
static struct {
    void *handle;
    char why[200];
    __typeof__(curl_global_init) *global_init;
    __typeof__(curl_easy_init) *init;
    __typeof__(curl_easy_reset) *reset;
    __typeof__(curl_easy_cleanup) *cleanup;
    CURLcode (*setopt)(CURL *, CURLoption, ...);
    CURLcode (*getinfo)(CURL *, CURLINFO, ...);
    __typeof__(curl_easy_perform) *perform;
    __typeof__(curl_easy_strerror) *strerror;
    __typeof__(curl_slist_append) *append;
    __typeof__(curl_slist_free_all) *free_all;
} lib;
static pthread_once_t lib_once = PTHREAD_ONCE_INIT;

static void load(void)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
    const struct {
        const char *name;
        void *at;
    } symbols[] = {
        {"curl_global_init", &lib.global_init}, {"curl_easy_init", &lib.init},
        {"curl_easy_reset", &lib.reset},        {"curl_easy_cleanup", &lib.cleanup},
        {"curl_easy_setopt", &lib.setopt},      {"curl_easy_getinfo", &lib.getinfo},
        {"curl_easy_perform", &lib.perform},    {"curl_easy_strerror", &lib.strerror},
        {"curl_slist_append", &lib.append},     {"curl_slist_free_all", &lib.free_all},
    };
    void *h = NULL;

    for (size_t i = 0; !h && i < MU_COUNT(names); i++)
        h = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!h) {
        snprintf(lib.why, sizeof lib.why, "s3:// needs libcurl, and this host has no %s; install libcurl4", names[0]);
        return;
    }
    for (size_t i = 0; i < MU_COUNT(symbols); i++) {
        void *f = dlsym(h, symbols[i].name);

        if (!f) {
            snprintf(lib.why, sizeof lib.why, "s3:// needs libcurl, and this host's has no %s", symbols[i].name);
            return;
        }
        memcpy(symbols[i].at, &f, sizeof f);
    }
    if (lib.global_init(CURL_GLOBAL_DEFAULT))
        snprintf(lib.why, sizeof lib.why, "s3:// needs libcurl, which could not be initialised");
    else
        lib.handle = h;
}

struct mu_s3 {
    const struct mu_s3_conf *conf;
    CURL *easy;
    uint64_t retries, random;
};

int mu_s3_open(const struct mu_s3_conf *conf, struct mu_s3 **out, struct mu_err *err)
{
    struct mu_s3 *s;

    pthread_once(&lib_once, load);
    if (!lib.handle)
        return mu_err_set(err, MUSTER_ENOSYS, "%s", lib.why);
    if (!(s = calloc(1, sizeof *s)) || !(s->easy = lib.init())) {
        free(s);
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for a connection to s3://%s", conf->bucket);
    }
    s->conf = conf;
    s->random = mu_now() ^ (uint64_t)(uintptr_t)s;
    *out = s;
    return 0;
}

void mu_s3_close(struct mu_s3 *s)
{
    if (!s)
        return;
    lib.cleanup(s->easy);
    free(s);
}

uint64_t mu_s3_retries(const struct mu_s3 *s)
{
    return s->retries;
}

/* --- one try ------------------------------------------------------------------------------------------------------ */

struct
try {
    struct mu_s3 *s;
    const struct mu_s3_request *r;
    struct mu_s3_reply *y;
    bool too_long;
    char range[64]; /* Content-Range */
};

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
    struct mu_s3_reply *y = ((struct try *)arg)->y;
    const char *colon = memchr(line, ':', n *= one);
    size_t name = colon ? (size_t)(colon - line) : 0, len;
    char *dst = NULL;
    size_t room = 0;

    if (n > 5 && !strncmp(line, "HTTP/", 5)) /* of an interim answer, maybe */
        y->etag[0] = y->meta[0] = ((struct try *)arg)->range[0] = 0;
    if (name == 4 && !strncasecmp(line, "etag", 4)) {
        dst = y->etag;
        room = sizeof y->etag;
    } else if (name == 17 && !strncasecmp(line, "x-amz-meta-muster", 17)) {
        dst = y->meta;
        room = sizeof y->meta;
    } else if (name == 13 && !strncasecmp(line, "content-range", 13)) {
        dst = ((struct try *)arg)->range;
        room = sizeof((struct try *)arg)->range;
    }
    if (!dst)
        return n;
    const char *v = colon + 1, *end = line + n;
    while (v < end && strchr(" \t\"", *v))
        v++;
    while (end > v && strchr(" \t\r\n\"", end[-1]))
        end--;
    len = (size_t)(end - v);
    if (len < room) {
        memcpy(dst, v, len);
        dst[len] = 0;
    }
    return n;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
    struct try *t = arg;
    long status = 0;

    n *= one;
    lib.getinfo(t->s->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 == 2 && t->r->into) {
        if (n > t->r->room - t->y->got) {
            t->too_long = true;
            return 0;
        }
        memcpy(t->r->into + t->y->got, data, n);
        t->y->got += n;
        return n;
    }
    if (n > (status / 100 == 2 && t->r->room ? t->r->room : ANSWER_MAX) - t->y->body.len) {
        t->too_long = true;
        return 0;
    }
    mu_buf_append(&t->y->body, data, n);
    return t->y->body.failed ? 0 : n;
}

static void add_header(struct curl_slist **list, const char *fmt, ...) MU_PRINTF(2, 3);
static void add_header(struct curl_slist **list, const char *fmt, ...)
{
    mu_auto_buf struct mu_buf line = {0};
    struct curl_slist *more;
    va_list ap;

    va_start(ap, fmt);
    mu_buf_appendv(&line, fmt, ap);
    va_end(ap);
    if ((more = lib.append(*list, mu_buf_str(&line))))
        *list = more;
}

/* The headers, those that are signed in the order of their names. */
static struct curl_slist *headers_of(const struct mu_s3_conf *c, const struct mu_s3_request *r, const char *path)
{
    struct mu_sigv4_header h[5];
    struct mu_sigv4_request q = {.method = r->method, .path = path, .query = r->query, .headers = h};
    mu_auto_buf struct mu_buf authorization = {0};
    struct curl_slist *list = NULL;
    char digest[65], date[17];

    mu_sigv4_digest(r->body ? r->body : "", r->n, digest);
    mu_sigv4_date((time_t)(mu_wall() / MU_SEC), date);
    h[q.nheaders++] = (struct mu_sigv4_header){"host", c->host};
    h[q.nheaders++] = (struct mu_sigv4_header){"x-amz-content-sha256", digest};
    h[q.nheaders++] = (struct mu_sigv4_header){"x-amz-date", date};
    if (r->meta)
        h[q.nheaders++] = (struct mu_sigv4_header){"x-amz-meta-muster", r->meta};
    if (c->token[0])
        h[q.nheaders++] = (struct mu_sigv4_header){"x-amz-security-token", c->token};
    q.payload = digest;
    mu_sigv4_sign(&q, c->id, c->secret, c->region, date, &authorization);
    for (size_t i = 0; i < q.nheaders; i++)
        add_header(&list, "%s: %s", h[i].name, h[i].value);
    add_header(&list, "Authorization: %s", mu_buf_str(&authorization));
    add_header(&list, "Content-Type: %s", r->body ? "application/octet-stream" : "");
    add_header(&list, "Expect:"); /* a second lost where the server does not know it */
    add_header(&list, "Accept-Encoding: identity");
    return list;
}

static void set_up(struct try *t, const char *url, struct curl_slist *headers)
{
    const struct mu_s3_conf *c = t->s->conf;
    const struct mu_s3_request *r = t->r;
    CURL *e = t->s->easy;
    uint64_t stall = c->patience / 4, bytes = r->n + r->room;
    char range[64];

    stall = stall < MU_SEC ? MU_SEC : stall > 30 * MU_SEC ? 30 * MU_SEC : stall;
    lib.reset(e);
    lib.setopt(e, CURLOPT_URL, url);
    lib.setopt(e, CURLOPT_HTTPHEADER, headers);
    lib.setopt(e, CURLOPT_PATH_AS_IS, 1L);
    lib.setopt(e, CURLOPT_NOSIGNAL, 1L);
    lib.setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* one request at a time has no use for another */
    lib.setopt(e, CURLOPT_USERAGENT, "muster/" MUSTER_VERSION);
    lib.setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(stall / MU_MS));
    lib.setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)LEAST_RATE);
    lib.setopt(e, CURLOPT_LOW_SPEED_TIME, (long)((r->slow ? 4 : 1) * stall / MU_SEC));
    lib.setopt(e, CURLOPT_TIMEOUT_MS, (long)((4 * c->patience + bytes / LEAST_RATE * MU_SEC) / MU_MS));
    lib.setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
    lib.setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
    lib.setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    if (c->ca[0])
        lib.setopt(e, CURLOPT_CAINFO, c->ca);
    if (r->body) {
        lib.setopt(e, CURLOPT_POSTFIELDS, r->body);
        lib.setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->n);
    }
    if (!strcmp(r->method, "HEAD"))
        lib.setopt(e, CURLOPT_NOBODY, 1L);
    else
        lib.setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
    if (r->ranged) {
        snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, r->from, r->from + r->room - 1);
        lib.setopt(e, CURLOPT_RANGE, range);
    }
    lib.setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    lib.setopt(e, CURLOPT_HEADERDATA, t);
    lib.setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    lib.setopt(e, CURLOPT_WRITEDATA, t);
}

const struct mu_s3_conf *mu_s3_conf_of(const struct mu_s3 *s)
{
    return s->conf;
}

/* What helps, by the store's code. */
static const char *advice(const struct mu_s3_conf *c, const char *code, char *buf, size_t n)
{
    static const char *const keys[] = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"};
    static const char *const regions[] = {"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect"};

    for (size_t i = 0; i < MU_COUNT(keys); i++)
        if (!strcmp(code, keys[i])) {
            snprintf(buf, n, "; the store does not take the credentials of %s", c->source);
            return buf;
        }
    for (size_t i = 0; i < MU_COUNT(regions); i++)
        if (!strcmp(code, regions[i])) {
            snprintf(buf, n, "; set AWS_REGION to the bucket's region (it is %s)", c->region);
            return buf;
        }
    if (!strcmp(code, "RequestTimeTooSkewed"))
        return "; the clock of this host is wrong";
    if (!strcmp(code, "AccessDenied")) {
        snprintf(buf, n, "; the credentials are those of %s", c->source);
        return buf;
    }
    return "";
}

static bool passes(long status, const char *code)
{
    return status / 100 == 5 || status == 429 || status == 408 || !strcmp(code, "RequestTimeout") ||
           !strcmp(code, "InternalError") || !strcmp(code, "SlowDown") || !strcmp(code, "OperationAborted") ||
           !strcmp(code, "BadDigest") || !strcmp(code, "XAmzContentSHA256Mismatch");
}

/* The answer says no. */
static int refused(struct try *t, bool *again, struct mu_err *err)
{
    struct mu_s3_reply *y = t->y;
    struct mu_s3_answer a = {0};
    char text[400], shown[110];
    int rc = MUSTER_EIO;

    if (y->answer.code[0])
        a = MU_STEAL(y->answer, (struct mu_s3_answer){0});
    else
        mu_s3_answer_parse(mu_buf_str(&y->body), y->body.len, &a, NULL);
    *again = passes(y->status, a.code);
    if (y->status == 404 && t->r->key && strcmp(a.code, "NoSuchBucket"))
        rc = MUSTER_ENOCKPT;
    else if (!strcmp(a.code, "QuotaExceeded") || y->status == 507)
        rc = MUSTER_ENOSPC;
    else if (y->status == 416)
        rc = MUSTER_ECORRUPT;
    mu_err_set(err, rc, "%ld%s%s%s%s%s", y->status, a.code[0] ? " " : "", a.code, a.message[0] ? ": " : "",
               mu_str_show(shown, sizeof shown, a.message),
               a.code[0] || y->status != 403 ? advice(t->s->conf, a.code, text, sizeof text)
                                             : advice(t->s->conf, "AccessDenied", text, sizeof text));
    mu_s3_answer_free(&a);
    return rc;
}

/* The object itself, not what came of it. */
static bool is_shorter(const struct try *t)
{
    const char *slash = strchr(t->range, '/'); /* bytes FROM-TO/ALL */
    uint64_t all;

    return slash && !mu_str_u64(slash + 1, 0, UINT64_MAX, &all) && all < t->r->from + t->r->room;
}

static int judge(struct try *t, CURLcode rc, const char *said, bool *again, struct mu_err *err)
{
    struct mu_s3_reply *y = t->y;
    const struct mu_s3_request *r = t->r;
    curl_off_t length = -1;

    lib.getinfo(t->s->easy, CURLINFO_RESPONSE_CODE, &y->status);
    lib.getinfo(t->s->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    y->length = length > 0 ? (uint64_t)length : 0;
    if (t->too_long)
        return mu_err_set(err, MUSTER_ECORRUPT, "the answer is longer than what was asked for");
    if (rc == CURLE_OUT_OF_MEMORY || y->body.failed)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if (rc != CURLE_OK) {
        *again = rc != CURLE_PEER_FAILED_VERIFICATION && rc != CURLE_URL_MALFORMAT &&
                 rc != CURLE_UNSUPPORTED_PROTOCOL && rc != CURLE_SSL_CACERT_BADFILE;
        return mu_err_set(err, MUSTER_EIO, "%.200s", said[0] ? said : lib.strerror(rc));
    }
    if (y->status / 100 != 2)
        return refused(t, again, err);
    if (r->xml && mu_s3_answer_parse(mu_buf_str(&y->body), y->body.len, &y->answer, err)) {
        *again = true;
        return MUSTER_ECORRUPT;
    }
    if (r->xml && !strcmp(y->answer.root, "Error"))
        return refused(t, again, err);
    if (r->ranged && ((y->got != r->room && !r->fewer) || (y->status != 206 && r->from))) {
        *again = y->got != r->room && !is_shorter(t);
        return mu_err_set(err, MUSTER_ECORRUPT, "%zu bytes came instead of %zu", y->got, r->room);
    }
    return 0;
}

static int once(struct mu_s3 *s, const struct mu_s3_request *r, struct mu_s3_reply *y, bool *again, struct mu_err *err)
{
    const struct mu_s3_conf *c = s->conf;
    struct try t = {.s = s, .r = r, .y = y};
    mu_auto_buf struct mu_buf path = {0}, url = {0};
    struct curl_slist *headers;
    char said[CURL_ERROR_SIZE] = "";
    CURLcode rc;

    *again = false;
    mu_buf_appendf(&path, "/%s", c->bucket);
    if (r->key) {
        mu_buf_putc(&path, '/');
        mu_sigv4_encode(&path, r->key, false);
    }
    mu_buf_appendf(&url, "%s%s%s%s", c->endpoint, mu_buf_str(&path), r->query[0] ? "?" : "", r->query);
    headers = headers_of(c, r, mu_buf_str(&path));
    if (path.failed || url.failed || !headers)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    set_up(&t, mu_buf_str(&url), headers);
    lib.setopt(s->easy, CURLOPT_ERRORBUFFER, said);
    rc = lib.perform(s->easy);
    lib.setopt(s->easy, CURLOPT_ERRORBUFFER, NULL);
    lib.free_all(headers);
    return judge(&t, rc, said, again, err);
}

/* --- tries -------------------------------------------------------------------------------------------------------- */

static void pause_ns(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / MU_SEC), .tv_nsec = (long)(ns % MU_SEC)};

    nanosleep(&t, NULL);
}

/* Between half of it and all: many ranks' stores must not come back in step. */
static uint64_t jitter(struct mu_s3 *s, uint64_t ns)
{
    s->random = s->random * 6364136223846793005ull + 1442695040888963407ull;
    return ns / 2 + (s->random >> 33) % (ns / 2 + 1);
}

int mu_s3_perform(struct mu_s3 *s, const struct mu_s3_request *r, struct mu_s3_reply *y, struct mu_err *err)
{
    uint64_t since = mu_now(), pause = PAUSE_FIRST;
    struct mu_err why = {0};
    char text[32];
    bool again;
    int rc, tries = 0;

    for (;;) {
        tries++;
        if (!(rc = once(s, r, y, &again, &why)))
            return 0;
        uint64_t wait = jitter(s, pause), spent = mu_now() - since;
        if (!again || spent + wait > s->conf->patience)
            break;
        s->retries++;
        pause_ns(wait);
        pause = 2 * pause > PAUSE_MOST ? PAUSE_MOST : 2 * pause;
        mu_s3_reply_free(y);
        *y = (struct mu_s3_reply){0};
    }
    if (r->xml && rc == MUSTER_ECORRUPT)
        rc = MUSTER_EIO;
    mu_err_set(err, rc, "s3://%s%s%.160s: %s: %.260s", s->conf->bucket, r->key ? "/" : "", r->key ? r->key : "",
               r->method, why.text);
    if (again && tries > 1)
        mu_err_prefix(err, "gave up after %d tries in %s", tries,
                      mu_str_fmt_duration(text, sizeof text, mu_now() - since));
    return rc;
}

#else /* no libcurl */

int mu_s3_open(const struct mu_s3_conf *conf, struct mu_s3 **out, struct mu_err *err)
{
    (void)conf;
    (void)out;
    return mu_err_set(err, MUSTER_ENOSYS,
                      "s3:// is not in this build: it was made without libcurl (install libcurl4-openssl-dev, build)");
}
void mu_s3_close(struct mu_s3 *s)
{
    (void)s;
}
uint64_t mu_s3_retries(const struct mu_s3 *s)
{
    (void)s;
    return 0;
}
int mu_s3_perform(struct mu_s3 *s, const struct mu_s3_request *r, struct mu_s3_reply *y, struct mu_err *err)
{
    (void)s;
    (void)r;
    (void)y;
    return mu_err_set(err, MUSTER_ENOSYS, "s3:// is not in this build");
}
#endif
