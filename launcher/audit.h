/* The audit log: STATE/audit/, lines that are only ever appended, each with a hash of itself and of all before it
 * (docs/formats.md, "Audit log"). Nothing of it is removed or changed by muster. One writer, the controller. */
#ifndef MU_LAUNCHER_AUDIT_H
#define MU_LAUNCHER_AUDIT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>

#include "runtime/base/buf.h"
#include "runtime/base/err.h"

enum { MU_AUDIT_HASH = 65 };            /* 64 hexadecimal digits */
#define MU_AUDIT_FILE_MAX (16ull << 20) /* then another file is begun */

struct mu_audit_head { /* a place in the chain */
    uint64_t n;        /* number of the line; 0: before the first */
    char hash[MU_AUDIT_HASH];
};
void mu_audit_zero(struct mu_audit_head *);

/* Goes on where the directory's last line ends; anchor (NULL: none is known) is where it went at least: what is missing
 * before it stays missing for everybody to see. The directory is made at the first line. file_max 0: the default. */
struct mu_audit;
int mu_audit_open(const char *dir, const struct mu_audit_head *anchor, uint64_t file_max, struct mu_audit **,
                  struct mu_err *);
void mu_audit_close(struct mu_audit *); /* NULL is fine */
/* Appends entry (an object, taken over, whose keys follow n and t). Written when it returns, on the disk after
 * mu_audit_sync. On an error nothing is: ENOSPC, EIO. *n may be NULL. */
int mu_audit_add(struct mu_audit *, double t, json_t *entry, uint64_t *n, struct mu_err *);
int mu_audit_sync(struct mu_audit *, struct mu_err *);
bool mu_audit_unsynced(const struct mu_audit *);
const struct mu_audit_head *mu_audit_at(const struct mu_audit *);

/* Reads all of it. line is told each line, in order: whole is false when its hash is not what it should be. wrong is
 * told what does not fit, one text each; it may be NULL. */
struct mu_audit_walk {
    void (*line)(void *arg, const struct mu_audit_head *, const char *json, size_t len, bool whole);
    void (*wrong)(void *arg, const char *text);
    void *arg;
    const struct mu_audit_head *anchor; /* must be in it; NULL: none */
    const char *hash;                   /* so must this; NULL: none */
    uint64_t first, last, lines, bad;   /* what was found; bad: times that wrong was told */
    char end[MU_AUDIT_HASH];            /* hash of the last line */
};
int mu_audit_read(const char *dir, struct mu_audit_walk *, struct mu_err *);
/* The newest lines as they are, at most so many. */
int mu_audit_tail(const char *dir, unsigned most, struct mu_buf *out, struct mu_err *);

#endif
