#include "runtime/base/copy.h"
#include "tests/unit/tap.h"

#include <stdint.h>
#include <string.h>

#define ROOM (3u * MU_COPY_STREAM)

int main(void)
{
    static unsigned char from[ROOM], to[ROOM];
    static const size_t sizes[] = {
        0, 1, 100, MU_COPY_STREAM - 1, MU_COPY_STREAM, MU_COPY_STREAM + 77, 2 * MU_COPY_STREAM};
    int bad = 0, outside = 0;

    for (size_t i = 0; i < ROOM; i++)
        from[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        for (size_t d = 0; d < 130; d += 13)
            for (size_t s = 0; s < 70; s += 23) {
                size_t n = sizes[k], at = 64 + d;

                memset(to, 0xee, at + n + 64);
                mu_copy(to + at, from + s, n);
                bad += memcmp(to + at, from + s, n) != 0;
                for (size_t i = 0; i < at; i++)
                    outside += to[i] != 0xee;
                for (size_t i = at + n; i < at + n + 64; i++)
                    outside += to[i] != 0xee;
            }
    TAP_OK(bad == 0, "copies of any size, from and to anywhere");
    TAP_OK(outside == 0, "nothing else is written to");
    return tap_done();
}
