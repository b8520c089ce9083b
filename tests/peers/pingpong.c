/* A bare ping-pong and a bare window of messages over MPI between two ranks, as a yardstick: median of half a round
 * trip in us, and of each direction's bandwidth in GB/s. pingpong SMALL LARGE SECONDS */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 200000, WINDOW_MOST = 64 };

static double v[MOST];

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(int n)
{
    qsort(v, (size_t)n, sizeof *v, cmp);
    return n ? v[n / 2] : 0;
}

/* Round trips led by rank 0, who says after each whether there is another one. */
static double latency(int rank, char *buf, int size, double seconds)
{
    double begin = MPI_Wtime();
    int n = 0, more = 1;

    for (int i = 0; more; i++) {
        if (i % 32 == 0) {
            more = n < MOST - 32 && (i < 64 || MPI_Wtime() - begin < seconds);
            MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD);
        }
        if (!more)
            break;
        if (rank) {
            MPI_Recv(buf, size, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buf, size, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
            continue;
        }
        double t = MPI_Wtime();
        MPI_Send(buf, size, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(buf, size, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (i >= 16)
            v[n++] = (MPI_Wtime() - t) / 2 * 1e6;
    }
    return median(n);
}

static double bandwidth(int rank, int from, char *buf, int size, double seconds)
{
    MPI_Request r[WINDOW_MOST];
    double begin = MPI_Wtime();
    int n = 0, window = 1, ready;

    for (int i = 0;; i++) {
        int go = n < MOST && (i < 8 || MPI_Wtime() - begin < seconds) ? window : 0;
        MPI_Bcast(&go, 1, MPI_INT, from, MPI_COMM_WORLD);
        if (!go)
            return median(n);
        if (rank != from) {
            for (int k = 0; k < go; k++)
                MPI_Irecv(buf, size, MPI_BYTE, from, 0, MPI_COMM_WORLD, &r[k]);
            MPI_Send(&go, 1, MPI_INT, from, 0, MPI_COMM_WORLD);
            MPI_Waitall(go, r, MPI_STATUSES_IGNORE);
            MPI_Send(&go, 1, MPI_INT, from, 0, MPI_COMM_WORLD);
            continue;
        }
        MPI_Recv(&ready, 1, MPI_INT, !from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        double t = MPI_Wtime();
        for (int k = 0; k < go; k++)
            MPI_Isend(buf, size, MPI_BYTE, !from, 0, MPI_COMM_WORLD, &r[k]);
        MPI_Waitall(go, r, MPI_STATUSES_IGNORE);
        MPI_Recv(&ready, 1, MPI_INT, !from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        t = MPI_Wtime() - t;
        if (i >= 2) {
            v[n++] = (double)size * go / t / 1e9;
        } else {
            double fit = 0.004 / (t / go);
            window = fit < 1 ? 1 : fit > WINDOW_MOST ? WINDOW_MOST : (int)fit;
        }
    }
}

int main(int argc, char **argv)
{
    int rank, size, small = argc > 1 ? atoi(argv[1]) : 8, large = argc > 2 ? atoi(argv[2]) : 1 << 20;
    double seconds = argc > 3 ? atof(argv[3]) : 0.3, there, back;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    char *buf = calloc(1, (size_t)(large > small ? large : small));
    if (size != 2 || !buf)
        MPI_Abort(MPI_COMM_WORLD, 2);
    double lat = latency(rank, buf, small, seconds / 2);
    there = bandwidth(rank, 0, buf, large, seconds);
    back = bandwidth(rank, 1, buf, large, seconds);
    if (rank)
        MPI_Send(&back, 1, MPI_DOUBLE, 0, 1, MPI_COMM_WORLD);
    else
        MPI_Recv(&back, 1, MPI_DOUBLE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (!rank)
        printf("%.4f %.4f %.4f\n", lat, there, back);
    free(buf);
    MPI_Finalize();
    return 0;
}
