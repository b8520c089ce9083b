/* What tls.c (the key, listening) and tls_dial.c (dialling) share. */
#ifndef MU_WIRE_TLS_PRIV_H
#define MU_WIRE_TLS_PRIV_H

#include "runtime/base/clock.h"
#include "runtime/wire/ident.h"
#include "runtime/wire/tls.h"
#include "runtime/wire/tls_conn.h"

struct mu_tls {
    struct event_base *base;
    SSL_CTX *ctx;
    struct mu_tls_limits limits;
    struct mu_ident me;
    char ident[MU_IDENT_MAX];
    uint8_t psk[MU_KEY_BYTES];
    uint64_t log_since;
    unsigned said, unsaid;
};

static inline uint64_t ms(uint32_t n)
{
    return n * MU_MS;
}

void mu_tls_tune(const struct mu_tls *, int fd);

#endif
