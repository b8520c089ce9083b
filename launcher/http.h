/* A small HTTP server inside a libevent loop, for GET and HEAD of a few documents, by libmicrohttpd. No thread: the
 * loop runs it, nothing in it waits. It serves at most MU_HTTP_CONNS connections at once, each for one request and at
 * most MU_HTTP_CONN_NS.
 *
 * Beyond loopback it is opened only with a token, which requests must bring as `Authorization: Bearer TOKEN`, or as the
 * password of HTTP's Basic scheme, whoever the user is (browsers ask for that); and with TLS. On loopback either is
 * used where its files are there. Without a token a request must name this host, or none, as the host that it is for:
 * so a page of somebody else's, whose name leads here, cannot have a browser read it. */
#ifndef MU_LAUNCHER_HTTP_H
#define MU_LAUNCHER_HTTP_H

#include <stdbool.h>

#include "runtime/base/buf.h"
#include "runtime/base/clock.h"

enum { MU_HTTP_CONNS = 32 };
#define MU_HTTP_CONN_NS (10 * MU_SEC)

struct event_base;
struct mu_http;

struct mu_http_config {
    const char *option; /* as errors name it: "--metrics" */
    const char *where;  /* "[ADDR:]PORT", loopback by default */
    const char *dir;    /* of the files NAME.token, NAME.crt and NAME.key (the certificate's), 0600 */
    const char *name;
    /* Appends the document at path and says its type. MUSTER_EARG: there is none. */
    int (*get)(void *arg, const char *path, struct mu_buf *out, const char **type);
    void *arg;
};

/* Strings are borrowed for the call. EARG: what is wrong with the address or with a file and how it is put right; EIO:
 * it cannot listen there; ENOSYS: there is no libmicrohttpd, or none that can do TLS. */
int mu_http_new(struct event_base *, const struct mu_http_config *, struct mu_http **, struct mu_err *);
void mu_http_free(struct mu_http *);             /* NULL is fine */
bool mu_http_guarded(const struct mu_http *);    /* a token is asked for; NULL: no */
const char *mu_http_url(const struct mu_http *); /* "http://127.0.0.1:9470" */

#endif
