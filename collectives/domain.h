/* Ranks of one node that share a last cache or a processor package: what is near them and what is not. */
#ifndef MU_COLLECTIVES_DOMAIN_H
#define MU_COLLECTIVES_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers of the node, + 1; 0: not known, or the CPUs have several. */
struct mu_domain {
    uint32_t package, cache;
};

/* Of the CPUs that this thread may run on. said: the package and the cache that somebody has said, >= 0; -1: none. */
void mu_domain_here(struct mu_domain *out, long said);
/* Likewise the memory next to them. */
uint32_t mu_domain_memory(void);

static inline uint64_t mu_domain_mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0xff51afd7ed558ccdull;
    return h ^ h >> 32;
}

/* The same for processes that share a kernel and a network stack, and with it the name space of abstract sockets. 0:
 * not known. */
uint64_t mu_domain_host(void);

/* Ranks of each domain, when there are several, each with as many, two or more, in a row; else 0. A domain is a package
 * where that gives some, else a cache. */
int mu_domain_lanes(const struct mu_domain *of, int n);

/* Caches that the ranks lie under, 1 where that is not known. */
int mu_domain_caches(const struct mu_domain *of, int n);

#endif
