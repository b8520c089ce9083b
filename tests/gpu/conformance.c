/* Conformance of operations in GPU memory, on NCCL or its double: each is compared with what the CPU engine makes of
 * the same values in host memory, on the same communicator. Needs no MPI. RANKS in the environment, 3 by default. */
#include "collectives/half.h"
#include "collectives/nccl/api.h"
#include "tests/gpu/cuda.h"
#include "tests/gpu/mesh.h"
#include "tests/unit/tap.h"

#define MOST_COUNT 70001u

static int bad, cases;

static void check(bool ok, const char *what, const char *why)
{
    cases++;
    if (!ok && bad++ < 20)
        printf("# rank %d: %s: %s\n", mesh.base.rank, what, why);
}

/* Whole numbers that all types hold, whose sums, too, and their averages: so the order of a reduction does not show. */
static int value(int r, size_t i, int size, muster_dtype t, muster_op op)
{
    if (mu_dtype_float8(t) && (op == MUSTER_SUM || op == MUSTER_AVG)) /* up to 8, and 14 */
        return op == MUSTER_AVG ? (int)(i % 3) : (int)((i * 7 + (size_t)r * 3) % 2);
    return op == MUSTER_PROD ? 1 + (int)((i + (size_t)r) % 2) : size * (int)((i * 7 + (size_t)r * 3) % 5);
}

static void put(void *at, size_t i, muster_dtype t, int v)
{
    float f = (float)v;
    uint32_t bits;

    memcpy(&bits, &f, 4);
    switch (t) {
    case MUSTER_INT8:
    case MUSTER_UINT8:
        ((uint8_t *)at)[i] = (uint8_t)v;
        break;
    case MUSTER_INT32:
    case MUSTER_UINT32:
        ((uint32_t *)at)[i] = (uint32_t)v;
        break;
    case MUSTER_INT64:
    case MUSTER_UINT64:
        ((uint64_t *)at)[i] = (uint64_t)v;
        break;
    case MUSTER_BFLOAT16:
        ((uint16_t *)at)[i] = (uint16_t)(bits >> 16);
        break;
    case MUSTER_FLOAT16: /* small whole numbers are exact in it */
        ((uint16_t *)at)[i] = v ? (uint16_t)(((bits >> 23) - 112) << 10 | (bits >> 13 & 0x3ff)) : 0;
        break;
    case MUSTER_FLOAT32:
        ((float *)at)[i] = f;
        break;
    case MUSTER_FLOAT8_E4M3:
        ((uint8_t *)at)[i] = mu_e4m3_of(f);
        break;
    case MUSTER_FLOAT8_E5M2:
        ((uint8_t *)at)[i] = mu_e5m2_of(f);
        break;
    default:
        ((double *)at)[i] = v;
    }
}

struct buffers {
    size_t nsend, nrecv; /* bytes */
    char *send, *recv, *got, *dsend, *drecv;
};

static struct buffers make(struct muster_comm *c, const struct mu_call *call, bool in_place)
{
    const struct mu_kind *k = &mu_kinds[call->kind];
    size_t elem = mu_dtype_size(call->dtype), block = call->count * elem, all = block * (size_t)c->size;
    struct buffers b = {.nsend = k->send == MU_NO_BUFFER   ? 0
                                 : k->send == MU_ONE_BLOCK ? block
                                                           : all,
                        .nrecv = k->recv == MU_NO_BUFFER   ? 0
                                 : k->recv == MU_ONE_BLOCK ? block
                                                           : all};
    size_t shift = (size_t)c->rank * block, whole = b.nsend > b.nrecv ? b.nsend : b.nrecv;

