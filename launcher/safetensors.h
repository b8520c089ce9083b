/* The format of safetensors: 8 bytes with the header's length, a JSON header that says of each tensor what it is and
 * where its bytes are, and these bytes (docs/formats.md). */
#ifndef MU_LAUNCHER_SAFETENSORS_H
#define MU_LAUNCHER_SAFETENSORS_H

#include "runtime/base/buf.h"
#include "runtime/ckpt/tensor.h"

#define MU_SAFETENSORS_HEADER_MAX 100000000u /* what readers of the format take */

struct mu_safetensors {
    struct mu_ckpt_tensors
        list;   /* in the order of their bytes; data: where these begin in the file, nothing to follow */
    char *step; /* as the metadata has it; NULL: it has none */
};

/* Trusts nothing: any header, of n bytes, behind which the file has so many bytes more. What it takes is whole: the
 * tensors lie one behind the other and leave no byte out. EARG: the text names the file and the tensor. */
int mu_safetensors_parse(const char *file, const char *header, size_t n, uint64_t bytes, struct mu_safetensors *,
                         struct mu_err *);
void mu_safetensors_free(struct mu_safetensors *);

/* All that stands before the bytes of these tensors, of which names are checked (mu_ckpt_name_ok): appended. ETYPE: the
 * format cannot have it. */
int mu_safetensors_header(const struct mu_ckpt_tensors *, uint64_t step, uint64_t generation, struct mu_buf *out,
                          struct mu_err *);

#endif
