/* Signatures of requests to an object store: AWS Signature Version 4. libcurl has them too, but up to 7.86 it neither
 * sends the payload's digest nor signs further headers, which S3 demands; Ubuntu 22.04 has 7.81. The hashes are
 * OpenSSL's. */
#ifndef MU_CKPT_SIGV4_H
#define MU_CKPT_SIGV4_H

#include <time.h>

#include "runtime/base/buf.h"

struct mu_sigv4_header {
    const char *name; /* lower case */
    const char *value;
};
/* What is signed. Headers in the order of their names; path and query percent-encoded (mu_sigv4_encode), the query's
 * parts in the order of their names, each with its '='. */
struct mu_sigv4_request {
    const char *method, *path, *query;
    const struct mu_sigv4_header *headers;
    size_t nheaders;
    const char *payload; /* mu_sigv4_digest of the body */
};

/* Appends all bytes that are not unreserved as %XX; '/' only if `slash`. */
void mu_sigv4_encode(struct mu_buf *out, const char *text, bool slash);
/* SHA-256 in hexadecimal. */
void mu_sigv4_digest(const void *data, size_t n, char hex[65]);
/* MD5 in hexadecimal, as in the ETag of a part; -1 where OpenSSL does not do MD5. */
int mu_sigv4_md5(const void *data, size_t n, char hex[33]);
/* "20130524T000000Z", the value of x-amz-date. */
void mu_sigv4_date(time_t t, char text[17]);
/* Appends the value of the header Authorization. date: of mu_sigv4_date. */
void mu_sigv4_sign(const struct mu_sigv4_request *, const char *id, const char *secret, const char *region,
                   const char *date, struct mu_buf *out);

#endif
