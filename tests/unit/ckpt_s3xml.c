/* What object stores answer: pages of theirs, and what is not one. */
#include "runtime/ckpt/daemon/s3xml.h"
#include "tests/unit/tap.h"

#include <string.h>

static const char listing[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    "<Name>b</Name><Prefix>a&amp;b/</Prefix><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>"
    "<NextContinuationToken>1/x==</NextContinuationToken>"
    "<Contents><Key>a&amp;b/g00000001/seg.0</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>12345678901</Size>"
    "<Owner><ID>me</ID><Key>not this</Key></Owner><StorageClass>STANDARD</StorageClass></Contents>\n"
    "<Contents><Key>&#xe9;&#65;</Key><Size>0</Size><ETag>\"x\"</ETag></Contents>"
    "<CommonPrefixes/></ListBucketResult>\n";
static const char parts[] =
    "<ListPartsResult><Bucket>b</Bucket><UploadId>up</UploadId><NextPartNumberMarker>2</NextPartNumberMarker>"
    "<IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><ETag>\"e1\"</ETag><Size>5</Size></Part>"
    "<Part><PartNumber>2</PartNumber><ETag>\"e2\"</ETag><Size>6</Size></Part></ListPartsResult>";
static const char uploads[] =
    "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
    "<NextUploadIdMarker>v</NextUploadIdMarker><Upload><Key>k</Key><UploadId>u1</UploadId></Upload>"
    "</ListMultipartUploadsResult>";
static const char failure[] = "<Error><Code>AccessDenied</Code><Message>Access &lt;Denied></Message></Error>";

static const char *const bad[] = {
    "",
    "   ",
    "no",
    "<a>",
    "<a></b>",
    "<a></a><b></b>",
    "<a></a>x",
    "x<a></a>",
    "</a>",
    "<>",
    "< a></a>",
    "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
    "<a><!-- --></a>",
    "<a><Code>&nosuch;</Code></a>",
    "<a><Code>&#0;</Code></a>",
    "<a><Code>&#xd800;</Code></a>",
    "<a><Code>&#99999999999999;</Code></a>",
    "<a><Code>&",
    "<a><Code>&amp</Code></a>",
    "<a><IsTruncated>maybe</IsTruncated></a>",
    "<a><Contents><Size>-1</Size></Contents></a>",
    "<a><Contents><Size>1e3</Size></Contents></a>",
    "<a><Contents><Key></Key></Contents></a>",
    "<a><Part><PartNumber>0</PartNumber></Part></a>",
    "<a><Part><PartNumber>10001</PartNumber></Part></a>",
    "<a><b><c><d><e><f><g><h><i></i></h></g></f></e></d></c></b></a>",
    "<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/>",
};

int main(void)
{
    struct mu_s3_answer a;
    struct mu_err err;
    int cut = 0;

    TAP_OK(!mu_s3_answer_parse(listing, sizeof listing - 1, &a, &err) && a.n == 2, "a listing");
    TAP_OK(!strcmp(a.root, "ListBucketResult") && a.more && !strcmp(a.token, "1/x=="), "its page");
    TAP_OK(!strcmp(a.items[0].key, "a&b/g00000001/seg.0") && a.items[0].bytes == 12345678901 &&
               !strcmp(a.items[0].etag, "d41d8cd98f00b204e9800998ecf8427e"),
           "an object");
    TAP_OK(!strcmp(a.items[1].key, "\xc3\xa9"
                                   "A") &&
               !strcmp(a.items[1].etag, "x"),
           "characters by number");
    mu_s3_answer_free(&a);
    for (size_t n = 0; n + 2 < sizeof listing; n++) /* the newline at the end may be missing */
        if (!mu_s3_answer_parse(listing, n, &a, NULL)) {
            mu_s3_answer_free(&a);
            cut++;
        }
    TAP_OK(!cut, "cut off anywhere it is refused");
    TAP_OK(mu_s3_answer_parse("<\0/>", 4, &a, &err) == MUSTER_ECORRUPT, "a zero byte is no name");

    TAP_OK(!mu_s3_answer_parse(parts, sizeof parts - 1, &a, &err) && a.n == 2 && a.items[1].part == 2 &&
               a.items[1].bytes == 6 && !strcmp(a.upload, "up") && !strcmp(a.marker, "2") && !a.more,
           "parts of an upload");
    mu_s3_answer_free(&a);
    TAP_OK(!mu_s3_answer_parse(uploads, sizeof uploads - 1, &a, &err) && a.n == 1 && !strcmp(a.items[0].upload, "u1") &&
               !a.upload && !strcmp(a.marker, "k") && !strcmp(a.upload_marker, "v"),
           "uploads");
    mu_s3_answer_free(&a);
    TAP_OK(!mu_s3_answer_parse(failure, sizeof failure - 1, &a, &err) && !strcmp(a.root, "Error") &&
               !strcmp(a.code, "AccessDenied") && !strcmp(a.message, "Access <Denied>"),
           "an error");
    mu_s3_answer_free(&a);
    TAP_OK(!mu_s3_answer_parse("<a><Contents/><b/></a>", 22, &a, &err) && a.n == 1 && !a.items[0].key,
           "an empty element");
    mu_s3_answer_free(&a);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        TAP_OK(mu_s3_answer_parse(bad[i], strlen(bad[i]), &a, &err) == MUSTER_ECORRUPT, "refused: %s", bad[i]);
    return tap_done();
}
