/* The public collectives: check the arguments, run, report. */
#include <stdint.h>
#include <stdlib.h>

#include "collectives/nccl/backend.h"
#include "runtime/rank/session.h"

static bool overlap(const void *a, size_t na, const void *b, size_t nb)
{
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;

    return na && nb && x < y + nb && y < x + na;
}

static int check_buffers(const struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    const struct mu_kind *k = &mu_kinds[call->kind];
    size_t elem = mu_dtype_size(call->dtype), blocks = (size_t)comm->size, block, all, nsend, nrecv;
    bool takes = k->recv && !(call->kind == MU_OP_KIND_REDUCE && comm->rank != call->root);
    uintptr_t send = (uintptr_t)call->send, recv = (uintptr_t)call->recv, shift;
    bool allowed;

    if (__builtin_mul_overflow(call->count, elem, &block) || __builtin_mul_overflow(block, blocks, &all) ||
        all > (size_t)PTRDIFF_MAX)
        return mu_err_set(err, MUSTER_EARG, "muster_%s: count %zu does not fit in memory", k->name, call->count);
    nsend = !k->send ? 0 : k->send == MU_BLOCK_A_RANK ? all : block;
    nrecv = !takes ? 0 : k->recv == MU_BLOCK_A_RANK ? all : block;
    if ((nsend && !call->send) || (nrecv && !call->recv))
        return mu_err_set(err, MUSTER_EARG, "muster_%s: the %s buffer is NULL but count is %zu", k->name,
                          nsend && !call->send ? "send" : "receive", call->count);
    shift = (uintptr_t)comm->rank * block;
    allowed = (k->in_place == MU_SAME && send == recv) || (k->in_place == MU_RECV_IN_SEND && recv == send + shift) ||
              (k->in_place == MU_SEND_IN_RECV && send == recv + shift);
    if (!allowed && overlap(call->send, nsend, call->recv, nrecv))
        return mu_err_set(err, MUSTER_EARG, "muster_%s: the buffers overlap, but not as an in-place call", k->name);
    return 0;
}

static int check(const struct muster_comm *comm, const struct mu_call *call, struct mu_err *err)
{
    const struct mu_kind *k = &mu_kinds[call->kind];

    if ((k->send || k->recv) && !mu_dtype_size(call->dtype))
        return mu_err_set(err, MUSTER_EARG, "muster_%s: %d is not a muster_dtype", k->name, (int)call->dtype);
    if (k->has_op && !mu_op_valid(call->op))
        return mu_err_set(err, MUSTER_EARG, "muster_%s: %d is not a muster_op", k->name, (int)call->op);
    if ((k->has_root || k->has_peer) && (call->root < 0 || call->root >= comm->size))
        return mu_err_set(err, MUSTER_EARG, "muster_%s: %s %d, but ranks go from 0 to %d", k->name,
                          k->has_root ? "root" : "peer", call->root, comm->size - 1);
    if (k->has_peer && call->root == comm->rank)
        return mu_err_set(err, MUSTER_EARG, "muster_%s: the peer is this rank itself", k->name);
    if (k->has_peer && (call->tag < 0 || call->tag > MU_TAG_MAX))
        return mu_err_set(err, MUSTER_EARG, "muster_%s: tag %d, but tags go from 0 to %d", k->name, call->tag,
                          MU_TAG_MAX);
    return check_buffers(comm, call, err);
}

static int run(muster_comm *comm, const struct mu_call *call)
{
    struct mu_err err;
    int rc = mu_rank_enter(comm, false, mu_kinds[call->kind].name);
    bool device = false;

    if (rc < 0)
        return rc;
    rc = check(comm, call, &err);
    if (rc == 0)
        rc = mu_gpu_where(comm, call, &device, &err);
    if (rc == 0)
        rc = device ? mu_gpu_run(comm, call, &err) : mu_coll_run(comm, call, &err);
    return mu_rank_leave(rc, &err);
}

int muster_allreduce(const void *send, void *recv, size_t count, muster_dtype dtype, muster_op op, muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_ALLREDUCE, dtype, op, 0, 0, count, send, recv});
}

int muster_reduce(const void *send, void *recv, size_t count, muster_dtype dtype, muster_op op, int root,
                  muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_REDUCE, dtype, op, root, 0, count, send, recv});
}

int muster_reduce_scatter(const void *send, void *recv, size_t count, muster_dtype dtype, muster_op op,
                          muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_REDUCE_SCATTER, dtype, op, 0, 0, count, send, recv});
}

int muster_allgather(const void *send, void *recv, size_t count, muster_dtype dtype, muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_ALLGATHER, dtype, 0, 0, 0, count, send, recv});
}

int muster_broadcast(void *buf, size_t count, muster_dtype dtype, int root, muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_BROADCAST, dtype, 0, root, 0, count, NULL, buf});
}

int muster_alltoall(const void *send, void *recv, size_t count, muster_dtype dtype, muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_ALLTOALL, dtype, 0, 0, 0, count, send, recv});
}

int muster_barrier(muster_comm *comm)
{
    return run(comm, &(struct mu_call){.kind = MU_OP_KIND_BARRIER});
}

int muster_send(const void *buf, size_t count, muster_dtype dtype, int peer, int tag, muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_SEND, dtype, 0, peer, tag, count, buf, NULL});
}

int muster_recv(void *buf, size_t count, muster_dtype dtype, int peer, int tag, muster_comm *comm)
{
    return run(comm, &(struct mu_call){MU_OP_KIND_RECV, dtype, 0, peer, tag, count, NULL, buf});
}

