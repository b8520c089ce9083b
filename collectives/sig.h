/* What a rank says that it is calling. It travels with every message, so that ranks which disagree get an error that
 * names both, not a hang. */
#ifndef MU_COLLECTIVES_SIG_H
#define MU_COLLECTIVES_SIG_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/slot.h"

struct mu_sig {
    uint8_t kind; /* MU_OP_KIND_ */
    uint8_t dtype, op;
    uint8_t algo; /* row of the algorithm table: tunables must agree too */
    int32_t root;
    uint64_t count;
};

/* How the buffers of a kind are laid out, for argument checks and texts. Sizes are in blocks of count elements. */
enum mu_block { MU_NO_BUFFER, MU_ONE_BLOCK, MU_BLOCK_A_RANK };
enum mu_alias { MU_DISJOINT, MU_SAME, MU_RECV_IN_SEND, MU_SEND_IN_RECV };

struct mu_kind {
    const char *name; /* the public function, without muster_ */
    enum mu_block send, recv;
    enum mu_alias in_place; /* the one overlap that is allowed */
    bool has_op, has_root, has_peer;
};

extern const struct mu_kind mu_kinds[MU_OP_KIND_COUNT];

/* "muster_allreduce(count 5, float32, sum)"; returns text. */
const char *mu_sig_text(const struct mu_sig *sig, char *text, size_t size);
/* What differs, "count and dtype"; NULL when nothing does. */
const char *mu_sig_differs(const struct mu_sig *a, const struct mu_sig *b, char *text, size_t size);

#endif
