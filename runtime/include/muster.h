/* muster.h - supervised collectives, progress and checkpoints for training jobs.
 *
 * Every function returns 0 or a negative MUSTER_E code unless it says otherwise; on an error nothing that the
 * caller passed for output has been written, except that a receive buffer holds anything after a collective that
 * failed, and muster_last_error() explains it with the rank, the node and the operation. The library never exits,
 * aborts or prints, and no call waits for ever: a wait ends when the data is there, when the job's supervisor reports a
 * dead peer, or after MUSTER_TIMEOUT seconds (300 by default) in which nothing came from the ranks that it waits for. A
 * failed collective ends its communicator, a dead peer all of them: the cause is returned once, then MUSTER_EABORTED at
 * once. Calls may come from any thread, one at a time on each communicator; calls of MPI in other threads must not
 * overlap with them unless the program initialised MPI with MPI_THREAD_MULTIPLE.
 *
 * Under `muster run` ranks are supervised. Started in any other way the same program is a plain MPI program with
 * the same results. Needs neither mpi.h nor cuda.h. */
#ifndef MUSTER_H
#define MUSTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MUSTER_API __attribute__((visibility("default")))
#else
#define MUSTER_API
#endif

/* X(name, value, text): the one list of errors. */
#define MUSTER_ERRORS(X)                                                                                               \
    X(EARG, -1, "invalid argument")                                                                                    \
    X(ETYPE, -2, "operation not defined for this data type")                                                           \
    X(EMISMATCH, -3, "ranks disagree about the call")                                                                  \
    X(EPEER, -4, "a peer failed")                                                                                      \
    X(ETIMEOUT, -5, "deadline passed")                                                                                 \
    X(EABORTED, -6, "communicator was aborted")                                                                        \
    X(EJOB, -7, "job or launch failed")                                                                                \
    X(EEPOCH, -8, "message or write from an older attempt")                                                            \
    X(ENODE, -9, "node cannot do this")                                                                                \
    X(ENOMEM, -10, "out of memory")                                                                                    \
    X(ENOSPC, -11, "no space left")                                                                                    \
    X(EIO, -12, "input/output error")                                                                                  \
    X(ENOCKPT, -13, "no checkpoint")                                                                                   \
    X(ECORRUPT, -14, "data is corrupt")                                                                                \
    X(EVERSION, -15, "format or protocol version is not supported")                                                    \
    X(ENOSYS, -16, "not available here")                                                                               \
    X(EBUSY, -17, "in use by another job")                                                                             \
    X(EPERM, -18, "not permitted")

enum {
#define MUSTER_ERRORS_ENUM(name, value, text) MUSTER_##name = value,
    MUSTER_ERRORS(MUSTER_ERRORS_ENUM)
#undef MUSTER_ERRORS_ENUM
        MUSTER_OK = 0
};

/* --- session ---------------------------------------------------------------------------------------------------- */

/* Joins the job; initialises MPI if nobody has. Call once, from the main thread. EJOB: the launch is broken (for
 * example every rank came up alone), the text says how to mend it. MPI that muster initialised, muster finalises. */
MUSTER_API int muster_init(int *argc, char ***argv);
/* Collective. After a failure it does not wait for the others and returns the cause or EABORTED; MPI is then left
 * unfinalised, because MPI_Finalize would wait for the dead. The session is over in either case; except with EARG while
 * muster_wait has not been called for every request. */
MUSTER_API int muster_finalize(void);

typedef struct muster_comm muster_comm; /* opaque; owned by the library, freed by muster_comm_free */

/* All ranks of the job; NULL outside init..finalize. Never free it. */
MUSTER_API muster_comm *muster_world(void);
/* EARG (negative) for NULL. */
MUSTER_API int muster_rank(const muster_comm *);
MUSTER_API int muster_size(const muster_comm *);
/* Collective. Ranks of equal colour form a communicator ordered by (key, old rank); color < 0 takes part and gets
 * *out = NULL. */
MUSTER_API int muster_comm_split(muster_comm *, int color, int key, muster_comm **out);
MUSTER_API int muster_comm_free(muster_comm *);
/* The CUstream / cudaStream_t on which operations on device buffers are enqueued; NULL, as at first, is the default
 * one. It must live until another one is set or the communicator is freed. */
MUSTER_API int muster_comm_set_stream(muster_comm *, void *cuda_stream);
/* Waits until the operations on device buffers of this communicator have ended, and returns what has failed. */
MUSTER_API int muster_comm_sync(muster_comm *);
/* Operations on device buffers between the two are enqueued together, by the end of the outermost pair: so messages may
 * cross. */
MUSTER_API int muster_group_start(muster_comm *);
MUSTER_API int muster_group_end(muster_comm *);

/* --- collectives ------------------------------------------------------------------------------------------------ */

