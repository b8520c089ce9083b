/* Test doubles of NVIDIA's libraries: nccl.c, cuda.c, cublas.c and nvml.c are shared objects with their names and
 * prototypes, whose GPUs are threads and whose device memory is memory of the host. They move data between processes
 * and reduce it, so that programs on them compute what they should; no figure of speed comes from them.
 *
 * Faults are asked for with MUSTER_DOUBLE, "KIND,KEY=N,KEY=N,...;KIND,...":
 *   rank=N   the rank of the communicator that has it (default: all)
 *   op=N     from its N-th operation on (from 1; default 1)
 *   times=N  at most so often in this process (default: always)
 *   gpu=N    on that GPU of a process that uses several, for the kinds that say so (default: all)
 *   ms=N     for so long, where it is a delay (default 100)
 *   id-hang        ncclGetUniqueId takes ms
 *   init-hang      ncclCommInitRankConfig never comes up
 *   init-error     it ends with ncclSystemError
 *   id-error       ncclGetUniqueId fails
 *   in-progress    operations say ncclInProgress and take ms until they are enqueued
 *   enqueue-error  an operation is refused with ncclInternalError
 *   enqueue-hang   the call of an operation does not return for ms
 *   never-arrives  the rank's GPU does not begin the operation
 *   slow           it begins it ms late
 *   async-error    ncclCommGetAsyncError says ncclRemoteError, and the operation does not end
 *   cuda-error     the operation fails on the GPU: its stream and all events of it say error 719
 *   query-hang     ncclCommGetAsyncError does not return for ms
 *   abort-hang     ncclCommAbort does not return
 *   copy-error     the n-th copy that a stream is to make is refused with error 719; rank: $RANK
 *   capturing      streams say that they are captured into a graph; rank: $RANK
 *   copy-slow      the n-th copy that a stream makes takes ms longer; rank: $RANK; gpu
 *   copy-wrong     the n-th copy that a stream makes has a wrong byte; rank: $RANK; gpu
 *   gemm-wrong     one element of the n-th product of a GPU is wrong; rank: $RANK; gpu
 *   gemm-slow      the n-th product of a GPU takes ms longer; rank: $RANK; gpu
 *   no-image       libmuster_cuda.so is not for this GPU
 *   no-kernels     it gives none
 *   kernel-error   the n-th of its kernels is refused; rank: $RANK
 *   die            the process kills itself when the GPU begins the operation */
#ifndef TESTS_DOUBLES_DOUBLE_H
#define TESTS_DOUBLES_DOUBLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DOUBLE_API __attribute__((visibility("default")))

struct fault {
    char kind[24];
    long rank, gpu, op, times, ms;
};

static struct fault faults[16];
static atomic_long fault_hits[16];
static atomic_int fault_n = -1;

static inline void double_read_faults(void)
{
    const char *s = getenv("MUSTER_DOUBLE");
    int n = 0;

    while (s && *s && n < 16) {
        struct fault *f = &faults[n];
        size_t len = strcspn(s, ";");
        char text[200];

        *f = (struct fault){.rank = -1, .gpu = -1, .op = 1, .times = -1, .ms = 100};
        snprintf(text, sizeof text, "%.*s", (int)len, s);
        s += len + (s[len] == ';');
        for (char *save, *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
            if (!strchr(word, '='))
                snprintf(f->kind, sizeof f->kind, "%s", word);
            sscanf(word, "rank=%ld", &f->rank);
            sscanf(word, "gpu=%ld", &f->gpu);
            sscanf(word, "op=%ld", &f->op);
            sscanf(word, "times=%ld", &f->times);
            sscanf(word, "ms=%ld", &f->ms);
        }
        n++;
    }
    atomic_store(&fault_n, n);
}

/* The fault, if this rank has it now; it then counts as having happened. */
static inline const struct fault *fault_of(const char *kind, int rank, int gpu, long op)
{
    if (atomic_load(&fault_n) < 0)
        double_read_faults();
    for (int i = 0; i < atomic_load(&fault_n); i++) {
        const struct fault *f = &faults[i];

        if (strcmp(f->kind, kind) || (f->rank >= 0 && f->rank != rank) || (f->gpu >= 0 && f->gpu != gpu) || op < f->op)
            continue;
        if (f->times < 0 || atomic_fetch_add(&fault_hits[i], 1) < f->times)
            return f;
    }
    return NULL;
}

static inline const struct fault *fault(const char *kind, int rank, long op)
{
    return fault_of(kind, rank, -1, op);
}

/* Of the GPUs: 90 is 9.0. */
static inline int double_capability(void)
{
    const char *s = getenv("MUSTER_DOUBLE_CAPABILITY");

    return s ? atoi(s) : 90;
}

static inline void double_sleep(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

#endif
