/* A measurement as the line of JSON that docs/formats.md describes ("Measurements"), statistics included. Pure. */
#ifndef MU_BENCH_RECORD_H
#define MU_BENCH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/err.h"

enum mu_record_scope { MU_RECORD_NODE, MU_RECORD_PAIR, MU_RECORD_GROUP };
enum { MU_RECORD_NOISY = 1, MU_RECORD_FEW = 2, MU_RECORD_UNSYNCED = 4, MU_RECORD_SHARED = 8, MU_RECORD_CACHED = 16 };
enum { MU_RECORD_UNCHECKED = -1 };

/* Strings are borrowed; NULL: the key is not there. */
struct mu_record {
    const char *name, *unit;
    bool more_is_better;
    enum mu_record_scope scope;
    int from, to; /* of a node: from is its rank. Of a group: to, where all send to one; else below 0 */
    const char *from_host, *to_host;
    const char *uuid; /* of a node: of the GPU that it is of; NULL: of the host */
    int gpu;          /* index of that GPU */
    const char *direction, *op, *dtype, *memory, *place, *transport, *timing;
    uint64_t size;
    const double *values; /* as they were taken */
    size_t n;
    const double *arrive_us, *time_us, *rank_waited; /* of nranks ranks, or NULL */
    int nranks;
    double late;   /* below 0: no such thing */
    double mean;   /* over all of its time, with what passed between samples; 0: not known */
    double waited; /* share of the time in which its threads waited for CPUs that others used; 0 or less: none */
    int64_t wrong; /* MU_RECORD_UNCHECKED */
    int trial, launch, order;
    double t;
    unsigned flags;
};

/* Appends the line, with its end. FEW is set by itself. ENOMEM: b is as it was. */
int mu_record_put(struct mu_buf *b, const struct mu_record *, struct mu_err *);
/* Appends s as a JSON string. */
void mu_record_text(struct mu_buf *b, const char *s);
/* Appends a number as JSON has them, or null for what is none. */
void mu_record_number(struct mu_buf *b, double v);

#endif
