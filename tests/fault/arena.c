/* A program that saves, loses what the test wants it to lose, and says what its next attempt restores.
 *   arena DIR WHAT...   in the first attempt, after saves of step 7 and 8 (the last word in this order):
 *       wipe     the directory loses all generations (wait: once both are durable)
 *       flip     a bit of rank 1's copy of step 8 flips
 *       die      rank 0 kills itself;  exit  all ranks exit with 3, without closing
 *       hold     says so by DIR/held and waits to be killed
 *       protect=..., wire=...  for muster_ckpt_open; then the last save waits for the peers, too
 *       levels   what its wait says of the peers while they have it not, have given it up, have it
 *       stopped  before the saves: waits until DIR/go is there
 * Prints "attempt A restored S" on rank 0, or the error; then ends well, after "attempt A durable". */
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "muster.h"
#include "runtime/ckpt/arena.h"

#define N 300000
static uint32_t shared[N], own[N];
static int rank, size;

static void set(uint64_t step, int as)
{
    for (uint32_t i = 0; i < N; i++) {
        shared[i] = (uint32_t)(step * 40503u ^ i);
        own[i] = (uint32_t)(step * 2654435761u + (uint32_t)as * N + i);
    }
}
static int is(uint64_t step)
{
    for (uint32_t i = 0; i < N; i++)
        if (shared[i] != (uint32_t)(step * 40503u ^ i) ||
            own[i] != (uint32_t)(step * 2654435761u + (uint32_t)rank * N + i))
            return 0;
    return 1;
}
static void check(int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "rank %d: %s: %s\n", rank, what, muster_last_error());
    exit(1);
}
static int has(int argc, char **argv, const char *word)
{
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], word))
            return 1;
    return 0;
}

static void flip(void)
{
    struct mu_arena_head *h;
    struct mu_err err;

    if (mu_arena_open(getenv("MUSTER_ARENA"), &h, &err))
        exit(9);
    for (uint32_t i = 0; i < h->nranks * 2; i++) {
        struct mu_arena_cell *c = &h->cells[i];
        unsigned char *map;

        if (c->rank != 1 || c->id.step != 8)
            continue;
        if (mu_arena_map(h, c, c->segment, true, &map, &err))
            exit(9);
        map[c->segment / 2] ^= 1;
        munmap(map, c->segment);
    }
}

static int committed(const char *dir)
{
    char pattern[600];
    glob_t g;

    snprintf(pattern, sizeof pattern, "%s/g*/COMMIT", dir);
    int n = glob(pattern, 0, NULL, &g) ? 0 : (int)g.gl_pathc;
    globfree(&g);
    return n > 0;
}

/* As a program does at each step, until what was restored is in the directory, wherever it came from. */
static int make_durable(muster_ckpt *ck, const char *dir, uint64_t step)
{
    int rc = 0, why;

    for (int i = 0; i < 500; i++) {
        int32_t mine, any;

        if (muster_ckpt_due(ck, &why) == 1) {
            set(step, rank);
            check(muster_ckpt_save(ck, step), "save");
        }
        rc = muster_ckpt_wait(ck, MUSTER_LEVEL_STORE, 60000);
        mine = rc && !(rc == MUSTER_ENOCKPT && committed(dir));
        check(muster_allreduce(&mine, &any, 1, MUSTER_INT32, MUSTER_MAX, muster_world()), "allreduce");
        if (!any)
            return 0;
        usleep(20000);
    }
    return rc;
}

