/* Benchmarks one after the other in one job: rank 0 reads on its standard input which (launcher/bench_job.c), the
 * others hear it from it. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/rank/mpi_wire.h"
#include "bench/rank/rank.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

enum { TEXT_MAX = 64 << 20, TICK_MS = 20000 }; /* the others wait no longer than MU_WIRE_NS */
enum { NONE = -1, NOT_YET = -2 };              /* in place of a length */
enum { NODES_MAX = 1024 };

/* One byte; EOF, or NOT_YET after a while of silence. */
static int next(void)
{
    unsigned char c;

    for (;;) {
        int n = poll(&(struct pollfd){.fd = 0, .events = POLLIN}, 1, TICK_MS);
        if (!n)
            return NOT_YET;
        ssize_t got = n > 0 ? read(0, &c, 1) : -1;
        if (got == 1)
            return c;
        if (got == 0 || errno != EINTR)
            return EOF;
    }
}

/* How many bytes of words follow. */
static int64_t length(void)
{
    int64_t n = 0;
    int c;

    while ((c = next()) >= '0' && c <= '9' && n < TEXT_MAX)
        n = 10 * n + c - '0';
    return c == '\n' && n > 0 && n <= TEXT_MAX ? n : !n && c == NOT_YET ? NOT_YET : NONE;
}

static int hear(struct mu_room *r, char **out, int64_t *n, struct mu_err *err)
{
    mu_auto_free char *text = NULL;
    int rc;

    do {
        *n = r->rank ? 0 : length();
        if ((rc = mu_wire_tell(n, sizeof *n, 0, err)))
            return rc;
    } while (*n == NOT_YET);
    if (*n == NONE)
        return 0;
    if (!(text = malloc((size_t)*n + 1)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %lld bytes of arguments", (long long)*n);
    for (int64_t at = 0; !r->rank && at < *n;) {
        ssize_t got = read(0, text + at, (size_t)(*n - at));
        if (got == 0 || (got < 0 && errno != EINTR))
            return mu_err_set(err, MUSTER_EIO, "standard input ends in the middle of a benchmark's arguments");
        at += got > 0 ? got : 0;
    }
    if ((rc = mu_wire_tell(text, (size_t)*n, 0, err)))
        return rc;
    text[*n] = 0;
    *out = MU_STEAL(text, NULL);
    return 0;
}

static bool on_node(int cpu, int node)
{
    char path[80];

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/node%d", cpu, node);
    return !access(path, F_OK);
}

/* A rank that nobody has bound measures the network from one NUMA node, the same on all hosts. */
static void stand(const cpu_set_t *all, bool whole)
{
    cpu_set_t near;
    int first = 0, node = 0;

    CPU_ZERO(&near);
    while (first < CPU_SETSIZE && !CPU_ISSET((unsigned)first, all))
        first++;
    while (node < NODES_MAX && !on_node(first, node))
        node++;
    for (int cpu = first; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((unsigned)cpu, all) && (whole || node == NODES_MAX || on_node(cpu, node)))
            CPU_SET((unsigned)cpu, &near);
    sched_setaffinity(0, sizeof near, &near);
}

static int make(struct mu_room *r, char *text, int64_t n, const cpu_set_t *all, struct mu_err *err)
{
    char **argv = NULL;
    int rc = text[n - 1] ? mu_err_set(err, MUSTER_EARG, "standard input: not a benchmark's arguments") : 0;

    for (char *p = text; p < text + n && !rc; p += strlen(p) + 1)
        rc = mu_strv_append(&argv, p) ? mu_err_set(err, MUSTER_ENOMEM, "no memory for arguments") : 0;
    const struct mu_bench *b = rc ? NULL : mu_bench_named(argv[0]);
    if (!rc && !b)
        rc = mu_err_set(err, MUSTER_EARG, "standard input: no benchmark '%.40s'", argv[0]);
    if (!rc) {
        stand(all, b->whole);
        rc = mu_bench_make(r, b, (int)mu_strv_len(argv), argv, err);
    }
    mu_strv_free(argv);
    return rc;
}

int mu_bench_steps(struct mu_room *r, struct mu_err *err)
{
    cpu_set_t all;
    int rc = sched_getaffinity(0, sizeof all, &all)
                 ? mu_err_errno(err, MUSTER_ENODE, "which CPUs rank %d may use is not known", r->rank)
                 : 0;

    while (!rc) {
        char *text = NULL;
        int64_t n;
        if ((rc = hear(r, &text, &n, err)) || !text)
            return rc;
        rc = make(r, text, n, &all, err);
        free(text);
    }
    return rc;
}
