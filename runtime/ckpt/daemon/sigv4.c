#include "runtime/ckpt/daemon/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

static void hex_of(const unsigned char *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = 0;
}

void mu_sigv4_encode(struct mu_buf *out, const char *text, bool slash)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || c == '.' || c == '~' || (c == '/' && !slash);

        if (plain)
            mu_buf_putc(out, (char)c);
        else
            mu_buf_appendf(out, "%%%02X", c);
    }
}

void mu_sigv4_digest(const void *data, size_t n, char hex[65])
{
    unsigned char md[EVP_MAX_MD_SIZE] = {0};

    EVP_Digest(data, n, md, NULL, EVP_sha256(), NULL);
    hex_of(md, 32, hex);
}

int mu_sigv4_md5(const void *data, size_t n, char hex[33])
{
    unsigned char md[EVP_MAX_MD_SIZE];

    if (EVP_Digest(data, n, md, NULL, EVP_md5(), NULL) != 1)
        return -1;
    hex_of(md, 16, hex);
    return 0;
}

void mu_sigv4_date(time_t t, char text[17])
{
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(text, 17, "%Y%m%dT%H%M%SZ", &tm);
}

static void hmac(unsigned char key[32], size_t n, const char *text, unsigned char out[32])
{
    unsigned char md[EVP_MAX_MD_SIZE] = {0};
    unsigned len = 0;

    HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)text, strlen(text), md, &len);
    memcpy(out, md, 32);
}

/* The key of one day, region and service. */
static void derive(const char *secret, const char *date, const char *region, unsigned char key[32])
{
    char day[9], first[300];
    int n = snprintf(first, sizeof first, "AWS4%s", secret);

    snprintf(day, sizeof day, "%.8s", date);
    hmac((unsigned char *)first, n < (int)sizeof first ? (size_t)n : sizeof first - 1, day, key);
    OPENSSL_cleanse(first, sizeof first);
    hmac(key, 32, region, key);
    hmac(key, 32, "s3", key);
    hmac(key, 32, "aws4_request", key);
}

void mu_sigv4_sign(const struct mu_sigv4_request *r, const char *id, const char *secret, const char *region,
                   const char *date, struct mu_buf *out)
{
    __attribute__((cleanup(mu_buf_free))) struct mu_buf canonical = {0}, names = {0}, text = {0};
    unsigned char key[32];
    char hex[65];

    mu_buf_appendf(&canonical, "%s\n%s\n%s\n", r->method, r->path, r->query);
    for (size_t i = 0; i < r->nheaders; i++) {
        mu_buf_appendf(&canonical, "%s:%s\n", r->headers[i].name, r->headers[i].value);
        mu_buf_appendf(&names, "%s%s", i ? ";" : "", r->headers[i].name);
    }
    mu_buf_appendf(&canonical, "\n%s\n%s", mu_buf_str(&names), r->payload);
    mu_sigv4_digest(mu_buf_str(&canonical), canonical.len, hex);
    mu_buf_appendf(&text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/s3/aws4_request\n%s", date, date, region, hex);
    derive(secret, date, region, key);
    hmac(key, 32, mu_buf_str(&text), key);
    hex_of(key, 32, hex);
    OPENSSL_cleanse(key, sizeof key);
    mu_buf_appendf(out, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/s3/aws4_request,SignedHeaders=%s,Signature=%s", id,
                   date, region, mu_buf_str(&names), hex);
}