/* Of the last save, which is durable. */
static void levels(muster_ckpt *ck)
{
    static const struct {
        const char *what;
        uint32_t is;
    } rows[] = {{"under way", MU_PEERS_WANTED}, {"given up", MU_PEERS_FAILED}, {"there", MU_PEERS_DONE}};
    struct mu_arena_head *h;
    struct mu_err err;

    if (mu_arena_open(getenv("MUSTER_ARENA"), &h, &err))
        exit(9);
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        for (uint32_t i = 0; i < h->nranks * 2; i++)
            if (h->cells[i].id.step == 8 && h->cells[i].rank == (uint32_t)rank) {
                mu_err_set(&h->cells[i].peers_error, MUSTER_EPEER, "given up");
                atomic_store(&h->cells[i].peers, rows[k].is);
            }
        int rc = muster_ckpt_wait(ck, MUSTER_LEVEL_PEERS, 300);
        if (rank == 0)
            printf("%s: %s\n", rows[k].what, rc ? muster_last_error() : "0");
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int attempt = atoi(getenv("MUSTER_ATTEMPT") ? getenv("MUSTER_ATTEMPT") : "1"), rc, first = attempt == 1;
    uint64_t step = 0;
    char text[600];
    muster_ckpt *ck;

    check(muster_init(&argc, &argv), "init");
    rank = muster_rank(muster_world());
    size = muster_size(muster_world());
    const char *protect = "", *wire = "wire=encrypted";
    for (int i = 2; i < argc; i++) {
        protect = strncmp(argv[i], "protect=", 8) ? protect : argv[i];
        wire = strncmp(argv[i], "wire=", 5) ? wire : argv[i];
    }
    snprintf(text, sizeof text, "dir=%s,%s%s%s", argv[1], wire, *protect ? "," : "", protect);
    check(muster_ckpt_open(muster_world(), text, &ck), "open");
    muster_tensor t = {
        .name = "shared", .dtype = MUSTER_UINT32, .ndim = 1, .global = {N}, .local = {N}, .data = shared};
    t.flags = MUSTER_REPLICATED;
    check(muster_ckpt_add(ck, &t), "add");
    t = (muster_tensor){.name = "own",
                        .dtype = MUSTER_UINT32,
                        .ndim = 1,
                        .global = {(uint64_t)N * (uint64_t)size},
                        .offset = {(uint64_t)N * (uint64_t)rank},
                        .local = {N},
                        .data = own};
    check(muster_ckpt_add(ck, &t), "add");
    rc = muster_ckpt_restore(ck, &step);
    if (rc && rc != MUSTER_ENOCKPT && rc != MUSTER_ECORRUPT)
        check(rc, "restore");
    if (rank == 0 && rc)
        printf("attempt %d restored nothing: %s\n", attempt, muster_last_error());
    else if (rank == 0)
        printf("attempt %d restored %d %s%s\n", attempt, (int)step, is(step) ? "right " : "wrong ",
               muster_last_error());
    if (!rc && !is(step))
        return 5;
    fflush(stdout);
    for (int i = 0; first && has(argc, argv, "stopped") && i < 2000; i++) {
        snprintf(text, sizeof text, "%s/go", argv[1]);
        if (access(text, F_OK) == 0)
            break;
        usleep(10000);
    }
    for (uint64_t s = 7; first && s <= 8; s++) {
        set(s, rank);
        check(muster_ckpt_save(ck, s), "save");
        if (s == 7 || has(argc, argv, "wait"))
            if (!has(argc, argv, "stopped"))
                check(muster_ckpt_wait(ck, MUSTER_LEVEL_STORE, 60000), "wait");
        if (*protect)
            check(muster_ckpt_wait(ck, MUSTER_LEVEL_PEERS, 60000), "wait for the peers");
        check(muster_barrier(muster_world()), "barrier");
        if (has(argc, argv, "stopped"))
            break; /* one save at a time */
    }
    set(99, rank);
    if (first && has(argc, argv, "levels"))
        levels(ck);
    if (first && has(argc, argv, "flip") && rank == 0)
        flip();
    if (first && has(argc, argv, "wipe") && rank == 0) {
        snprintf(text, sizeof text, "rm -rf '%s'/g*", argv[1]);
        if (system(text))
            return 9;
    }
    check(muster_barrier(muster_world()), "barrier");
    if (first && has(argc, argv, "hold")) {
        FILE *f;
        snprintf(text, sizeof text, "%s/held", argv[1]);
        if (rank == 0 && (f = fopen(text, "w")))
            fclose(f);
        for (;;)
            pause();
    }
    if (first && has(argc, argv, "die") && rank == 0)
        raise(SIGKILL);
    if (first && has(argc, argv, "die"))
        pause();
    if (first && has(argc, argv, "exit"))
        _exit(3);
    if (!first && !rc) {
        check(make_durable(ck, argv[1], step), "wait");
        if (rank == 0)
            printf("attempt %d durable\n", attempt);
    }
    check(muster_ckpt_close(ck), "close");
    return muster_finalize() ? 1 : 0;
}