    b.got = malloc(whole + 8);
    if (in_place) { /* one buffer; the smaller part lies in it */
        b.send = b.recv = calloc(1, whole + 8);
        b.dsend = b.drecv = cuda_alloc(whole);
        if (k->in_place == MU_RECV_IN_SEND) {
            b.recv += shift;
            b.drecv += shift;
        } else if (k->in_place == MU_SEND_IN_RECV) {
            b.send += shift;
            b.dsend += shift;
        }
    } else {
        b.send = calloc(1, b.nsend + 8);
        b.recv = calloc(1, b.nrecv + 8);
        b.dsend = cuda_alloc(b.nsend);
        b.drecv = cuda_alloc(b.nrecv);
    }
    for (size_t i = 0; i < b.nsend / elem; i++)
        put(b.send, i, call->dtype, value(c->rank, i, c->size, call->dtype, call->op));
    if (call->kind == MU_OP_KIND_BROADCAST)
        for (size_t i = 0; i < b.nrecv / elem; i++)
            put(b.recv, i, call->dtype, c->rank == call->root ? value(c->rank, i, c->size, call->dtype, call->op) : 0);
    cuda_put(b.dsend, b.send, b.nsend);
    if (!in_place)
        cuda_put(b.drecv, b.recv, b.nrecv);
    return b;
}

static void drop(const struct buffers *b, bool in_place)
{
    free(b->got);
    free(in_place && b->recv < b->send ? b->recv : b->send);
    if (!in_place)
        free(b->recv);
    cuda_free(in_place && b->drecv < b->dsend ? b->drecv : b->dsend);
    if (!in_place)
        cuda_free(b->drecv);
}

/* What the text says when NCCL or the GPU cannot do it; NULL: it can. */
static const char *refusal(const struct mu_call *call)
{
    const struct mu_nccl_api *n = NULL;
    const struct mu_cuda_api *c = NULL;
    int major = 0;

    if (!mu_kinds[call->kind].has_op || !mu_dtype_float8(call->dtype))
        return NULL;
    if (mu_nccl_load(&n, NULL) || n->version < 22403)
        return "2.24.3 or later is needed";
    if (mu_cuda_load(&c, NULL) || c->cuDeviceGetAttribute(&major, MU_CU_CAPABILITY_MAJOR, 0) || major < 9)
        return "compute capability 9.0 or later";
    return NULL;
}

static void one(struct muster_comm *c, struct mu_call call, bool in_place)
{
    bool takes = call.kind != MU_OP_KIND_REDUCE || c->rank == call.root, device = false;
    struct mu_sig sig = mu_sig_of(call.kind, call.dtype, call.op, 0, call.root, call.count);
    struct buffers b = make(c, &call, in_place);
    const char *no = refusal(&call);
    struct mu_call host = call, gpu = call;
    struct mu_err err = {0};
    char what[120];
    int rc;

    mu_sig_text(&sig, what, sizeof what);
    host.send = b.send;
    host.recv = b.recv;
    gpu.send = b.dsend;
    gpu.recv = takes ? b.drecv : NULL;
    rc = mu_gpu_where(c, &host, &device, &err);
    check(rc == 0 && !device, what, "host memory is not taken for the GPU's");
    rc = mu_gpu_where(c, &gpu, &device, &err);
    check(rc == 0 && device, what, "the GPU's memory is recognised");
    rc = mu_gpu_run(c, &gpu, &err);
    if (no) {
        check(rc == MUSTER_ENOSYS && strstr(err.text, no) && strstr(err.text, mu_dtype_name((int)call.dtype)), what,
              rc ? err.text : "is not refused");
        drop(&b, in_place);
        return;
    }
    if (rc == 0)
        rc = mu_gpu_wait(c, mu_gpu_issued(c), &err);
    check(rc == 0, what, rc ? err.text : "");
    if (rc < 0)
        _exit(3);
    cuda_get(b.got, b.drecv, b.nrecv);
    rc = mu_coll_run(c, &host, &err);
    check(rc == 0, what, rc ? err.text : "");
    check(!takes || !memcmp(b.got, b.recv, b.nrecv), what, in_place ? "in place: other values" : "other values");
    drop(&b, in_place);
}

