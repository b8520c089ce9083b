/* The running subnet, through libibnetdisc. A child loads and calls it and writes what it finds as ibnetdiscover's
 * text: the library prints, and without an answer from the fabric it may never come back. How it went is the text's
 * last line: in a daemon somebody else may have waited for the child. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "topo/fabric_impl.h"
#include "topo/ibnd.h"

#define TEXT_MAX_BYTES ((size_t)1 << 30)
#define END "# end\n"
#define FAILED "# failed "
enum { CHILD_NO_LIBRARY = 3, CHILD_NO_FABRIC = 4, CHILD_NO_MEMORY = 5 };

/* --- in the child ----------------------------------------------------------------------------------------------- */

static void put_id(struct mu_buf *b, const struct mu_ibnd_node *n)
{
    mu_buf_appendf(b, "\"%c-%016" PRIx64 "\"",
                   n->type == MU_IBND_SWITCH ? 'S'
                   : n->type == MU_IBND_CA   ? 'H'
                                             : 'R',
                   n->guid);
}

static void put_node(struct mu_buf *b, const struct mu_ibnd_node *n)
{
    char name[sizeof n->nodedesc];

    memcpy(name, n->nodedesc, sizeof name);
    name[sizeof name - 1] = 0;
    for (char *p = name; *p; p++)
        if (*p == '"' || (unsigned char)*p < ' ')
            *p = ' ';
    mu_buf_appendf(b, "\n%sguid=0x%" PRIx64 "\n%s %d ",
                   n->type == MU_IBND_SWITCH ? "switch"
                   : n->type == MU_IBND_CA   ? "ca"
                                             : "rt",
                   n->guid,
                   n->type == MU_IBND_SWITCH ? "Switch"
                   : n->type == MU_IBND_CA   ? "Ca"
                                             : "Rt",
                   n->numports);
    put_id(b, n);
    mu_buf_appendf(b, " # \"%s\"\n", name);
    for (int i = 1; n->ports && i <= n->numports; i++) {
        const struct mu_ibnd_port *p = n->ports[i], *r = p ? p->remoteport : NULL;
        if (!r || !r->node)
            continue;
        mu_buf_appendf(b, "[%d] ", p->portnum);
        put_id(b, r->node);
        mu_buf_appendf(b, "[%d]\n", r->portnum);
    }
}

static int by_guid(const void *a, const void *b)
{
    uint64_t x = (*(const struct mu_ibnd_node *const *)a)->guid, y = (*(const struct mu_ibnd_node *const *)b)->guid;

    return (x > y) - (x < y);
}

/* In the order of GUIDs: the same fabric is the same text each time. */
static int put_nodes(struct mu_buf *b, const struct mu_ibnd_node *nodes)
{
    size_t n = 0;

    for (const struct mu_ibnd_node *p = nodes; p; p = p->next)
        n++;
    mu_auto_free const struct mu_ibnd_node **v = calloc(n, sizeof *v);
    if (!v)
        return CHILD_NO_MEMORY;
    n = 0;
    for (const struct mu_ibnd_node *p = nodes; p; p = p->next)
        v[n++] = p;
    qsort(v, n, sizeof *v, by_guid);
    for (size_t i = 0; i < n; i++)
        put_node(b, v[i]);
    return b->failed ? CHILD_NO_MEMORY : 0;
}

/* What the caller has open (locks, sockets that it listens on) must not outlive it here. Returns the descriptor's new
 * number. */
static int keep_only(int fd)
{
    enum { FIRST = 3 };

    if (fd != FIRST)
        dup2(fd, FIRST);
#ifdef SYS_close_range
    if (!syscall(SYS_close_range, FIRST + 1u, ~0u, 0u))
        return FIRST;
#endif
    for (int i = FIRST + 1; i < 65536; i++)
        close(i);
    return FIRST;
}

