/* Answers of an object store.
 * sources: runtime/ckpt/daemon/s3xml.c runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "runtime/ckpt/daemon/s3xml.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {
    "<?xml version=\"1.0\"?>",
    "<ListBucketResult xmlns='x'>",
    "</ListBucketResult>",
    "<Contents>",
    "</Contents>",
    "<Key>a&amp;b",
    "<Key>",
    "</Key>",
    "<Size>12</Size>",
    "<ETag>&quot;x&quot;</ETag>",
    "<Part><PartNumber>3</PartNumber></Part>",
    "<Upload><UploadId>u</UploadId><Key>k</Key></Upload>",
    "<IsTruncated>true</IsTruncated>",
    "<NextContinuationToken>t</NextContinuationToken>",
    "<Error><Code>SlowDown</Code>",
    "</Error>",
    "<Owner><ID>x</ID></Owner>",
    "<a/>",
    "&#x10ffff;",
    "&",
    "<",
    ">",
    "/",
    " ",
};

static void try(char *text, size_t n)
{
    struct mu_s3_answer a;

    if (mu_s3_answer_parse(text, n, &a, NULL))
        return;
    if (!a.root[0])
        abort();
    for (size_t i = 0; i < a.n; i++)
        if ((a.items[i].key && (!a.items[i].key[0] || strlen(a.items[i].key) > MU_S3_KEY_MAX)) ||
            strlen(a.items[i].etag) >= sizeof a.items[i].etag || a.items[i].part > 10000)
            abort();
    mu_s3_answer_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
