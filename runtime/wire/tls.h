/* The wire between hosts: TCP under TLS 1.3, where both ends prove that they have the pool's key (docs/formats.md,
 * "Between hosts"; why so: docs/decisions/006-tls-psk.md). Both ways of making a connection end with a mu_tls_conn,
 * of which mu_link_new_tls (runtime/wire/link.h) makes a link like any other. Everything runs in the base's thread and
 * nothing waits; callbacks come from the loop only, never out of a call. */
#ifndef MU_WIRE_TLS_H
#define MU_WIRE_TLS_H

#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/wire/key.h"

struct event_base;

/* A daemon's end of the wire: the key and the limits. It listens and dials as often as it likes; dialling a listener of
 * the same mu_tls is refused (a daemon that was given its own address). */
struct mu_tls;
struct mu_tls_limits {      /* 0: the default */
    uint32_t connect_ms;    /* 5000: looking the name up and all its addresses together */
    uint32_t handshake_ms;  /* 5000: from the connection to the proof */
    uint32_t unacked_ms;    /* 10000: a connection ends when the peer's host is silent so long (TCP_USER_TIMEOUT) */
    uint32_t half_open;     /* 128: accepted and not yet proved, each listener */
    uint32_t crowded_ms;    /* 1000: with so many, the oldest must go once it is that old; until then others wait */
    uint64_t rekey_records; /* 2^22: new keys after so many records (AES-GCM wants it before 2^24) */
};
/* The key is copied. limits may be NULL. ENOSYS: this OpenSSL cannot do it. */
int mu_tls_new(struct event_base *, const struct mu_key *, const struct mu_tls_limits *, struct mu_tls **,
               struct mu_err *);
/* After its listeners and dials. Connections and links do not need it. NULL is fine. */
void mu_tls_free(struct mu_tls *);
/* Of its key, for the log. */
const char *mu_tls_fingerprint(const struct mu_tls *);

/* A connection whose peer has the key. It is its taker's, who makes a link of it or frees it; until then nothing is
 * read. The strings live as long as it does. */
struct mu_tls_conn;
const char *mu_tls_conn_peer(const struct mu_tls_conn *);       /* "10.0.0.7:41234", "[fe80::1%eth0]:41234" */
const char *mu_tls_conn_peer_host(const struct mu_tls_conn *);  /* "10.0.0.7" */
const char *mu_tls_conn_local_host(const struct mu_tls_conn *); /* our address on the way to it */
void mu_tls_conn_free(struct mu_tls_conn *);                    /* NULL is fine */

/* Listens on numeric addresses, or with naddrs = 0 on all that the host has; port 0: one that is free, the same on
 * each address. Who does not prove to have the key is closed and logged (ten lines in 10 s at most). fn may free
 * the listener. */
struct mu_tls_listener;
typedef void (*mu_tls_accept_fn)(void *arg, struct mu_tls_conn *);
int mu_listen_tcp(struct mu_tls *, const char *const *addrs, unsigned naddrs, uint16_t port, mu_tls_accept_fn,
                  void *arg, struct mu_tls_listener **, struct mu_err *);
uint16_t mu_tls_listener_port(const struct mu_tls_listener *);
void mu_tls_listener_free(struct mu_tls_listener *); /* NULL is fine */

/* Dials host (a name or a numeric address). fn comes once, after which the dial is gone; conn NULL: err says why, with
 * host and port in its text: EPEER (nobody there, unknown host, hung up) and ETIMEOUT may be worth another try; EARG
 * (the keys differ) and EVERSION are not. */
struct mu_tls_dial;
typedef void (*mu_tls_dial_fn)(void *arg, struct mu_tls_conn *conn, const struct mu_err *err);
int mu_connect_tcp(struct mu_tls *, const char *host, uint16_t port, mu_tls_dial_fn, void *arg, struct mu_tls_dial **,
                   struct mu_err *);
void mu_tls_dial_cancel(struct mu_tls_dial *); /* fn does not come; NULL is fine */

#endif
