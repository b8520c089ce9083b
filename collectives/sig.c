#include "collectives/sig.h"

#include <stdio.h>
#include <string.h>

#include "collectives/ops.h"

const struct mu_kind mu_kinds[MU_OP_KIND_COUNT] = {
    [MU_OP_KIND_NONE] = {"nothing", 0, 0, 0, 0, 0, 0},
    [MU_OP_KIND_ALLREDUCE] = {"allreduce", MU_ONE_BLOCK, MU_ONE_BLOCK, MU_SAME, true, false, false},
    [MU_OP_KIND_REDUCE] = {"reduce", MU_ONE_BLOCK, MU_ONE_BLOCK, MU_SAME, true, true, false},
    [MU_OP_KIND_REDUCE_SCATTER] = {"reduce_scatter", MU_BLOCK_A_RANK, MU_ONE_BLOCK, MU_RECV_IN_SEND, true, false,
                                   false},
    [MU_OP_KIND_ALLGATHER] = {"allgather", MU_ONE_BLOCK, MU_BLOCK_A_RANK, MU_SEND_IN_RECV, false, false, false},
    [MU_OP_KIND_BROADCAST] = {"broadcast", MU_NO_BUFFER, MU_ONE_BLOCK, MU_DISJOINT, false, true, false},
    [MU_OP_KIND_ALLTOALL] = {"alltoall", MU_BLOCK_A_RANK, MU_BLOCK_A_RANK, MU_SAME, false, false, false},
    [MU_OP_KIND_BARRIER] = {"barrier", MU_NO_BUFFER, MU_NO_BUFFER, MU_DISJOINT, false, false, false},
    [MU_OP_KIND_SEND] = {"send", MU_ONE_BLOCK, MU_NO_BUFFER, MU_DISJOINT, false, false, true},
    [MU_OP_KIND_RECV] = {"recv", MU_NO_BUFFER, MU_ONE_BLOCK, MU_DISJOINT, false, false, true},
    [MU_OP_KIND_SPLIT] = {"comm_split", MU_ONE_BLOCK, MU_BLOCK_A_RANK, MU_DISJOINT, false, false, false},
    [MU_OP_KIND_INIT] = {"init", MU_ONE_BLOCK, MU_BLOCK_A_RANK, MU_DISJOINT, false, false, false},
    [MU_OP_KIND_FINALIZE] = {"finalize", MU_NO_BUFFER, MU_NO_BUFFER, MU_DISJOINT, false, false, false},
    [MU_OP_KIND_CKPT] = {"checkpoint", MU_NO_BUFFER, MU_NO_BUFFER, MU_DISJOINT, false, false, false},
};

const char *mu_sig_text(const struct mu_sig *sig, char *text, size_t size)
{
    const struct mu_kind *k = &mu_kinds[sig->kind < MU_OP_KIND_COUNT ? sig->kind : MU_OP_KIND_NONE];
    char op[24] = "", root[24] = "";

    if (k->has_op)
        snprintf(op, sizeof op, ", %s", mu_op_name(sig->op));
    if (k->has_root)
        snprintf(root, sizeof root, ", root %d", sig->root);
    if (k->send || k->recv)
        snprintf(text, size, "muster_%s(count %llu, %s%s%s)", k->name, (unsigned long long)sig->count,
                 mu_dtype_name(sig->dtype), op, root);
    else
        snprintf(text, size, "muster_%s()", k->name);
    return text;
}

const char *mu_sig_differs(const struct mu_sig *a, const struct mu_sig *b, char *text, size_t size)
{
    const struct {
        const char *name;
        bool differs, last_resort;
    } fields[] = {
        {"function", a->kind != b->kind, false},
        {"count", a->count != b->count, false},
        {"dtype", a->dtype != b->dtype, false},
        {"op", a->op != b->op, false},
        {"root", a->root != b->root, false},
        {"algorithm (is a MUSTER_ variable set on some ranks only?)", a->algo != b->algo, true},
    };
    size_t used = 0;

    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && used < size; i++) {
        if (!fields[i].differs || (used && fields[i].last_resort))
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", fields[i].name);
        if (i == 0) /* the arguments of two functions do not compare */
            break;
    }
    return used ? text : NULL;
}
