/* Preloaded (LD_PRELOAD): see net.h. */
#include "tests/fault/shim/net.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static struct shim_net *plan;

PUBLIC void shim_net_arm(struct shim_net *);
PUBLIC void shim_net_arm(struct shim_net *p)
{
    plan = p;
}

static int kind(void)
{
    return plan ? atomic_load(&plan->kind) : SHIM_NET_NONE;
}

/* Before each call: whether it is to fail; *last: and whether the process ends behind it. */
static bool strikes(bool socket, bool *last)
{
    int is = kind(), n;

    *last = false;
    if (!is)
        return false;
    n = atomic_fetch_add(&plan->calls, 1) + 1;
    if (n < atomic_load(&plan->at))
        return false;
    switch (is) {
    case SHIM_NET_KILL:
        raise(SIGKILL);
        return false;
    case SHIM_NET_AFTER:
    case SHIM_NET_TORN:
        *last = true;
        return false;
    case SHIM_NET_RESET:
        if (!socket || atomic_fetch_add(&plan->hits, 1))
            return false;
        errno = ECONNRESET;
        return true;
    case SHIM_NET_FULL:
        if (socket)
            return false;
        atomic_fetch_add(&plan->hits, 1);
        errno = ENOSPC;
        return true;
    default:
        return false;
    }
}

static bool short_now(void)
{
    return kind() == SHIM_NET_SHORT && atomic_load(&plan->calls) >= atomic_load(&plan->at);
}

PUBLIC ssize_t writev(int fd, const struct iovec *v, int n)
{
    struct iovec some;
    bool last;
    ssize_t w;

    if (strikes(true, &last))
        return -1;
    if (n > 0 && v[0].iov_len > 1 && ((last && kind() == SHIM_NET_TORN) || short_now())) {
        some = (struct iovec){v[0].iov_base, 1 + v[0].iov_len / 3};
        v = &some;
        n = 1;
    }
    w = REAL(writev)(fd, v, n);
    if (last)
        raise(SIGKILL);
    return w;
}

PUBLIC ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct msghdr some = *m;
    struct iovec one;
    bool last;
    ssize_t w;

    if (strikes(true, &last))
        return -1;
    if (m->msg_iovlen && m->msg_iov[0].iov_len > 1 && ((last && kind() == SHIM_NET_TORN) || short_now())) {
        one = (struct iovec){m->msg_iov[0].iov_base, 1 + m->msg_iov[0].iov_len / 3};
        some.msg_iov = &one;
        some.msg_iovlen = 1;
    }
    w = REAL(sendmsg)(fd, &some, flags);
    if (last)
        raise(SIGKILL);
    return w;
}

PUBLIC ssize_t send(int fd, const void *from, size_t n, int flags)
{
    bool last;
    ssize_t w;

    if (strikes(true, &last))
        return -1;
    w = REAL(send)(fd, from, n > 1 && ((last && kind() == SHIM_NET_TORN) || short_now()) ? 1 + n / 3 : n, flags);
    if (last)
        raise(SIGKILL);
    return w;
}

PUBLIC ssize_t readv(int fd, const struct iovec *v, int n)
{
    bool last;
    ssize_t r;

    if (strikes(true, &last))
        return -1;
    r = REAL(readv)(fd, v, n);
    if (last)
        raise(SIGKILL);
    return r;
}

PUBLIC ssize_t recv(int fd, void *to, size_t n, int flags)
{
    bool last;
    ssize_t r;

    if (strikes(true, &last))
        return -1;
    r = REAL(recv)(fd, to, short_now() && n > 100 ? 100 : n, flags);
    if (last)
        raise(SIGKILL);
    return r;
}

PUBLIC ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    struct msghdr some = *m;
    struct iovec one;
    bool last;
    ssize_t r;

    if (strikes(true, &last))
        return -1;
    if (short_now() && m->msg_iovlen && m->msg_iov[0].iov_len > 100) {
        one = (struct iovec){m->msg_iov[0].iov_base, 100};
        some.msg_iov = &one;
        some.msg_iovlen = 1;
        r = REAL(recvmsg)(fd, &some, flags);
    } else {
        r = REAL(recvmsg)(fd, m, flags);
    }
    if (last)
        raise(SIGKILL);
    return r;
}

PUBLIC int ftruncate(int fd, off_t n)
{
    bool last;

    if (strikes(false, &last))
        return -1;
    int rc = REAL(ftruncate)(fd, n);
    if (last)
        raise(SIGKILL);
    return rc;
}

ssize_t shim_net_pwrite(int fd, const void *from, size_t n, off_t at)
{
    bool last;
    ssize_t w;

    if (strikes(false, &last))
        return -1;
    w = REAL(pwrite)(fd, from, n > 1 && ((last && kind() == SHIM_NET_TORN) || short_now()) ? 1 + n / 3 : n, at);
    if (last)
        raise(SIGKILL);
    return w;
}

PUBLIC void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    bool last = false;

    if (fd >= 0 && (flags & MAP_SHARED) && strikes(false, &last))
        return MAP_FAILED;
    void *map = REAL(mmap)(at, n, prot, flags, fd, off);
    if (last)
        raise(SIGKILL);
    return map;
}
