/* For MPI test programs: a check holds when it holds on every rank; rank 0 prints. MPI itself carries the verdict, not
 * the library under test. */
#ifndef TESTS_MPI_CHECK_H
#define TESTS_MPI_CHECK_H

#include <mpi.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static int check_n, check_bad;

__attribute__((format(printf, 2, 3))) static inline void check(int ok, const char *fmt, ...)
{
    char name[200];
    int all = 0, rank;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    ok = !!ok;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Allreduce(&ok, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (!ok)
        printf("# rank %d: not: %s\n", rank, name);
    check_n++;
    check_bad += !all;
    if (rank == 0)
        printf("%sok %d - %s\n", all ? "" : "not ", check_n, name);
    fflush(stdout);
}

static inline int check_done(void)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0)
        printf("1..%d\n", check_n);
    fflush(stdout);
    return check_bad != 0;
}

static inline double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
