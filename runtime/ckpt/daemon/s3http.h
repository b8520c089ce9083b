/* One request to an object store, with its retries; s3.c makes the operations of it. */
#ifndef MU_CKPT_S3HTTP_H
#define MU_CKPT_S3HTTP_H

#include "runtime/base/buf.h"
#include "runtime/ckpt/daemon/s3.h"

struct mu_s3_request {
    const char *method;
    const char *key;   /* NULL: of the bucket */
    const char *query; /* encoded and sorted; "" */
    const void *body;
    size_t n;
    const char *meta;
    bool fewer;  /* with ranged: the object may end before */
    bool ranged; /* bytes from..from+room-1 into `into` */
    uint64_t from;
    unsigned char *into; /* NULL: the answer goes to reply.body, at most `room` bytes */
    size_t room;
    bool xml;  /* the answer is parsed: reply.answer */
    bool slow; /* the store may need long before it answers */
};
struct mu_s3_reply {
    long status;
    struct mu_buf body;
    size_t got; /* bytes in `into` */
    uint64_t length;
    char etag[MU_S3_ETAG_MAX], meta[MU_S3_META_MAX];
    struct mu_s3_answer answer;
};

const struct mu_s3_conf *mu_s3_conf_of(const struct mu_s3 *);
/* As s3.h says; free the reply in any case. */
int mu_s3_perform(struct mu_s3 *, const struct mu_s3_request *, struct mu_s3_reply *, struct mu_err *);
void mu_s3_reply_free(struct mu_s3_reply *);

#endif
