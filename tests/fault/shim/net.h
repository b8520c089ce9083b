/* What tests/fault/shim/net.c does to the calls with which a process that it is preloaded into reaches its peers and
 * its memory: writev, sendmsg, send, readv, recv and recvmsg of sockets, ftruncate, pwrite, and mmap of a file. The
 * plan lies in memory that whoever wants to arm it shares: kind last. */
#ifndef TESTS_SHIM_NET_H
#define TESTS_SHIM_NET_H

#include <stdatomic.h>
#include <sys/types.h>

#define SHIM_NET_KINDS(X)                                                                                              \
    X(NONE, "nothing")                                                                                                 \
    X(KILL, "SIGKILL before the call")                                                                                 \
    X(AFTER, "SIGKILL behind it")                                                                                      \
    X(TORN, "SIGKILL in a write")                                                                                      \
    X(RESET, "its connection is reset")                                                                                \
    X(FULL, "no memory from then on")                                                                                  \
    X(SHORT, "short reads and writes from then on")

enum shim_net_kind {
#define SHIM_NET_ENUM(name, text) SHIM_NET_##name,
    SHIM_NET_KINDS(SHIM_NET_ENUM)
#undef SHIM_NET_ENUM
};

struct shim_net {
    _Atomic int kind, at, calls, hits; /* at: the call, from 1 */
};

/* What is written to no file of io.h's. */
ssize_t shim_net_pwrite(int fd, const void *from, size_t n, off_t at);

/* By dlsym. NULL: off. */
typedef void (*shim_net_fn)(struct shim_net *);

#endif
