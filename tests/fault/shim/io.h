/* What tests/fault/shim/io.c does to the calls that change files below one directory, in the process it is preloaded
 * into. Counted are open with O_CREAT, pwrite, fsync, fallocate, rename, mkdir, unlink, rmdir and link. */
#ifndef TESTS_SHIM_IO_H
#define TESTS_SHIM_IO_H

#include <stdatomic.h>
#include <stdint.h>

#define SHIM_KINDS(X)                                                                                                  \
    X(NONE, "nothing")                                                                                                 \
    X(KILL, "SIGKILL before the call")                                                                                 \
    X(AFTER, "SIGKILL behind it")                                                                                      \
    X(TORN, "SIGKILL in a write")                                                                                      \
    X(POWER, "a power cut: what was not synced is gone, or is other bytes")                                            \
    X(ERROR, "it fails once")                                                                                          \
    X(BROKEN, "it fails from then on")                                                                                 \
    X(FSYNC, "the next fsync fails")                                                                                   \
    X(SHORT, "short writes from then on")

enum shim_kind {
#define SHIM_ENUM(name, text) SHIM_##name,
    SHIM_KINDS(SHIM_ENUM)
#undef SHIM_ENUM
};

struct shim_plan {
    char dir[300];
    enum shim_kind kind;
    int at, error; /* the call, from 1 */
    uint64_t seed; /* of what a torn write or a power cut leaves */
    _Atomic int calls, hits;
};

/* By dlsym: arms it anew; NULL: off. */
typedef void (*shim_arm_fn)(struct shim_plan *);

#endif
