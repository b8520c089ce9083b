/* Finds a struct by its name in an array whose elements begin with `char *name`: a hash table of places, so that many
 * tensors of many ranks stay linear. The array is the caller's and may move; names must stay as they are. Zero it to
 * begin with. */
#ifndef MU_CKPT_NAMES_H
#define MU_CKPT_NAMES_H

#include "runtime/base/err.h"

#include <stddef.h>

struct mu_ckpt_names {
    uint32_t *slots; /* place + 1; 0: none */
    size_t room, n;  /* room: a power of 2 */
};

#define MU_CKPT_NO_NAME SIZE_MAX

/* Element n, where n elements have been added before. Of two with one name the first is found. ENOMEM: nothing has
 * changed. */
int mu_ckpt_names_add(struct mu_ckpt_names *, const void *array, size_t stride, struct mu_err *);
/* Its place, or MU_CKPT_NO_NAME. */
size_t mu_ckpt_names_find(const struct mu_ckpt_names *, const void *array, size_t stride, const char *name);
/* The newest, whose name is still there, and only there. */
void mu_ckpt_names_drop(struct mu_ckpt_names *, const void *array, size_t stride);
void mu_ckpt_names_free(struct mu_ckpt_names *);

#endif
