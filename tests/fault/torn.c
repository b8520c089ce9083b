/* A rank dies while a restore writes into its tensors: what the others are told must be true. torn OPTIONS [lost]:
 * lost: the directory has lost the checkpoint, which is in memory alone. Says what rank 0 was told, and what it has. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "muster.h"

#define N (1u << 20)

static void die(int sig)
{
    (void)sig;
    _exit(9);
}

static void fill(float *w, float v)
{
    for (unsigned i = 0; i < N; i++)
        w[i] = v;
}

static const char *all_of(const float *w)
{
    for (unsigned i = 1; i < N; i++)
        if (w[i] != w[0])
            return "torn";
    return w[0] == 1 ? "restored" : w[0] == 2 ? "untouched" : "torn";
}

int main(int argc, char **argv)
{
    const char *dir = getenv("MUSTER_CKPT_DIR");
    float *w = mmap(NULL, N * sizeof *w, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    muster_ckpt *c;
    char path[600];
    uint64_t step = 0;

    if (argc < 2 || w == MAP_FAILED || muster_init(&argc, &argv))
        return 2;
    int rank = muster_rank(muster_world()), size = muster_size(muster_world());
    muster_tensor t = {.name = "w", .dtype = MUSTER_FLOAT32, .ndim = 1, .data = w};
    t.global[0] = (uint64_t)size * N;
    t.offset[0] = (uint64_t)rank * N;
    t.local[0] = N;
    fill(w, 1);
    if (muster_ckpt_open(muster_world(), argv[1], &c) || muster_ckpt_add(c, &t) || muster_ckpt_save(c, 5) ||
        muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1)) {
        fprintf(stderr, "%s\n", muster_last_error());
        return 2;
    }
    fill(w, 2);
    if (rank == 0 && argc > 2) {
        snprintf(path, sizeof path, "%s/g00000001/COMMIT", dir);
        if (unlink(path))
            return 2;
    }
    muster_barrier(muster_world());
    if (rank == 1) {
        signal(SIGSEGV, die);
        mprotect(w, N * sizeof *w, PROT_READ);
    }
    int rc = muster_ckpt_restore(c, &step);
    if (rank == 0) {
        printf("%d %s\n", rc, all_of(w));
        fflush(stdout);
    }
    _exit(0);
}
