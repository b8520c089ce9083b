/* Waiting for a word, also one that processes share. */
#ifndef MU_BASE_FUTEX_H
#define MU_BASE_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/clock.h"

/* Until the word is no longer `was`, somebody wakes, or so many ns have passed; may also return early. */
static inline void mu_futex_wait(_Atomic uint32_t *word, uint32_t was, uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / MU_SEC), .tv_nsec = (long)(ns % MU_SEC)};

    syscall(SYS_futex, word, FUTEX_WAIT, was, &t, NULL, 0);
}
static inline void mu_futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

#endif
