/* Signatures: the examples of the Amazon S3 API reference ("Signature Calculations for the Authorization Header"). */
#include "runtime/ckpt/daemon/sigv4.h"
#include "tests/unit/tap.h"

#include <string.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HELLO "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
#define HOST "examplebucket.s3.amazonaws.com"
#define DATE "20130524T000000Z"
#define BASE                                                                                                           \
    {"host", HOST}, {"x-amz-content-sha256", EMPTY},                                                                   \
    {                                                                                                                  \
        "x-amz-date", DATE                                                                                             \
    }

static const struct row {
    const char *method, *path, *query;
    struct mu_sigv4_header headers[6];
    const char *payload, *signature;
} rows[] = {
    {"GET",
     "/test.txt",
     "",
     {{"host", HOST}, {"range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", DATE}},
     EMPTY,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {"PUT",
     "/test%24file.text",
     "",
     {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
      {"host", HOST},
      {"x-amz-content-sha256", HELLO},
      {"x-amz-date", DATE},
      {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
     HELLO,
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {"GET", "/", "lifecycle=", {BASE}, EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {"GET",
     "/",
     "max-keys=2&prefix=J",
     {BASE},
     EMPTY,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

int main(void)
{
    struct mu_buf b = {0};
    char hex[65], date[17];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *w = &rows[i];
        struct mu_sigv4_request r = {
            .method = w->method, .path = w->path, .query = w->query, .headers = w->headers, .payload = w->payload};

        while (r.nheaders < 6 && w->headers[r.nheaders].name)
            r.nheaders++;
        mu_buf_clear(&b);
        mu_sigv4_sign(&r, "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", DATE, &b);
        TAP_OK(strstr(mu_buf_str(&b), w->signature), "%s %s?%s", w->method, w->path, w->query);
        if (!i)
            TAP_OK(!strncmp(mu_buf_str(&b),
                            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=",
                            150),
                   "%s", mu_buf_str(&b));
    }
    mu_buf_clear(&b);
    mu_sigv4_encode(&b, "a/b c+d=~_-.\xc3\xa9%", false);
    mu_sigv4_encode(&b, "/", true);
    TAP_OK(!strcmp(mu_buf_str(&b), "a/b%20c%2Bd%3D~_-.%C3%A9%25%2F"), "encoding: %s", mu_buf_str(&b));
    mu_sigv4_digest("", 0, hex);
    TAP_OK(!strcmp(hex, EMPTY), "SHA-256");
    TAP_OK(mu_sigv4_md5("", 0, hex) || !strcmp(hex, "d41d8cd98f00b204e9800998ecf8427e"), "MD5");
    mu_sigv4_date(1369353600, date);
    TAP_OK(!strcmp(date, DATE), "the date: %s", date);
    mu_buf_free(&b);
    return tap_done();
}
