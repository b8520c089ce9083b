#include "bench/throttle.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* "throttled_usec" of cgroup v2, "throttled_time" of v1. */
static uint64_t throttled_of(const char *path)
{
    mu_auto_file FILE *f = fopen(path, "re");
    unsigned long long n;
    char key[80];

    while (f && fscanf(f, "%79s %llu", key, &n) == 2) {
        if (!strcmp(key, "throttled_usec"))
            return n * 1000;
        if (!strcmp(key, "throttled_time"))
            return n;
    }
    return 0;
}

uint64_t mu_throttled(const char *groups, const char *root)
{
    mu_auto_file FILE *f = fopen(groups, "re");
    char line[1000], path[1200];
    uint64_t sum = 0;

    while (f && fgets(line, sizeof line, f)) { /* ID:CONTROLLERS:PATH */
        char *list = strchr(line, ':'), *at = list ? strchr(list + 1, ':') : NULL;
        if (!at || at[1] != '/')
            continue;
        *list++ = *at++ = 0;
        at[strcspn(at, "\n")] = 0;
        if (*list && !mu_str_listed(list, "cpu"))
            continue;
        for (;;) { /* who is in it is held back with it */
            bool top = !strcmp(at, "/");
            if ((size_t)snprintf(path, sizeof path, "%s/%s%s/cpu.stat", root, list, top ? "" : at) < sizeof path)
                sum += throttled_of(path);
            if (top)
                break;
            char *last = strrchr(at, '/');
            last[last == at] = 0;
        }
    }
    return sum;
}
