/* The heap that peers map: zeroed, aligned, found by address, given back; a peer's view; a forked child. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collectives/segment.h"
#include "tests/unit/tap.h"

static bool zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static void blocks(void)
{
    char *a = mu_seg_alloc(100), *b = mu_seg_alloc((size_t)5 << 20), *c = mu_seg_alloc(4096), *d;
    bool ok = a && b && c && (uintptr_t)a % 4096 == 0 && (uintptr_t)b % ((size_t)2 << 20) == 0;
    struct mu_seg seg;

    TAP_OK(ok, "blocks are aligned");
    TAP_OK(zero(a, 4096) && zero(b, (size_t)5 << 20) && zero(c, 4096), "and zeroed");
    memset(a, 1, 100);
    memset(b, 2, (size_t)5 << 20);
    memset(c, 3, 4096);
    TAP_OK(a[99] == 1 && b[0] == 2 && b[(5 << 20) - 1] == 2 && c[0] == 3, "they lie apart");
    TAP_OK(mu_seg_offset(b, (size_t)5 << 20) > 0 && mu_seg_offset(&seg, 1) == 0 && mu_seg_offset(NULL, 1) == 0,
           "memory of the heap is known as such, other memory is not");
    TAP_OK(mu_seg_offset(b + 5, 10) == mu_seg_offset(b, 1) + 5, "its inside too");
    TAP_OK(mu_seg_free(b) && !mu_seg_free(b) && !mu_seg_free(a + 64) && !mu_seg_free(&seg),
           "freed once, by its address");
    d = mu_seg_alloc((size_t)5 << 20);
    TAP_OK(d == b && zero(d, (size_t)5 << 20), "used again, zeroed again");
    TAP_OK(!mu_seg_alloc(0) && !mu_seg_alloc(SIZE_MAX) && !mu_seg_alloc(SIZE_MAX / 4), "what nobody has is refused");
    mu_seg_free(c);
    mu_seg_free(d);
    mu_seg_free(a);
}

static void peers(void)
{
    struct mu_seg seg;
    struct mu_seg_peer p, q;
    struct mu_err err;
    char *a = mu_seg_alloc(10000), *there;
    bool ok = mu_seg_own(&seg, &err) == 0;

    TAP_OK(ok && mu_seg_map(dup(seg.fd), seg.head->nonce + 1, &q, &err) == MUSTER_EVERSION,
           "a segment with another nonce is not taken");
    TAP_OK(mu_seg_map(dup(seg.fd), seg.head->nonce, &p, &err) == 0, "a peer maps it");
    strcpy(a + 5000, "hello");
    there = mu_seg_at(&p, mu_seg_offset(a, 10000), 10000);
    TAP_OK(there && there != a && !strcmp(there + 5000, "hello"), "and sees the heap");
    TAP_OK(!mu_seg_at(&p, mu_seg_offset(a, 1), (size_t)1 << 60) && !mu_seg_at(&p, (uint64_t)1 << 60, 1),
           "but nothing outside of it");
    mu_seg_quarantine();
    mu_seg_free(a);
    strcpy(there, "late"); /* from a peer that was given up */
    TAP_OK(mu_seg_alloc(10000) != a, "under quarantine nothing is used again");
    mu_seg_unmap(&p);
}

static void child(void)
{
    char *a = mu_seg_alloc(4096);
    int st;
    pid_t pid;

    strcpy(a, "parent");
    pid = fork();
    if (pid == 0) {
        struct mu_seg seg;
        struct mu_err err;

        _exit(mu_seg_alloc(10) == NULL && mu_seg_own(&seg, &err) == MUSTER_EJOB && mu_seg_free(a) ? 0 : 1);
    }
    TAP_OK(waitpid(pid, &st, 0) == pid && st == 0, "a forked child gets none and frees none");
    TAP_OK(!strcmp(a, "parent"), "its parent's stays");
}

static void foreign(void)
{
    struct mu_seg_peer q;
    struct mu_err err;
    int fd = memfd_create("other", MFD_CLOEXEC);

    TAP_OK(mu_seg_map(dup(fd), 1, &q, &err) == MUSTER_EVERSION, "an empty file is no segment");
    TAP_OK(ftruncate(fd, (off_t)1 << 30) == 0 && mu_seg_map(dup(fd), 0, &q, &err) == MUSTER_EVERSION,
           "nor one of zeroes");
    close(fd);
}

int main(void)
{
    blocks();
    foreign();
    child();
    peers();
    return tap_done();
}
