/* In place of libFuzzer where there is none: `PROGRAM SECONDS CRASHFILE`. Each input is written to the crash file
 * before it is tried, so that what kills the target is at hand. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t seed = 88172645463325252ull;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* Fields as messages have them, so that random inputs get past the first check. */
static size_t make(uint8_t *p)
{
    size_t n = 2;

    p[0] = (uint8_t)(1 + rnd() % 64);
    p[1] = 0;
    for (unsigned fields = rnd() % 12; fields && n + 300 < MAX; fields--) {
        uint32_t len = (uint32_t)(rnd() % 4 ? (rnd() % 3 ? 4 : 8) : rnd() % 200);
        p[n++] = (uint8_t)(1 + rnd() % 60);
        memcpy(p + n, &len, 4);
        n += 4;
        for (uint32_t i = 0; i < len; i++)
            p[n++] = (uint8_t)(rnd() % 3 ? rnd() : 0);
    }
    for (unsigned flips = rnd() % 3; flips; flips--)
        p[rnd() % n] = (uint8_t)rnd();
    return rnd() % 8 ? n : rnd() % (n + 1);
}

int main(int argc, char **argv)
{
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
    int fd = argc > 2 ? open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    unsigned long n = 0;

    if (fd < 0 || ftruncate(fd, MAX))
        return 99;
    uint8_t *shared = mmap(NULL, MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        return 99;
    for (; time(NULL) < end; n++) {
        size_t len = make(shared);
        uint8_t *exact = malloc(len ? len : 1);
        if (!exact)
            return 99;
        memcpy(exact, shared, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
    printf("%lu inputs\n", n);
    return unlink(argv[2]);
}
