/* CRC32C (Castagnoli, reflected, as in RFC 3720): the checksum of everything that checkpoints put on a disk. */
#ifndef MU_BASE_CRC32C_H
#define MU_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Start with crc = 0; feed the result back in to go on: crc(crc(0, a), b) is the checksum of a then b. */
uint32_t mu_crc32c(uint32_t crc, const void *data, size_t n);

/* The implementations behind it, best first, for tests: NULL past the last. Those that this machine lacks are left out.
 */
struct mu_crc32c_impl {
    const char *name;
    uint32_t (*run)(uint32_t crc, const void *data, size_t n);
};
const struct mu_crc32c_impl *mu_crc32c_impl(unsigned i);

#endif