static void collectives(struct muster_comm *c)
{
    static const uint8_t kinds[] = {MU_OP_KIND_ALLREDUCE, MU_OP_KIND_REDUCE,    MU_OP_KIND_REDUCE_SCATTER,
                                    MU_OP_KIND_ALLGATHER, MU_OP_KIND_BROADCAST, MU_OP_KIND_ALLTOALL};
    static const size_t counts[] = {1, 1000, MOST_COUNT};

    for (unsigned k = 0; k < sizeof kinds; k++)
        for (int t = 0; t < (int)MU_DTYPE_COUNT; t++)
            for (int op = 0; op <= MUSTER_AVG; op++)
                for (int n = 0; n < 3; n++) {
                    struct mu_call call = {.kind = kinds[k], .dtype = t, .op = op, .count = counts[n]};

                    if (!mu_kinds[kinds[k]].has_op && op)
                        continue;
                    if (n == 2 && op && t != MUSTER_FLOAT32)
                        continue;
                    call.root = mu_kinds[kinds[k]].has_root ? (t + n) % c->size : 0;
                    one(c, call, false);
                    if (kinds[k] != MU_OP_KIND_ALLTOALL && kinds[k] != MU_OP_KIND_BROADCAST && n)
                        one(c, call, true);
                }
}

/* Everybody sends to the next one and receives from the one before, twice in one group, with a collective between. */
static void groups(struct muster_comm *c)
{
    int next = (c->rank + 1) % c->size, before = (c->rank + c->size - 1) % c->size;
    enum { N = 30000 };
    int32_t *host = malloc(4 * N), *dev[6];
    struct mu_err err = {0};
    bool good = true;
    int rc;

    if (c->size == 1) {
        free(host);
        return;
    }
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < N; k++)
            host[k] = i * 1000000 + c->rank * 100000 + k;
        cuda_put(dev[i] = cuda_alloc(4 * N), host, 4 * N);
    }
    rc = mu_gpu_group_start(c, &err);
    for (int i = 0; i < 2 && rc == 0; i++) {
        struct mu_call out = {MU_OP_KIND_SEND, MUSTER_INT32, 0, next, 0, N, dev[i], NULL},
                       in = {MU_OP_KIND_RECV, MUSTER_INT32, 0, before, 0, N, NULL, dev[2 + i]};

        rc = mu_gpu_group_start(c, &err);
        if (rc == 0)
            rc = mu_gpu_run(c, &out, &err);
        if (rc == 0)
            rc = mu_gpu_run(c, &in, &err);
        if (rc == 0)
            rc = mu_gpu_group_end(c, &err);
    }
    if (rc == 0)
        rc = mu_gpu_run(c, &(struct mu_call){MU_OP_KIND_ALLREDUCE, MUSTER_INT32, MUSTER_MAX, 0, 0, N, dev[4], dev[5]},
                        &err);
    if (rc == 0)
        rc = mu_gpu_group_end(c, &err);
    if (rc == 0)
        rc = mu_gpu_wait(c, mu_gpu_issued(c), &err);
    check(rc == 0, "a group", err.text);
    for (int i = 0; i < 2; i++) {
        cuda_get(host, dev[2 + i], 4 * N);
        for (int k = 0; k < N; k++)
            good = good && host[k] == i * 1000000 + before * 100000 + k;
    }
    cuda_get(host, dev[5], 4 * N);
    for (int k = 0; k < N; k++)
        good = good && host[k] == 4000000 + (c->size - 1) * 100000 + k;
    check(good, "a group", "other values");
    check(mu_gpu_group_end(c, &err) == MUSTER_EARG, "the end of no group", "is refused");
    for (int i = 0; i < 6; i++)
        cuda_free(dev[i]);
    free(host);
}

