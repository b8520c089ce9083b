/* What a rank says that it is calling. It travels with every message, so that ranks which disagree get an error that
 * names both, not a hang. */
#ifndef MU_COLLECTIVES_SIG_H
#define MU_COLLECTIVES_SIG_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/slot.h"

struct mu_sig {
    union {
        struct {
            uint8_t kind; /* MU_OP_KIND_ */
            uint8_t dtype, op;
            uint8_t algo; /* row of the algorithm table: tunables must agree too */
            int32_t root;
            uint64_t count;
        };
        uint64_t words[2];
    };
};

/* Made and copied word by word: a load that is wider than the stores before it waits until they have left the
 * processor, and before them may be one to a line that another rank has just read. */
static inline struct mu_sig mu_sig_of(uint8_t kind, unsigned dtype, unsigned op, unsigned algo, int32_t root,
                                      uint64_t count)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte is the kind");
    return (struct mu_sig){.words = {(uint64_t)kind | (uint64_t)(uint8_t)dtype << 8 | (uint64_t)(uint8_t)op << 16 |
                                         (uint64_t)(uint8_t)algo << 24 | (uint64_t)(uint32_t)root << 32,
                                     count}};
}

static inline void mu_sig_copy(struct mu_sig *to, const struct mu_sig *from)
{
    const volatile uint64_t *w = from->words;

    to->words[0] = w[0];
    to->words[1] = w[1];
}

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
