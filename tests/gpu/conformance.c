/* Conformance of operations in GPU memory, on NCCL or its double: each is compared with what the CPU engine makes of
 * the same values in host memory, on the same communicator. Needs no MPI. RANKS in the environment, 3 by default;
 * MUSTER_KERNELS_LIB: our kernels, without which buckets that go as 16 bits are left out. */
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
    rc = mu_gpu_run(c, &(struct mu_call){MU_OP_KIND_ALLREDUCE, MUSTER_INT64, MUSTER_MAX, 0, 0, N, dev, dev}, &err);
    cuda.cuCtxSetCurrent(NULL);
    if (rc == 0)
        rc = mu_gpu_set_stream(c, s[0], &err);
    if (rc == 0)
        rc = mu_gpu_set_stream(c, NULL, &err);
    cuda_up(c->rank);
    if (rc == 0)
        rc = mu_gpu_wait(c, mu_gpu_issued(c), &err);
    check(rc == 0, "in a thread that has no context", err.text);
    cuda.cuStreamSynchronize(s[0]);
    cuda.cuStreamSynchronize(s[1]);
    cuda.cuStreamDestroy_v2(s[0]);
    cuda.cuStreamDestroy_v2(s[1]);
    cuda_free(dev);
}

/* Any float: of all sizes, now and then what is odd. */
static float any_float(int r, size_t i, unsigned salt)
{
    static const uint32_t odd[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                                   0x80000000, 1,          0x7f7fffff, 0x47800000};
    uint64_t x = ((uint64_t)r * 1000003 + i) * 0x9e3779b97f4a7c15ull + salt;
    uint32_t bits;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    bits = x % 29 ? (uint32_t)(x >> 32) : odd[x / 29 % 8];
    if (x % 3) /* most of them of much the same size, so that sums round */
        bits = (bits & 0x807fffff) | (uint32_t)(120 + x / 3 % 12) << 23;
    return mu_float_of(bits);
}

/* Both pieces of a bucket lie in memory of their own; what is behind them stays as it was. */
static void wire_one(struct muster_comm *c, muster_dtype type, muster_op op, size_t n, unsigned turn)
{
    size_t cut = n * (turn % 4) / 4, left[2] = {cut, n - cut};
    float *host = malloc(4 * n), *got = malloc(4 * n), *dev[2] = {cuda_alloc(4 * n), cuda_alloc(4 * n)};
    uint16_t *narrow = malloc(2 * n);
    struct mu_gpu_piece pieces[2] = {{dev[0], left[0]}, {dev[1], left[1]}};
    struct mu_reducer red = mu_ops_reducer(type, MUSTER_SUM);
    struct mu_gpu_wire *w = NULL;
    struct mu_err err = {0};
    char what[120];
    int rc = mu_gpu_wire_open(c, type, op, pieces, 2, &w, &err);

    snprintf(what, sizeof what, "float32 as %s, %s, %zu elements, %zu in the first piece", mu_dtype_name((int)type),
             mu_op_name((int)op), n, cut);
    for (unsigned round = 0; round < 2 && rc == 0; round++) {
        for (size_t i = 0; i < n; i++)
            host[i] = any_float(c->rank, i, turn + 100 * round);
        for (int p = 0; p < 2; p++) {
            memset(got, 0x5a, 4 * n);
            memcpy(got, host + (p ? cut : 0), 4 * left[p]);
            cuda_put(dev[p], got, 4 * n);
        }
        rc = mu_gpu_wire_run(w, &err);
        if (rc == 0)
            rc = mu_gpu_wait(c, mu_gpu_issued(c), &err);
        if (rc < 0)
            break;
        red.store(narrow, host, n, 1);
        rc = mu_coll_run(c, &(struct mu_call){MU_OP_KIND_ALLREDUCE, type, op, 0, 0, n, narrow, narrow}, &err);
        red.load(host, narrow, n);
        for (int p = 0; p < 2; p++) {
            unsigned touched = 0;

            cuda_get(got, dev[p], 4 * n);
            check(!memcmp(got, host + (p ? cut : 0), 4 * left[p]), what, "other bits than in host memory");
            for (size_t i = 4 * left[p]; i < 4 * n; i++)
                touched += ((const unsigned char *)got)[i] != 0x5a;
            check(!touched, what, "what is behind a piece was written to");
        }
    }
    check(rc == 0, what, rc ? err.text : "");
    if (rc < 0)
        _exit(3);
    check(mu_gpu_wire_close(w, &err) == 0, what, "closes");
    for (int p = 0; p < 2; p++)
        cuda_free(dev[p]);
    free(host);
    free(got);
    free(narrow);
}

static void wires(struct muster_comm *c)
{
    static const size_t counts[] = {1, 2, 7, 64, 1003, MOST_COUNT};
    struct mu_gpu_wire *w = NULL;
    float *dev = cuda_alloc(64);
    struct mu_err err = {0};
    unsigned turn = 0;
    int rc = mu_gpu_wire_able(dev, &err);

    check(rc == 0, "kernels", err.text);
    for (int half = 0; half < 2 && rc == 0; half++)
        for (int op = 0; op <= MUSTER_AVG; op++)
            for (unsigned n = 0; n < sizeof counts / sizeof counts[0]; n++)
                wire_one(c, half ? MUSTER_FLOAT16 : MUSTER_BFLOAT16, op, counts[n], turn++);
    if (rc == 0)
        rc = mu_gpu_wire_open(c, MUSTER_FLOAT16, MUSTER_SUM, &(struct mu_gpu_piece){dev, 4}, 1, &w, &err);
    if (rc == 0)
        rc = mu_gpu_group_start(c, &err);
    if (rc < 0)
        return;
    check(mu_gpu_wire_run(w, &err) == MUSTER_EARG && strstr(err.text, "cannot start in a group"), "in a group",
          err.text);
    check(mu_gpu_group_end(c, &err) == 0 && mu_gpu_wire_close(w, &err) == 0, "after the group", err.text);
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
    if (getenv("MUSTER_KERNELS_LIB"))
        wires(world);
    rc = mu_comm_split(world, world->rank % 2, -world->rank, &half, &err);
    check(rc == 0, "split", err.text);
    for (int i = 0; i < 3 && half; i++)
        one(half, (struct mu_call){.kind = MU_OP_KIND_ALLREDUCE, .dtype = MUSTER_FLOAT32, .count = 5000}, i % 2);
    if (half && getenv("MUSTER_KERNELS_LIB"))
        wire_one(half, MUSTER_BFLOAT16, MUSTER_SUM, 5000, 1);
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