typedef enum {
    MUSTER_INT8,
    MUSTER_UINT8,
    MUSTER_INT32,
    MUSTER_UINT32,
    MUSTER_INT64,
    MUSTER_UINT64,
    MUSTER_FLOAT16,
    MUSTER_BFLOAT16,
    MUSTER_FLOAT32,
    MUSTER_FLOAT64,
    MUSTER_FLOAT8_E4M3, /* no infinity; the largest value is 448 */
    MUSTER_FLOAT8_E5M2  /* 57344 */
} muster_dtype;

/* AVG is the sum divided by the number of ranks; integers truncate towards zero. 16-bit and 8-bit floats accumulate in
 * float32 and are rounded to nearest even; 8-bit ones saturate, as CUDA's conversions do: what is beyond the largest
 * value becomes that, infinity too. The order of a reduction is rank 0, 1, 2, ... Where a communicator spans nodes and
 * two of its ranks are on one, it is that inside each node, rounded once, and then that of the nodes, rounded again
 * (16-bit and 8-bit averages are divided inside the nodes); a reduce-scatter has this order only where all nodes have
 * as many ranks, one after another. That of nodes is by their lowest ranks and in a tree: of n the first 2^k, the
 * largest power of two below n, and the rest, each of the two likewise; it is also that of ranks which have a node
 * each. Equal inputs on equal places give equal bits, whatever the sizes and timings. */
typedef enum { MUSTER_SUM, MUSTER_PROD, MUSTER_MIN, MUSTER_MAX, MUSTER_AVG } muster_op;

/* Counts are in elements. Host memory: the call blocks. Device memory: it is enqueued on the communicator's stream;
 * ENOSYS for reductions of 8-bit floats by an NCCL older than 2.24.3, or on GPUs of a compute capability below 9.0.
 * All ranks of the communicator call the same operation in the same order with equal count, dtype, op and root;
 * EMISMATCH names two ranks that do not. In place: send == recv, except all-gather (send == recv + rank * count) and
 * reduce-scatter (recv == send + rank * count), as NCCL has it. */
MUSTER_API int muster_allreduce(const void *send, void *recv, size_t count, muster_dtype, muster_op, muster_comm *);
/* recv is used on root only, and may be NULL elsewhere. */
MUSTER_API int muster_reduce(const void *send, void *recv, size_t count, muster_dtype, muster_op, int root,
                             muster_comm *);
/* send holds size * recvcount elements; rank r receives slice r. */
MUSTER_API int muster_reduce_scatter(const void *send, void *recv, size_t recvcount, muster_dtype, muster_op,
                                     muster_comm *);
/* recv holds size * sendcount elements. */
MUSTER_API int muster_allgather(const void *send, void *recv, size_t sendcount, muster_dtype, muster_comm *);
MUSTER_API int muster_broadcast(void *buf, size_t count, muster_dtype, int root, muster_comm *);
/* Both buffers hold size * count_per_rank elements. send == recv is allowed. */
MUSTER_API int muster_alltoall(const void *send, void *recv, size_t count_per_rank, muster_dtype, muster_comm *);
MUSTER_API int muster_barrier(muster_comm *);
/* peer: another rank. tag: 0..32767; must be 0 for device buffers. The receiver's count and dtype must equal the
 * sender's (EMISMATCH; that and a time-out concern this message alone). A short message may be sent before it is
 * received. */
MUSTER_API int muster_send(const void *, size_t count, muster_dtype, int peer, int tag, muster_comm *);
MUSTER_API int muster_recv(void *, size_t count, muster_dtype, int peer, int tag, muster_comm *);

typedef struct muster_request muster_request; /* owned by the library until muster_wait took it */
/* The buffers belong to the library until muster_wait returned or muster_test said done. */
MUSTER_API int muster_iallreduce(const void *send, void *recv, size_t count, muster_dtype, muster_op, muster_comm *,
                                 muster_request **);
/* *done = 1 when the request has ended; the request still needs muster_wait, which then returns at once. */
MUSTER_API int muster_test(muster_request *, int *done);
/* Frees the request and sets it to NULL, whatever the result. */
MUSTER_API int muster_wait(muster_request **);

/* Gradients, reduced while the backward pass goes on. Tensors are added once, in the order in which they become ready,
 * the same on all ranks; their numbers are 0, 1, ... Each step muster_bucket_ready says that one is ready (it may not
 * be touched until muster_bucket_wait has returned), in whatever order, and muster_bucket_wait, collective, returns
 * when all have been reduced in place. Buckets of at most so many bytes (0: 4 MiB; a larger tensor has one of its own)
 * go at once. Tensors that lie side by side are not copied, best in memory of muster_mem_alloc. In GPU memory
 * muster_bucket_wait does not wait: what follows on the communicator's stream finds them reduced. */
typedef struct muster_bucket muster_bucket;
MUSTER_API int muster_bucket_open(muster_comm *, muster_dtype, muster_op, size_t bytes, muster_bucket **);
/* Before the first tensor: float32 goes between ranks as bfloat16 or float16, and is added up in float32. In GPU memory
 * that is done by kernels of libmuster_cuda.so, in the order of ranks and rounded once whatever the nodes, and not
 * between muster_group_start and muster_group_end (EARG); muster_bucket_add returns ENOSYS where it is not there,
 * ENODE where it is not for this GPU. */