static int discover(const char *device, int fd)
{
    typedef struct mu_ibnd_fabric *(*discover_fn)(char *, int, struct mu_ibnd_portid *, struct mu_ibnd_config *);
    static const char *const libraries[] = {"libibnetdisc.so.5", "libibnetdisc.so"};
    struct mu_ibnd_config config = {.max_smps = 16};
    struct mu_buf b = {0};
    void *lib = NULL;

    for (size_t i = 0; !lib && i < MU_COUNT(libraries); i++)
        lib = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    discover_fn fn = lib ? (discover_fn)dlsym(lib, "ibnd_discover_fabric") : NULL;
    if (!fn)
        return CHILD_NO_LIBRARY;
    mu_auto_free char *name = device ? strdup(device) : NULL;
    struct mu_ibnd_fabric *f = fn(name, 0, NULL, &config);
    if (!f || !f->nodes)
        return CHILD_NO_FABRIC;
    mu_buf_puts(&b, "# discovered\n");
    if (put_nodes(&b, f->nodes))
        return CHILD_NO_MEMORY;
    mu_buf_puts(&b, END);
    if (b.failed)
        return CHILD_NO_MEMORY;
    for (size_t at = 0; at < b.len;) {
        ssize_t n = write(fd, b.data + at, b.len - at);
        if (n < 0 && errno != EINTR)
            return CHILD_NO_MEMORY;
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* --- in the parent ---------------------------------------------------------------------------------------------- */

static int collect(int fd, uint64_t deadline, struct mu_buf *text, struct mu_err *err)
{
    for (;;) {
        uint64_t now = mu_now();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline)
            return MUSTER_ETIMEOUT;
        int n = poll(&p, 1, (int)((deadline - now) / 1000000 + 1));
        if (n <= 0)
            continue;
        if (mu_buf_reserve(text, 65536) || text->len > TEXT_MAX_BYTES)
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
        ssize_t got = read(fd, text->data + text->len, 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        text->len += (size_t)got;
        text->data[text->len] = 0;
    }
}

/* Until the child is gone; it is killed when the time is over. */
static void reap(pid_t pid, uint64_t deadline, bool kill_now)
{
    for (;;) {
        pid_t got = waitpid(pid, NULL, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return;
        if (kill_now || mu_now() >= deadline)
            kill(pid, SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

static int explain(int code, const char *device, struct mu_err *err)
{
    char name[100];

    switch (code) {
    case CHILD_NO_LIBRARY:
        return mu_err_set(err, MUSTER_ENOSYS, "libibnetdisc.so.5 is not installed (package libibnetdisc5)");
    case CHILD_NO_FABRIC:
        if (device)
            return mu_err_set(err, MUSTER_ENODE,
                              "no InfiniBand subnet can be discovered through adapter %s of this host (is there such a "
                              "one, permission for /dev/infiniband/umad*?)",
                              mu_str_show(name, sizeof name, device));
        return mu_err_set(err, MUSTER_ENODE,
                          "no InfiniBand subnet can be discovered from this host (adapter, permission for "
                          "/dev/infiniband/umad*?)");
    case CHILD_NO_MEMORY:
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    default:
        return mu_err_set(err, MUSTER_ENODE, "libibnetdisc crashed during the discovery");
    }
}

/* What its last line says; -1: there is none. */
static int outcome(const struct mu_buf *text, size_t from)
{
    const char *s = mu_buf_str(text) + from;
    size_t n = text->len - from;

    if (n >= sizeof END - 1 && !strcmp(s + n - (sizeof END - 1), END))
        return 0;
    return strncmp(s, FAILED, sizeof FAILED - 1) ? -1 : atoi(s + sizeof FAILED - 1);
}

int mu_fabric_discover_text(const char *device, int deadline_ms, struct mu_buf *text, struct mu_err *err)
{
    uint64_t deadline = mu_now() + (uint64_t)deadline_ms * 1000000;
    size_t from = text->len;
    int fds[2], rc;

    if (pipe2(fds, O_CLOEXEC))
        return mu_err_errno(err, MUSTER_ENODE, "pipe");
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        rc = mu_err_errno(err, MUSTER_ENODE, "cannot fork");
        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0) {
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
        }
        int fd = keep_only(fds[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int code = getppid() == parent ? discover(device, fd) : CHILD_NO_FABRIC;
        if (code)
            dprintf(fd, FAILED "%d\n", code);
        _exit(code);
    }
    close(fds[1]);
    rc = collect(fds[0], deadline, text, err);
    close(fds[0]);
    reap(pid, deadline, rc != 0);
    if (rc == MUSTER_ETIMEOUT)
        return mu_err_set(err, rc, "the fabric does not answer: its discovery took more than %d ms", deadline_ms);
    if (!rc && (rc = outcome(text, from)))
        rc = explain(rc, device, err);
    return rc;
}

int mu_fabric_discover(const char *device, int deadline_ms, const char *guid_file, struct mu_fabric **out,
                       struct mu_err *err)
{
    const struct mu_fabric_known known = {.guids = guid_file};
    mu_auto_buf struct mu_buf text = {0};
    struct mu_guids guids = {0};
    int rc = mu_fabric_read_known(&known, &guids, err); /* before the fabric is asked for long */

    rc = rc ? rc : mu_fabric_discover_text(device, deadline_ms, &text, err);
    rc = rc ? rc : mu_fabric_from_text(mu_buf_str(&text), text.len, "the live fabric", &guids, out, err);
    mu_guids_free(&guids);
    return rc;
}