/* A request for what was enqueued on the GPU. */
static int start_device(muster_comm *comm, const struct mu_call *call, struct muster_request **out, struct mu_err *err)
{
    struct muster_request *req = calloc(1, sizeof *req);
    int rc;

    if (!req)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the request");
    rc = mu_gpu_run(comm, call, err);
    if (rc < 0) {
        free(req);
        return rc;
    }
    req->comm = comm;
    mu_gpu_follow(comm, &req->gpu_at);
    comm->requests++;
    *out = req;
    return 0;
}

static int wait_device(struct muster_request *req, struct mu_err *err)
{
    int rc = mu_gpu_wait(req->comm, req->gpu_at, err);

    mu_gpu_forget(req->comm, &req->gpu_at);
    req->comm->requests--;
    free(req);
    return rc;
}

int muster_iallreduce(const void *send, void *recv, size_t count, muster_dtype dtype, muster_op op, muster_comm *comm,
                      muster_request **out)
{
    struct mu_call call = {MU_OP_KIND_ALLREDUCE, dtype, op, 0, 0, count, send, recv};
    struct muster_request *req = NULL;
    bool device = false;
    struct mu_err err;
    int rc = mu_rank_enter(comm, false, "iallreduce");

    if (rc < 0)
        return rc;
    rc = out ? check(comm, &call, &err) : mu_err_set(&err, MUSTER_EARG, "muster_iallreduce: the request is NULL");
    if (rc == 0)
        rc = mu_gpu_where(comm, &call, &device, &err);
    if (rc == 0)
        rc = device ? start_device(comm, &call, &req, &err) : mu_coll_start(comm, &call, &req, &err);
    if (rc == 0)
        *out = req;
    return mu_rank_leave(rc, &err);
}

int muster_test(muster_request *req, int *done)
{
    int rc = mu_rank_enter(NULL, true, "test");
    struct mu_err err;

    if (rc < 0)
        return rc;
    if (!req || !done)
        rc = mu_err_set(&err, MUSTER_EARG, "muster_test: the request or done is NULL");
    else
        *done = req->gpu_at ? mu_gpu_ended(req->comm, req->gpu_at) : mu_coll_test(req);
    return mu_rank_leave(rc, &err);
}

int muster_wait(muster_request **req)
{
    int rc = mu_rank_enter(NULL, true, "wait");
    struct mu_err err;

    if (rc < 0)
        return rc;
    if (!req) {
        rc = mu_err_set(&err, MUSTER_EARG, "muster_wait: the request is NULL");
    } else if (*req && (*req)->gpu_at) {
        rc = wait_device(*req, &err);
        *req = NULL;
    } else if (*req) {
        mu_coll_wait(*req);
        rc = mu_coll_release(*req, &err);
        *req = NULL;
    }
    return mu_rank_leave(rc, &err);
}

int muster_comm_split(muster_comm *comm, int color, int key, muster_comm **out)
{
    int rc = mu_rank_enter(comm, false, "comm_split");
    struct mu_err err;

    if (rc < 0)
        return rc;
    rc = out ? mu_comm_split(comm, color, key, out, &err)
             : mu_err_set(&err, MUSTER_EARG, "muster_comm_split: out is NULL");
    return mu_rank_leave(rc, &err);
}

int muster_comm_free(muster_comm *comm)
{
    int rc = mu_rank_enter(comm, false, "comm_free");
    struct mu_err err;

    if (rc < 0)
        return rc;
    if (comm == comm->engine->world)
        rc = mu_err_set(&err, MUSTER_EARG, "muster_comm_free: the world is not freed");
    else if (comm->requests)
        rc = mu_err_set(&err, MUSTER_EARG, "muster_comm_free: muster_wait is still to be called for a request on it");
    else if (comm->buckets)
        rc = mu_err_set(&err, MUSTER_EARG,
                        "muster_comm_free: muster_bucket_close is still to be called for buckets on it");
    else if (mu_gpu_given(comm) > mu_gpu_issued(comm))
        rc = mu_err_set(&err, MUSTER_EARG,
                        "muster_comm_free: muster_group_end is still to be called for operations on it");
    else
        mu_comm_delete(comm);
    return mu_rank_leave(rc, &err);
}

int muster_comm_set_stream(muster_comm *comm, void *cuda_stream)
{
    int rc = mu_rank_enter(comm, false, "comm_set_stream");
    struct mu_err err;

    if (rc < 0)
        return rc;
    rc = mu_gpu_set_stream(comm, cuda_stream, &err);
    if (rc == MUSTER_ENOSYS)
        mu_err_prefix(&err, "muster_comm_set_stream");
    return mu_rank_leave(rc, &err);
}

int muster_comm_sync(muster_comm *comm)
{
    int rc = mu_rank_enter(comm, false, "comm_sync");
    struct mu_err err;

    if (rc < 0)
        return rc;
    return mu_rank_leave(mu_gpu_wait(comm, mu_gpu_issued(comm), &err), &err);
}

int muster_group_start(muster_comm *comm)
{
    int rc = mu_rank_enter(comm, false, "group_start");
    struct mu_err err;

    return rc < 0 ? rc : mu_rank_leave(mu_gpu_group_start(comm, &err), &err);
}

int muster_group_end(muster_comm *comm)
{
    int rc = mu_rank_enter(comm, false, "group_end");
    struct mu_err err;

    return rc < 0 ? rc : mu_rank_leave(mu_gpu_group_end(comm, &err), &err);
}
