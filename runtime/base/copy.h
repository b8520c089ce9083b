/* Copies of so much memory that the caches have no use for it. */
#ifndef MU_BASE_COPY_H
#define MU_BASE_COPY_H

#include <stddef.h>

#define MU_COPY_STREAM (256u << 10) /* from so many bytes on past the caches */

/* memcpy; where the machine can, what is written over is not read first. libc does that for copies of about the size of
 * the last cache only, and what is copied here comes in pieces. */
void mu_copy(void *to, const void *from, size_t n);

#endif
