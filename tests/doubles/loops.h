/* Kernels of a double of GPU code: LOOP(name) makes of name_one() a loop that is launched in a stream of the double of
 * CUDA. The file has defined int launch(void *stream, void (*loop)(void *), void *work), which frees work (NULL: there
 * is no memory) if it fails. */
#ifndef TESTS_DOUBLES_LOOPS_H
#define TESTS_DOUBLES_LOOPS_H

#include <stdlib.h>

#define LOOP(name)                                                                                                     \
    struct name##_work {                                                                                               \
        size_t n;                                                                                                      \
        struct name##_args args;                                                                                       \
    };                                                                                                                 \
    static void name##_loop(void *arg)                                                                                 \
    {                                                                                                                  \
        struct name##_work *w = arg;                                                                                   \
                                                                                                                       \
        for (size_t i = 0; i < w->n; i++)                                                                              \
            name##_one(w->args, i);                                                                                    \
        free(w);                                                                                                       \
    }                                                                                                                  \
    static int run_##name(void *stream, size_t n, struct name##_args args)                                             \
    {                                                                                                                  \
        struct name##_work *w = malloc(sizeof *w);                                                                     \
                                                                                                                       \
        if (w)                                                                                                         \
            *w = (struct name##_work){n, args};                                                                        \
        return launch(stream, name##_loop, w);                                                                         \
    }

#endif
