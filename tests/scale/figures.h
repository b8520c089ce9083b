/* How the scale tests print what they measured, in ms. */
#ifndef TESTS_SCALE_FIGURES_H
#define TESTS_SCALE_FIGURES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Sorts, prints and returns the worst. */
static double figures(const char *what, double *took, unsigned n)
{
    qsort(took, n, sizeof *took, by_size);
    printf("# %-58s median %8.1f ms, worst %8.1f ms (%u)\n", what, n ? took[n / 2] : 0, n ? took[n - 1] : 0, n);
    return n ? took[n - 1] : 1e9;
}

#endif
