/* Tables that grow: an array, its length and its capacity in unsigned, rows in ascending order of a uint32_t that is
 * their first member. */
#ifndef MU_BASE_ROWS_H
#define MU_BASE_ROWS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more row; table is the address of the array's pointer. */
static inline bool mu_rows_room(void *table, unsigned n, unsigned *cap, size_t size)
{
    void *was;

    if (n < *cap)
        return true;
    memcpy(&was, table, sizeof was);
    unsigned more = *cap ? *cap * 2 : 8;
    void *v = realloc(was, more * size);
    if (!v)
        return false;
    memcpy(table, &v, sizeof v);
    *cap = more;
    return true;
}

/* The first row whose number is not less than key; n: there is none. */
static inline unsigned mu_rows_at(const void *rows, unsigned n, size_t size, uint32_t key)
{
    unsigned lo = 0, hi = n;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        uint32_t number;
        memcpy(&number, (const char *)rows + mid * size, sizeof number);
        if (number < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

#endif