MUSTER_API int muster_bucket_wire(muster_bucket *, muster_dtype wire);
MUSTER_API int muster_bucket_add(muster_bucket *, void *data, size_t count);
MUSTER_API int muster_bucket_ready(muster_bucket *, size_t tensor);
MUSTER_API int muster_bucket_wait(muster_bucket *);
/* Before its communicator is freed, which is refused (EARG) until then. Waits for what has started. */
MUSTER_API int muster_bucket_close(muster_bucket *);

/* Memory that peers on the node can map; aligned to a page, zeroed. NULL when there is none. */
MUSTER_API void *muster_mem_alloc(size_t bytes);
MUSTER_API void muster_mem_free(void *);

/* --- progress --------------------------------------------------------------------------------------------------- */

/* "This step is done". Costs a few stores; makes no system call. Steps must grow within an attempt (EARG). */
MUSTER_API int muster_step(uint64_t step);

/* --- checkpoints ------------------------------------------------------------------------------------------------ */

/* A block of a global array. The local block is dense, row-major, at data, of extent local[] and at offset[] in
 * the global shape global[]; all in elements. */
typedef struct {
    const char *name; /* unique in the checkpoint; copied */
    muster_dtype dtype;
    int ndim; /* 1..8 */
    uint64_t global[8], offset[8], local[8];
    void *data; /* borrowed: must stay valid until muster_ckpt_close */
    unsigned flags;
} muster_tensor;

#define MUSTER_REPLICATED 1u /* every rank holds the whole; any copy will do */

enum { MUSTER_LEVEL_RAM = 1, MUSTER_LEVEL_PEERS = 2, MUSTER_LEVEL_STORE = 3 };
enum {
    MUSTER_DUE_NO,
    MUSTER_DUE_INTERVAL,
    MUSTER_DUE_SIGNAL,
    MUSTER_DUE_TIME_LIMIT,
    MUSTER_DUE_EVICTION,
    MUSTER_DUE_HALT
};

typedef struct muster_ckpt muster_ckpt;

/* Collective. options: "key=value,key=value" or NULL; they win over those of `muster run --ckpt`. Keys: dir, interval
 * (30s, 2m, or Nsteps: calls of muster_ckpt_due), keep (at least 2), protect (none, mirror, rs:K); unknown keys are
 * EARG. Rank 0's options count. EBUSY: another job that lives uses the directory; the text names it. */
MUSTER_API int muster_ckpt_open(muster_comm *, const char *options, muster_ckpt **);
MUSTER_API int muster_ckpt_add(muster_ckpt *, const muster_tensor *);
/* Collective: returns 1 on every rank or 0 on every rank; *why (may be NULL) is a MUSTER_DUE_ reason. */
MUSTER_API int muster_ckpt_due(muster_ckpt *, int *why);
/* Collective. Returns when the data may be overwritten; the rest goes on in the background. An error of an earlier
 * background save is returned by the next call. ENOSPC, EIO and ETIMEOUT cost that checkpoint and nothing else. So does
 * EMISMATCH: what the ranks say of a tensor does not fit together. They give the same dtype, global[] and flags; their
 * blocks are the whole of it, and those of two ranks are equal or have nothing in common. This is compared in the
 * background, when the checkpoint is committed. */
MUSTER_API int muster_ckpt_save(muster_ckpt *, uint64_t step);
/* The same, but a thread makes the copy, while the program goes on: the data may be overwritten, and the handle used
 * for something else, once muster_ckpt_wait(, MUSTER_LEVEL_RAM, ) has returned 0. */
MUSTER_API int muster_ckpt_isave(muster_ckpt *, uint64_t step);
/* Waits until the last save has reached the level. ENOCKPT: nothing has been saved. EMISMATCH as above: from the levels
 * below MUSTER_LEVEL_STORE only if it is known already. */
MUSTER_API int muster_ckpt_wait(muster_ckpt *, int level, int timeout_ms);
/* Collective. Restores the newest complete checkpoint that verifies, at any number of ranks; falls back to older ones:
 * muster_last_error() then says why, and is "" if not. ENOCKPT when there is none. On any error the tensors are
 * untouched, unless a GPU fails while they are written. */
MUSTER_API int muster_ckpt_restore(muster_ckpt *, uint64_t *step);
/* Collective. Waits for the background save. */
MUSTER_API int muster_ckpt_close(muster_ckpt *);

/* --- errors ----------------------------------------------------------------------------------------------------- */

MUSTER_API const char *muster_strerror(int code); /* static text, also for unknown codes */
MUSTER_API const char *muster_last_error(void);   /* of this thread; until its next failing call or restore; "": none */
MUSTER_API const char *muster_version(void);      /* "major.minor.patch" */

#ifdef __cplusplus
}
#endif
#endif
