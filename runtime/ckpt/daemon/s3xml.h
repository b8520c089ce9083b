/* What an object store answers in XML: listings of objects, of uploads and of their parts, errors. One parser for all,
 * which takes any bytes; elements that it does not know are skipped. */
#ifndef MU_CKPT_S3XML_H
#define MU_CKPT_S3XML_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define MU_S3_KEY_MAX 1024 /* of S3 */

struct mu_s3_item { /* Contents, Upload or Part */
    char *key;      /* NULL: none */
    char *upload;   /* the same */
    char etag[72];  /* without quotes, "" when it is longer */
    uint64_t bytes;
    uint32_t part;
};

struct mu_s3_answer {
    char root[48]; /* name of the outermost element */
    struct mu_s3_item *items;
    size_t n;
    bool more;            /* IsTruncated */
    char *token, *marker; /* for the next page; NULL: none. marker: NextKeyMarker or NextPartNumberMarker */
    char *upload;         /* UploadId outside of items and of markers */
    char *upload_marker;  /* NextUploadIdMarker */
    char code[64];        /* of an Error */
    char message[200];    /* the same, cut */
};

/* ECORRUPT: not XML, cut off, or with a value that cannot be. Free what it gives. */
int mu_s3_answer_parse(const char *text, size_t n, struct mu_s3_answer *, struct mu_err *);
void mu_s3_answer_free(struct mu_s3_answer *);

#endif
