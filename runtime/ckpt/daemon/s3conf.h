/* Where an object store is and who we are there: s3://BUCKET/PREFIX, and what the AWS tools read (variables,
 * ~/.aws/credentials, ~/.aws/config). Secrets come from the environment or a file of the account's alone, never from a
 * command line, and go into no text. */
#ifndef MU_CKPT_S3CONF_H
#define MU_CKPT_S3CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/ckpt/daemon/seal.h"

struct mu_s3_conf {
    char bucket[64], prefix[512]; /* the prefix without '/' at its ends, or "" */
    char endpoint[300];           /* "https://host:port" */
    char host[280];               /* as in the header Host */
    char region[64];
    char id[160], secret[256], token[4096]; /* token "": none */
    char source[300];                       /* where the key is from, for texts */
    char ca[300];                           /* AWS_CA_BUNDLE, or "" */
    struct mu_seal_keys seal;               /* for what lies there */
    uint64_t patience;                      /* ns: how long a request may fail before that is final */
};
/* Given by options; NULL: not. */
struct mu_s3_given {
    const char *endpoint, *credentials;
    const char *key;   /* file of encryption keys */
    uint64_t patience; /* 0: the default, 60 s */
};

bool mu_s3_is_url(const char *text);
/* EARG says what is wrong or missing, and where to put it. */
int mu_s3_conf_load(const char *url, const struct mu_s3_given *, struct mu_s3_conf *, struct mu_err *);
void mu_s3_conf_wipe(struct mu_s3_conf *);

#endif
