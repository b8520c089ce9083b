/* A save whose ranks contradict one another, on several nodes: refused DIR OPTIONS [wipe].
 * The first attempt saves step 1, and then step 2 with a tensor more, of which the blocks overlap; says what its waits
 * for that one answer, loses the directory's generations (wipe), says so by DIR/held and waits for its end. The others
 * say what is restored. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster.h"

#define N 100000
static uint32_t own[N], more[3];
static int rank, size;

static void check(int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "rank %d: %s: %s\n", rank, what, muster_last_error());
    exit(1);
}

static void add(muster_ckpt *c, const char *name, uint64_t each, uint64_t local, void *data)
{
    muster_tensor t = {.name = name,
                       .dtype = MUSTER_UINT32,
                       .ndim = 1,
                       .global = {each * (uint64_t)size},
                       .offset = {each * (uint64_t)rank},
                       .local = {local},
                       .data = data};

    check(muster_ckpt_add(c, &t), "add");
}

/* As the lowest rank has it on which it is not as it should be. */
static void say(const char *what, int rc)
{
    int32_t bad = rc == MUSTER_EMISMATCH ? size : rank, least = 0;
    char text[400] = "refused on all ranks: ";

    strncat(text, muster_last_error(), 300);
    if (rc != MUSTER_EMISMATCH)
        snprintf(text, sizeof text, "%d on rank %d: %.300s", rc, rank, muster_last_error());
    check(muster_allreduce(&bad, &least, 1, MUSTER_INT32, MUSTER_MIN, muster_world()), "allreduce");
    check(muster_broadcast(text, sizeof text, MUSTER_UINT8, least < size ? least : 0, muster_world()), "broadcast");
    if (rank == 0)
        printf("%s: %s\n", what, text);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *attempt = getenv("MUSTER_ATTEMPT");
    int first = !attempt || atoi(attempt) == 1, rc;
    int32_t wrong = 0, any;
    uint64_t step = 0;
    char text[600];
    muster_ckpt *c;

    check(muster_init(&argc, &argv), "init");
    rank = muster_rank(muster_world());
    size = muster_size(muster_world());
    snprintf(text, sizeof text, "dir=%s,interval=1h,%s", argv[1], argv[2]);
    check(muster_ckpt_open(muster_world(), text, &c), "open");
    add(c, "own", N, N, own);
    if (!first) {
        rc = muster_ckpt_restore(c, &step);
        for (uint32_t i = 0; i < N; i++)
            wrong |= own[i] != (uint32_t)rank * N + i;
        check(muster_allreduce(&wrong, &any, 1, MUSTER_INT32, MUSTER_MAX, muster_world()), "allreduce");
        if (rank == 0)
            printf("attempt %s: %d, step %d %s: %s\n", attempt, rc, (int)step, any ? "wrong" : "right",
                   muster_last_error());
        return muster_finalize() ? 1 : 0;
    }
    for (uint32_t i = 0; i < N; i++)
        own[i] = (uint32_t)rank * N + i;
    check(muster_ckpt_save(c, 1), "save");
    check(muster_ckpt_wait(c, MUSTER_LEVEL_PEERS, -1), "wait for the peers");
    check(muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1), "wait for the store");
    memset(own, 0, sizeof own);
    add(c, "more", 2, rank == 1 ? 3 : 2, more);
    check(muster_ckpt_save(c, 2), "save");
    say("store", muster_ckpt_wait(c, MUSTER_LEVEL_STORE, -1));
    say("peers", muster_ckpt_wait(c, MUSTER_LEVEL_PEERS, -1));
    if (rank == 0 && argc > 3) {
        snprintf(text, sizeof text, "rm -rf '%s'/g*", argv[1]);
        check(system(text), "wipe");
    }
    snprintf(text, sizeof text, "%s/held", argv[1]);
    if (rank == 0)
        fclose(fopen(text, "w"));
    for (;;)
        pause();
}
