/* The tensors of a checkpoint: checked copies of what the program described. Data stays the program's. */
#ifndef MU_CKPT_TENSOR_H
#define MU_CKPT_TENSOR_H

#include "runtime/ckpt/names.h"

#include <stdbool.h>

#define MU_CKPT_DIMS 8
#define MU_CKPT_NAME_MAX 1023
#define MU_CKPT_BYTES_MAX (1ull << 60) /* of one list; keeps every later sum below 2^63 */

/* An axis-parallel block of a global array, in elements. */
struct mu_ckpt_box {
    uint64_t offset[MU_CKPT_DIMS], local[MU_CKPT_DIMS];
};

struct mu_ckpt_shape {
    uint32_t dtype, flags;
    int ndim;
    uint64_t global[MU_CKPT_DIMS];
    struct mu_ckpt_box box;
    uint64_t bytes; /* of the box */
};

struct mu_ckpt_tensor {
    char *name; /* first: for mu_ckpt_names */
    struct mu_ckpt_shape shape;
    void *data;
    bool device; /* data is in memory that the CPU cannot read: only the list's mover can */
};

/* A series of copies: begin, in the program's thread, whose work on the data so far is over before them; then gets or
 * puts in any thread, that may go on when they return; then done, whatever they returned, behind which nothing does. */
struct mu_ckpt_mover {
    int (*begin)(struct mu_ckpt_mover *, struct mu_err *);
    int (*get)(struct mu_ckpt_mover *, void *host, const void *device, size_t n, struct mu_err *);
    int (*put)(struct mu_ckpt_mover *, void *device, const void *host, size_t n, struct mu_err *);
    int (*done)(struct mu_ckpt_mover *, struct mu_err *);
};

struct mu_ckpt_tensors {
    struct mu_ckpt_tensor *v;
    size_t n, room;
    struct mu_ckpt_names names;
    uint64_t bytes;              /* sum of the blocks */
    struct mu_ckpt_mover *mover; /* NULL: no tensor is on a device. Not the list's */
};

/* Shared by the program's tensors and by what a file claims: flags, dtype, 1..8 dimensions, offset + local <= global in
 * each, no overflow, replicated ones whole. Sets bytes. The text starts with what is wrong. */
int mu_ckpt_shape_check(struct mu_ckpt_shape *, struct mu_err *);
/* 1..MU_CKPT_NAME_MAX bytes without control characters. */
bool mu_ckpt_name_ok(const char *name, size_t n);

/* EARG with text; copies name and shape. */
int mu_ckpt_tensors_add(struct mu_ckpt_tensors *, const muster_tensor *, struct mu_err *);
/* The place of a name, or MU_CKPT_NO_NAME; hint: where to look first. */
size_t mu_ckpt_tensors_find(const struct mu_ckpt_tensors *, const char *name, size_t hint);
void mu_ckpt_tensors_drop(struct mu_ckpt_tensors *); /* the newest */
void mu_ckpt_tensors_free(struct mu_ckpt_tensors *);
/* Equal on ranks that hold the same replicated tensors in the same order. */
uint32_t mu_ckpt_tensors_replica_sum(const struct mu_ckpt_tensors *);

#endif
