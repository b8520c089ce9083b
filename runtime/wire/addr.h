/* Internet addresses: what people write, what logs show, and looking names up without holding up the loop. */
#ifndef MU_WIRE_ADDR_H
#define MU_WIRE_ADDR_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct event_base;

struct mu_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
    socklen_t len;
};
enum { MU_ADDR_HOST = 254, MU_ADDR_TEXT = 64 };

/* "HOST:PORT", "[IPV6]:PORT", with or without "muster://" before it; HOST alone takes the port that is given (0: then
 * it must be said). EARG names what is wrong. */
int mu_addr_split(const char *text, uint16_t port, char host[MU_ADDR_HOST], uint16_t *out, struct mu_err *);
/* A numeric address, IPv6 with "%interface" where it needs one. EARG: it is a name, or nothing at all. */
int mu_addr_numeric(const char *host, uint16_t port, struct mu_addr *, struct mu_err *);
/* "10.0.0.7:4711", "[fe80::1%eth0]:4711"; without the port when that is 0. IPv4 in IPv6 is shown as IPv4. */
void mu_addr_text(const struct mu_addr *, char text[MU_ADDR_TEXT]);
void mu_addr_host(const struct mu_addr *, char text[MU_ADDR_TEXT]);
uint16_t mu_addr_port(const struct mu_addr *);

/* Looks a name up, in a thread, the way the system is set up for it. fn comes once, from the loop, never out of
 * mu_addr_resolve; n = 0: err says why. Free the lookup then or at any time before: then fn does not come (the thread
 * ends by itself). There is no deadline: the caller has one. EPEER: too many are under way. */
struct mu_lookup;
typedef void (*mu_lookup_fn)(void *arg, const struct mu_addr *v, unsigned n, const struct mu_err *err);
int mu_addr_resolve(struct event_base *, const char *host, uint16_t port, mu_lookup_fn, void *arg, struct mu_lookup **,
                    struct mu_err *);
void mu_lookup_free(struct mu_lookup *); /* NULL is fine */

#endif
