/* What a dialling end says of itself before anything is encrypted, the identity of its key in TLS: which wire version,
 * which pool, and a mark of its own, by which a listener knows itself. It proves nothing: the key does. */
#ifndef MU_WIRE_IDENT_H
#define MU_WIRE_IDENT_H

#include "runtime/wire/key.h"

enum { MU_IDENT_MAX = 64 };

struct mu_ident {
    uint32_t version;
    char print[MU_KEY_PRINT];
    uint64_t mark;
};

/* Returns the length. */
size_t mu_ident_format(const struct mu_ident *, char text[MU_IDENT_MAX]);
/* From a stranger's bytes. EARG: no identity of ours. For another version than `version` only that number is set:
 * EVERSION. */
int mu_ident_parse(const void *data, size_t len, uint32_t version, struct mu_ident *);

#endif
