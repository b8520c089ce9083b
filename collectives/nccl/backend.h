/* Collectives on GPU memory, by NCCL. A communicator gets an NCCL communicator with its first operation on GPU memory,
 * which is therefore collective; operations are enqueued on its stream and waited for by whoever synchronises with
 * that. A thread, the watchdog, looks at what is enqueued: when a rank has died, does not come, or NCCL or the GPU says
 * that something failed, it aborts NCCL's communicator, so that the streams go on, and the next call returns the cause.
 * Callers hold engine->lock unless it is said otherwise. */
#ifndef MU_COLLECTIVES_NCCL_BACKEND_H
#define MU_COLLECTIVES_NCCL_BACKEND_H

#include "collectives/engine.h"

/* MUSTER_NCCL_DETERMINISTIC: sets what makes NCCL reduce in the same order each time; before anything else, as it
 * changes the environment. EARG: what the user has set contradicts it, or a value that is none. */
int mu_gpu_environment(struct mu_err *err);

struct mu_cuda_api; /* api.h */

/* The driver, if p is in GPU memory; else NULL. Needs no lock. */
const struct mu_cuda_api *mu_gpu_owns(const void *p);
/* Where the buffers of a call are: *device false for the host, and always where there is no CUDA. EARG when one is here
 * and the other there. Needs no lock. */
int mu_gpu_where(const struct muster_comm *comm, const struct mu_call *call, bool *device, struct mu_err *err);
/* Enqueues it, or puts it to the open group. An error of NCCL's breaks the communicator. */
int mu_gpu_run(struct muster_comm *comm, const struct mu_call *call, struct mu_err *err);
/* Operations between the two are enqueued together, at the end. They nest. */
int mu_gpu_group_start(struct muster_comm *comm, struct mu_err *err);
int mu_gpu_group_end(struct muster_comm *comm, struct mu_err *err);
/* What is enqueued before stays before what comes after. The stream must live until another one is set or the
 * communicator is freed. */
int mu_gpu_set_stream(struct muster_comm *comm, void *stream, struct mu_err *err);
/* Float32 that goes between ranks as 16 bits (type), and is added up in float32, in the order of ranks. able: may
 * tensors there be reduced so? ENOSYS: our kernels are not there; ENODE: not for this GPU. Needs no lock. */
int mu_gpu_wire_able(const void *data, struct mu_err *err);
struct mu_gpu_wire;
struct mu_gpu_piece {
    float *at;
    size_t count;
};
/* n > 0 pieces, one after the other; what belongs together has the same place in them on all ranks. Copied. */
int mu_gpu_wire_open(struct muster_comm *comm, muster_dtype type, muster_op op, const struct mu_gpu_piece *pieces,
                     size_t n, struct mu_gpu_wire **out, struct mu_err *err);
/* Enqueues one reduction, in place; as an all-reduce to others. Not in an open group (EARG). */
int mu_gpu_wire_run(struct mu_gpu_wire *w, struct mu_err *err);
/* Waits for what was enqueued, and returns what has failed; w and its memory on the GPU are gone in any case. */
int mu_gpu_wire_close(struct mu_gpu_wire *w, struct mu_err *err);
/* A failure that was found since: breaks the communicator, so that mu_comm_check returns it. */
void mu_gpu_check(struct muster_comm *comm);
/* How many operations have been enqueued, and given: those of an open group, too. Has the n-th one ended (or failed)?
 */
uint64_t mu_gpu_issued(const struct muster_comm *comm);
uint64_t mu_gpu_given(const struct muster_comm *comm);
bool mu_gpu_ended(struct muster_comm *comm, uint64_t n);
/* Number of the operation given last, for who waits for it; in a group `at` itself is kept until the group's end or
 * mu_gpu_forget, as an operation that is never enqueued has none. */
void mu_gpu_follow(struct muster_comm *comm, uint64_t *at);
void mu_gpu_forget(struct muster_comm *comm, const uint64_t *at);
/* Waits for it, without the lock; the watchdog bounds it. EARG: it has not been enqueued, or its stream is captured. */
int mu_gpu_wait(struct muster_comm *comm, uint64_t n, struct mu_err *err);
/* Frees what the communicator has of it; bounded. */
void mu_gpu_detach(struct muster_comm *comm);

#endif
