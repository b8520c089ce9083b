/* A unit test prints TAP: TAP_OK(condition, "what holds", ...), at the end `return tap_done();`. */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdio.h>
#include <stdlib.h>

static int tap_n, tap_bad;

#define TAP_OK(cond, ...)                                                                                              \
    do {                                                                                                               \
        int tap_c_ = !!(cond);                                                                                         \
        printf("%sok %d - ", tap_c_ ? "" : "not ", ++tap_n);                                                           \
        printf(__VA_ARGS__);                                                                                           \
        printf("\n");                                                                                                  \
        if (!tap_c_) {                                                                                                 \
            tap_bad++;                                                                                                 \
            printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond);                                                        \
        }                                                                                                              \
        fflush(stdout);                                                                                                \
    } while (0)
#define TAP_SKIP(...)                                                                                                  \
    do {                                                                                                               \
        printf("ok %d # skip ", ++tap_n);                                                                              \
        printf(__VA_ARGS__);                                                                                           \
        printf("\n");                                                                                                  \
    } while (0)

/* A file DIR/NAME with that text, or the test ends. */
static inline void tap_write(const char *dir, const char *name, const char *text)
{
    char path[600];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        exit(99);
}

static inline int tap_done(void)
{
    printf("1..%d\n", tap_n);
    return tap_bad ? 1 : 0;
}

#endif
