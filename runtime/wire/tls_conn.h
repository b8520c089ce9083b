/* TLS over the buffers of a bufferevent: between tls.c, which makes connections, and link.c, which uses them. What the
 * bufferevent reads is decrypted from its input, what is encrypted goes into its output; so its sockets, timeouts and
 * buffer limits are those of every other link. */
#ifndef MU_WIRE_TLS_CONN_H
#define MU_WIRE_TLS_CONN_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "runtime/wire/addr.h"
#include "runtime/wire/ident.h"

struct bufferevent;
struct evbuffer;
struct event_base;

enum mu_tls_alert { MU_TLS_PROTOCOL_VERSION = 70, MU_TLS_ACCESS_DENIED = 49, MU_TLS_UNKNOWN_PSK = 115 };

struct mu_tls_conn {
    SSL *ssl;
    struct event_base *base;
    struct bufferevent *bev; /* closes the socket; its callbacks and watermarks are the owner's */
    char peer[MU_ADDR_TEXT], peer_host[MU_ADDR_TEXT], local_host[MU_ADDR_TEXT];
    uint64_t records, rekey;
    size_t heard; /* bytes before the proof */
    bool ready;   /* the peer has proved itself */
    /* why it was refused, when we know better than OpenSSL: an alert of ours in place of its */
    uint8_t alert;
    bool asked; /* the peer has named a key */
    struct mu_err why;
};

/* Takes fd over, also on failure (NULL: out of memory). Nonblocking, CLOEXEC already. */
struct mu_tls_conn *mu_tls_conn_new(struct event_base *, SSL_CTX *, int fd, bool server, uint64_t rekey);
/* 1: done, 0: more is needed, < 0: refused. */
int mu_tls_handshake(struct mu_tls_conn *, struct mu_err *);
/* Sends the alert that OpenSSL or we have for the peer as far as it goes without waiting, and frees. */
void mu_tls_conn_refuse(struct mu_tls_conn *);

/* A record of what has come, or a part of one, appended to plain; *n 0: there is none yet. 1: the peer has ended it,
 * < 0: it is no TLS (any more). */
int mu_tls_decrypt(struct mu_tls_conn *, struct evbuffer *plain, size_t *n, struct mu_err *);
/* From plain into the output until that has `most` bytes. < 0: out of memory, the connection is unusable. */
int mu_tls_encrypt(struct mu_tls_conn *, struct evbuffer *plain, size_t most);
/* "That was all", into the output. */
void mu_tls_bye(struct mu_tls_conn *);

#endif