/* Two streams: what is enqueued on the second one comes after the first. */
static void streams(struct muster_comm *c)
{
    void *s[2];
    enum { N = 1000, TURNS = 40 };
    int64_t host[N], *dev = cuda_alloc(8 * N), want = 1;
    struct mu_err err = {0};
    int rc = cuda.cuStreamCreate(&s[0], 1) || cuda.cuStreamCreate(&s[1], 1) ? -1 : 0;

    for (int i = 0; i < N; i++)
        host[i] = 1;
    cuda_put(dev, host, 8 * N);
    for (int t = 0; t < TURNS && rc == 0; t++) {
        rc = mu_gpu_set_stream(c, s[t % 2], &err);
        if (rc == 0)
            rc = mu_gpu_run(c, &(struct mu_call){MU_OP_KIND_ALLREDUCE, MUSTER_INT64, MUSTER_SUM, 0, 0, N, dev, dev},
                            &err);
        want = (int64_t)((uint64_t)want * (uint64_t)c->size);
    }
    if (rc == 0)
        rc = mu_gpu_wait(c, mu_gpu_issued(c), &err);
    cuda_get(host, dev, 8 * N);
    check(rc == 0 && host[0] == want && host[N - 1] == want, "streams", rc ? err.text : "other values");
    rc = mu_gpu_set_stream(c, NULL, &err);
    check(rc == 0, "the default stream", err.text);
    cuda.cuStreamSynchronize(s[0]);
    cuda.cuStreamSynchronize(s[1]);
    cuda.cuStreamDestroy_v2(s[0]);
    cuda.cuStreamDestroy_v2(s[1]);
    cuda_free(dev);
}

static void refusals(struct muster_comm *c)
{
    float host[4] = {0}, *dev = cuda_alloc(64);
    struct mu_err err = {0};
    bool device;

    check(mu_gpu_where(c, &(struct mu_call){MU_OP_KIND_ALLREDUCE, MUSTER_FLOAT32, 0, 0, 0, 4, host, dev}, &device,
                       &err) == MUSTER_EARG &&
              strstr(err.text, "muster_allreduce: the receive buffer is in GPU memory and the other one is not"),
          "host and GPU in one call", err.text);
    check(mu_gpu_run(c, &(struct mu_call){MU_OP_KIND_ALLTOALL, MUSTER_FLOAT32, 0, 0, 0, 1, dev, dev}, &err) ==
              MUSTER_EARG,
          "all-to-all in place", err.text);
    check(c->size == 1 ||
              mu_gpu_run(
                  c, &(struct mu_call){MU_OP_KIND_SEND, MUSTER_FLOAT32, 0, (c->rank + 1) % c->size, 5, 1, dev, NULL},
                  &err) == MUSTER_EARG,
          "a tag", err.text);
    cuda_free(dev);
}

static int rank_main(struct muster_comm *world)
{
    struct muster_comm *half = NULL;
    const char *why = cuda_up(world->rank);
    struct mu_err err = {0};
    int rc;

    if (why) {
        printf("# %s\n", why);
        return 2;
    }
    collectives(world);
    groups(world);
    streams(world);
    refusals(world);
    rc = mu_comm_split(world, world->rank % 2, -world->rank, &half, &err);
    check(rc == 0, "split", err.text);
    for (int i = 0; i < 3 && half; i++)
        one(half, (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE, .dtype = MUSTER_FLOAT32, .count = 5000}, i % 2);
    if (half)
        mu_comm_delete(half);
    one(world, (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE, .dtype = MUSTER_INT32, .count = 100}, true);
    rc = mu_coll_run(world, &(struct mu_call){.kind = MU_OP_KIND_FINALIZE}, &err);
    check(rc == 0, "the end", err.text);
    mu_comm_delete(world);
    printf("# rank %d: %d checks, %d bad\n", mesh.base.rank, cases, bad);
    return bad || !cases;
}

int main(void)
{
    const char *s = getenv("RANKS"), *mode = getenv("MUSTER_NCCL_MODE");
    int n = s ? atoi(s) : 3, status[MESH_MOST];

    mesh_run(n, 60, 240, rank_main, status);
    for (int r = 0; r < n; r++)
        TAP_OK(status[r] == 0, "rank %d of %d, %s mode (status %d)", r, n, mode ? mode : "usual", status[r]);
    return tap_done();
}
