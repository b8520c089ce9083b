/* Messages of more than 4 GiB and counts beyond 2^31: coll_big [BYTES]. Inputs are zero but for marks around every
 * power of two that a short type could overflow at, so that what is only sent costs no memory: at most BYTES and a
 * little for each rank. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "muster.h"
#include "tests/mpi/check.h"

static muster_comm *world;
static int rank, size;
static size_t most = ((size_t)1 << 32) + 4097;

static unsigned char *get(size_t n, int mapped)
{
    void *p = mapped ? muster_mem_alloc(n)
                     : mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (!p || p == MAP_FAILED) {
        fprintf(stderr, "coll_big: no memory for %zu bytes\n", n);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return p;
}

static void put(unsigned char *p, size_t n, int mapped)
{
    if (mapped)
        muster_mem_free(p);
    else
        munmap(p, n);
}

/* Where marks are in a vector of n bytes: i from 0; false at the end. */
static int mark(size_t n, unsigned i, size_t *at)
{
    static const size_t base[] = {(size_t)1 << 31, (size_t)1 << 32};

    if (i < 2) {
        *at = i ? n - 1 : 0;
        return 1;
    }
    i -= 2;
    for (size_t b = 0; b < 2; b++) {
        if (base[b] + 2 > n)
            return 0;
        if (i < 3) {
            *at = base[b] + i - 1;
            return 1;
        }
        i -= 3;
    }
    return 0;
}

static void set(unsigned char *p, size_t n, int value)
{
    size_t at;

    for (unsigned i = 0; mark(n, i, &at); i++)
        p[at] = (unsigned char)(value + (int)i);
}

/* Are the marks there, and nothing else? Clears them. */
static int holds(unsigned char *p, size_t n, int value)
{
    size_t at, i = 0;
    int ok = 1;

    for (unsigned k = 0; mark(n, k, &at); k++) {
        ok &= p[at] == (unsigned char)(value + (int)k);
        p[at] = 0;
    }
    for (uint64_t x; i + sizeof x <= n && ok; i += sizeof x) {
        memcpy(&x, p + i, sizeof x);
        ok &= !x;
    }
    for (; i < n; i++)
        ok &= !p[i];
    return ok;
}

static int told(int rc)
{
    if (rc < 0)
        printf("# rank %d: %s\n", rank, muster_last_error());
    return rc == 0;
}

static void allreduce(int mapped)
{
    unsigned char *send = get(most, mapped), *recv = mapped ? send : get(most, 0);
    int ok;

    set(send, most, 10 * (rank + 1));
    ok = told(muster_allreduce(send, recv, most, MUSTER_UINT8, MUSTER_MAX, world)) && holds(recv, most, 10 * size);
    put(send, most, mapped);
    if (!mapped)
        put(recv, most, 0);
    check(ok, "all-reduce of %zu bytes%s", most, mapped ? " in memory that peers map" : "");
}

static void broadcast(void)
{
    unsigned char *p = get(most, 0);
    int ok;

    if (rank == size - 1)
        set(p, most, 5);
    ok = told(muster_broadcast(p, most, MUSTER_UINT8, size - 1, world)) && holds(p, most, 5);
    put(p, most, 0);
    check(ok, "broadcast of %zu bytes", most);
}

static void allgather(void)
{
    size_t each = most / (size_t)size + 3;
    unsigned char *send = get(each, 0), *recv = get(each * (size_t)size, 0);
    int ok;

    set(send, each, 10 * (rank + 1));
    ok = told(muster_allgather(send, recv, each, MUSTER_UINT8, world));
    for (int r = 0; r < size; r++)
        ok = ok && holds(recv + (size_t)r * each, each, 10 * (r + 1));
    put(send, each, 0);
    put(recv, each * (size_t)size, 0);
    check(ok, "all-gather of %zu bytes a rank", each);
}

static void blocks(int all)
{
    size_t each = most / (size_t)size + 3, n = each * (size_t)size, out = all ? n : each;
    unsigned char *send = get(n, 0), *recv = get(out, 0);
    int ok;

    for (int r = 0; r < size; r++)
        set(send + (size_t)r * each, each, 10 * (rank + 1) + r);
    ok = told(all ? muster_alltoall(send, recv, each, MUSTER_UINT8, world)
                  : muster_reduce_scatter(send, recv, each, MUSTER_UINT8, MUSTER_MAX, world));
    for (int r = 0; r < (all ? size : 1); r++)
        ok = ok && holds(recv + (size_t)r * each, each, 10 * (all ? r + 1 : size) + rank);
    put(send, n, 0);
    put(recv, out, 0);
    check(ok, "%s of %zu bytes a rank", all ? "all-to-all" : "reduce-scatter", each);
}

static void message(void)
{
    unsigned char *p = get(most, 0);
    int ok = 1;

    if (rank == 0) {
        set(p, most, 7);
        ok = told(muster_send(p, most, MUSTER_UINT8, 1, 3, world));
    } else if (rank == 1) {
        ok = told(muster_recv(p, most, MUSTER_UINT8, 0, 3, world)) && holds(p, most, 7);
    }
    put(p, most, 0);
    check(ok, "a message of %zu bytes", most);
}

int main(int argc, char **argv)
{
    int level;

    if (argc > 1)
        most = strtoull(argv[1], NULL, 10);
    MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
    if (muster_init(NULL, NULL) < 0) {
        fprintf(stderr, "coll_big: %s\n", muster_last_error());
        return 1;
    }
    world = muster_world();
    rank = muster_rank(world);
    size = muster_size(world);
    allreduce(0);
    allreduce(1);
    broadcast();
    allgather();
    blocks(0);
    blocks(1);
    message();
    muster_finalize();
    level = check_done();
    MPI_Finalize();
    return level;
}
